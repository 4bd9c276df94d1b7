//! How long a client's connection may last: a time and a number of requests, each somewhat less than configured, so
//! that connections that began together don't end together.
//!
//! Knows instants that it is given; ends nothing itself.

use crate::config::Limits;
use std::time::{Duration, Instant};

/// What is left of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    ends: Option<Instant>,
    /// Requests that may still come.
    left: u32,
}

impl Lifetime {
    /// Of a connection that begins at `now`; `random` spreads.
    #[must_use]
    pub fn new(limits: &Limits, now: Instant, random: u64) -> Self {
        let ends = limits.connection_age.and_then(|age| now.checked_add(age - spread(age, random)));
        let requests = limits.connection_requests.map(|most| {
            let tenth = u64::from(most / 10) + 1;
            most - u32::try_from((random >> 32) % tenth).unwrap_or(0)
        });
        Self { ends, left: requests.unwrap_or(u32::MAX) }
    }

    /// How long that is at `now`; `None`: for ever.
    #[must_use]
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        self.ends.map(|ends| ends.saturating_duration_since(now))
    }

    /// Counts a request.
    pub fn count(&mut self) {
        if self.left != u32::MAX {
            self.left = self.left.saturating_sub(1);
        }
    }

    /// Whether no further request is to come.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.left == 0 || self.ends.is_some_and(|ends| ends <= now)
    }
}

/// Up to a tenth.
fn spread(age: Duration, random: u64) -> Duration {
    age / 10 * u32::try_from(random & 0xffff).unwrap_or(0) / 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_ends_within_the_last_tenth() {
        let age = Duration::from_secs(100);
        let limits =
            Limits { connection_age: Some(age), connection_requests: Some(1000), ..Limits::default() };
        let start = Instant::now();
        for random in [0, 1, 77_777, u64::MAX, u64::MAX / 3] {
            let mut lifetime = Lifetime::new(&limits, start, random);
            let left = lifetime.time_left(start).unwrap();
            assert!(left <= age && left >= age * 9 / 10, "{left:?}");
            assert!(!lifetime.is_over(start + age * 89 / 100) && lifetime.is_over(start + age));
            let requests = (0..1000).take_while(|_| {
                lifetime.count();
                !lifetime.is_over(start)
            });
            let requests = requests.count() + 1;
            assert!((900..=1000).contains(&requests), "{requests}");
        }
        let mut one =
            Lifetime::new(&Limits { connection_requests: Some(1), ..Limits::default() }, start, u64::MAX);
        assert!(!one.is_over(start));
        one.count();
        assert!(one.is_over(start));
        let mut any = Lifetime::new(&Limits::default(), start, 7);
        any.count();
        assert!(!any.is_over(start + age) && any.time_left(start).is_none());
    }
}
