//! How many requests or connections a client may make: a bucket for each, process-wide, in a sharded table of bounded
//! size.
//!
//! Knows addresses and instants that it is given; refuses to know what is asked for.

use crate::config::Rate;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const SHARDS: usize = 64;
/// Clients that a shard remembers: 262,144 in all. Beyond them newcomers pass uncounted, rather than nobody.
const MAX_CLIENTS: usize = 4096;

/// Every client's bucket: when it will be full again.
#[derive(Debug)]
pub struct ClientRates {
    shards: Vec<Mutex<HashMap<IpAddr, Instant>>>,
    hash: RandomState,
}

impl Default for ClientRates {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hash: RandomState::new() }
    }
}

impl ClientRates {
    /// Counts one more of `client` (`ClientWidth::of`) at `now`; `false` where it has made as many as it may.
    ///
    /// A bucket holds `burst` and gains `per_second`.
    #[must_use]
    pub fn admits(&self, client: IpAddr, rate: Rate, now: Instant) -> bool {
        self.admits_every(client, Duration::from_secs(1) / rate.per_second.max(1), rate.burst, now)
    }

    /// The same, for a bucket that gains one in each `one`.
    #[must_use]
    pub fn admits_every(&self, client: IpAddr, one: Duration, burst: u32, now: Instant) -> bool {
        let shard = usize::try_from(self.hash.hash_one(client) % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = shard.get(&client).copied().unwrap_or(now).max(now);
        let is_admitted = full_at + one <= now + one * burst.max(1);
        if !is_admitted {
            return false;
        }
        if shard.len() >= MAX_CLIENTS && !shard.contains_key(&client) {
            // Full buckets say nothing that a new one would not.
            shard.retain(|_, full_at| *full_at > now);
            if shard.len() >= MAX_CLIENTS {
                return true;
            }
        }
        shard.insert(client, full_at + one);
        true
    }
}

/// What one client may ask of one site, counted from the last reload on.
#[derive(Debug)]
pub struct SiteRate {
    rate: Rate,
    clients: ClientRates,
}

impl SiteRate {
    /// Of nobody yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, clients: ClientRates::default() }
    }

    /// As `ClientRates::admits`.
    #[must_use]
    pub fn admits(&self, client: IpAddr, now: Instant) -> bool {
        self.clients.admits(client, self.rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    #[test]
    fn a_burst_then_a_rate() {
        let (rates, start) = (ClientRates::default(), Instant::now());
        let ask = |client: &str, ms: u64| {
            rates.admits(client.parse().unwrap(), RATE, start + Duration::from_millis(ms))
        };
        assert_eq!([0, 0, 0, 0, 50].map(|ms| ask("192.0.2.1", ms)), [true, true, true, false, false]);
        assert!(ask("192.0.2.2", 50), "another client");
        assert_eq!([100, 100, 200].map(|ms| ask("192.0.2.1", ms)), [true, false, true]);
        assert_eq!(
            [5000; 4].map(|ms| ask("192.0.2.1", ms)),
            [true, true, true, false],
            "the burst and no more"
        );
    }

    #[test]
    fn the_table_is_bounded_and_full_buckets_make_room() {
        let (rates, start) = (ClientRates::default(), Instant::now());
        let held = || rates.shards.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>();
        for client in 0..400_000_u32 {
            assert!(rates.admits(IpAddr::from(client.to_be_bytes()), RATE, start));
        }
        assert!(held() <= SHARDS * MAX_CLIENTS);
        let later = start + Duration::from_secs(10);
        for client in 1_000_000..1_000_640_u32 {
            assert!(rates.admits(IpAddr::from(client.to_be_bytes()), RATE, later));
        }
        assert!(held() < 20_000, "{}", held());
    }
}
