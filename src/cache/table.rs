//! The table of filings: segments by the top bits of the fingerprint, odd numbers beside them, count and digest.
//!
//! `Shown` is what readers share; `Table` is the one writer's hold on it. Values change in place; a segment
//! that fills up is rebuilt aside, one fifth larger at most, and shown by publishing a new directory.

mod parts;

use super::odd::OddTexts;
use super::segment::{Full, SEGMENT_BITS, Segment};
use crate::feed::{Digest, Entry, EpochKey, Fingerprint, Position};
use crate::filing::{FilingRecord, PackedRecord, Status};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) use parts::{Built, PARTS, Rebuild, Unfit};

const SEGMENTS: usize = 1 << SEGMENT_BITS;
/// The low bits of an odd record: free for the index of its text (`FilingRecord::pack`).
const ODD_INDEX_MASK: u64 = PackedRecord::NUMBER;
/// What a snapshot's announced count may reserve at most; beyond it segments grow as entries come.
const MAX_RESERVED_FILINGS: u64 = 1 << 26;

/// What readers see: the directory of segments and the odd numbers, under one key.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    key: EpochKey,
    segments: Box<[Segment]>,
    odd: Arc<OddTexts>,
}

impl Shown {
    /// The record of exactly this name. No lock, no shared write; what it allocates is the record's own.
    pub(super) fn find(&self, name: &str) -> Option<FilingRecord> {
        let (record, odd) = self.find_packed(self.key.fingerprint(name))?;
        FilingRecord::unpack(record, odd)
    }

    /// The record as it travels, and the odd number's text.
    fn find_packed(&self, fingerprint: Fingerprint) -> Option<(PackedRecord, Option<&str>)> {
        let bits = self.segments[segment_of(fingerprint)].find(fingerprint.0);
        (bits != 0).then(|| self.resolve(bits))
    }

    /// A slot's bits as they travel: an odd record's index replaced by its text.
    fn resolve(&self, bits: u64) -> (PackedRecord, Option<&str>) {
        if PackedRecord(bits).is_odd() {
            let index = usize::try_from(bits & ODD_INDEX_MASK).unwrap_or(usize::MAX);
            (PackedRecord(bits & !ODD_INDEX_MASK), self.odd.text(index))
        } else {
            (PackedRecord(bits), None)
        }
    }

    /// How many of these filings `next` would newly block. Under another key names can't be matched; then it is
    /// by how many fewer are in good standing.
    pub(super) fn newly_blocked_by(&self, next: &Self) -> u64 {
        if self.key == next.key {
            let falls = self.pairs().filter(|&(fingerprint, bits)| {
                standing(Some(self.resolve(bits))) > standing(next.find_packed(Fingerprint(fingerprint)))
            });
            return falls.count().try_into().unwrap_or(u64::MAX);
        }
        let (ours, theirs) = (self.standings(), next.standings());
        let fewer = ours.iter().zip(theirs).map(|(ours, theirs)| ours.saturating_sub(theirs));
        fewer.max().unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn lines_touched(&self, name: &str) -> usize {
        let fingerprint = self.key.fingerprint(name);
        self.segments[segment_of(fingerprint)].lines_touched(fingerprint.0)
    }

    fn pairs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.segments.iter().enumerate().flat_map(|(index, segment)| segment.iter(index))
    }

    /// Filings of at least each standing above the lowest.
    fn standings(&self) -> [u64; 2] {
        let mut counts = [0; 2];
        for (_, bits) in self.pairs() {
            match standing(Some(self.resolve(bits))) {
                Standing::None => {}
                Standing::Number => counts[0] += 1,
                Standing::Access => {
                    counts[0] += 1;
                    counts[1] += 1;
                }
            }
        }
        counts
    }
}

/// A provider's filings at one position: built by its owner, then shown to readers by `FilingCache::publish`.
#[derive(Debug)]
pub struct Table {
    shown: Arc<Shown>,
    /// Tags in each segment, deleted ones included.
    tags: Box<[usize]>,
    odd_indexes: HashMap<Box<str>, usize>,
    count: u64,
    digest: Digest,
    position: Position,
    /// Filings that each segment is to have room for from the start.
    room: usize,
}

