//! Records of the saved state: `[u32 length][u8 kind][payload][8-octet checksum]`, little-endian.
//!
//! The envelope is that of the feed's frames; what is in it is the saved state's own, so that neither changes
//! with the other. Octets in, octets out: knows no files.

use crate::feed::{Digest, EpochKey, Fingerprint, Position, Summary};
use crate::filing::{FilingRecord, PackedRecord};

/// What files of this format begin with, and its version: a reader refuses any other.
const MAGIC: &[u8; 6] = b"beian\0";
const VERSION: u16 = 2;
const CHECKSUM_BYTES: usize = 8;
/// Octets of a record before its payload, and around it.
pub(super) const PREFIX_BYTES: usize = 5;
pub(super) const ENVELOPE_BYTES: usize = PREFIX_BYTES + CHECKSUM_BYTES;
/// The longest record: a part of a hundred million filings fits.
pub(super) const MAX_RECORD_BYTES: usize = 64 << 20;
const PAIR_BYTES: usize = 16;
const MAX_TEXT_BYTES: usize = u8::MAX as usize;

/// What is wrong with a record, or with records that are whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Cut short, or not even begun.
    #[error("it is incomplete")]
    Truncated,
    /// Something after the end.
    #[error("octets follow its end")]
    TooLong,
    /// A length that no record has.
    #[error("record length {0} is out of bounds")]
    Length(usize),
    /// Bits changed.
    #[error("a checksum does not match")]
    Checksum,
    /// Another program's file, or another version's.
    #[error("it is no saved state of version {VERSION}")]
    Version,
    /// A record that may not come here, or that does not follow the format.
    #[error("a record is malformed: {0}")]
    Malformed(&'static str),
    /// Somebody else's view.
    #[error("it is for provider `{0}`")]
    Provider(/** Whose. */ Box<str>),
    /// The entries don't add up to what is said of them.
    #[error("its count or digest does not match its entries")]
    Digest,
    /// Changes from while the checkpoint was written are missing.
    #[error("the journal that it needs is not there or incomplete")]
    Journal,
    /// A file of version 1 that is no snapshot.
    #[error(transparent)]
    Frame(#[from] crate::feed::FrameError),
    /// A file of version 1 whose frames make no state of ours.
    #[error(transparent)]
    Assembly(#[from] crate::cache::AssemblyError),
}

/// Kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// The head of a checkpoint.
    Checkpoint = b'C',
    /// The filings of a part.
    Part = b'P',
    /// The end of a checkpoint.
    Tail = b'T',
    /// The head of a journal.
    Journal = b'J',
    /// Changes.
    Batch = b'B',
    /// When the state was last known to be current.
    Mark = b'M',
}

impl Kind {
    const ALL: [Self; 6] = [Self::Checkpoint, Self::Part, Self::Tail, Self::Journal, Self::Batch, Self::Mark];
}

/// How a checkpoint or a journal begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the journal; a checkpoint's is that of the journal begun with it.
    pub(super) number: u64,
    /// Whose view.
    pub(super) provider: Box<str>,
    /// The epoch's secret.
    pub(super) key: EpochKey,
    /// The state that the journal's records follow.
    pub(super) begin: Summary,
}

/// How a checkpoint ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// The state when the last part had been copied.
    pub(super) end: Summary,
    /// Octets of the journal's records, after its head, that lead from the head's state to that one.
    pub(super) journal_bytes: u64,
    /// Filings in the parts.
    pub(super) filings: u64,
}

/// Whether two summaries are of one state, whenever it was known to be current.
pub(super) fn is_same(a: &Summary, b: &Summary) -> bool {
    (a.position, a.count, a.digest) == (b.position, b.count, b.digest)
}

/// Appends a record whose payload `fill` writes. Its checksum is for `seal` to put in.
pub(super) fn put(out: &mut Vec<u8>, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0, 0, 0, 0, kind as u8]);
    fill(out);
    out.extend([0; CHECKSUM_BYTES]);
    // A record too long for its length field is too long for `seal` as well.
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Puts the checksums into whole records in a row; false where one is too long to be read again.
pub(super) fn seal(mut records: &mut [u8]) -> bool {
    while let Some(length) = records.first_chunk::<4>().and_then(|head| body_bytes(*head).ok()) {
        let Some((record, rest)) = records.split_at_mut_checked(4 + length) else { return false };
        let (body, sum) = record[4..].split_at_mut(length - CHECKSUM_BYTES);
        sum.copy_from_slice(&checksum(body));
        records = rest;
    }
    records.is_empty()
}

/// Octets of a record after its length.
pub(super) fn body_bytes(length: [u8; 4]) -> Result<usize, Damage> {
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    let is_possible = (ENVELOPE_BYTES - 4..=MAX_RECORD_BYTES).contains(&length);
    if is_possible { Ok(length) } else { Err(Damage::Length(length)) }
}

/// Kind and payload of the record with this body (all but the length).
pub(super) fn open(body: &[u8]) -> Result<(Kind, &[u8]), Damage> {
    let (body, sum) = body.split_last_chunk::<CHECKSUM_BYTES>().ok_or(Damage::Truncated)?;
    if checksum(body) != *sum {
        return Err(Damage::Checksum);
    }
    let (kind, payload) = body.split_first().ok_or(Damage::Truncated)?;
    let kind = Kind::ALL.into_iter().find(|&it| it as u8 == *kind);
    Ok((kind.ok_or(Damage::Malformed("unknown kind"))?, payload))
}

fn checksum(octets: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
    std::array::from_fn(|i| hash.as_ref()[i])
}

