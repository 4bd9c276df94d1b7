//! What became of this process so far: reloads, hand-overs that failed, whether it drains.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Without a failure for as long, connections are taken again: descriptors come and go one by one.
const QUIET: Duration = Duration::from_secs(2);

/// A reload that was tried.
#[derive(Debug, Clone)]
pub struct Reload {
    /// When.
    pub at: SystemTime,
    /// Why the old config or the old certificates stay in force, where they do.
    pub error: Option<String>,
}

/// Counted as it happens.
#[derive(Debug, Default)]
pub struct Life {
    is_draining: AtomicBool,
    reloads: AtomicU64,
    reloads_refused: AtomicU64,
    hand_overs_failed: AtomicU64,
    last_reload: Mutex<Option<Reload>>,
    accept_errors: AtomicU64,
    is_accepting_hindered: AtomicBool,
    last_accept_error: Mutex<Option<Instant>>,
}

impl Life {
    /// A reload came into force, or was refused.
    pub fn reloaded(&self, error: Option<String>) {
        let counter = if error.is_none() { &self.reloads } else { &self.reloads_refused };
        counter.fetch_add(1, Ordering::Relaxed);
        let reload = Reload { at: SystemTime::now(), error };
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(reload);
    }

    /// A new process did not take over.
    pub fn hand_over_failed(&self) {
        self.hand_overs_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The process ends once its requests are done.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether it does.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// A connection could not be taken, for want of descriptors or memory. Whether that begins now.
    pub fn accept_failed(&self, now: Instant) -> bool {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
        *self.last_accept_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        !self.is_accepting_hindered.swap(true, Ordering::Relaxed)
    }

    /// A connection was taken. Whether that ends a time in which others could not be.
    pub fn accepted(&self, now: Instant) -> bool {
        if !self.is_accepting_hindered.load(Ordering::Relaxed) {
            return false;
        }
        let last = *self.last_accept_error.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET);
        is_over && self.is_accepting_hindered.swap(false, Ordering::Relaxed)
    }

    /// Connections that could not be taken, each as often as it was tried.
    #[must_use]
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// Reloads that came into force.
    #[must_use]
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// Reloads that were refused.
    #[must_use]
    pub fn reloads_refused(&self) -> u64 {
        self.reloads_refused.load(Ordering::Relaxed)
    }

    /// New processes that did not take over.
    #[must_use]
    pub fn hand_overs_failed(&self) -> u64 {
        self.hand_overs_failed.load(Ordering::Relaxed)
    }

    /// The last reload that was tried.
    #[must_use]
    pub fn last_reload(&self) -> Option<Reload> {
        self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_want_begins_and_ends_once() {
        let (life, now) = (Life::default(), Instant::now());
        assert!(!life.accepted(now), "nothing was the matter");
        assert!(life.accept_failed(now));
        assert!(!life.accept_failed(now + QUIET / 2), "it has begun already");
        assert!(!life.accepted(now + QUIET), "another failed meanwhile");
        assert!(life.accepted(now + QUIET * 2));
        assert!(!life.accepted(now + QUIET * 3), "it has ended already");
        assert!(life.accept_failed(now + QUIET * 4));
        assert_eq!(life.accept_errors(), 3);
    }
}
