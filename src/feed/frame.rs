//! Frames: `[u32 length][u8 kind][payload][8-octet checksum]`, little-endian, each checked before it is read.
//!
//! The checksum (SHA-256, cut to 8 octets, over kind and payload) finds what a broken disk or proxy does;
//! whether entries add up to a registry's state is for the digest to say.

use super::{Digest, Entry, EpochKey, Fingerprint, Position, RANGES, Summary};
use crate::filing::PackedRecord;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest frame that is taken, all included.
pub const MAX_FRAME_BYTES: usize = 8 << 20;
/// The most changes in one batch (design: verified and saved whole).
pub const MAX_BATCH_ENTRIES: usize = 10_000;
/// The most entries in one frame of a snapshot.
pub const MAX_SNAPSHOT_FRAME_ENTRIES: usize = 65_536;
/// The longest text of an odd filing number, in octets.
const MAX_ODD_BYTES: usize = 255;
const CHECKSUM_BYTES: usize = 8;
const SUMMARY_BYTES: usize = 48;
/// A range's number and digest.
const RANGE_BYTES: usize = 18;
/// The version of this format; a reader refuses any other.
const VERSION: u16 = 1;
const MAGIC: &[u8; 6] = b"beian\0";
const COMPRESSION_LEVEL: i32 = 1;

/// What a snapshot, a changes stream or a saved state is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first frame of a snapshot or saved state: whose view, under which key, what it will add up to.
    Snapshot {
        /** Whose view. */
        provider: Box<str>,
        /** The epoch's secret. */
        key: EpochKey,
        /** What the entries add up to. */
        summary: Summary,
    },
    /// A run of a snapshot's entries.
    Entries(/** At most `MAX_SNAPSHOT_FRAME_ENTRIES`. */ Vec<Entry>),
    /// The last frame of a snapshot: nothing is missing.
    End,
    /// Changes after `after`, and what the state is once they are applied.
    Batch {
        /** The position that these changes follow. */
        after: Position,
        /** The changes, in order; at most `MAX_BATCH_ENTRIES`. */
        entries: Vec<Entry>,
        /** The state then. */
        summary: Summary,
    },
    /// Nothing new: the state is still this.
    Heartbeat(/** The state. */ Summary),
    /// A state by ranges, so that two can be compared: a follower's question, and what a registry's answer begins with.
    Ranges {
        /** The whole state. */
        summary: Summary,
        /** Ranges by number, ascending, each once, with the digest over its entries. */
        ranges: Vec<(u16, Digest)>,
    },
}

/// What is wrong with a frame; none of its content was used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than `MAX_FRAME_BYTES`, or shorter than a frame can be.
    #[error("frame length {0} is out of bounds")]
    Length(usize),
    /// Bits changed on the way.
    #[error("frame checksum does not match")]
    Checksum,
    /// Not this format or version.
    #[error("not a version {VERSION} feed frame")]
    Version,
    /// The content does not follow the format.
    #[error("frame is malformed: {0}")]
    Malformed(&'static str),
    /// The stream ended within a frame.
    #[error("stream ended within a frame")]
    Truncated,
}

impl Frame {
    /// Appends the frame's octets.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u32_le(0);
        match self {
            Self::Snapshot { provider, key, summary } => {
                out.put_u8(b'S');
                out.put_slice(MAGIC);
                out.put_u16_le(VERSION);
                put_text(out, provider);
                out.put_slice(&key.to_bytes());
                put_summary(out, summary);
            }
            Self::Entries(entries) => {
                out.put_u8(b'E');
                let mut plain = BytesMut::with_capacity(16 * entries.len() + 4);
                put_entries(&mut plain, entries);
                put_compressed(out, &plain);
            }
            Self::End => out.put_u8(b'Z'),
            Self::Batch { after, entries, summary } => {
                out.put_u8(b'B');
                put_position(out, *after);
                put_summary(out, summary);
                put_entries(out, entries);
            }
            Self::Heartbeat(summary) => {
                out.put_u8(b'H');
                put_summary(out, summary);
            }
            Self::Ranges { summary, ranges } => {
                out.put_u8(b'R');
                put_summary(out, summary);
                out.put_u16_le(u16::try_from(ranges.len()).expect("there are RANGES ranges at most"));
                for (range, digest) in ranges {
                    out.put_u16_le(*range);
                    out.put_u128_le(digest.0);
                }
            }
        }
        let checksum = checksum(&out[start + 4..]);
        out.put_slice(&checksum);
        let length = u32::try_from(out.len() - start - 4)
            .expect("a frame is far below 4 GiB: its entries are bounded");
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// The frame alone, as octets.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    fn decode(kind: u8, mut payload: Bytes) -> Result<Self, FrameError> {
        let from = &mut payload;
        let frame = match kind {
            b'S' => {
                if take(from, MAGIC.len())? != MAGIC[..] || take(from, 2)?.get_u16_le() != VERSION {
                    return Err(FrameError::Version);
                }
                let provider = take_text(from)?;
                let key: [u8; EpochKey::LEN] = take(from, EpochKey::LEN)?
                    .as_ref()
                    .try_into()
                    .map_err(|_| FrameError::Malformed("key"))?;
                Self::Snapshot { provider, key: EpochKey::from_bytes(key), summary: take_summary(from)? }
            }
            b'E' => {
                let mut plain = take_compressed(from)?;
                let entries = take_entries(&mut plain, MAX_SNAPSHOT_FRAME_ENTRIES)?;
                if !plain.is_empty() || entries.iter().any(Entry::is_delete) {
                    return Err(FrameError::Malformed("snapshot entries"));
                }
                Self::Entries(entries)
            }
            b'Z' => Self::End,
            b'B' => {
                let after = take_position(from)?;
                let summary = take_summary(from)?;
                Self::Batch { after, entries: take_entries(from, MAX_BATCH_ENTRIES)?, summary }
            }
            b'H' => Self::Heartbeat(take_summary(from)?),
            b'R' => Self::Ranges { summary: take_summary(from)?, ranges: take_ranges(from)? },
            _ => return Err(FrameError::Malformed("unknown kind")),
        };
        if payload.is_empty() { Ok(frame) } else { Err(FrameError::Malformed("octets left over")) }
    }
}

