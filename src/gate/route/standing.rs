//! How an upstream stands: what the operator, the checks and its own answers say of it, shared by all workers.
//!
//! Atomics only, and what every request changes is counted by each worker for itself. Times are milliseconds of the
//! process's own clock, never 0, and arrive as `now_ms`.

use super::tally::{Tallies, Tally};
use crate::config::{Ejection, Way};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Below this many bits of `load`: exchanges under way; above, all that ever began.
const ACTIVE_BITS: u32 = 24;
const ACTIVE_MASK: u64 = (1 << ACTIVE_BITS) - 1;
/// The least part of its share that a server that comes back gets, in percent.
const LEAST_SHARE: u64 = 10;
/// Ejections after which their time no longer grows.
const MAX_DOUBLINGS: u32 = 16;

/// What the operator wants of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// Use it.
    #[default]
    Up,
    /// Nothing new but what a sticky cookie binds to it.
    Drain,
    /// Nothing at all.
    Down,
}

impl Wish {
    /// By the names of the admin API.
    pub const NAMES: [(&'static str, Self); 3] =
        [("up", Self::Up), ("drain", Self::Drain), ("down", Self::Down)];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize].0
    }

    fn of(number: u8) -> Self {
        Self::NAMES.get(usize::from(number)).map_or(Self::Up, |(_, wish)| *wish)
    }
}

/// What active checks have found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checked {
    /// Nothing yet, or there are none.
    #[default]
    Unknown,
    /// It is well.
    Well,
    /// It is not.
    Ill,
}

/// One server, as the whole process knows it; survives reloads.
#[derive(Debug, Default)]
pub struct Standing {
    load: Tally,
    wish: AtomicU8,
    checked: AtomicU8,
    /// Check results in a row that speak against `checked`.
    against: AtomicU32,
    failures: AtomicU32,
    server_errors: AtomicU32,
    /// Until when it is ejected; 0: it is not.
    out_until_ms: AtomicU64,
    /// Ejections in a row.
    ejections: AtomicU32,
    /// Since when it is used again; 0: it was never away.
    back_since_ms: AtomicU64,
    /// Counted for the operator.
    counts: Counts,
}

