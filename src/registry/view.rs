//! One provider's view of all filings: a base on disk, what changed since, and what it all adds up to.
//!
//! Knows no lock, no clock, no socket and no database, and reads no file: whether a new name's fingerprint is
//! in the base is for its caller to have looked up. What it keeps of the past is bounded by `MAX_KEPT_CHANGES`.

use super::base::{Base, Head};
use super::model::{Change, Document};
use crate::feed::{
    Digest, Entry, EpochKey, Fingerprint, Frame, MAX_BATCH_ENTRIES, Position, RANGES, Summary, range_of,
};
use crate::filing::PackedRecord;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The most changes that a view keeps for followers who come back.
pub(super) const MAX_KEPT_CHANGES: usize = if cfg!(test) { 30_000 } else { 400_000 };
/// Changes since the base from which a new one is made. The largest write that is fed, twice, fits in
/// between this and what is kept. Few in tests, so that it happens there.
const REBASE_AFTER: u64 = if cfg!(test) { 64 } else { 200_000 };
/// Encoded batches that are kept for followers who are at the same position.
const MAX_SHARED_FRAMES: usize = 32;
/// A follower that differs in more ranges than this is better off with a snapshot.
const MAX_REPAIRED_RANGES: usize = RANGES / 4;

/// Two names with one fingerprint: the epoch's key must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Collision;

/// A position that a view can't continue from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotKept;

/// A follower whose state has too little in common with the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooDifferent;

/// What a provider sees.
#[derive(Debug)]
pub(super) struct View {
    provider: Box<str>,
    key: EpochKey,
    base: Arc<Base>,
    /// What changed since the base, as it is now.
    overlay: HashMap<Fingerprint, Since>,
    position: Position,
    count: u64,
    digest: Digest,
    ranges: Vec<Digest>,
    kept: VecDeque<Kept>,
    /// Positions before this one are not kept; and the state there.
    floor: (u64, State),
    shared: VecDeque<Shared>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    count: u64,
    digest: Digest,
    at_ms: i64,
}

/// An entry that is another than in the base, by the change that made it so.
#[derive(Debug, Clone)]
pub(super) struct Since {
    seq: u64,
    record: PackedRecord,
    odd: Option<Box<str>>,
}

/// A change that this provider sees, and the state once it is applied.
#[derive(Debug)]
struct Kept {
    seq: u64,
    /// Where a follower is that has all up to this.
    end: u64,
    is_last_of_commit: bool,
    entry: Entry,
    state: State,
}

#[derive(Debug)]
struct Shared {
    after: u64,
    step: Step,
}

/// What is to be sent to a follower at some position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) octets: Bytes,
    /// Where the follower is then.
    pub(super) seq: u64,
}

/// What a follower lacks: ranges that differ, and what is to be read to fill them.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) summary: Summary,
    pub(super) ranges: Vec<(u16, Digest)>,
    pub(super) layers: Layers,
}

/// A base and what changed since, at one position: a state that can be read without the view.
#[derive(Debug)]
pub(super) struct Layers {
    base: Arc<Base>,
    changed: Vec<(Fingerprint, Since)>,
}

impl View {
    /// The view as of its base.
    pub(super) fn new(base: Arc<Base>) -> Self {
        let Head { provider, key, summary } = base.head().clone();
        let state = State { count: summary.count, digest: summary.digest, at_ms: summary.at_ms };
        Self {
            provider,
            key,
            overlay: HashMap::new(),
            position: summary.position,
            count: summary.count,
            digest: summary.digest,
            ranges: base.digests().to_vec(),
            kept: VecDeque::new(),
            floor: (summary.position.seq, state),
            shared: VecDeque::new(),
            base,
        }
    }

    /// Where it is.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// The base, where followers can go on from its position.
    pub(super) fn base(&self) -> Option<&Arc<Base>> {
        Some(&self.base).filter(|it| it.head().summary.position.seq >= self.floor.0)
    }

    /// Fingerprints of names that these changes bring and that may be in the base, with that base.
    pub(super) fn new_names(&self, changes: &[Change]) -> (Arc<Base>, Vec<Fingerprint>) {
        let is_new = |it: &&Change| it.before.is_none() && it.after.is_some();
        let fingerprints = changes.iter().filter(is_new).map(|it| self.key.fingerprint(&it.domain));
        (self.base.clone(), fingerprints.filter(|it| !self.overlay.contains_key(it)).collect())
    }

