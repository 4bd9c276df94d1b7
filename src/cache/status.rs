//! What the cache says of itself to operators.

use crate::feed::{Digest, Position};
use std::time::Duration;

/// What is held, for status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStatus {
    /// Where in the registry's log; epoch 0 before the first sync.
    pub position: Position,
    /// Filings held.
    pub filings: u64,
    /// Digest over them.
    pub digest: Digest,
    /// When the state was last known to be the registry's: Unix seconds on this machine's clock; none before
    /// the first sync.
    pub synced_at: Option<i64>,
    /// How long ago that is, on the monotonic clock.
    pub age: Duration,
    /// Whether that is longer than the operator allows.
    pub is_stale: bool,
    /// How far behind the registry's clock the last word from it came, in milliseconds, 0 at least.
    pub lag_ms: i64,
    /// Octets that the table's slots take.
    pub memory_bytes: u64,
}