/// What is counted of a server.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections that could not be made, and exchanges that broke before their head.
    pub failures: AtomicU64,
    /// Ejections.
    pub ejections: AtomicU64,
    /// Checks that went well.
    pub checks_passed: AtomicU64,
    /// Checks that did not.
    pub checks_failed: AtomicU64,
    /// Requests sent again to another server after this one failed them.
    pub retries: AtomicU64,
    /// Such that the budget did not allow.
    pub retries_denied: AtomicU64,
    /// Connections made.
    pub connections: AtomicU64,
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Standing {
    /// A server of which nothing is known, counted among the others of its process.
    #[must_use]
    pub fn new(tallies: &Arc<Tallies>) -> Self {
        Self { load: tallies.tally(), ..Self::default() }
    }

    /// An exchange begins.
    pub fn begin(&self) {
        self.load.add((1 << ACTIVE_BITS) + 1);
    }

    /// An exchange has ended.
    pub fn end(&self) {
        self.load.sub(1);
    }

    /// Exchanges under way.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.load.sum() & ACTIVE_MASK
    }

    /// Exchanges that ever began.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.load.sum() >> ACTIVE_BITS
    }

    /// What is counted.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What the operator wants.
    #[must_use]
    pub fn wish(&self) -> Wish {
        Wish::of(self.wish.load(Ordering::Relaxed))
    }

    /// Sets what the operator wants. A server that is taken back in starts slowly.
    pub fn set_wish(&self, wish: Wish, now_ms: u64) {
        let before = Wish::of(self.wish.swap(wish as u8, Ordering::Relaxed));
        if wish == Wish::Up && before != Wish::Up {
            self.back_since_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// What active checks have found.
    #[must_use]
    pub fn checked(&self) -> Checked {
        match self.checked.load(Ordering::Relaxed) {
            1 => Checked::Well,
            2 => Checked::Ill,
            _ => Checked::Unknown,
        }
    }

    /// Until when it is left out for its failures; `None`: it is not.
    #[must_use]
    pub fn ejected_until(&self, now_ms: u64) -> Option<u64> {
        let until = self.out_until_ms.load(Ordering::Relaxed);
        (until > now_ms).then_some(until)
    }

    /// Whether checks and answers allow that it is used, whatever the operator wants.
    #[must_use]
    pub fn is_well(&self, now_ms: u64) -> bool {
        self.checked() != Checked::Ill && self.ejected_until(now_ms).is_none()
    }

    /// Its share in percent of what it is configured to get.
    #[must_use]
    pub fn share(&self, slow_start: Duration, now_ms: u64) -> u64 {
        let since = self.back_since_ms.load(Ordering::Relaxed);
        if slow_start.is_zero() || since == 0 || since > now_ms {
            return 100;
        }
        let whole = u64::try_from(slow_start.as_millis()).unwrap_or(u64::MAX).max(1);
        (now_ms.saturating_sub(since).saturating_mul(100) / whole).clamp(LEAST_SHARE, 100)
    }

    /// An active check has ended. Says whether the state changed.
    pub fn check_ended(&self, is_good: bool, (healthy, unhealthy): (u32, u32), now_ms: u64) -> bool {
        count(if is_good { &self.counts.checks_passed } else { &self.counts.checks_failed });
        let (now, needed) = match (self.checked(), is_good) {
            (Checked::Well, true) | (Checked::Ill, false) => {
                self.against.store(0, Ordering::Relaxed);
                return false;
            }
            // The first look decides at once.
            (Checked::Unknown, true) => (Checked::Well, 1),
            (Checked::Unknown, false) => (Checked::Ill, 1),
            (Checked::Ill, true) => (Checked::Well, healthy),
            (Checked::Well, false) => (Checked::Ill, unhealthy),
        };
        if self.against.fetch_add(1, Ordering::Relaxed) + 1 < needed {
            return false;
        }
        self.against.store(0, Ordering::Relaxed);
        let was_away = self.checked() == Checked::Ill;
        self.checked.store(now as u8, Ordering::Relaxed);
        if now == Checked::Well && was_away {
            self.back_since_ms.store(now_ms, Ordering::Relaxed);
            self.out_until_ms.store(0, Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
            self.server_errors.store(0, Ordering::Relaxed);
        }
        true
    }

    /// Whether its last exchanges went well, so that one more that does changes nothing.
    #[must_use]
    pub fn is_blameless(&self) -> bool {
        self.failures.load(Ordering::Relaxed) | self.server_errors.load(Ordering::Relaxed) == 0
    }

    /// It has answered with this status.
    pub fn answered(&self, status: u16, way: &Way, now_ms: u64) {
        // Mostly nothing is to be written: the line stays shared among workers.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if status >= 500 {
            self.blame(&self.server_errors, way.ejection.server_errors, &way.ejection, now_ms);
        } else if self.server_errors.load(Ordering::Relaxed) != 0 {
            self.server_errors.store(0, Ordering::Relaxed);
        }
    }

    /// It could not be reached, or gave no whole head in time.
    pub fn failed(&self, way: &Way, now_ms: u64) {
        count(&self.counts.failures);
        self.blame(&self.failures, way.ejection.failures, &way.ejection, now_ms);
    }

    fn blame(&self, streak: &AtomicU32, limit: u32, ejection: &Ejection, now_ms: u64) {
        if limit == 0 || streak.fetch_add(1, Ordering::Relaxed) + 1 < limit {
            return;
        }
        let until = self.out_until_ms.load(Ordering::Relaxed);
        if until > now_ms {
            return;
        }
        // Long after the last one it begins anew.
        let calm_ms = millis(ejection.max_time);
        if until.saturating_add(calm_ms) < now_ms {
            self.ejections.store(0, Ordering::Relaxed);
        }
        let doublings = self.ejections.load(Ordering::Relaxed).min(MAX_DOUBLINGS);
        let time_ms = millis(ejection.time).saturating_mul(1 << doublings).min(calm_ms);
        let out_until = now_ms.saturating_add(time_ms);
        let moved =
            self.out_until_ms.compare_exchange(until, out_until, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok() {
            self.ejections.fetch_add(1, Ordering::Relaxed);
            // Back from then on, slowly.
            self.back_since_ms.store(out_until, Ordering::Relaxed);
            // One more failure after that is enough.
            streak.store(limit - 1, Ordering::Relaxed);
            count(&self.counts.ejections);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(failures: u32, server_errors: u32) -> Way {
        let (time, max_time) = (Duration::from_millis(10), Duration::from_millis(35));
        Way { ejection: Ejection { failures, server_errors, time, max_time }, ..Way::default() }
    }

    #[test]
    fn checks_in_a_row_turn_it() {
        let (standing, counts) = (Standing::default(), (2, 3));
        let check = |results: &str, expected: Checked| {
            for result in results.bytes() {
                standing.check_ended(result == b'+', counts, 1);
            }
            assert_eq!(standing.checked(), expected, "{results}");
        };
        check("", Checked::Unknown);
        check("-", Checked::Ill);
        check("+-+", Checked::Ill);
        check("+", Checked::Well);
        check("--+--", Checked::Well);
        check("-", Checked::Ill);
    }

    #[test]
    fn ejections_grow_and_are_forgotten() {
        let (standing, way) = (Standing::default(), way(2, 0));
        let out = |at: u64, expected: Option<u64>| {
            standing.failed(&way, at);
            assert_eq!(standing.ejected_until(at), expected, "at {at}");
        };
        out(100, None);
        out(101, Some(111));
        out(105, Some(111));
        out(112, Some(132));
        out(133, Some(168));
        out(169, Some(204));
        out(300, Some(310));
        standing.answered(200, &way, 400);
        standing.failed(&way, 401);
        assert_eq!(standing.ejected_until(401), None, "an answer ends the row");
        assert_eq!(standing.counts().ejections.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn server_errors_count_where_asked() {
        let (standing, never, third) = (Standing::default(), way(1, 0), way(1, 3));
        (0..9).for_each(|_| standing.answered(500, &never, 1));
        assert!(standing.is_well(1));
        for (status, is_well) in
            [(500, true), (503, true), (404, true), (500, true), (500, true), (502, false)]
        {
            standing.answered(status, &third, 1);
            assert_eq!(standing.is_well(1), is_well, "{status}");
        }
    }

    #[test]
    fn it_comes_back_slowly() {
        let standing = Standing::default();
        let share = |standing: &Standing, now| standing.share(Duration::from_millis(1000), now);
        assert_eq!(share(&standing, 5), 100);
        standing.set_wish(Wish::Down, 100);
        standing.set_wish(Wish::Up, 1000);
        for (now, expected) in [(1000, 10), (1500, 50), (2000, 100), (9000, 100)] {
            assert_eq!(share(&standing, now), expected, "at {now}");
        }
        assert_eq!(standing.share(Duration::ZERO, 1000), 100);
    }

    #[test]
    fn one_number_counts_both() {
        let standing = Standing::default();
        (0..5).for_each(|_| standing.begin());
        (0..3).for_each(|_| standing.end());
        assert_eq!((standing.active(), standing.total()), (2, 5));
    }
}
