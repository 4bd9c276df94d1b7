//! A segment of the table: cache lines of five or six slots, read without locks while one writer writes.
//!
//! A name's line follows from its fingerprint, and so do as many of the fingerprint's bits as choose segment and
//! line: a slot keeps the others only (the tag), exactly. What is then left of a slot holds the record's code. Names that find their line full are kept whole in the spill, and a filter in the line says of which
//! names that may be: a reader looks there only then. Knows nothing of names, texts or what a code means.

use super::code::{DELETED, FREE, ODD};
use super::line::{
    DENSE, DENSE_FILL, DENSE_FROM_BITS, LEAST_LINES, Line, ODD_VALUES, Place, Shape, WIDE, WIDE_FILL,
};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Slots in the spill beyond those expected.
const SPARE_SPILL: usize = 8;

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
            Some(slot) => self.shape.load(line, slot),
            None if self.shape.is_passed(line, fingerprint) => self.find_spilled(fingerprint),
            None => FREE,
        };
        if code == DELETED { FREE } else { code }
    }

    /// Brings a fingerprint's line into the cache. What it returns means nothing, but has to be used.
    pub(super) fn touch(&self, fingerprint: u64) -> u64 {
        let place = self.shape.place(fingerprint, self.lines.len());
        self.lines.get(place.line).map_or(0, Shape::touch)
    }

    /// Writes `code`, for which there must be room (`FREE` deletes), and returns the one before.
    pub(super) fn set(&self, fingerprint: u64, code: u64, tally: &mut Tally) -> Result<u64, Full> {
        let place = self.shape.place(fingerprint, self.lines.len());
        let Some(line) = self.lines.get(place.line) else {
            return if code == FREE { Ok(FREE) } else { Err(Full) };
        };
        let stored = if code == FREE { DELETED } else { code };
        let before = if let Some(slot) = self.shape.slot_in(line, place.tag) {
            self.shape.replace(line, slot, stored)
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
        self.iter_from(prefix, 0..=u64::MAX)
    }

    /// Every name held whose line is that of one of these fingerprints, and others that found theirs full.
    pub(super) fn iter_from(&self, prefix: u64, of: RangeInclusive<u64>) -> impl Iterator<Item = (u64, u64)> {
        let shape = self.shape;
        let [first, last] = [of.start(), of.end()].map(|bits| shape.place(*bits, self.lines.len()).line);
        let lines = self.lines.iter().enumerate().take(last + 1).skip(first);
        let in_lines = lines.flat_map(move |(at, line)| {
            (0..shape.slots()).filter_map(move |slot| {
                let (tag, code) = shape.tag_and_code(line, slot);
                (code > DELETED).then(|| {
                    let place = Place { line: at, tag };
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        /// At depth 0 and 8 lines have five slots, from 12 on six.
        #[test]
        fn a_segment_is_a_map(
            depth in prop::sample::select(vec![0_u32, 1, 8, 12, 16]),
            prefix in any::<u64>(),
            steps in proptest::collection::vec((any::<u64>(), 0_u32..64, 0_u64..1 << 39, 0_u8..4), 0..900),
        ) {
            let prefix = if depth == 0 { 0 } else { prefix >> (u64::BITS - depth) };
            let whole = |low: u64| match depth {
                0 => low.max(1),
                _ => prefix << (u64::BITS - depth) | low >> depth | 1 << 20,
            };
            let segment = Segment::with_room_for(depth, std::iter::empty(), 1000, true);
            prop_assert_eq!(segment.shape.is_dense, depth >= 12);
            let (mut tally, mut model) = (Tally::default(), HashMap::new());
            for (low, bit, code, action) in steps {
                // A neighbour that differs in one bit below the prefix.
                for fingerprint in [whole(low), whole(low ^ 1 << bit)] {
                    let code = match action {
                        0 => FREE,
                        1 => ODD | (code % ODD_VALUES),
                        _ => code.max(DELETED + 1),
                    };
                    let Ok(before) = segment.set(fingerprint, code, &mut tally) else {
                        continue;
                    };
                    prop_assert_eq!(before, model.insert(fingerprint, code).unwrap_or(FREE));
                    prop_assert_eq!(segment.find(fingerprint), code);
                }
            }
            model.retain(|_, code| *code != FREE);
            prop_assert_eq!(tally.live, model.len());
            for (fingerprint, code) in &model {
                prop_assert_eq!(segment.find(*fingerprint), *code);
            }
            prop_assert_eq!(segment.iter(prefix).collect::<HashMap<_, _>>(), model);
        }
    }

    #[test]
    fn what_finds_its_line_full_spills_until_the_segment_is_full() {
        let segment = Segment::with_room_for(12, std::iter::empty(), 1000, true);
        let mut tally = Tally::default();
        // All of one line.
        let taken = (1..).take_while(|&low| segment.set(low, DELETED + low, &mut tally).is_ok()).count();
        assert!(taken > DENSE + 8 && tally.spilled == taken - DENSE, "{taken}");
        for low in 1..=taken as u64 {
            assert_eq!(segment.find(low), DELETED + low);
        }
        let touched = (1..=taken as u64).filter(|&low| segment.lines_touched(low) == 1);
        assert_eq!(touched.count(), DENSE);
        assert_eq!(segment.set(taken as u64 + 1, FREE, &mut tally), Ok(FREE));
    }
}