/// The fingerprints in one whole frame of a snapshot's entries, in their order, without making entries of them.
///
/// # Errors
/// `FrameError`: it is no such frame.
pub fn fingerprints_in(frame: &[u8]) -> Result<Vec<Fingerprint>, FrameError> {
    let (head, rest) = frame.split_first_chunk::<4>().ok_or(FrameError::Truncated)?;
    if usize::try_from(u32::from_le_bytes(*head)) != Ok(rest.len()) {
        return Err(FrameError::Length(rest.len()));
    }
    let (body, sum) = rest.split_last_chunk::<CHECKSUM_BYTES>().ok_or(FrameError::Truncated)?;
    if checksum(body) != *sum {
        return Err(FrameError::Checksum);
    }
    let Some((b'E', packed)) = body.split_first() else { return Err(FrameError::Malformed("unknown kind")) };
    let mut plain = take_compressed(&mut Bytes::copy_from_slice(packed))?;
    let count = usize::try_from(take(&mut plain, 4)?.get_u32_le()).unwrap_or(usize::MAX);
    let (mut rest, mut fingerprints) = (&plain[..], Vec::with_capacity(count.min(plain.len() / 16)));
    while let Some((pair, after)) = rest.split_first_chunk::<16>() {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| pair[at + i]));
        fingerprints.push(Fingerprint(word(0)));
        let text =
            if PackedRecord(word(8)).is_odd() { 1 + usize::from(*after.first().unwrap_or(&0)) } else { 0 };
        rest = after.get(text..).ok_or(FrameError::Malformed("too short"))?;
    }
    let is_whole = rest.is_empty() && fingerprints.len() == count;
    if is_whole { Ok(fingerprints) } else { Err(FrameError::Malformed("entry count")) }
}

/// Takes octets as they arrive and gives frames as they are whole.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// Adds octets. What is held never passes one frame and what was pushed at once.
    pub fn push(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// The next whole frame, `None` until more octets arrive.
    ///
    /// # Errors
    /// `FrameError`: the stream can't be used beyond this point.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if !(1 + CHECKSUM_BYTES..=MAX_FRAME_BYTES).contains(&length) {
            return Err(FrameError::Length(length));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(4 + length).freeze();
        frame.advance(4);
        let sum = frame.split_off(length - CHECKSUM_BYTES);
        if checksum(&frame) != sum[..] {
            return Err(FrameError::Checksum);
        }
        let kind = frame.get_u8();
        Frame::decode(kind, frame).map(Some)
    }

    /// Octets held of a frame that is not whole yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// `Truncated` where a frame has begun.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

fn checksum(octets: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
    std::array::from_fn(|i| hash.as_ref()[i])
}

fn put_text(out: &mut BytesMut, text: &str) {
    let length = text.len().min(MAX_ODD_BYTES);
    out.put_u8(u8::try_from(length).unwrap_or(u8::MAX));
    out.put_slice(&text.as_bytes()[..length]);
}

fn put_position(out: &mut BytesMut, position: Position) {
    out.put_u64_le(position.epoch);
    out.put_u64_le(position.seq);
}

