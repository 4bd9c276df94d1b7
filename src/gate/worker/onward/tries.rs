//! What a request has tried in vain, and what is left to it: servers, one more connection, time. Pure.
//!
//! Whatever upstreams answer, a request is sent at most twice to each server, to at most `retries.most` servers after the
//! first, and waits for all of their answers together as long as `timeouts.response` says.

use crate::gate::route::choose::MAX_TRIES;
use std::time::{Duration, Instant};

/// Servers that a request has tried in vain, and how.
#[derive(Debug, Default)]
pub struct Tries {
    indexes: [usize; MAX_TRIES],
    len: usize,
    /// The server being tried has left the request unanswered once already, at this time.
    unanswered: Option<Instant>,
    /// When there must be an answer, whoever gives it; none: nothing was sent yet.
    until: Option<Instant>,
    /// The client has said that it sends nothing more, ever.
    pub(super) has_hung_up: bool,
}

impl Tries {
    pub(super) fn tried(&self) -> &[usize] {
        &self.indexes[..self.len]
    }

    /// One more server was tried in vain.
    pub(super) fn add(&mut self, index: usize) {
        self.unanswered = None;
        if let Some(place) = self.indexes.get_mut(self.len) {
            *place = index;
            self.len += 1;
        }
    }

    /// Whether anything was tried before.
    pub(super) fn are_begun(&self) -> bool {
        self.len > 0 || self.unanswered.is_some()
    }

    /// The connection left the request unanswered. Whether the same server may be asked again, over a fresh one: once.
    pub(super) fn once_more(&mut self, now: Instant) -> bool {
        let is_first = self.unanswered.is_none();
        self.unanswered.get_or_insert(now);
        is_first
    }

    /// Connections that were there before this time are not to be tried again; `None`: any may do.
    pub(super) fn fresh_since(&self) -> Option<Instant> {
        self.unanswered
    }

    /// How long the answer to what is sent now may take, where it may take `limit` in all.
    pub(super) fn left(&mut self, now: Instant, limit: Duration) -> Duration {
        let until = self.until.get_or_insert(now + limit);
        until.saturating_duration_since(now)
    }

    /// From now on there is less time: the client has hung up.
    pub(super) fn hung_up(&mut self, now: Instant, grace: Duration) -> Duration {
        self.has_hung_up = true;
        self.until = Some(self.until.map_or(now + grace, |until| until.min(now + grace)));
        self.left(now, grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_asked_twice_at_most() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        assert!(!tries.are_begun());
        for index in 0..3 {
            assert_eq!(tries.fresh_since(), None);
            assert!(tries.once_more(now));
            assert_eq!(tries.fresh_since(), Some(now));
            assert!(!tries.once_more(now + Duration::from_secs(1)));
            tries.add(index);
        }
        assert!(tries.are_begun());
        assert_eq!(tries.tried(), [0, 1, 2]);
    }

    #[test]
    fn all_tries_share_one_deadline() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(tries.left(now, 10 * second), 10 * second);
        assert_eq!(tries.left(now + 4 * second, 10 * second), 6 * second);
        tries.add(0);
        assert_eq!(tries.hung_up(now + 4 * second, 5 * second), 5 * second);
        assert_eq!(tries.left(now + 8 * second, 10 * second), second);
        assert_eq!(
            tries.hung_up(now + 8 * second, 5 * second),
            second,
            "hanging up twice gives no more time"
        );
        assert_eq!(tries.left(now + 60 * second, 10 * second), Duration::ZERO);
    }
}
