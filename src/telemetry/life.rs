//! What became of this process so far: reloads, hand-overs that failed, whether it drains.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

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