fn put_summary(out: &mut BytesMut, summary: &Summary) {
    put_position(out, summary.position);
    out.put_u64_le(summary.count);
    out.put_u128_le(summary.digest.0);
    out.put_i64_le(summary.at_ms);
}

fn put_entries(out: &mut BytesMut, entries: &[Entry]) {
    out.put_u32_le(u32::try_from(entries.len()).expect("entries in a frame are bounded"));
    for entry in entries {
        out.put_u64_le(entry.fingerprint.0);
        out.put_u64_le(entry.record.0);
        if entry.record.is_odd() {
            put_text(out, entry.odd.as_deref().unwrap_or_default());
        }
    }
}

fn put_compressed(out: &mut BytesMut, plain: &[u8]) {
    out.put_u32_le(u32::try_from(plain.len()).expect("entries in a frame are bounded"));
    let packed = zstd::bulk::compress(plain, COMPRESSION_LEVEL)
        .expect("compressing in memory to a buffer of the bound's size can't fail");
    out.put_slice(&packed);
}

fn take(from: &mut Bytes, length: usize) -> Result<Bytes, FrameError> {
    if from.len() < length { Err(FrameError::Malformed("too short")) } else { Ok(from.split_to(length)) }
}

fn take_text(from: &mut Bytes) -> Result<Box<str>, FrameError> {
    let length = usize::from(take(from, 1)?.get_u8());
    let octets = take(from, length)?;
    std::str::from_utf8(&octets).map(Into::into).map_err(|_| FrameError::Malformed("text is not UTF-8"))
}

fn take_position(from: &mut Bytes) -> Result<Position, FrameError> {
    let mut octets = take(from, 16)?;
    Ok(Position { epoch: octets.get_u64_le(), seq: octets.get_u64_le() })
}

fn take_summary(from: &mut Bytes) -> Result<Summary, FrameError> {
    let position = take_position(from)?;
    let mut octets = take(from, SUMMARY_BYTES - 16)?;
    Ok(Summary {
        position,
        count: octets.get_u64_le(),
        digest: Digest(octets.get_u128_le()),
        at_ms: octets.get_i64_le(),
    })
}

fn take_entries(from: &mut Bytes, most: usize) -> Result<Vec<Entry>, FrameError> {
    let count = usize::try_from(take(from, 4)?.get_u32_le()).unwrap_or(usize::MAX);
    if count > most || count.saturating_mul(16) > from.len() {
        return Err(FrameError::Malformed("entry count"));
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let mut octets = take(from, 16)?;
        let (fingerprint, record) = (Fingerprint(octets.get_u64_le()), PackedRecord(octets.get_u64_le()));
        if fingerprint.0 == 0 {
            return Err(FrameError::Malformed("fingerprint 0"));
        }
        let odd = if record.is_odd() { Some(take_text(from)?) } else { None };
        if record.0 != 0 && crate::filing::FilingRecord::unpack(record, odd.as_deref()).is_none() {
            return Err(FrameError::Malformed("record"));
        }
        entries.push(Entry { fingerprint, record, odd });
    }
    Ok(entries)
}

fn take_ranges(from: &mut Bytes) -> Result<Vec<(u16, Digest)>, FrameError> {
    let count = usize::from(take(from, 2)?.get_u16_le());
    if count > RANGES {
        return Err(FrameError::Malformed("range count"));
    }
    let mut octets = take(from, count * RANGE_BYTES)?;
    let ranges: Vec<_> = (0..count).map(|_| (octets.get_u16_le(), Digest(octets.get_u128_le()))).collect();
    let is_ascending = ranges.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let is_within = ranges.last().is_none_or(|&(range, _)| usize::from(range) < RANGES);
    if is_ascending && is_within { Ok(ranges) } else { Err(FrameError::Malformed("ranges")) }
}

