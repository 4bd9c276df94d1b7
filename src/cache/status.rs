//! What the cache says of itself to operators.

use super::FilingCache;
use crate::feed::{Digest, Position, Summary};
use std::time::{Duration, Instant};

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

impl FilingCache {
    /// What is held.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        let held = self.lock();
        let Some(table) = &held.table else {
            return CacheStatus::default();
        };
        let age = self.age(Instant::now());
        CacheStatus {
            position: table.position(),
            filings: table.count(),
            digest: table.digest(),
            synced_at: held.synced_at_ms.map(|ms| ms.div_euclid(1000)),
            age,
            is_stale: age > self.staleness.stale_after,
            lag_ms: held.lag_ms,
            memory_bytes: table.memory_bytes().try_into().unwrap_or(u64::MAX),
        }
    }

    /// What is held, range by range: where in the log, count and digest over all, and each range's digest. None where
    /// a whole new state waits, which is not repaired.
    #[must_use]
    pub fn ranges(&self) -> Option<(Summary, Vec<Digest>)> {
        let held = self.lock();
        let table = held.table.as_ref().filter(|_| held.replacement.is_none())?;
        let (position, count, digest) = (table.position(), table.count(), table.digest());
        Some((Summary { position, count, digest, at_ms: 0 }, table.range_digests().to_vec()))
    }
}
