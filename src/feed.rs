//! The feed's wire: positions, entries, frames, fingerprints and digest. Shared by registry and follower.
//!
//! Pure: bytes in, frames out. Refuses to know where filings come from or go to. docs/feed.md describes
//! the protocol; the key guards against faults and against names chosen to collide, not against forgery
//! (TLS and tokens do that).

mod frame;
mod key;

pub use frame::{
    Frame, FrameError, FrameReader, MAX_BATCH_ENTRIES, MAX_FRAME_BYTES, MAX_SNAPSHOT_FRAME_ENTRIES,
    fingerprints_in,
};
pub use key::EpochKey;

use crate::filing::PackedRecord;

/// The media type of snapshot and changes.
pub const MEDIA_TYPE: &str = "application/vnd.beian-gate.feed";
/// How often an open changes stream says that it is alive.
pub const HEARTBEAT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// How many of a fingerprint's highest bits choose its range.
pub const RANGE_BITS: u32 = 12;
/// Ranges that a state is divided into, for finding where two states differ.
pub const RANGES: usize = 1 << RANGE_BITS;

/// The range of a fingerprint: its highest `RANGE_BITS` bits.
#[must_use]
pub fn range_of(fingerprint: Fingerprint) -> usize {
    usize::try_from(fingerprint.0 >> (u64::BITS - RANGE_BITS)).unwrap_or_default()
}

/// A place in the registry's ordered log.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Position {
    /// Which history: a new one begins with a new key or a whole new state.
    pub epoch: u64,
    /// How many changes that history has committed.
    pub seq: u64,
}

/// A keyed fingerprint of a filed name; never 0. Names themselves do not travel to gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(/** The bits. */ pub u64);

/// One filing as it travels: what it is now, or that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of the filed name.
    pub fingerprint: Fingerprint,
    /// The record; 0 bits mean that it was deleted.
    pub record: PackedRecord,
    /// The filing number's text where the record says that it is odd.
    pub odd: Option<Box<str>>,
}

impl Entry {
    /// Whether this entry removes the filing.
    pub fn is_delete(&self) -> bool {
        self.record.0 == 0
    }
}

/// An order-independent digest of a set of entries: the wrapping sum of their keyed 128-bit hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest(/** The sum. */ pub u128);

impl Digest {
    /// Adds an element's hash.
    pub fn add(&mut self, element: u128) {
        self.0 = self.0.wrapping_add(element);
    }

    /// Takes an element's hash away.
    pub fn remove(&mut self, element: u128) {
        self.0 = self.0.wrapping_sub(element);
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a provider's state is at a position: enough for a follower to know that it holds exactly that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Where in the log.
    pub position: Position,
    /// Filings in the state.
    pub count: u64,
    /// Digest over all of them.
    pub digest: Digest,
    /// When the registry said so: Unix milliseconds on its clock (for lag only, never for decisions).
    pub at_ms: i64,
}