impl Table {
    /// An empty table under this key.
    #[must_use]
    pub fn new(key: EpochKey) -> Self {
        Self::with_room_for(key, 0)
    }

    /// An empty table that will hold about `filings`.
    #[must_use]
    pub fn with_room_for(key: EpochKey, filings: u64) -> Self {
        let room = usize::try_from(filings.min(MAX_RESERVED_FILINGS)).unwrap_or_default() / SEGMENTS;
        Self {
            shown: Arc::new(Shown {
                key,
                segments: vec![Segment::empty(); SEGMENTS].into(),
                odd: Arc::default(),
            }),
            tags: vec![0; SEGMENTS].into(),
            odd_indexes: HashMap::new(),
            count: 0,
            digest: Digest::default(),
            position: Position::default(),
            room,
        }
    }

    /// The key that fingerprints and digest derive from.
    #[must_use]
    pub fn key(&self) -> &EpochKey {
        &self.shown.key
    }

    /// Where in the registry's log this state is.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Says where in the registry's log this state is.
    pub fn set_position(&mut self, position: Position) {
        self.position = position;
    }

    /// Filings held.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The digest over all of them.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The record of exactly this name (canonical form).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<FilingRecord> {
        self.shown.find(name)
    }

    /// Puts the record of a name (canonical form).
    pub fn put(&mut self, name: &str, record: &FilingRecord) {
        let (record, odd) = record.pack();
        self.set(&Entry { fingerprint: self.shown.key.fingerprint(name), record, odd });
    }

    /// Applies one entry; says whether the fingerprint had a record before.
    pub fn set(&mut self, entry: &Entry) -> bool {
        let bits = self.bits(entry);
        let before = self.write(entry.fingerprint, bits);
        if before != 0 {
            let (record, odd) = self.shown.resolve(before);
            self.digest.remove(self.shown.key.element(entry.fingerprint, record, odd));
            self.count -= 1;
        }
        if let Some((record, odd)) = travelling(entry) {
            self.digest.add(self.shown.key.element(entry.fingerprint, record, odd));
            self.count += 1;
        }
        before != 0
    }

    /// What readers are to share. Call it again after changes: a segment may have been rebuilt.
    pub(super) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// What count and digest would be after these entries, and whom they would newly block. Changes nothing.
    pub(super) fn outcome(&self, entries: &[Entry]) -> Outcome {
        let (key, mut count, mut digest) = (&self.shown.key, self.count, self.digest);
        let mut newest: HashMap<Fingerprint, &Entry> = HashMap::with_capacity(entries.len());
        for entry in entries {
            let before = match newest.insert(entry.fingerprint, entry) {
                Some(earlier) => travelling(earlier),
                None => self.shown.find_packed(entry.fingerprint),
            };
            if let Some((record, odd)) = before {
                digest.remove(key.element(entry.fingerprint, record, odd));
                count -= 1;
            }
            if let Some((record, odd)) = travelling(entry) {
                digest.add(key.element(entry.fingerprint, record, odd));
                count += 1;
            }
        }
        let falls = newest.values().filter(|entry| {
            standing(self.shown.find_packed(entry.fingerprint)) > standing(travelling(entry))
        });
        Outcome { count, digest, newly_blocked: falls.count().try_into().unwrap_or(u64::MAX) }
    }

    /// A copy of what is held, for writing it down elsewhere. 16 octets a filing; texts are shared.
    #[must_use]
    pub fn copy(&self) -> Copied {
        let mut pairs = Vec::with_capacity(usize::try_from(self.count).unwrap_or_default());
        pairs.extend(self.shown.pairs());
        Copied { shown: self.shown(), pairs, position: self.position, count: self.count, digest: self.digest }
    }

    /// Octets in slots, used or not.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.shown.segments.iter().map(|segment| segment.slots() * 16).sum()
    }

    /// The bits for an entry's slot.
    fn bits(&mut self, entry: &Entry) -> u64 {
        if entry.is_delete() || !entry.record.is_odd() {
            return entry.record.0;
        }
        let text = entry.odd.as_deref().unwrap_or_default();
        let index = self.odd_indexes.get(text).copied().unwrap_or_else(|| {
            let index = self.odd_indexes.len();
            self.shown.odd.append(index, text);
            self.odd_indexes.insert(text.into(), index);
            index
        });
        entry.record.0 & !ODD_INDEX_MASK | u64::try_from(index).unwrap_or_default() & ODD_INDEX_MASK
    }

    fn write(&mut self, fingerprint: Fingerprint, bits: u64) -> u64 {
        let index = segment_of(fingerprint);
        match self.shown.segments[index].set(fingerprint.0, bits, &mut self.tags[index]) {
            Ok(before) => before,
            Err(Full) => {
                self.rebuild(index);
                // A rebuilt segment has room for more than one.
                self.shown.segments[index].set(fingerprint.0, bits, &mut self.tags[index]).unwrap_or_default()
            }
        }
    }

    /// Rebuilds a segment with room to spare and without the tags of what was deleted.
    fn rebuild(&mut self, index: usize) {
        let old = self.shown.segments[index].clone();
        let live = old.iter(index).count();
        let new = Segment::with_room_for(live.max(self.room));
        let mut tags = 0;
        for (fingerprint, bits) in old.iter(index) {
            let added = new.set(fingerprint, bits, &mut tags);
            debug_assert!(added.is_ok(), "it was made larger than what it takes");
        }
        // Copies the directory only if readers have it; a batch copies it once.
        Arc::make_mut(&mut self.shown).segments[index] = new;
        self.tags[index] = tags;
    }
}

