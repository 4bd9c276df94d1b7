//! What readers of the table share: the directory of segments and the odd records, under one key.
//!
//! Nothing here writes. Segments change under it; a segment that was rebuilt is in the next one.

use super::code;
use super::odd::OddRecords;
use super::segment::Segment;
use super::standing::{Standing, standing};
use super::table::travelling;
use crate::feed::{Entry, EpochKey, Fingerprint, RANGE_BITS};
use crate::filing::{FilingRecord, PackedRecord};
use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// What readers see: the directory of segments and the odd records, under one key.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) key: EpochKey,
    /// Bits of a fingerprint that choose a place in the directory. A segment of lower depth has several places.
    pub(super) depth: u32,
    pub(super) segments: Box<[Segment]>,
    pub(super) odd: Arc<OddRecords>,
    /// Filings that are shown as a later position has them; none as a rule.
    pub(super) ahead: Option<Arc<Ahead>>,
}

/// Filings that are shown as a later position has them.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The key of the state that has them so.
    pub(super) key: EpochKey,
    pub(super) entries: HashMap<Fingerprint, Entry>,
    /// Of a state before that one.
    pub(super) before: Option<Arc<Ahead>>,
}

impl Ahead {
    fn find(&self, name: &str) -> Option<&Entry> {
        let found = self.entries.get(&self.key.fingerprint(name));
        found.or_else(|| self.before.as_ref()?.find(name))
    }

    /// How many states they are of.
    pub(super) fn layers(&self) -> usize {
        1 + self.before.as_ref().map_or(0, |before| before.layers())
    }
}

impl Shown {
    /// The same, but for these filings.
    pub(super) fn ahead(&self, ahead: Ahead) -> Self {
        Self { ahead: Some(Arc::new(ahead)), ..self.clone() }
    }

    /// The record of exactly this name. No lock, no shared write; what it allocates is the record's own.
    pub(super) fn find(&self, name: &str) -> Option<FilingRecord> {
        if let Some(entry) = self.ahead.as_ref().and_then(|ahead| ahead.find(name)) {
            return travelling(entry).and_then(|(record, odd)| FilingRecord::unpack(record, odd));
        }
        let code = self.code_of(self.key.fingerprint(name));
        (code != code::FREE).then(|| self.with_record(code, FilingRecord::unpack)).flatten()
    }

    /// The fingerprint of a name (canonical form).
    pub(super) fn fingerprint(&self, name: &str) -> Fingerprint {
        self.key.fingerprint(name)
    }

    pub(super) fn code_of(&self, fingerprint: Fingerprint) -> u64 {
        self.segment_of(fingerprint).find(fingerprint.0)
    }

    /// Brings what a look-up of this fingerprint touches into the cache. What it returns means nothing.
    pub(super) fn touch(&self, fingerprint: Fingerprint) -> u64 {
        self.segment_of(fingerprint).touch(fingerprint.0)
    }

    /// Calls `use_record` with a code's record as it travels, and its text where it is odd.
    pub(super) fn with_record<T>(
        &self,
        code: u64,
        use_record: impl FnOnce(PackedRecord, Option<&str>) -> T,
    ) -> T {
        if code & code::ODD == 0 {
            return use_record(code::expand(code), None);
        }
        self.odd.read(usize::try_from(code & !code::ODD).unwrap_or(usize::MAX), use_record)
    }

    /// Calls `use_record` with what the segments hold under this fingerprint.
    pub(super) fn with_found<T>(
        &self,
        fingerprint: Fingerprint,
        use_record: impl FnOnce(Option<(PackedRecord, Option<&str>)>) -> T,
    ) -> T {
        match self.code_of(fingerprint) {
            code::FREE => use_record(None),
            code => self.with_record(code, |record, odd| use_record(Some((record, odd)))),
        }
    }

    pub(super) fn standing_of(&self, code: u64) -> Standing {
        if code == code::FREE {
            return Standing::None;
        }
        self.with_record(code, |record, odd| standing(Some((record, odd))))
    }

    /// How many of these filings `next` would newly block. Under another key names can't be matched; then it is
    /// by how many fewer are in good standing.
    pub(super) fn newly_blocked_by(&self, next: &Self) -> u64 {
        if self.key == next.key {
            let falls = self.pairs().filter(|&(fingerprint, code)| {
                self.standing_of(code) > next.standing_of(next.code_of(Fingerprint(fingerprint)))
            });
            return falls.count().try_into().unwrap_or(u64::MAX);
        }
        let (ours, theirs) = (self.standings(), next.standings());
        let fewer = ours.iter().zip(theirs).map(|(ours, theirs)| ours.saturating_sub(theirs));
        fewer.max().unwrap_or_default()
    }

    pub(super) fn segment_of(&self, fingerprint: Fingerprint) -> &Segment {
        &self.segments[self.place_of(fingerprint)]
    }

    pub(super) fn place_of(&self, fingerprint: Fingerprint) -> usize {
        // In two steps: at depth 0 the shift is by all 64 bits.
        usize::try_from(fingerprint.0 >> 1 >> (u64::BITS - 1 - self.depth)).unwrap_or_default()
    }

    /// The places of the segment that has this place: one at full depth, else two, four and so on.
    pub(super) fn run_of(&self, place: usize) -> Range<usize> {
        let shared = self.depth - self.segments[place].depth();
        let first = place >> shared << shared;
        first..first + (1 << shared)
    }

    /// A code's filing as it travels.
    pub(super) fn entry(&self, fingerprint: u64, code: u64) -> Entry {
        let fingerprint = Fingerprint(fingerprint);
        self.with_record(code, |record, odd| Entry { fingerprint, record, odd: odd.map(Into::into) })
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.pairs_at(0..self.segments.len(), 0, 0..=u64::MAX)
    }

    /// What is held in the segments that begin at these places; of segments that fewer than `bits` bits chose, in
    /// the lines of these fingerprints.
    fn pairs_at(
        &self,
        places: Range<usize>,
        bits: u32,
        of: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, u64)> {
        let firsts = places.filter(|&place| self.run_of(place).start == place);
        firsts.flat_map(move |place| {
            let segment = &self.segments[place];
            let prefix = place >> (self.depth - segment.depth());
            let of = if segment.depth() < bits { of.clone() } else { 0..=u64::MAX };
            segment.iter_from(u64::try_from(prefix).unwrap_or_default(), of)
        })
    }

    /// What is held in a range of fingerprints.
    pub(super) fn pairs_in(&self, range: usize) -> impl Iterator<Item = (u64, u64)> {
        self.pairs_under(RANGE_BITS, range)
    }

    /// What is held of the fingerprints whose highest `bits` bits are `prefix`; nothing where there are none.
    pub(super) fn pairs_under(&self, bits: u32, prefix: usize) -> impl Iterator<Item = (u64, u64)> {
        let places = if prefix >> bits != 0 {
            0..0
        } else if self.depth > bits {
            let finer = self.depth - bits;
            let first = self.run_of(prefix << finer).start;
            first..(prefix + 1) << finer
        } else {
            self.run_of(prefix >> (bits - self.depth))
        };
        let first = u64::try_from(prefix).unwrap_or_default() << (u64::BITS - bits);
        let of = first..=first | u64::MAX >> bits;
        let pairs = self.pairs_at(places, bits, of.clone());
        pairs.filter(move |(fingerprint, _)| of.contains(fingerprint))
    }

    /// Filings of at least each standing above the lowest.
    pub(super) fn standings(&self) -> [u64; 2] {
        let mut counts = [0; 2];
        for (_, code) in self.pairs() {
            match self.standing_of(code) {
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
