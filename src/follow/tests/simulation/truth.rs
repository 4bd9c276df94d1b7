//! A registry written a second time, from docs/feed.md, that keeps every state it was ever in.

use super::rng::Rng;
use crate::feed::{Digest, Entry, EpochKey, Frame, Position, Summary, range_of};
use crate::filing::{FilingNumber, FilingRecord, PackedRecord, Status};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

/// Names that there are; what the registry says of each is a kind, 0 for nothing.
pub(super) const NAMES: usize = 24;
pub(super) const KINDS: u64 = 5;
/// Small, so that a cut leaves whole frames behind.
const ENTRIES_IN_FRAME: usize = 4;

pub(super) type Kinds = [u8; NAMES];

pub(super) fn name(index: usize) -> String {
    format!("n{index}.cn")
}

/// What a kind means for a name.
pub(super) fn record(index: usize, kind: u8) -> Option<FilingRecord> {
    let common = format!("京ICP备{}号-1", 10_000_000 + index);
    let (status, number) = match kind {
        0 => return None,
        1 => (Status::Connected, common),
        2 => (Status::NotConnected, common),
        3 => (Status::Connected, format!("京ICP证09{index:04}号")),
        _ => (Status::AccessCancelled, common),
    };
    let number = Some(FilingNumber::parse(&number).unwrap());
    Some(FilingRecord { status, connected_elsewhere: false, access_under_review: false, number })
}

/// How much a kind allows: what a mass flip is measured by.
pub(super) fn standing(kind: u8) -> u8 {
    match kind {
        1 | 3 => 2,
        2 => 1,
        _ => 0,
    }
}

struct Batch {
    after: Position,
    entries: Vec<Entry>,
    summary: Summary,
}

/// A snapshot's file.
#[derive(Clone)]
pub(super) struct File {
    pub(super) etag: String,
    pub(super) octets: Bytes,
}

pub(super) struct Truth {
    keys: HashMap<u64, EpochKey>,
    /// Every state at every position.
    states: BTreeMap<(u64, u64), Kinds>,
    pub(super) position: Position,
    /// What is kept of the log.
    log: Vec<Batch>,
    /// Before it nothing is kept.
    kept_after: Position,
    file: Option<File>,
    files: u64,
    pub(super) is_up: bool,
    /// Connections of an earlier life are dead.
    pub(super) life: u64,
    pub(super) now_ms: i64,
}

