//! A segment of the table: cache lines of five or six slots, read without locks while one writer writes.
//!
//! A name's line follows from its fingerprint, and so do as many of the fingerprint's bits as choose segment and
//! line: a slot keeps the others only (the tag), exactly. What is then left of a slot holds the record's code.
//! A slot is one word, code and low bits of the tag, and a field for the tag's high bits in a word that it shares
//! with other slots. Field and low bits never change once the word is set, which comes last, and a deletion
//! changes the code only: a reader that matches a tag reads a code that was once that name's; nothing can be
//! torn. Names that find their line full are kept whole in the spill, and a filter in the line says of which
//! names that may be: a reader looks there only then. Knows nothing of names, texts or what a code means.

use super::code::{DELETED, FREE, ODD};
use super::odd::MOST_WORDS;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = 8;
/// Slots in a line of a large table, whose tags are short, and in one of any table.
const DENSE: usize = 6;
const WIDE: usize = 5;
/// Bits of a fingerprint that segment and line must imply for dense lines to hold the codes of common records.
const DENSE_FROM_BITS: u32 = 20;
/// More bits than these a code has no use for.
const MOST_IMPLIED_BITS: u32 = 30;
/// Of a slot's values the highest are indexes into `odd`.
const ODD_VALUES: u64 = MOST_WORDS as u64;
/// Codes below this fit every slot.
pub(super) const FITS_EVERYWHERE: u64 = (1 << 40) - ODD_VALUES;
/// So many lines at least, for tags short enough that common records fit beside them.
const LEAST_LINES: usize = 256;
/// Names for 100 lines when a segment is built, and when it is full; and of 1,000 names those that spill then.
const DENSE_FILL: Fill = Fill { built: 355, full: 375, spill: 40 };
const WIDE_FILL: Fill = Fill { built: 385, full: 405, spill: 105 };
/// Slots in the spill beyond those expected.
const SPARE_SPILL: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Fill {
    built: usize,
    full: usize,
    spill: usize,
}

/// One cache line: a word for each slot, and what is left for fields and filter.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; WORDS]);

/// A name that found its line full.
#[derive(Debug, Default)]
struct Spilled {
    fingerprint: AtomicU64,
    code: AtomicU64,
}

/// Lines of a fixed number. Clones share them; only the table's one writer may call `set`.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    lines: Arc<[Line]>,
    spill: Arc<[Spilled]>,
    shape: Shape,
}

/// How a segment's bits are laid out.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Bits of a fingerprint that chose the segment.
    depth: u32,
    /// Bits that segment and line imply: whole ones.
    implied: u32,
    is_dense: bool,
}

/// What the writer knows of a segment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// Names that have a record.
    pub(super) live: usize,
    /// The most there were since it was built.
    peak: usize,
    /// Slots used, of deleted names too; and those of them in the spill.
    used: usize,
    spilled: usize,
}

/// A segment must be rebuilt larger before it takes one more name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// Where a fingerprint belongs.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: usize,
    tag: u64,
}

impl Tally {
    /// Whether so many names are gone that a smaller segment would do.
    pub(super) fn is_sparse(&self) -> bool {
        self.live + LEAST_LINES / 8 < self.peak - self.peak / 32
    }
}

impl Segment {
    /// A segment that holds nothing, and can't.
    pub(super) fn empty(depth: u32) -> Self {
        let shape = Shape { depth, implied: depth, is_dense: false };
        Self { lines: Arc::new([]), spill: Arc::new([]), shape }
    }

    /// An empty segment with room for these fingerprints, or for `names` of them if that is more; six slots to a
    /// line if `may_be_dense` and it pays.
    pub(super) fn with_room_for(
        depth: u32,
        fingerprints: impl Iterator<Item = u64>,
        names: usize,
        may_be_dense: bool,
    ) -> Self {
        let dense = Shape::new(depth, names, true);
        let (shape, lines) = if may_be_dense && dense.0.implied >= DENSE_FROM_BITS {
            dense
        } else {
            Shape::new(depth, names, false)
        };
        let (slots, fill) = if shape.is_dense { (DENSE, DENSE_FILL) } else { (WIDE, WIDE_FILL) };
        let mut counts = vec![0_usize; lines];
        let mut spilling = 0;
        for fingerprint in fingerprints {
            let count = &mut counts[shape.place(fingerprint, lines).line];
            *count += 1;
            spilling += usize::from(*count > slots);
        }
        let spill = (spilling + spilling / 4).max(names * fill.spill / 1000) + SPARE_SPILL;
        Self {
            lines: (0..lines).map(|_| Line::default()).collect(),
            spill: (0..spill + spill / 8).map(|_| Spilled::default()).collect(),
            shape,
        }
    }

