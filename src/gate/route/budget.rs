//! How many requests a site may send again: a share of all it sends, and a few in any case. Pure.

use crate::config::Retries;
use std::sync::{Mutex, PoisonError};

/// Retries that may come at once, after a while without.
const BURST: u64 = 100;
/// Tokens are counted in thousandths.
const ONE: u64 = 1000;

/// A bucket of retries, filled by requests and by time.
#[derive(Debug)]
pub struct Budget(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    tokens: u64,
    /// Requests that it was filled by.
    seen: u64,
    /// When it was last filled.
    at_ms: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Mutex::new(Bucket { tokens: BURST * ONE, seen: 0, at_ms: 0 }))
    }
}

impl Budget {
    /// Takes one, where there is one. `total`: requests that were ever sent. Requests themselves never come here.
    #[must_use]
    pub fn take(&self, retries: &Retries, total: u64, now_ms: u64) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_time = now_ms.saturating_sub(bucket.at_ms).saturating_mul(u64::from(retries.per_second));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        let share = (retries.share * ONE as f64) as u64;
        let by_requests = total.saturating_sub(bucket.seen).saturating_mul(share);
        let filled = bucket.tokens.saturating_add(by_time).saturating_add(by_requests).min(BURST * ONE);
        let left = filled.checked_sub(ONE);
        *bucket = Bucket { tokens: left.unwrap_or(filled), seen: total, at_ms: now_ms };
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_requests_and_some_by_time() {
        let (budget, by_share) =
            (Budget::default(), Retries { share: 0.5, per_second: 0, ..Retries::default() });
        let taken = |retries: &Retries, total, now_ms| {
            (0..1000).filter(|_| budget.take(retries, total, now_ms)).count()
        };
        assert_eq!(taken(&by_share, 0, 1), 100, "the burst");
        assert_eq!(taken(&by_share, 10, 1), 5);
        assert_eq!(taken(&by_share, 10, 1000), 0);
        assert_eq!(taken(&by_share, 5, 1000), 0, "fewer than before: servers came and went");
        let by_time = Retries { share: 0.0, per_second: 10, ..Retries::default() };
        assert_eq!(taken(&by_time, 5, 2000), 10);
        assert_eq!(taken(&by_time, 100_000, 1_000_000), 100, "never more than the burst");
    }
}