    /// Follows a commit whose last change leaves the log at `end`; true where this provider sees a difference.
    ///
    /// `new_names` says which fingerprints must not be in the base.
    pub(super) fn apply(&mut self, changes: &[Change], end: Position, at_ms: i64) -> Result<bool, Collision> {
        let mut has_changed = false;
        for change in changes {
            let fingerprint = self.key.fingerprint(&change.domain);
            let is_filed = self.overlay.get(&fingerprint).is_some_and(|it| it.record.0 != 0);
            if change.before.is_none() && change.after.is_some() && is_filed {
                return Err(Collision);
            }
            let before = seen(&self.provider, fingerprint, &change.domain, change.before.as_ref());
            let after = seen(&self.provider, fingerprint, &change.domain, change.after.as_ref());
            if before != after {
                self.put(&before, after, change.seq, at_ms);
                has_changed = true;
            }
        }
        self.position = end;
        if has_changed && let Some(last) = self.kept.back_mut() {
            last.end = end.seq;
            last.is_last_of_commit = true;
        }
        while self.kept.len() > MAX_KEPT_CHANGES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.floor = (oldest.end, oldest.state);
        }
        Ok(has_changed)
    }

    fn put(&mut self, before: &Entry, after: Entry, seq: u64, at_ms: i64) {
        let range = &mut self.ranges[range_of(after.fingerprint)];
        if !before.is_delete() {
            let element = self.key.entry_element(before);
            self.digest.remove(element);
            range.remove(element);
            self.count = self.count.wrapping_sub(1);
        }
        if !after.is_delete() {
            let element = self.key.entry_element(&after);
            self.digest.add(element);
            range.add(element);
            self.count = self.count.wrapping_add(1);
        }
        let since = Since { seq, record: after.record, odd: after.odd.clone() };
        self.overlay.insert(after.fingerprint, since);
        let state = State { count: self.count, digest: self.digest, at_ms };
        self.kept.push_back(Kept { seq, end: seq, is_last_of_commit: false, entry: after, state });
    }

    fn at(&self, seq: u64, state: State) -> Summary {
        let State { count, digest, at_ms } = state;
        Summary { position: Position { epoch: self.position.epoch, seq }, count, digest, at_ms }
    }

    /// What the view is now.
    pub(super) fn summary(&self, at_ms: i64) -> Summary {
        self.at(self.position.seq, State { count: self.count, digest: self.digest, at_ms })
    }

    /// What a follower at `position` must hold.
    ///
    /// # Errors
    /// Where the view can't continue from there: another epoch, the future, or forgotten.
    pub(super) fn summary_at(&self, position: Position, at_ms: i64) -> Result<Summary, NotKept> {
        let Position { epoch, seq } = position;
        let (floor, mut state) = self.floor;
        if epoch != self.position.epoch || seq > self.position.seq || seq < floor {
            return Err(NotKept);
        }
        if let Some(last) = self.first_after(seq).checked_sub(1) {
            state = self.kept[last].state;
        }
        Ok(self.at(seq, State { at_ms, ..state }))
    }

    /// Where in `kept` the first change after `seq` is.
    fn first_after(&self, seq: u64) -> usize {
        self.kept.partition_point(|it| it.seq <= seq)
    }

    /// What to send next to a follower at `seq`, of one commit at most; `None` where it has everything.
    ///
    /// # Errors
    /// Where what follows `seq` is no longer kept.
    pub(super) fn step_after(&mut self, seq: u64) -> Result<Option<Step>, NotKept> {
        if seq < self.floor.0 {
            return Err(NotKept);
        }
        if let Some(shared) = self.shared.iter().find(|it| it.after == seq) {
            return Ok(Some(shared.step.clone()));
        }
        let (mut entries, mut last) = (Vec::new(), None);
        for it in self.kept.range(self.first_after(seq)..).take(MAX_BATCH_ENTRIES) {
            entries.push(it.entry.clone());
            last = Some(it);
            if it.is_last_of_commit {
                break;
            }
        }
        let Some(last) = last else { return Ok(None) };
        let summary = self.at(last.end, last.state);
        let after = Position { epoch: self.position.epoch, seq };
        let octets = Frame::Batch { after, entries, summary }.to_bytes();
        let step = Step { octets, seq: summary.position.seq };
        if self.shared.len() == MAX_SHARED_FRAMES {
            self.shared.pop_front();
        }
        self.shared.push_back(Shared { after: seq, step: step.clone() });
        Ok(Some(step))
    }

    /// Whether the provider has everything at `seq`.
    pub(super) fn is_latest(&self, seq: u64) -> bool {
        self.first_after(seq) == self.kept.len()
    }

    /// What a follower with these ranges lacks.
    pub(super) fn repair(
        &self,
        epoch: u64,
        theirs: &[(u16, Digest)],
        at_ms: i64,
    ) -> Result<Repair, TooDifferent> {
        let mut held = vec![Digest::default(); RANGES];
        for (range, digest) in theirs {
            held[usize::from(*range)] = *digest;
        }
        let differ = |range: &usize| held[*range] != self.ranges[*range];
        let ranges: Vec<_> = (0..RANGES).filter(differ).collect();
        if epoch != self.position.epoch || ranges.len() > MAX_REPAIRED_RANGES {
            return Err(TooDifferent);
        }
        let layers = self.layers(|it| ranges.binary_search(&range_of(it)).is_ok());
        let with_digest = |range: usize| (u16::try_from(range).unwrap_or(u16::MAX), self.ranges[range]);
        let ranges = ranges.into_iter().map(with_digest).collect();
        Ok(Repair { summary: self.summary(at_ms), ranges, layers })
    }

    fn layers(&self, is_wanted: impl Fn(Fingerprint) -> bool) -> Layers {
        let changed = self.overlay.iter().filter(|(it, _)| is_wanted(**it));
        let changed = changed.map(|(it, since)| (*it, since.clone())).collect();
        Layers { base: self.base.clone(), changed }
    }

    /// Whether it is time for a new base.
    pub(super) fn is_base_old(&self) -> bool {
        self.position.seq.saturating_sub(self.base.head().summary.position.seq) >= REBASE_AFTER
    }

    /// Whether more has changed since the base than is held in memory: no new one could be made.
    pub(super) fn is_overgrown(&self) -> bool {
        self.overlay.len() > 2 * MAX_KEPT_CHANGES
    }

    /// What a new base is made of.
    pub(super) fn whole(&self, at_ms: i64) -> (Head, Layers) {
        let (provider, key) = (self.provider.clone(), self.key.clone());
        (Head { provider, key, summary: self.summary(at_ms) }, self.layers(|_| true))
    }

    /// Goes on with a new base, unless it is not of this history or older than the one at hand.
    pub(super) fn rebase(&mut self, base: Arc<Base>) {
        let (new, old) = (base.head().summary.position, self.base.head().summary.position);
        if new.epoch != old.epoch || !(old.seq..=self.position.seq).contains(&new.seq) {
            return;
        }
        self.overlay.retain(|_, since| since.seq > new.seq);
        self.overlay.shrink_to_fit();
        self.base = base;
    }

    /// The change that made the name what it is, where it is one since the base; else the base's.
    pub(super) fn last_change(&self, name: &str) -> u64 {
        let since = self.overlay.get(&self.key.fingerprint(name)).map(|it| it.seq);
        since.unwrap_or(self.base.head().summary.position.seq)
    }
}