    /// Bits of a fingerprint that chose the segment.
    pub(super) fn depth(&self) -> u32 {
        self.shape.depth
    }

    /// Octets in lines and spill, used or not.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.spill)
    }

    /// Whether a slot has room for this code.
    pub(super) fn has_room_for(&self, code: u64) -> bool {
        code & ODD != 0 || code < (1 << self.shape.code_bits()) - ODD_VALUES
    }

    /// The code under `fingerprint`, `FREE` where there is none. Touches one line for nearly every look-up.
    pub(super) fn find(&self, fingerprint: u64) -> u64 {
        let place = self.shape.place(fingerprint, self.lines.len());
        let Some(line) = self.lines.get(place.line) else {
            return FREE;
        };
        let code = match self.shape.slot_in(line, place.tag) {
            Some(slot) => self.shape.code(line.0[slot].load(Ordering::Acquire)),
            None if self.shape.is_passed(line, fingerprint) => self.find_spilled(fingerprint),
            None => FREE,
        };
        if code == DELETED { FREE } else { code }
    }

    /// Brings a fingerprint's line into the cache. What it returns means nothing, but has to be used.
    pub(super) fn touch(&self, fingerprint: u64) -> u64 {
        let place = self.shape.place(fingerprint, self.lines.len());
        self.lines.get(place.line).map_or(0, |line| line.0[0].load(Ordering::Relaxed))
    }

    /// Writes `code`, for which there must be room (`FREE` deletes), and returns the one before.
    pub(super) fn set(&self, fingerprint: u64, code: u64, tally: &mut Tally) -> Result<u64, Full> {
        let place = self.shape.place(fingerprint, self.lines.len());
        let Some(line) = self.lines.get(place.line) else {
            return if code == FREE { Ok(FREE) } else { Err(Full) };
        };
        let stored = if code == FREE { DELETED } else { code };
        let before = if let Some(slot) = self.shape.slot_in(line, place.tag) {
            let word = line.0[slot].load(Ordering::Relaxed);
            line.0[slot].store(self.shape.with_code(word, stored), Ordering::Release);
            self.shape.code(word)
        } else if let Some(spilled) =
            self.shape.is_passed(line, fingerprint).then(|| self.spilled(fingerprint)).flatten()
        {
            spilled.code.swap(stored, Ordering::AcqRel)
        } else if code == FREE {
            return Ok(FREE);
        } else {
            self.add(line, fingerprint, place.tag, code, tally)?;
            FREE
        };
        let before = if before == DELETED { FREE } else { before };
        tally.live = tally.live + usize::from(code != FREE) - usize::from(before != FREE);
        tally.peak = tally.peak.max(tally.live);
        Ok(before)
    }

    /// Every name held: fingerprint and code. `prefix` is the bits that chose the segment.
    pub(super) fn iter(&self, prefix: u64) -> impl Iterator<Item = (u64, u64)> {
        let shape = self.shape;
        let in_lines = self.lines.iter().enumerate().flat_map(move |(at, line)| {
            (0..shape.slots()).filter_map(move |slot| {
                let word = line.0[slot].load(Ordering::Acquire);
                let code = shape.code(word);
                (code > DELETED).then(|| {
                    let place = Place { line: at, tag: shape.tag(line, slot, word) };
                    (shape.fingerprint(place, self.lines.len(), prefix), code)
                })
            })
        });
        let in_spill = self.spill.iter().filter_map(|spilled| {
            let fingerprint = spilled.fingerprint.load(Ordering::Acquire);
            let code = spilled.code.load(Ordering::Acquire);
            (code > DELETED).then_some((fingerprint, code))
        });
        in_lines.chain(in_spill)
    }

    /// How many cache lines a look-up touches.
    pub(super) fn lines_touched(&self, fingerprint: u64) -> usize {
        let place = self.shape.place(fingerprint, self.lines.len());
        let Some(line) = self.lines.get(place.line) else {
            return 0;
        };
        if self.shape.slot_in(line, place.tag).is_some() || !self.shape.is_passed(line, fingerprint) {
            return 1;
        }
        let probed = self
            .probes(fingerprint)
            .take_while(|spilled| ![0, fingerprint].contains(&spilled.fingerprint.load(Ordering::Relaxed)));
        2 + probed.count() * size_of::<Spilled>() / size_of::<Line>()
    }

    /// Adds a name that isn't there.
    fn add(&self, line: &Line, fingerprint: u64, tag: u64, code: u64, tally: &mut Tally) -> Result<(), Full> {
        if tally.used * 100 >= self.lines.len() * self.shape.fill().full {
            return Err(Full);
        }
        if !self.shape.add(line, tag, code) {
            if tally.spilled * 9 >= self.spill.len() * 8 {
                return Err(Full);
            }
            let is_free = |spilled: &&Spilled| spilled.fingerprint.load(Ordering::Relaxed) == 0;
            let spilled = self.probes(fingerprint).find(is_free).ok_or(Full)?;
            // The code first: whoever sees the fingerprint sees it; and then the filter, which leads there.
            spilled.code.store(code, Ordering::Release);
            spilled.fingerprint.store(fingerprint, Ordering::Release);
            self.shape.pass(line, fingerprint);
            tally.spilled += 1;
        }
        tally.used += 1;
        Ok(())
    }

    fn find_spilled(&self, fingerprint: u64) -> u64 {
        self.spilled(fingerprint).map_or(FREE, |spilled| spilled.code.load(Ordering::Acquire))
    }

    fn spilled(&self, fingerprint: u64) -> Option<&Spilled> {
        for spilled in self.probes(fingerprint) {
            match spilled.fingerprint.load(Ordering::Acquire) {
                0 => return None,
                found if found == fingerprint => return Some(spilled),
                _ => {}
            }
        }
        None
    }

    /// The spill's slots in the order in which a name's is looked for.
    fn probes(&self, fingerprint: u64) -> impl Iterator<Item = &Spilled> {
        // From low bits, which have the least to do with the choice of the line.
        let scaled = u128::from(fingerprint << (u64::BITS / 2)) * self.spill.len() as u128;
        let start = usize::try_from(scaled >> u64::BITS).unwrap_or_default();
        let (before, after) = self.spill.split_at(start.min(self.spill.len()));
        after.iter().chain(before)
    }
}

