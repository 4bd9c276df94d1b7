//! The records that no slot has room for: odd filing numbers, and rarities. Appended by one writer, read without
//! locks.
//!
//! Records stay until the whole table is replaced; the writer gives equal ones one index, so a filing that goes
//! back and forth adds nothing. An index is where the record's octets begin, in words of eight: the record's top
//! seven bits, the length of the text, and the text where it is odd, else the number's bits.

use super::code;
use crate::filing::{NUMBER_BITS, PackedRecord};
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Indexes are below this.
pub(super) const MOST_WORDS: usize = 1 << 26;
/// Words that one record may take.
pub(super) const MOST_WORDS_OF_ONE: usize = (HEAD_OCTETS + MOST_TEXT_OCTETS).div_ceil(WORD_OCTETS);
/// A text's length is written in one octet.
pub(super) const MOST_TEXT_OCTETS: usize = 255;
const HEAD_OCTETS: usize = 2;
const WORD_OCTETS: usize = 8;
const NUMBER_OCTETS: usize = 8;
/// Chunks grow in octaves, each of eight chunks: an eighth of all is unused at most.
const FIRST_OCTAVE: u32 = 10;
const CHUNKS_PER_OCTAVE_BITS: u32 = 3;
const CHUNKS: usize = 17 << CHUNKS_PER_OCTAVE_BITS;
/// Parts of the writer's index, so that one growing is soon done.
const SHARDS: usize = 64;
/// Bits of an index's slot that hold index and one; the others, some of the record's hash.
const INDEX_BITS: u32 = MOST_WORDS.ilog2();
const FIRST_SHARD_SLOTS: usize = 4;

/// An append-only list that never moves what it holds.
#[derive(Debug)]
pub(super) struct OddRecords {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
}

impl Default for OddRecords {
    fn default() -> Self {
        Self { chunks: std::array::from_fn(|_| OnceLock::new()) }
    }
}

impl OddRecords {
    /// Reads the record at an index that `OddIndex` gave, with its text where it is odd.
    pub(super) fn read<T>(&self, index: usize, read: impl FnOnce(PackedRecord, Option<&str>) -> T) -> T {
        let mut octets = [0; MOST_WORDS_OF_ONE * WORD_OCTETS];
        let first = self.word(index).to_le_bytes();
        let top = u64::from(first[0]) << NUMBER_BITS;
        let length = if top & PackedRecord::ODD == 0 { NUMBER_OCTETS } else { first[1].into() };
        let words = (HEAD_OCTETS + length).div_ceil(WORD_OCTETS);
        for (at, octets) in octets.chunks_exact_mut(WORD_OCTETS).take(words).enumerate() {
            octets.copy_from_slice(&self.word(index + at).to_le_bytes());
        }
        let body = &octets[HEAD_OCTETS..HEAD_OCTETS + length];
        if top & PackedRecord::ODD != 0 {
            return read(PackedRecord(top), Some(std::str::from_utf8(body).unwrap_or_default()));
        }
        let number = body.iter().rev().fold(0, |number, &octet| number << 8 | u64::from(octet));
        read(PackedRecord(top | number), None)
    }

