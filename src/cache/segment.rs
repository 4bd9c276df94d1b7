//! A segment of the table: cache-line buckets of four slots, read without locks while one writer writes.
//!
//! A slot is two words: a tag (the fingerprint without the bits that chose the segment) and a record. A tag
//! never changes once it is set and a deletion clears the record only, so a reader that matches a tag reads
//! a record that was once that name's: nothing can be torn. Nine of the ten bits that the tag has to spare
//! make, over a bucket's four slots, a filter of the names that found the bucket full and went on; a reader
//! goes on only where the filter says so. Knows nothing of names, texts or what the bits of a record mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a fingerprint that choose the segment, and that a tag does not repeat.
pub(super) const SEGMENT_BITS: u32 = 10;
const SLOTS: usize = 4;
const TAG_BITS: u32 = u64::BITS - SEGMENT_BITS;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
/// A tag is there. (A tag may be 0, so it takes a bit of its own.)
const OCCUPIED: u64 = 1 << 63;
/// Filter bits in each slot's tag word, above the tag and below `OCCUPIED`.
const FILTER_BITS_PER_SLOT: u64 = SEGMENT_BITS as u64 - 1;
const FILTER_BITS: u64 = FILTER_BITS_PER_SLOT * SLOTS as u64;

#[derive(Debug, Default)]
struct Slot {
    tag: AtomicU64,
    record: AtomicU64,
}

/// One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Bucket {
    slots: [Slot; SLOTS],
}

/// Buckets of a fixed number. Clones share them; only the table's one writer may call `set`.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    buckets: Arc<[Bucket]>,
}

/// A segment must be rebuilt larger before it takes one more tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Segment {
    /// A segment that holds nothing, and can't.
    pub(super) fn empty() -> Self {
        Self { buckets: Arc::new([]) }
    }

    /// Room for `filings` at four fifths of the slots, and a few more.
    pub(super) fn with_room_for(filings: usize) -> Self {
        let buckets = filings.saturating_mul(5) / 16 + 2;
        Self { buckets: (0..buckets).map(|_| Bucket::default()).collect() }
    }

    /// The most tags that are taken before `Full`: seven eighths of the slots.
    pub(super) fn most_tags(&self) -> usize {
        self.buckets.len() * SLOTS * 7 / 8
    }

    /// Slots, used or not.
    pub(super) fn slots(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// The record under `fingerprint`, 0 where there is none. Touches one line for nearly every look-up.
    pub(super) fn find(&self, fingerprint: u64) -> u64 {
        self.slot_of(fingerprint).map_or(0, |slot| slot.record.load(Ordering::Acquire))
    }

    /// Writes `record` (0 deletes) and returns the one before. `tags` counts the segment's tags.
    pub(super) fn set(&self, fingerprint: u64, record: u64, tags: &mut usize) -> Result<u64, Full> {
        if let Some(slot) = self.slot_of(fingerprint) {
            return Ok(slot.record.swap(record, Ordering::AcqRel));
        }
        if record == 0 {
            return Ok(0);
        }
        if *tags >= self.most_tags() {
            return Err(Full);
        }
        self.add(fingerprint, record);
        *tags += 1;
        Ok(0)
    }

    /// Every filing held: fingerprint and record. `index` is the segment's own, for the bits that tags leave out.
    pub(super) fn iter(&self, index: usize) -> impl Iterator<Item = (u64, u64)> {
        let high = u64::try_from(index).unwrap_or_default() << TAG_BITS;
        self.buckets.iter().flat_map(|bucket| &bucket.slots).filter_map(move |slot| {
            let tag = slot.tag.load(Ordering::Acquire);
            let record = slot.record.load(Ordering::Acquire);
            (tag & OCCUPIED != 0 && record != 0).then_some((high | tag & TAG_MASK, record))
        })
    }

    /// How many lines a look-up touches.
    #[cfg(test)]
    pub(super) fn lines_touched(&self, fingerprint: u64) -> usize {
        let mut at = self.home(fingerprint);
        for lines in 1..=self.buckets.len() {
            let bucket = &self.buckets[at];
            if bucket.slot_of(fingerprint).is_some() || !bucket.was_passed_by(fingerprint) {
                return lines;
            }
            at = self.next(at);
        }
        self.buckets.len()
    }

    fn slot_of(&self, fingerprint: u64) -> Option<&Slot> {
        let mut at = self.home(fingerprint);
        // Bounded by the number of buckets: a segment may be empty, and filters may all say yes.
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            if let Some(slot) = bucket.slot_of(fingerprint) {
                return Some(slot);
            }
            if !bucket.was_passed_by(fingerprint) {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// Puts a tag that isn't there into the first free slot from its home on.
    fn add(&self, fingerprint: u64, record: u64) {
        let (mut at, mut passed) = (self.home(fingerprint), 0_usize);
        let slot = loop {
            if let Some(slot) = self.buckets[at].free_slot() {
                break slot;
            }
            at = self.next(at);
            passed += 1;
        };
        // The record first: whoever sees the tag sees it.
        slot.record.store(record, Ordering::Release);
        slot.tag.store(OCCUPIED | fingerprint & TAG_MASK, Ordering::Release);
        let mut at = self.home(fingerprint);
        for _ in 0..passed {
            self.buckets[at].pass(fingerprint);
            at = self.next(at);
        }
    }

    /// The bucket where a search begins: the tag scaled to the number of buckets.
    fn home(&self, fingerprint: u64) -> usize {
        let scaled = u128::from(fingerprint << SEGMENT_BITS) * self.buckets.len() as u128;
        usize::try_from(scaled >> u64::BITS).unwrap_or_default()
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }
}

impl Bucket {
    fn slot_of(&self, fingerprint: u64) -> Option<&Slot> {
        let wanted = OCCUPIED | fingerprint & TAG_MASK;
        self.slots.iter().find(|slot| slot.tag.load(Ordering::Acquire) & (OCCUPIED | TAG_MASK) == wanted)
    }

    fn free_slot(&self) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.tag.load(Ordering::Relaxed) & OCCUPIED == 0)
    }

    /// Whether a name with this fingerprint's filter bit went on from here.
    fn was_passed_by(&self, fingerprint: u64) -> bool {
        let (slot, bit) = filter_bit(fingerprint);
        self.slots[slot].tag.load(Ordering::Acquire) & bit != 0
    }

    fn pass(&self, fingerprint: u64) {
        let (slot, bit) = filter_bit(fingerprint);
        self.slots[slot].tag.fetch_or(bit, Ordering::AcqRel);
    }
}

/// The slot and the bit in its tag word that stand for a fingerprint: from its low bits, which have the least
/// to do with the choice of the bucket.
fn filter_bit(fingerprint: u64) -> (usize, u64) {
    let index = ((fingerprint & u64::from(u32::MAX)) * FILTER_BITS) >> 32;
    let slot = usize::try_from(index / FILTER_BITS_PER_SLOT).unwrap_or_default();
    (slot, 1 << (u64::from(TAG_BITS) + index % FILTER_BITS_PER_SLOT))
}
