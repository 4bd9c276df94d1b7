//! The clocks that a cache goes by: the monotonic one for ages, the wall's for people and for saved states.

use std::time::{Instant, SystemTime};

/// A moment on the monotonic clock to count from, and what the wall clock says.
pub struct Clock {
    base: Instant,
    wall_ms: Box<dyn Fn() -> i64 + Send + Sync>,
}

impl Clock {
    /// This machine's.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Instant::now(), || {
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, super::millis)
        })
    }

    /// Counts from `base`; `wall_ms` says Unix milliseconds, and may jump.
    #[must_use]
    pub fn new(base: Instant, wall_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self { base, wall_ms: Box::new(wall_ms) }
    }

    pub(super) fn base(&self) -> Instant {
        self.base
    }

    pub(super) fn wall_ms(&self) -> i64 {
        (self.wall_ms)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock").field("base", &self.base).finish_non_exhaustive()
    }
}