    fn word(&self, at: usize) -> u64 {
        let (chunk, at) = place(at);
        let word = self.chunks.get(chunk).and_then(|chunk| chunk.get()?.get(at));
        // Ordered by the slot that holds the index: whoever has that has this.
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn write(&self, at: usize, word: u64) {
        let (chunk, offset) = place(at);
        let octave = FIRST_OCTAVE + u32::try_from(chunk >> CHUNKS_PER_OCTAVE_BITS).unwrap_or_default();
        let chunk = self.chunks[chunk].get_or_init(|| {
            (0..1_usize << (octave - CHUNKS_PER_OCTAVE_BITS)).map(|_| AtomicU64::new(0)).collect()
        });
        chunk[offset].store(word, Ordering::Relaxed);
    }

    fn memory_bytes(&self) -> usize {
        let words: usize = self.chunks.iter().filter_map(|chunk| Some(chunk.get()?.len())).sum();
        words * WORD_OCTETS
    }
}

/// The chunk of a word, and where it is there.
fn place(at: usize) -> (usize, usize) {
    let at = at + (1 << FIRST_OCTAVE);
    let octave = at.ilog2();
    let size_bits = octave - CHUNKS_PER_OCTAVE_BITS;
    let eighth = at >> size_bits & ((1 << CHUNKS_PER_OCTAVE_BITS) - 1);
    let octaves = usize::try_from(octave - FIRST_OCTAVE).unwrap_or(CHUNKS);
    ((octaves << CHUNKS_PER_OCTAVE_BITS) + eighth, at & ((1 << size_bits) - 1))
}

/// The writer's side: which records there are, and where the next one goes.
#[derive(Debug)]
pub(super) struct OddIndex {
    hasher: RandomState,
    shards: Box<[Shard]>,
    words: usize,
}

/// Open addressing; 0 is a free slot, else an index and one below bits of the record's hash, which spare most looks
/// at other records.
#[derive(Debug, Default)]
struct Shard {
    slots: Vec<u32>,
    used: usize,
}

impl Default for OddIndex {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { hasher: RandomState::new(), shards, words: 0 }
    }
}

impl OddIndex {
    /// The index of a record, appended if it is new; none where there is no room, or the text is too long.
    fn index_of(&mut self, records: &OddRecords, record: PackedRecord, odd: Option<&str>) -> Option<usize> {
        let hash = hash(&self.hasher, record, odd);
        let shard = &mut self.shards[hash % SHARDS];
        if (shard.used + 1) * 8 > shard.slots.len() * 7 {
            shard.grow(records, &self.hasher);
        }
        let is_same = |index| records.read(index, |other, text| (other, text) == (record, odd));
        let at = match shard.find(hash, is_same) {
            Ok(index) => return Some(index),
            Err(free) => free,
        };
        let index = self.words;
        self.words = append(records, index, record, odd)?;
        shard.slots[at] = tag(hash) | u32::try_from(index + 1).unwrap_or_default();
        shard.used += 1;
        Some(index)
    }

    /// The code that stands for a record, appended if it is new; none as with `index_of`.
    pub(super) fn code_of(
        &mut self,
        records: &OddRecords,
        record: PackedRecord,
        odd: Option<&str>,
    ) -> Option<u64> {
        let index = self.index_of(records, record, odd)?;
        Some(code::ODD | u64::try_from(index).unwrap_or_default())
    }

    /// Whether that many records more are sure to have room.
    pub(super) fn has_room_for(&self, records: usize) -> bool {
        self.words + records.saturating_mul(MOST_WORDS_OF_ONE) < MOST_WORDS
    }

    /// Octets that records and index take.
    pub(super) fn memory_bytes(&self, records: &OddRecords) -> usize {
        let slots: usize = self.shards.iter().map(|shard| shard.slots.capacity()).sum();
        records.memory_bytes() + slots * size_of::<u32>()
    }
}