/// What a provider sees of a document; nothing where what is stored is no valid filing.
pub(super) fn seen(
    provider: &str,
    fingerprint: Fingerprint,
    domain: &str,
    document: Option<&Document>,
) -> Entry {
    let filing = document.and_then(|document| {
        let filing = document.filing(domain);
        if filing.is_none() {
            tracing::error!(domain, "a stored filing is not valid and is left out of the feed");
        }
        filing
    });
    let (record, odd) = filing.map_or((PackedRecord(0), None), |it| it.seen_from(provider).pack());
    Entry { fingerprint, record, odd }
}

impl Layers {
    /// As `each` needs it: not done where the view is locked.
    pub(super) fn sorted(mut self) -> Self {
        self.changed.sort_unstable_by_key(|(it, _)| *it);
        self
    }

    /// Gives all entries of these ranges, sorted where the ranges are. Blocks.
    pub(super) fn each<E: From<super::base::BaseError>>(
        &self,
        ranges: impl Iterator<Item = usize>,
        mut take: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = self.base.ranges();
        for range in ranges {
            let first = self.changed.partition_point(|(it, _)| range_of(*it) < range);
            let mut changed =
                self.changed[first..].iter().take_while(|(it, _)| range_of(*it) == range).peekable();
            let mut merged = Vec::new();
            reader.each(range, |entry| {
                while let Some(new) = changed.next_if(|(it, _)| *it < entry.fingerprint) {
                    merged.extend(still_filed(new));
                }
                match changed.next_if(|(it, _)| *it == entry.fingerprint) {
                    Some(other) => merged.extend(still_filed(other)),
                    None => merged.push(entry.clone()),
                }
            })?;
            merged.extend(changed.filter_map(still_filed));
            merged.into_iter().try_for_each(&mut take)?;
        }
        Ok(())
    }
}

fn still_filed((fingerprint, since): &(Fingerprint, Since)) -> Option<Entry> {
    let entry = Entry { fingerprint: *fingerprint, record: since.record, odd: since.odd.clone() };
    Some(entry).filter(|it| !it.is_delete())
}