impl Head {
    pub(super) fn put(&self, out: &mut Vec<u8>, kind: Kind) {
        put(out, kind, |out| {
            out.extend(MAGIC);
            out.extend(VERSION.to_le_bytes());
            out.extend(self.number.to_le_bytes());
            put_text(out, &self.provider);
            out.extend(self.key.to_bytes());
            put_summary(out, &self.begin);
        });
    }

    pub(super) fn take(mut payload: &[u8]) -> Result<Self, Damage> {
        let from = &mut payload;
        if take::<6>(from).ok() != Some(*MAGIC) || take(from).ok().map(u16::from_le_bytes) != Some(VERSION) {
            return Err(Damage::Version);
        }
        let number = u64::from_le_bytes(take(from)?);
        let provider = take_text(from)?.into();
        let key = EpochKey::from_bytes(take(from)?);
        let head = Self { number, provider, key, begin: take_summary(from)? };
        if payload.is_empty() { Ok(head) } else { Err(Damage::Malformed("head")) }
    }
}

impl Tail {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put(out, Kind::Tail, |out| {
            put_summary(out, &self.end);
            out.extend(self.journal_bytes.to_le_bytes());
            out.extend(self.filings.to_le_bytes());
        });
    }

    pub(super) fn take(mut payload: &[u8]) -> Result<Self, Damage> {
        let from = &mut payload;
        let end = take_summary(from)?;
        let (journal_bytes, filings) = (u64::from_le_bytes(take(from)?), u64::from_le_bytes(take(from)?));
        if payload.is_empty() {
            Ok(Self { end, journal_bytes, filings })
        } else {
            Err(Damage::Malformed("tail"))
        }
    }
}

/// Entries on their way into a record: first all pairs, then the texts of the odd ones.
#[derive(Debug, Default)]
pub(super) struct Entries {
    texts: Vec<u8>,
    count: u32,
    at: usize,
}

impl Entries {
    /// Begins at the end of `out`.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        self.texts.clear();
        (self.count, self.at) = (0, out.len());
        out.extend([0; 4]);
    }

    pub(super) fn put(
        &mut self,
        out: &mut Vec<u8>,
        fingerprint: Fingerprint,
        record: PackedRecord,
        odd: Option<&str>,
    ) {
        out.extend(fingerprint.0.to_le_bytes());
        out.extend(record.0.to_le_bytes());
        if record.is_odd() {
            put_text(&mut self.texts, odd.unwrap_or_default());
        }
        // More than fit a record never come: `seal` would refuse it.
        self.count = self.count.saturating_add(1);
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        out[self.at..self.at + 4].copy_from_slice(&self.count.to_le_bytes());
        out.append(&mut self.texts);
    }
}

/// How many entries these octets say that they are.
fn entry_count(octets: &[u8]) -> Result<usize, Damage> {
    let (count, rest) = octets.split_first_chunk::<4>().ok_or(Damage::Malformed("entries"))?;
    let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
    if count <= rest.len() / PAIR_BYTES { Ok(count) } else { Err(Damage::Malformed("entry count")) }
}

/// Gives each entry of these octets, which hold nothing else, to `give`.
pub(super) fn take_entries(
    octets: &[u8],
    mut give: impl FnMut(Fingerprint, PackedRecord, Option<&str>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let count = entry_count(octets)?;
    let (pairs, mut texts) = octets[4..].split_at(count * PAIR_BYTES);
    for pair in pairs.as_chunks::<PAIR_BYTES>().0 {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| pair[at + i]));
        let (fingerprint, record) = (Fingerprint(word(0)), PackedRecord(word(8)));
        if fingerprint.0 == 0 {
            return Err(Damage::Malformed("fingerprint 0"));
        }
        let odd = if record.is_odd() { Some(take_text(&mut texts)?) } else { None };
        if record.0 != 0 && FilingRecord::unpack(record, odd).is_none() {
            return Err(Damage::Malformed("record"));
        }
        give(fingerprint, record, odd)?;
    }
    if texts.is_empty() { Ok(()) } else { Err(Damage::Malformed("octets left over")) }
}

pub(super) fn put_summary(out: &mut Vec<u8>, summary: &Summary) {
    out.extend(summary.position.epoch.to_le_bytes());
    out.extend(summary.position.seq.to_le_bytes());
    out.extend(summary.count.to_le_bytes());
    out.extend(summary.digest.0.to_le_bytes());
    out.extend(summary.at_ms.to_le_bytes());
}

pub(super) fn take_summary(from: &mut &[u8]) -> Result<Summary, Damage> {
    let epoch = u64::from_le_bytes(take(from)?);
    let seq = u64::from_le_bytes(take(from)?);
    let count = u64::from_le_bytes(take(from)?);
    let digest = Digest(u128::from_le_bytes(take(from)?));
    Ok(Summary { position: Position { epoch, seq }, count, digest, at_ms: i64::from_le_bytes(take(from)?) })
}

pub(super) fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (taken, rest) = from.split_first_chunk::<N>().ok_or(Damage::Malformed("too short"))?;
    *from = rest;
    Ok(*taken)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = text.len().min(MAX_TEXT_BYTES);
    out.push(u8::try_from(length).unwrap_or(u8::MAX));
    out.extend(&text.as_bytes()[..length]);
}

fn take_text<'a>(from: &mut &'a [u8]) -> Result<&'a str, Damage> {
    let length = usize::from(take::<1>(from)?[0]);
    let (text, rest) = from.split_at_checked(length).ok_or(Damage::Malformed("text"))?;
    *from = rest;
    std::str::from_utf8(text).map_err(|_| Damage::Malformed("text is not UTF-8"))
}