impl Shard {
    /// The index of a record with this hash that `is_same` is true of, or else the slot where it would be.
    fn find(&self, hash: usize, is_same: impl Fn(usize) -> bool) -> Result<usize, usize> {
        let mut at = hash / SHARDS % self.slots.len();
        while let Some(index) = index_in(self.slots[at]) {
            if self.slots[at] >> INDEX_BITS == tag(hash) >> INDEX_BITS && is_same(index) {
                return Ok(index);
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        Err(at)
    }

    fn grow(&mut self, records: &OddRecords, hasher: &RandomState) {
        let slots = (self.slots.len() * 3 / 2).max(FIRST_SHARD_SLOTS);
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        for slot in old {
            let Some(index) = index_in(slot) else { continue };
            let hash = records.read(index, |record, odd| hash(hasher, record, odd));
            if let Err(free) = self.find(hash, |_| false) {
                self.slots[free] = slot;
            }
        }
    }
}

/// The index in a slot; none in a free one.
fn index_in(slot: u32) -> Option<usize> {
    usize::try_from(slot & ((1 << INDEX_BITS) - 1)).unwrap_or_default().checked_sub(1)
}

/// The highest bits of a hash, which choose neither shard nor slot, as a slot's highest.
fn tag(hash: usize) -> u32 {
    u32::try_from(hash >> (usize::BITS - 1 - (u32::BITS - INDEX_BITS))).unwrap_or_default() << INDEX_BITS
}

fn hash(hasher: &RandomState, record: PackedRecord, odd: Option<&str>) -> usize {
    usize::try_from(hasher.hash_one((record, odd)) >> 1).unwrap_or_default()
}

/// Writes a record down and says where the next one goes.
fn append(records: &OddRecords, index: usize, record: PackedRecord, odd: Option<&str>) -> Option<usize> {
    let mut octets = [0; MOST_WORDS_OF_ONE * WORD_OCTETS];
    let number = (record.0 & PackedRecord::NUMBER).to_le_bytes();
    let body = if record.is_odd() { odd.unwrap_or_default().as_bytes() } else { &number };
    octets[0] = u8::try_from(record.0 >> NUMBER_BITS).unwrap_or_default();
    octets[1] = u8::try_from(body.len()).ok()?;
    octets[HEAD_OCTETS..HEAD_OCTETS + body.len()].copy_from_slice(body);
    let words = (HEAD_OCTETS + body.len()).div_ceil(WORD_OCTETS);
    // Index and one have to fit a slot.
    if index + words >= MOST_WORDS {
        return None;
    }
    for (at, word) in octets.chunks_exact(WORD_OCTETS).take(words).enumerate() {
        let word = word.iter().rev().fold(0, |word, &octet| word << 8 | u64::from(octet));
        records.write(index + at, word);
    }
    Some(index + words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_keeps_its_record() {
        let (records, mut index) = (OddRecords::default(), OddIndex::default());
        let odd = |at: u64| {
            (PackedRecord(PackedRecord::ODD | ((at % 64) << NUMBER_BITS)), format!("沪ICP证{at}号"))
        };
        let rare = |at: u64| PackedRecord(((at % 64) << NUMBER_BITS) | (PackedRecord::NUMBER - at));
        let mut indexes = Vec::new();
        for _ in 0..2 {
            for at in 0..5_000 {
                let (record, text) = odd(at);
                indexes.push(index.index_of(&records, record, Some(&text)).unwrap());
                indexes.push(index.index_of(&records, rare(at), None).unwrap());
            }
        }
        let again = indexes.split_off(10_000);
        assert_eq!(indexes, again);
        for (at, pair) in (0..).zip(indexes.chunks(2)) {
            let (record, text) = odd(at);
            records.read(pair[0], |found, odd| assert_eq!((found, odd), (record, Some(&*text))));
            records.read(pair[1], |found, odd| assert_eq!((found, odd), (rare(at), None)));
        }
        let long = "号".repeat(86);
        assert_eq!(index.index_of(&records, odd(1).0, Some(&long)), None);
        assert!(index.has_room_for(1_000_000) && !index.has_room_for(3_000_000));
    }

    #[test]
    fn words_have_places_one_after_another() {
        let mut expected = (0, 0);
        for at in 0..100_000 {
            assert_eq!(place(at), expected);
            let size = 1 << (FIRST_OCTAVE - CHUNKS_PER_OCTAVE_BITS) << (expected.0 >> CHUNKS_PER_OCTAVE_BITS);
            expected =
                if expected.1 + 1 == size { (expected.0 + 1, 0) } else { (expected.0, expected.1 + 1) };
        }
        assert!(place(MOST_WORDS - 1).0 < CHUNKS);
    }
}
