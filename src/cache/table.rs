//! The table of filings: segments by the top bits of the fingerprint, odd records beside them, count and digests.
//!
//! `Shown` is what readers share; `Table` is the one writer's hold on it. Values change in place; a segment
//! that fills up is rebuilt aside, a twentieth larger, or as two, and shown by publishing a new directory.

mod parts;

pub(super) use parts::{Built, PARTS, Rebuild, Unfit};

use super::code;
use super::odd::OddIndex;
use super::segment::{Full, Segment, Tally};
use super::shown::Shown;
use crate::feed::{Digest, Entry, EpochKey, Fingerprint, MAX_BATCH_ENTRIES, Position, RANGES, range_of};
use crate::filing::{FilingRecord, PackedRecord};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Names beyond which a segment becomes two: it is rebuilt whole, and that should take well below a millisecond.
const MOST_NAMES_OF_A_SEGMENT: usize = 1 << 14;
const MOST_DEPTH: u32 = 16;
/// What a snapshot's announced count may reserve at most; beyond it segments grow as entries come.
const MAX_RESERVED_FILINGS: u64 = 1 << 26;
/// One in so many records, at most, may be kept aside for six slots to a line.
const ASIDE_SHARE: usize = 16;

/// A provider's filings at one position: built by its owner, then shown to readers by `FilingCache::publish`.
#[derive(Debug)]
pub struct Table {
    shown: Arc<Shown>,
    /// Of the segment that begins at each place of the directory.
    tallies: Vec<Tally>,
    odd_index: OddIndex,
    count: u64,
    digest: Digest,
    /// The digest over each range of fingerprints.
    ranges: Box<[Digest]>,
    position: Position,
    /// Filings that each of the first segments is to have room for from the start.
    room: usize,
    /// Names that rebuilding has moved since somebody asked.
    moved: usize,
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
        let segments = segments_for(filings);
        let filings = usize::try_from(filings.min(MAX_RESERVED_FILINGS)).unwrap_or_default();
        let depth = segments.ilog2();
        Self {
            shown: Arc::new(Shown {
                key,
                depth,
                segments: vec![Segment::empty(depth); segments].into(),
                odd: Arc::default(),
                ahead: None,
            }),
            tallies: vec![Tally::default(); segments],
            odd_index: OddIndex::default(),
            count: 0,
            digest: Digest::default(),
            ranges: vec![Digest::default(); RANGES].into(),
            position: Position::default(),
            room: filings / segments,
            moved: 0,
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

    /// The digest over each range of fingerprints (`feed::range_of`), `feed::RANGES` of them.
    #[must_use]
    pub fn range_digests(&self) -> &[Digest] {
        &self.ranges
    }

    /// The filings in a range of fingerprints, in no order; none in a range that there isn't.
    #[must_use]
    pub fn entries_in(&self, range: usize) -> Vec<Entry> {
        self.shown.pairs_in(range).map(|(fingerprint, code)| self.shown.entry(fingerprint, code)).collect()
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

    /// Applies one entry; says whether the fingerprint had a record before. An entry for which there is no room
    /// (2^26 words of odd records, a text of more than 255 octets) is left out, and so missing from count and
    /// digests.
    pub fn set(&mut self, entry: &Entry) -> bool {
        let Some(before) = self.write(entry) else {
            return false;
        };
        let (shown, fingerprint) = (&self.shown, entry.fingerprint);
        let mut delta = Digest::default();
        if before != code::FREE {
            delta
                .remove(shown.with_record(before, |record, odd| shown.key.element(fingerprint, record, odd)));
            self.count -= 1;
        }
        if let Some((record, odd)) = travelling(entry) {
            delta.add(shown.key.element(fingerprint, record, odd));
            self.count += 1;
        }
        self.add_to_digests(fingerprint, delta);
        before != code::FREE
    }

    /// What readers are to share. Call it again after changes: a segment may have been rebuilt.
    pub(super) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// What readers share, for who holds the table.
    pub(super) fn peek(&self) -> &Shown {
        &self.shown
    }

    /// Whether so many odd records more are sure to have room.
    pub(super) fn has_room_for_odd(&self, records: usize) -> bool {
        self.odd_index.has_room_for(records)
    }

    /// Names that rebuilding has moved since this was last asked.
    pub(super) fn take_moved(&mut self) -> usize {
        std::mem::take(&mut self.moved)
    }

    pub(super) fn set_count(&mut self, count: u64) {
        self.count = count;
    }

    pub(super) fn add_to_digests(&mut self, fingerprint: Fingerprint, delta: Digest) {
        self.digest.add(delta.0);
        self.ranges[range_of(fingerprint)].add(delta.0);
    }

    /// The entries that make these ranges hold exactly `entries`. None where an entry is outside of them, comes
    /// twice or deletes, or where there is no such range.
    pub(super) fn differences(&self, ranges: &[usize], entries: &[Entry]) -> Option<Vec<Entry>> {
        let mut is_named = [false; RANGES];
        for &range in ranges {
            *is_named.get_mut(range)? = true;
        }
        let mut wanted = HashMap::with_capacity(entries.len());
        for entry in entries {
            let is_in = is_named[range_of(entry.fingerprint)] && !entry.is_delete();
            if !is_in || wanted.insert(entry.fingerprint, entry).is_some() {
                return None;
            }
        }
        let mut differences = Vec::new();
        for (range, _) in is_named.iter().enumerate().filter(|(_, is_named)| **is_named) {
            for (fingerprint, code) in self.shown.pairs_in(range) {
                let fingerprint = Fingerprint(fingerprint);
                let Some(entry) = wanted.remove(&fingerprint) else {
                    differences.push(Entry { fingerprint, record: PackedRecord(0), odd: None });
                    continue;
                };
                let is_held =
                    self.shown.with_record(code, |record, odd| travelling(entry) == Some((record, odd)));
                if !is_held {
                    differences.push(entry.clone());
                }
            }
        }
        differences.extend(wanted.into_values().cloned());
        Some(differences)
    }

    /// A copy of what is held, for writing it down elsewhere. 16 octets a filing; texts are shared.
    #[must_use]
    pub fn copy(&self) -> Copied {
        let mut pairs = Vec::with_capacity(usize::try_from(self.count).unwrap_or_default());
        pairs.extend(self.shown.pairs());
        Copied { shown: self.shown(), pairs, position: self.position, count: self.count, digest: self.digest }
    }

    /// Octets that grow with the filings: lines, used or not, directory, and odd records. The digests by range,
    /// which an empty table has too, are not among them.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let firsts = (0..self.tallies.len()).filter(|&place| self.shown.run_of(place).start == place);
        let segments: usize = firsts.map(|place| self.shown.segments[place].memory_bytes()).sum();
        let directory = size_of_val(&*self.shown.segments) + size_of_val(&*self.tallies);
        segments + directory + self.odd_index.memory_bytes(&self.shown.odd)
    }

    /// How many cache lines of segments a look-up of this name touches.
    #[must_use]
    pub fn lines_touched(&self, name: &str) -> usize {
        let fingerprint = self.shown.key.fingerprint(name);
        self.shown.segment_of(fingerprint).lines_touched(fingerprint.0)
    }

    /// Writes an entry and returns the code before; none where there is no room for it.
    pub(super) fn write(&mut self, entry: &Entry) -> Option<u64> {
        // A rebuilt segment has room, so this ends at the second turn, unless it could not be rebuilt.
        for _ in 0..2 {
            let place = self.shown.place_of(entry.fingerprint);
            let first = self.shown.run_of(place).start;
            let code = match travelling(entry) {
                None => code::FREE,
                Some((record, odd)) => self.code_for(place, record, odd)?,
            };
            let tally = &mut self.tallies[first];
            match self.shown.segments[place].set(entry.fingerprint.0, code, tally) {
                Ok(before) => {
                    if code == code::FREE && tally.is_sparse() {
                        self.rebuild(place);
                    }
                    return Some(before);
                }
                Err(Full) => self.rebuild(place),
            }
        }
        None
    }

    /// The code that stands for a record in the segment at this place; none where there is no room.
    fn code_for(&mut self, place: usize, record: PackedRecord, odd: Option<&str>) -> Option<u64> {
        match code::compact(record) {
            Some(code) if self.shown.segments[place].has_room_for(code) => Some(code),
            _ => self.odd_index.code_of(&self.shown.odd, record, odd),
        }
    }

    /// Rebuilds a segment with room to spare and without what was deleted: as two where it has become too large.
    fn rebuild(&mut self, place: usize) {
        let run = self.shown.run_of(place);
        let old = self.shown.segments[place].clone();
        let prefix = run.start >> (self.shown.depth - old.depth());
        let pairs: Vec<_> = old.iter(u64::try_from(prefix).unwrap_or_default()).collect();
        self.moved += pairs.len();
        if pairs.len() <= MOST_NAMES_OF_A_SEGMENT || old.depth() == MOST_DEPTH {
            let room = if pairs.is_empty() { self.room } else { pairs.len() };
            self.build(run, old.depth(), room, &pairs);
            return;
        }
        let run = if run.len() == 1 { self.deepen(run.start) } else { run };
        let depth = old.depth() + 1;
        let is_low = |pair: &(u64, u64)| pair.0 >> (u64::BITS - depth) & 1 == 0;
        let (low, high): (Vec<_>, Vec<_>) = pairs.into_iter().partition(is_low);
        let middle = run.start + run.len() / 2;
        self.build(run.start..middle, depth, low.len(), &low);
        self.build(middle..run.end, depth, high.len(), &high);
    }

    /// Builds a segment of these names and puts it at these places.
    fn build(&mut self, run: Range<usize>, depth: u32, room: usize, pairs: &[(u64, u64)]) {
        let index = RefCell::new(&mut self.odd_index);
        let has_room = |records| index.borrow().has_room_for(records);
        let aside = |record| index.borrow_mut().code_of(&self.shown.odd, record, None);
        let Some((new, tally)) = filled(depth, room, pairs, has_room, aside) else {
            // No room among the odd records: the segment stays as it is, and takes no more.
            return;
        };
        // Copies the directory only if readers have it; a batch copies it once.
        Arc::make_mut(&mut self.shown).segments[run.clone()].fill(new);
        self.tallies[run.start] = tally;
    }

    /// Gives every place of the directory two; returns those of the segment that had this one.
    fn deepen(&mut self, place: usize) -> Range<usize> {
        let shown = Arc::make_mut(&mut self.shown);
        shown.depth += 1;
        shown.segments =
            shown.segments.iter().flat_map(|segment| [segment.clone(), segment.clone()]).collect();
        self.tallies = self.tallies.iter().flat_map(|&tally| [tally, Tally::default()]).collect();
        2 * place..2 * place + 2
    }
}

/// How many segments a table of so many filings begins with: a power of two.
fn segments_for(filings: u64) -> usize {
    let filings = usize::try_from(filings.min(MAX_RESERVED_FILINGS)).unwrap_or_default();
    (filings / MOST_NAMES_OF_A_SEGMENT + 1).next_power_of_two()
}

/// A segment of these names and codes, with room for `room` of them. `has_room` says whether as many records
/// more could be kept among the odd ones, and `aside` keeps one there. None where a name comes twice, or where
/// `aside` has no room after all.
fn filled(
    depth: u32,
    room: usize,
    pairs: &[(u64, u64)],
    has_room: impl Fn(usize) -> bool,
    aside: impl Fn(PackedRecord) -> Option<u64>,
) -> Option<(Segment, Tally)> {
    let fingerprints = || pairs.iter().map(|pair| pair.0);
    let mut new = Segment::with_room_for(depth, fingerprints(), room, true);
    // Dense lines hold fewer records' codes. What a batch may bring must find room still.
    let set_aside = pairs.iter().filter(|pair| !new.has_room_for(pair.1)).count();
    if set_aside > pairs.len() / ASIDE_SHARE || !has_room(set_aside + MAX_BATCH_ENTRIES) {
        new = Segment::with_room_for(depth, fingerprints(), room, false);
    }
    let mut tally = Tally::default();
    for &(fingerprint, code) in pairs {
        let fitting = if new.has_room_for(code) { code } else { aside(code::expand(code))? };
        if new.set(fingerprint, fitting, &mut tally) != Ok(code::FREE) {
            return None;
        }
    }
    Some((new, tally))
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
        self.pairs
            .chunks(most.max(1))
            .map(|run| run.iter().map(|&(fingerprint, code)| self.shown.entry(fingerprint, code)).collect())
    }
}

/// The record and text that an entry leaves behind; none where it deletes. An odd record's low bits are not its.
pub(super) fn travelling(entry: &Entry) -> Option<(PackedRecord, Option<&str>)> {
    if entry.is_delete() {
        None
    } else if entry.record.is_odd() {
        let text = entry.odd.as_deref().unwrap_or_default();
        Some((PackedRecord(entry.record.0 & !PackedRecord::NUMBER), Some(text)))
    } else {
        Some((entry.record, None))
    }
}
