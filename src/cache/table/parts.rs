//! A table taken apart by the highest bits of the fingerprint, and built out of such parts by several threads.
//!
//! How many parts there are is a matter of the saved state's format. A segment is built whole, out of the parts
//! that it covers.

use super::{MOST_NAMES_OF_A_SEGMENT, Shown, Table, filled, segments_for};
use crate::cache::code;
use crate::cache::odd::{OddIndex, OddRecords};
use crate::cache::segment::{Segment, Tally};
use crate::feed::{Digest, EpochKey, Fingerprint, RANGE_BITS, range_of};
use crate::filing::PackedRecord;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of a fingerprint that choose the part.
const PART_BITS: u32 = 10;
/// The parts of any table.
pub(in crate::cache) const PARTS: usize = 1 << PART_BITS;
const _: () = assert!(PART_BITS <= RANGE_BITS, "a segment that is built covers whole ranges");

/// What the segments of one table have in common while they are built.
pub(in crate::cache) struct Rebuild {
    key: EpochKey,
    depth: u32,
    /// Filings at first, and what they are to have room for.
    filings: u64,
    room: u64,
    odd: Arc<OddRecords>,
    odd_index: Mutex<OddIndex>,
}

/// The filings of a segment to be.
pub(in crate::cache) struct Building<'a> {
    of: &'a Rebuild,
    place: usize,
    pairs: Vec<(u64, u64)>,
    ranges: Vec<Digest>,
}

/// A whole segment, and what it adds to the table.
pub(in crate::cache) struct Built {
    place: usize,
    segment: Segment,
    tally: Tally,
    count: usize,
    ranges: Vec<Digest>,
}

/// An entry that can't be: of another part, twice, a deletion, or one that there is no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) struct Unfit;

impl Rebuild {
    /// For a table of about this many filings, with room for `expected` if that is more (a quarter more at most).
    pub(in crate::cache) fn new(key: EpochKey, filings: u64, expected: u64) -> Self {
        let depth = segments_for(filings).ilog2().min(PART_BITS);
        let room = expected.clamp(filings, filings.saturating_add(filings / 4));
        Self { key, depth, filings, room, odd: Arc::default(), odd_index: Mutex::default() }
    }

    /// How many filings a segment that holds so many is to have room for.
    fn room_for(&self, filings: usize) -> usize {
        let share = u128::from(self.room) * filings as u128 / u128::from(self.filings.max(1));
        usize::try_from(share).unwrap_or(filings)
    }

    /// The place of the segment that covers a part.
    pub(in crate::cache) fn place_of(&self, part: usize) -> usize {
        part >> (PART_BITS - self.depth)
    }

    /// Begins the segment at this place.
    pub(in crate::cache) fn segment(&self, place: usize) -> Building<'_> {
        let ranges = vec![Digest::default(); 1 << (RANGE_BITS - self.depth)];
        Building { of: self, place, pairs: Vec::with_capacity(MOST_NAMES_OF_A_SEGMENT), ranges }
    }

    /// The table of these segments; `Unfit` where one comes twice or has no place.
    pub(in crate::cache) fn finish(self, all: Vec<Built>) -> Result<Table, Unfit> {
        let mut table = Table::new(self.key.clone());
        let mut segments = vec![Segment::empty(self.depth); 1 << self.depth].into_boxed_slice();
        table.tallies = vec![Tally::default(); segments.len()];
        for built in all {
            let place = segments.get_mut(built.place).ok_or(Unfit)?;
            if place.memory_bytes() != 0 {
                return Err(Unfit);
            }
            *place = built.segment;
            table.tallies[built.place] = built.tally;
            table.count += u64::try_from(built.count).unwrap_or(u64::MAX);
            let first = built.place << (RANGE_BITS - self.depth);
            for (digest, range) in built.ranges.iter().zip(&mut table.ranges[first..]) {
                table.digest.add(digest.0);
                range.add(digest.0);
            }
        }
        table.shown =
            Arc::new(Shown { key: self.key, depth: self.depth, segments, odd: self.odd, ahead: None });
        table.odd_index = self.odd_index.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(table)
    }

    fn odd_index(&self) -> MutexGuard<'_, OddIndex> {
        self.odd_index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn aside(&self, record: PackedRecord, odd: Option<&str>) -> Option<u64> {
        self.odd_index().code_of(&self.odd, record, odd)
    }
}

impl Building<'_> {
    /// Adds a filing of this part as it travels.
    pub(in crate::cache) fn add(
        &mut self,
        part: usize,
        fingerprint: Fingerprint,
        record: PackedRecord,
        odd: Option<&str>,
    ) -> Result<(), Unfit> {
        if record.0 == 0 || part_of(fingerprint) != part || self.of.place_of(part) != self.place {
            return Err(Unfit);
        }
        let (record, code) = match odd {
            Some(_) if record.is_odd() => {
                let record = PackedRecord(record.0 & !PackedRecord::NUMBER);
                (record, self.of.aside(record, odd))
            }
            None if !record.is_odd() => {
                (record, code::compact(record).or_else(|| self.of.aside(record, None)))
            }
            _ => return Err(Unfit),
        };
        self.pairs.push((fingerprint.0, code.ok_or(Unfit)?));
        let first = self.place << (RANGE_BITS - self.of.depth);
        self.ranges[range_of(fingerprint) - first].add(self.of.key.element(fingerprint, record, odd));
        Ok(())
    }

    /// Builds the segment.
    pub(in crate::cache) fn done(self) -> Result<Built, Unfit> {
        let Self { of, place, pairs, ranges } = self;
        let has_room = |records| of.odd_index().has_room_for(records);
        let aside = |record| of.aside(record, None);
        let (segment, tally) =
            filled(of.depth, of.room_for(pairs.len()), &pairs, has_room, aside).ok_or(Unfit)?;
        Ok(Built { place, segment, tally, count: pairs.len(), ranges })
    }
}

fn part_of(fingerprint: Fingerprint) -> usize {
    usize::try_from(fingerprint.0 >> (u64::BITS - PART_BITS)).unwrap_or_default()
}

impl Shown {
    /// Gives each filing of a part to `give`. Filings that change meanwhile come as they were or as they are.
    pub(in crate::cache) fn each_in_part(
        &self,
        part: usize,
        mut give: impl FnMut(Fingerprint, PackedRecord, Option<&str>),
    ) {
        for (fingerprint, code) in self.pairs_under(PART_BITS, part) {
            self.with_record(code, |record, odd| give(Fingerprint(fingerprint), record, odd));
        }
    }
}