fn take_compressed(from: &mut Bytes) -> Result<Bytes, FrameError> {
    let length = usize::try_from(take(from, 4)?.get_u32_le()).unwrap_or(usize::MAX);
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::Length(length));
    }
    let packed = from.split_to(from.len());
    let plain = zstd::bulk::decompress(&packed, length).map_err(|_| FrameError::Malformed("compression"))?;
    if plain.len() == length { Ok(plain.into()) } else { Err(FrameError::Malformed("compressed length")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fingerprint: u64, record: u64) -> Entry {
        Entry { fingerprint: Fingerprint(fingerprint), record: PackedRecord(record), odd: None }
    }

    fn frames() -> Vec<Frame> {
        let summary =
            Summary { position: Position { epoch: 7, seq: 9 }, count: 1, digest: Digest(5), at_ms: 3 };
        vec![
            Frame::Snapshot { provider: "example-cloud".into(), key: EpochKey::from_bytes([7; 32]), summary },
            Frame::End,
            Frame::Batch { after: Position { epoch: 7, seq: 8 }, entries: vec![entry(4, 0)], summary },
            Frame::Heartbeat(summary),
            Frame::Ranges {
                summary,
                ranges: vec![(0, Digest(1)), (7, Digest(u128::MAX)), (4095, Digest(3))],
            },
        ]
    }

    #[test]
    fn frames_survive_any_cut() {
        let mut wire = BytesMut::new();
        for frame in frames() {
            frame.encode(&mut wire);
        }
        for step in [1, 3, 7, wire.len()] {
            let (mut reader, mut seen) = (FrameReader::default(), Vec::new());
            for piece in wire.chunks(step) {
                reader.push(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            reader.finish().unwrap();
            assert_eq!(seen, frames());
        }
    }

    #[test]
    fn a_flipped_bit_is_found_and_a_cut_is_an_error() {
        let wire = frames()[2].to_bytes();
        for at in 4..wire.len() {
            let mut broken = wire.to_vec();
            broken[at] ^= 0x10;
            let mut reader = FrameReader::default();
            reader.push(&broken);
            assert_eq!(reader.next_frame(), Err(FrameError::Checksum), "octet {at}");
        }
        let mut reader = FrameReader::default();
        reader.push(&wire[..wire.len() - 1]);
        assert_eq!(reader.next_frame(), Ok(None));
        assert_eq!(reader.finish(), Err(FrameError::Truncated));
    }

    /// As docs/feed.md has it, where it was computed by another program.
    #[test]
    fn the_example_of_the_docs_is_right() {
        let key = EpochKey::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let entry = |name: &str, record, odd: Option<&str>| Entry {
            fingerprint: key.fingerprint(name),
            record: PackedRecord(record),
            odd: odd.map(Into::into),
        };
        let plain = entry("example.cn", 0x040c_78c2_4e81_0001, None);
        let odd = entry("xn--fiqs8s.cn", 0x8800_0000_0000_0000, Some("京ICP证030173号-1"));
        let shown = |entry: &Entry| format!("{:016x} {:032x}", entry.fingerprint.0, key.entry_element(entry));
        let mut digest = Digest::default();
        [&plain, &odd].iter().for_each(|it| digest.add(key.entry_element(it)));
        let position = Position { epoch: 1, seq: 2 };
        let summary = Summary { position, count: 2, digest, at_ms: 1_790_000_000_000 };
        let octets = Frame::Heartbeat(summary).to_bytes();
        let frame = octets.iter().fold(String::new(), |hex, octet| format!("{hex}{octet:02x}"));
        let page = include_str!("../../docs/feed.md");
        for computed in [shown(&plain), shown(&odd), digest.to_string(), frame] {
            assert!(page.contains(&computed), "{computed}");
        }
    }

    #[test]
    fn fingerprints_are_those_of_the_entries() {
        let mut entries: Vec<_> = (1..900).map(|it| entry(it * 77, 1 << 58 | it)).collect();
        let odd: Box<str> = "京ICP证030173号-1".into();
        entries[7] =
            Entry { record: PackedRecord(PackedRecord::ODD | 1 << 58), odd: Some(odd), ..entries[7] };
        let wanted: Vec<_> = entries.iter().map(|it| it.fingerprint).collect();
        let whole = Frame::Entries(entries).to_bytes();
        assert_eq!(fingerprints_in(&whole), Ok(wanted));
        for at in 0..whole.len() {
            let mut broken = whole.to_vec();
            broken[at] ^= 1;
            assert!(fingerprints_in(&broken).is_err() && fingerprints_in(&whole[..at]).is_err(), "{at}");
        }
        assert!(fingerprints_in(&Frame::End.to_bytes()).is_err());
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_before_anything_is_held() {
        for length in [0_u32, 8, u32::MAX] {
            let mut reader = FrameReader::default();
            reader.push(&length.to_le_bytes());
            assert!(matches!(reader.next_frame(), Err(FrameError::Length(_))), "{length}");
        }
    }

    #[test]
    fn ranges_come_once_and_in_order() {
        let summary = Summary::default();
        let decoded = |ranges: &[u16]| {
            let ranges = ranges.iter().map(|&range| (range, Digest(1))).collect();
            let mut reader = FrameReader::default();
            reader.push(&Frame::Ranges { summary, ranges }.to_bytes());
            reader.next_frame().is_ok()
        };
        assert!(decoded(&[]) && decoded(&[4095]) && decoded(&[0, 1, 4095]));
        for bad in [&[4096][..], &[1, 1], &[2, 1]] {
            assert!(!decoded(bad), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_octets_never_panic(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let mut reader = FrameReader::default();
            reader.push(&octets);
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }
}