impl Shape {
    /// The shape of a segment that is built for `names`, and its lines.
    fn new(depth: u32, names: usize, is_dense: bool) -> (Self, usize) {
        let built = if is_dense { DENSE_FILL.built } else { WIDE_FILL.built };
        let lines = (names.saturating_mul(100) / built + 1).max(LEAST_LINES >> depth.min(8)).max(1);
        (Self { depth, implied: (depth + lines.ilog2()).min(MOST_IMPLIED_BITS), is_dense }, lines)
    }

    fn fill(self) -> Fill {
        if self.is_dense { DENSE_FILL } else { WIDE_FILL }
    }

    fn slots(self) -> usize {
        if self.is_dense { DENSE } else { WIDE }
    }

    /// Bits of a slot's field.
    fn field_bits(self) -> u32 {
        if self.is_dense { 20 } else { 32 }
    }

    /// Bits of a slot's word that hold the code; the others hold the low bits of the tag.
    fn code_bits(self) -> u32 {
        self.field_bits() + self.implied
    }

    /// The line is the fingerprint scaled to the number of lines; the tag, what that leaves over, without the low
    /// bits that say nothing: fingerprints of one line have leftovers that lie `lines` apart.
    fn place(self, fingerprint: u64, lines: usize) -> Place {
        let scaled = u128::from(fingerprint << self.depth) * lines as u128;
        let leftover = u64::try_from(scaled & u128::from(u64::MAX)).unwrap_or_default();
        Place {
            line: usize::try_from(scaled >> u64::BITS).unwrap_or_default(),
            tag: leftover >> self.implied,
        }
    }

    /// The reverse of `place`.
    fn fingerprint(self, place: Place, lines: usize, prefix: u64) -> u64 {
        let least = (place.line as u128) << u64::BITS | u128::from(place.tag << self.implied);
        let low = least.div_ceil((lines as u128) << self.depth);
        let prefix = u128::from(prefix) << (u64::BITS - self.depth);
        u64::try_from(prefix | low).unwrap_or_default()
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

    fn slot_in(self, line: &Line, tag: u64) -> Option<usize> {
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
    fn add(self, line: &Line, tag: u64, code: u64) -> bool {
        let code_bits = self.code_bits();
        let is_free = |slot: &usize| self.code(line.0[*slot].load(Ordering::Relaxed)) == FREE;
        let Some(slot) = (0..self.slots()).find(is_free) else {
            return false;
        };
        let (field_word, at) = self.field(slot);
        line.0[field_word].fetch_or(tag >> (u64::BITS - code_bits) << at, Ordering::Relaxed);
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
    fn is_passed(self, line: &Line, fingerprint: u64) -> bool {
        let (word, bit) = self.filter(fingerprint);
        line.0[word].load(Ordering::Acquire) & bit != 0
    }

    fn pass(self, line: &Line, fingerprint: u64) {
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