impl Truth {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut truth = Self {
            keys: HashMap::new(),
            states: BTreeMap::new(),
            position: Position::default(),
            log: Vec::new(),
            kept_after: Position::default(),
            file: None,
            files: 0,
            is_up: true,
            life: 0,
            now_ms: 0,
        };
        let kinds = std::array::from_fn(|_| if rng.chance(80) { 1 } else { rng.kind() });
        truth.begin_epoch(kinds, rng);
        truth
    }

    pub(super) fn kinds(&self) -> Kinds {
        self.states[&(self.position.epoch, self.position.seq)]
    }

    pub(super) fn state(&self, position: Position) -> Option<&Kinds> {
        self.states.get(&(position.epoch, position.seq))
    }

    /// What a name was between two positions of an epoch, both included.
    pub(super) fn between(&self, from: Position, to: Position, index: usize) -> Vec<u8> {
        let states = self.states.range((from.epoch, from.seq)..=(to.epoch, to.seq));
        states.map(|(_, kinds)| kinds[index]).collect()
    }

    pub(super) fn key(&self) -> &EpochKey {
        &self.keys[&self.position.epoch]
    }

    pub(super) fn entry(&self, epoch: u64, index: usize, kind: u8) -> Entry {
        let (record, odd) = record(index, kind).map_or((PackedRecord(0), None), |it| it.pack());
        Entry { fingerprint: self.keys[&epoch].fingerprint(&name(index)), record, odd }
    }

    fn entries(&self, position: Position) -> Vec<Entry> {
        let kinds = self.state(position).unwrap().iter().enumerate().filter(|(_, kind)| **kind != 0);
        kinds.map(|(index, kind)| self.entry(position.epoch, index, *kind)).collect()
    }

    /// Counted and summed anew each time.
    pub(super) fn summary(&self, position: Position) -> Summary {
        let (entries, key, mut digest) =
            (self.entries(position), &self.keys[&position.epoch], Digest::default());
        entries.iter().for_each(|entry| digest.add(key.entry_element(entry)));
        Summary { position, count: entries.len() as u64, digest, at_ms: self.now_ms }
    }

    pub(super) fn begin_epoch(&mut self, kinds: Kinds, rng: &mut Rng) {
        self.position = Position { epoch: self.position.epoch + 1 + rng.below(3), seq: rng.below(5) };
        let mut octets = [0; 32];
        octets.iter_mut().for_each(|octet| *octet = u8::try_from(rng.below(256)).unwrap());
        self.keys.insert(self.position.epoch, EpochKey::from_bytes(octets));
        self.states.insert((self.position.epoch, self.position.seq), kinds);
        self.forget();
        self.file = None;
        self.life += 1;
    }

    /// Commits; one that nobody sees moves the position alone.
    pub(super) fn commit(&mut self, kinds: Kinds, rng: &mut Rng) {
        let (after, before) = (self.position, self.kinds());
        self.position.seq += 1 + rng.below(3);
        self.states.insert((self.position.epoch, self.position.seq), kinds);
        let changed = (0..NAMES).filter(|&index| before[index] != kinds[index]);
        let entries: Vec<_> = changed.map(|index| self.entry(after.epoch, index, kinds[index])).collect();
        if !entries.is_empty() {
            self.log.push(Batch { after, entries, summary: self.summary(self.position) });
        }
    }

    /// The log is gone.
    pub(super) fn forget(&mut self) {
        self.log.clear();
        self.kept_after = self.position;
    }

    /// All but the newest of the log is gone.
    pub(super) fn compact(&mut self) {
        if let Some(last) = self.log.pop() {
            self.kept_after = last.after;
            self.log = vec![last];
        }
    }

    /// Whether changes after this position can be told.
    pub(super) fn keeps(&self, position: Position) -> bool {
        let is_inside =
            |batch: &Batch| position.seq > batch.after.seq && position.seq < batch.summary.position.seq;
        position.epoch == self.position.epoch
            && (self.kept_after.seq..=self.position.seq).contains(&position.seq)
            && self.state(position).is_some()
            && !self.log.iter().any(is_inside)
    }

    /// The next frame of a stream of changes that is at `position`; none while there is nothing to send.
    pub(super) fn next_change(&self, position: Position) -> Option<Frame> {
        let next = self.log.iter().find(|batch| batch.after.seq >= position.seq)?;
        if next.after.seq > position.seq {
            return Some(Frame::Heartbeat(self.summary(next.after)));
        }
        let Batch { after, entries, summary } = next;
        Some(Frame::Batch { after: *after, entries: entries.clone(), summary: *summary })
    }

    /// The file of a snapshot, made where there is none.
    pub(super) fn file(&mut self, provider: &str, is_anew: bool) -> File {
        if self.file.is_none() || is_anew {
            let (key, summary) = (self.key().clone(), self.summary(self.position));
            let mut octets = Frame::Snapshot { provider: provider.into(), key, summary }.to_bytes().to_vec();
            for run in self.entries(self.position).chunks(ENTRIES_IN_FRAME) {
                octets.extend_from_slice(&Frame::Entries(run.to_vec()).to_bytes());
            }
            octets.extend_from_slice(&Frame::End.to_bytes());
            self.files += 1;
            self.file = Some(File { etag: format!("\"{}\"", self.files), octets: octets.into() });
        }
        self.file.clone().unwrap()
    }

    /// What differs from a follower's ranges; none where a snapshot does better.
    pub(super) fn repair(&self, theirs: &Summary, ranges: &[(u16, Digest)]) -> Option<Vec<Frame>> {
        if theirs.position.epoch != self.position.epoch {
            return None;
        }
        let mut differing: BTreeMap<u16, (Digest, Vec<Entry>)> =
            ranges.iter().map(|(range, _)| (*range, (Digest::default(), Vec::new()))).collect();
        for entry in self.entries(self.position) {
            let range = u16::try_from(range_of(entry.fingerprint)).unwrap();
            let (digest, entries) = differing.entry(range).or_default();
            digest.add(self.key().entry_element(&entry));
            entries.push(entry);
        }
        for (range, digest) in ranges {
            if differing[range].0 == *digest {
                differing.remove(range);
            }
        }
        let ranges = differing.iter().map(|(range, (digest, _))| (*range, *digest)).collect();
        let entries = differing.into_values().flat_map(|(_, entries)| entries).collect();
        let head = Frame::Ranges { summary: self.summary(self.position), ranges };
        Some(vec![head, Frame::Entries(entries), Frame::End])
    }
}
