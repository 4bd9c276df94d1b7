//! A table taken apart by the highest bits of the fingerprint, and built out of such parts by several threads.
//!
//! How many parts there are is a matter of the saved state's format. Here a part is a segment.

use super::{ODD_INDEX_MASK, OddTexts, SEGMENT_BITS, SEGMENTS, Segment, Shown, Table, segment_of};
use crate::feed::{Digest, EpochKey, Fingerprint};
use crate::filing::PackedRecord;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bits of a fingerprint that choose the part.
const PART_BITS: u32 = 10;
/// The parts of any table.
pub(in crate::cache) const PARTS: usize = 1 << PART_BITS;
const _: () = assert!(PART_BITS == SEGMENT_BITS, "a part is copied and built as a segment");

/// What the parts of one table have in common while they are built.
pub(in crate::cache) struct Rebuild {
    key: EpochKey,
    odd: Arc<OddTexts>,
    odd_indexes: Mutex<HashMap<Box<str>, usize>>,
}

/// A part in the making.
pub(in crate::cache) struct Building<'a> {
    of: &'a Rebuild,
    built: Built,
}

/// A whole part, and what it adds to the table.
pub(in crate::cache) struct Built {
    index: usize,
    segment: Segment,
    tags: usize,
    count: u64,
    digest: Digest,
}

/// An entry that can't be: of another part, twice, a deletion, or more than were announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) struct Unfit;

impl Rebuild {
    pub(in crate::cache) fn new(key: EpochKey) -> Self {
        Self { key, odd: Arc::default(), odd_indexes: Mutex::default() }
    }

    /// Begins the part with this index, of this many filings.
    pub(in crate::cache) fn part(&self, index: usize, filings: usize) -> Building<'_> {
        let segment = Segment::with_room_for(filings);
        let built = Built { index, segment, tags: 0, count: 0, digest: Digest::default() };
        Building { of: self, built }
    }

    /// The table of these parts; `Unfit` where one comes twice or has no place.
    pub(in crate::cache) fn finish(self, all: Vec<Built>) -> Result<Table, Unfit> {
        let mut table = Table::new(self.key.clone());
        let mut segments = vec![Segment::empty(); SEGMENTS].into_boxed_slice();
        for built in all {
            let place = segments.get_mut(built.index).ok_or(Unfit)?;
            if place.slots() != 0 {
                return Err(Unfit);
            }
            *place = built.segment;
            table.tags[built.index] = built.tags;
            table.count += built.count;
            table.digest.add(built.digest.0);
        }
        table.shown = Arc::new(Shown { key: self.key, segments, odd: self.odd });
        table.odd_indexes = self.odd_indexes.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(table)
    }

    fn odd_index(&self, text: &str) -> usize {
        let mut indexes = self.odd_indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&index) = indexes.get(text) {
            return index;
        }
        let index = indexes.len();
        self.odd.append(index, text);
        indexes.insert(text.into(), index);
        index
    }
}

impl Building<'_> {
    /// Adds a filing as it travels.
    pub(in crate::cache) fn add(
        &mut self,
        fingerprint: Fingerprint,
        record: PackedRecord,
        odd: Option<&str>,
    ) -> Result<(), Unfit> {
        let Built { index, segment, tags, count, digest } = &mut self.built;
        if record.0 == 0 || segment_of(fingerprint) != *index {
            return Err(Unfit);
        }
        let (record, bits) = match odd {
            Some(text) if record.is_odd() => {
                let record = PackedRecord(record.0 & !ODD_INDEX_MASK);
                let text = u64::try_from(self.of.odd_index(text)).unwrap_or_default();
                (record, record.0 | text & ODD_INDEX_MASK)
            }
            None if !record.is_odd() => (record, record.0),
            _ => return Err(Unfit),
        };
        if segment.set(fingerprint.0, bits, tags) != Ok(0) {
            return Err(Unfit);
        }
        digest.add(self.of.key.element(fingerprint, record, odd));
        *count += 1;
        Ok(())
    }

    pub(in crate::cache) fn done(self) -> Built {
        self.built
    }
}

impl Shown {
    /// Gives each filing of a part to `give`. Filings that change meanwhile come as they were or as they are.
    pub(in crate::cache) fn each_in_part(
        &self,
        index: usize,
        mut give: impl FnMut(Fingerprint, PackedRecord, Option<&str>),
    ) {
        for (fingerprint, bits) in self.segments.get(index).into_iter().flat_map(|it| it.iter(index)) {
            let (record, odd) = self.resolve(bits);
            give(Fingerprint(fingerprint), record, odd);
        }
    }
}