/// What entries would lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) count: u64,
    pub(super) digest: Digest,
    pub(super) newly_blocked: u64,
}

/// A table's content at one position, apart from the table.
#[derive(Debug)]
pub struct Copied {
    shown: Arc<Shown>,
    pairs: Vec<(u64, u64)>,
    /// Where in the registry's log.
    pub position: Position,
    /// Filings.
    pub count: u64,
    /// Digest over them.
    pub digest: Digest,
}

impl Copied {
    /// The key that fingerprints derive from.
    #[must_use]
    pub fn key(&self) -> &EpochKey {
        &self.shown.key
    }

    /// The filings as they travel, in runs of at most `most`.
    pub fn runs(&self, most: usize) -> impl Iterator<Item = Vec<Entry>> {
        self.pairs.chunks(most.max(1)).map(|run| {
            let entry = |&(fingerprint, bits): &(u64, u64)| {
                let (record, odd) = self.shown.resolve(bits);
                Entry { fingerprint: Fingerprint(fingerprint), record, odd: odd.map(Into::into) }
            };
            run.iter().map(entry).collect()
        })
    }
}

/// What a filing is good for, in ascending order: nothing, products that need a number, all products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    None,
    Number,
    Access,
}

fn standing(found: Option<(PackedRecord, Option<&str>)>) -> Standing {
    let Some((record, odd)) = found else {
        return Standing::None;
    };
    match record.status() {
        Some(Status::Connected) => Standing::Access,
        Some(Status::NotConnected) => Standing::Number,
        Some(Status::AccessCancelled) => match FilingRecord::unpack(record, odd) {
            Some(record) if record.connected_elsewhere => Standing::Number,
            _ => Standing::None,
        },
        _ => Standing::None,
    }
}

/// The record and text that an entry leaves behind; none where it deletes. An odd record's low bits are not its.
fn travelling(entry: &Entry) -> Option<(PackedRecord, Option<&str>)> {
    if entry.is_delete() {
        None
    } else if entry.record.is_odd() {
        let text = entry.odd.as_deref().unwrap_or_default();
        Some((PackedRecord(entry.record.0 & !ODD_INDEX_MASK), Some(text)))
    } else {
        Some((entry.record, None))
    }
}

fn segment_of(fingerprint: Fingerprint) -> usize {
    usize::try_from(fingerprint.0 >> (u64::BITS - SEGMENT_BITS)).unwrap_or_default()
}
