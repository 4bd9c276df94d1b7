//! A cache line of five or six slots, and how its bits are laid out.
//!
//! A slot is one word, code and low bits of the tag, and a field for the tag's high bits in a word that it shares
//! with other slots. Field and low bits never change once the word is set, which comes last, and a deletion
//! changes the code only: a reader that matches a tag reads a code that was once that name's; nothing can be
//! torn.

use super::code::{FREE, ODD};
use super::odd::MOST_WORDS;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const WORDS: usize = 8;
/// Slots in a line of a large table, whose tags are short, and in one of any table.
pub(super) const DENSE: usize = 6;
pub(super) const WIDE: usize = 5;
/// Bits of a fingerprint that segment and line must imply for dense lines to hold the codes of common records.
pub(super) const DENSE_FROM_BITS: u32 = 20;
/// More bits than these a code has no use for.
pub(super) const MOST_IMPLIED_BITS: u32 = 30;
/// Of a slot's values the highest are indexes into `odd`.
pub(super) const ODD_VALUES: u64 = MOST_WORDS as u64;
/// Codes below this fit every slot.
pub(super) const FITS_EVERYWHERE: u64 = (1 << 40) - ODD_VALUES;
/// So many lines at least, for tags short enough that common records fit beside them.
pub(super) const LEAST_LINES: usize = 256;
/// Names for 100 lines when a segment is built, and when it is full; and of 1,000 names those that spill then.
pub(super) const DENSE_FILL: Fill = Fill { built: 355, full: 375, spill: 40 };
pub(super) const WIDE_FILL: Fill = Fill { built: 385, full: 405, spill: 105 };
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    pub(super) built: usize,
    pub(super) full: usize,
    pub(super) spill: usize,
}

/// One cache line: a word for each slot, and what is left for fields and filter.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Line([AtomicU64; WORDS]);

/// How a segment's bits are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Bits of a fingerprint that chose the segment.
    pub(super) depth: u32,
    /// Bits that segment and line imply: whole ones.
    pub(super) implied: u32,
    pub(super) is_dense: bool,
}

/// Where a fingerprint belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) tag: u64,
}

impl Shape {
    /// The shape of a segment that is built for `names`, and its lines.
    pub(super) fn new(depth: u32, names: usize, is_dense: bool) -> (Self, usize) {
        let built = if is_dense { DENSE_FILL.built } else { WIDE_FILL.built };
        let lines = (names.saturating_mul(100) / built + 1).max(LEAST_LINES >> depth.min(8)).max(1);
        (Self { depth, implied: (depth + lines.ilog2()).min(MOST_IMPLIED_BITS), is_dense }, lines)
    }

    pub(super) fn fill(self) -> Fill {
        if self.is_dense { DENSE_FILL } else { WIDE_FILL }
    }

    pub(super) fn slots(self) -> usize {
        if self.is_dense { DENSE } else { WIDE }
    }

    /// Bits of a slot's field.
    fn field_bits(self) -> u32 {
        if self.is_dense { 20 } else { 32 }
    }

    /// Bits of a slot's word that hold the code; the others hold the low bits of the tag.
    pub(super) fn code_bits(self) -> u32 {
        self.field_bits() + self.implied
    }

    /// The line is the fingerprint scaled to the number of lines; the tag, what that leaves over, without the low
    /// bits that say nothing: fingerprints of one line have leftovers that lie `lines` apart.
    pub(super) fn place(self, fingerprint: u64, lines: usize) -> Place {
        let scaled = u128::from(fingerprint << self.depth) * lines as u128;
        let leftover = u64::try_from(scaled & u128::from(u64::MAX)).unwrap_or_default();
        Place {
            line: usize::try_from(scaled >> u64::BITS).unwrap_or_default(),
            tag: leftover >> self.implied,
        }
    }

    /// The reverse of `place`.
    pub(super) fn fingerprint(self, place: Place, lines: usize, prefix: u64) -> u64 {
        let least = (place.line as u128) << u64::BITS | u128::from(place.tag << self.implied);
        let low = least.div_ceil((lines as u128) << self.depth);
        let prefix = u128::from(prefix) << (u64::BITS - self.depth);
        u64::try_from(prefix | low).unwrap_or_default()
    }

    /// The code in a slot.
    pub(super) fn load(self, line: &Line, slot: usize) -> u64 {
        self.code(line.0[slot].load(Ordering::Acquire))
    }

    /// Puts another code into a slot that has a tag, and returns the one before.
    pub(super) fn replace(self, line: &Line, slot: usize, code: u64) -> u64 {
        let word = line.0[slot].load(Ordering::Relaxed);
        line.0[slot].store(self.with_code(word, code), Ordering::Release);
        self.code(word)
    }

    /// The tag and the code in a slot.
    pub(super) fn tag_and_code(self, line: &Line, slot: usize) -> (u64, u64) {
        let word = line.0[slot].load(Ordering::Acquire);
        (self.tag(line, slot, word), self.code(word))
    }

    /// Brings a line into the cache. What it returns means nothing.
    pub(super) fn touch(line: &Line) -> u64 {
        line.0[0].load(Ordering::Relaxed)
    }

    fn code(self, word: u64) -> u64 {
        let most = (1 << self.code_bits()) - 1;
        let code = word & most;
        if code > most - ODD_VALUES { ODD | (most - code) } else { code }
    }

    fn with_code(self, word: u64, code: u64) -> u64 {
        let most = (1 << self.code_bits()) - 1;
        word & !most | if code & ODD == 0 { code } else { most - (code & !ODD) }
    }

    fn tag(self, line: &Line, slot: usize, word: u64) -> u64 {
        let (field_word, at) = self.field(slot);
        let field = line.0[field_word].load(Ordering::Relaxed) >> at & ((1 << self.field_bits()) - 1);
        field << (u64::BITS - self.code_bits()) | word >> self.code_bits()
    }

    pub(super) fn slot_in(self, line: &Line, tag: u64) -> Option<usize> {
        // One loop for each number of slots, so that the compiler can unroll it.
        if self.is_dense { self.slot_among::<DENSE>(line, tag) } else { self.slot_among::<WIDE>(line, tag) }
    }

    fn slot_among<const SLOTS: usize>(self, line: &Line, tag: u64) -> Option<usize> {
        let code_bits = self.code_bits();
        let wanted = tag << code_bits >> code_bits;
        (0..SLOTS).find(|&slot| {
            let word = line.0[slot].load(Ordering::Acquire);
            word >> code_bits == wanted && self.code(word) != FREE && self.tag(line, slot, word) == tag
        })
    }

    /// Puts a tag that isn't there into a free slot, if there is one.
    pub(super) fn add(self, line: &Line, tag: u64, code: u64) -> bool {
        let code_bits = self.code_bits();
        let is_free = |slot: &usize| self.code(line.0[*slot].load(Ordering::Relaxed)) == FREE;
        let Some(slot) = (0..self.slots()).find(is_free) else {
            return false;
        };
        let (field_word, at) = self.field(slot);
        // One writer: nobody else stores here meanwhile.
        let fields = line.0[field_word].load(Ordering::Relaxed);
        line.0[field_word].store(fields | tag >> (u64::BITS - code_bits) << at, Ordering::Relaxed);
        // Last: whoever sees the code sees the field.
        line.0[slot].store(self.with_code(tag << code_bits, code), Ordering::Release);
        true
    }

    /// The word that holds a slot's field, and the field's lowest bit.
    fn field(self, slot: usize) -> (usize, u32) {
        let per_word = if self.is_dense { 3 } else { 2 };
        let at = u32::try_from(slot % per_word).unwrap_or_default();
        (self.slots() + slot / per_word, at * self.field_bits())
    }

    /// Whether a name with this fingerprint's filter bit spilled from the line.
    pub(super) fn is_passed(self, line: &Line, fingerprint: u64) -> bool {
        let (word, bit) = self.filter(fingerprint);
        line.0[word].load(Ordering::Acquire) & bit != 0
    }

    pub(super) fn pass(self, line: &Line, fingerprint: u64) {
        let (word, bit) = self.filter(fingerprint);
        line.0[word].fetch_or(bit, Ordering::AcqRel);
    }

    /// The word and the bit in it that stand for a fingerprint, beyond the fields: by bits that have nothing to
    /// do with the choice of the line.
    fn filter(self, fingerprint: u64) -> (usize, u64) {
        let low = fingerprint & 0xff;
        if self.is_dense {
            (WORDS - 1 - usize::from(low & 1 != 0), 1 << (60 + (low >> 1 & 3)))
        } else {
            (WORDS - 1, 1 << (32 + (low & 31)))
        }
    }
}
