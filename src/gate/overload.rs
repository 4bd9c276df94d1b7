//! Whether there is too much to do, so that new work is refused and what is under way goes on.
//!
//! Each worker looks at every tick of its clock; a request looks at one cell.

use crate::config;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What was too much is so until it has fallen below this share of it.
const RELIEF: f64 = 0.9;
/// How much of the last lags' mean the newest one is: one in so many.
const LAGS: u32 = 8;

/// The process's open descriptors, counted now and then where somebody asks.
#[derive(Debug, Default)]
pub struct Descriptors {
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Descriptors {
    /// So many of so many are open.
    pub fn counted(&self, open: usize, most: usize) {
        self.open.store(open, Ordering::Relaxed);
        self.most.store(most, Ordering::Relaxed);
    }

    fn share(&self) -> f64 {
        share(self.open.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed))
    }
}

/// What a worker sees at a tick.
#[derive(Debug)]
pub struct Load<'a> {
    /// Connections open, of the process.
    pub connections: usize,
    /// That there may be.
    pub most_connections: usize,
    /// Descriptors of the process.
    pub descriptors: &'a Descriptors,
    /// How late the tick came.
    pub lag: Duration,
}

/// What a worker makes of it.
#[derive(Debug, Default)]
pub struct Overload {
    is_over: Cell<bool>,
    lag: Cell<Duration>,
}

impl Overload {
    /// Whether new work is to be refused.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Looks at the load. Says whether that changed anything.
    pub fn look(&self, limits: &config::Overload, load: &Load<'_>) -> bool {
        let lag = self.lag.get() - self.lag.get() / LAGS + load.lag / LAGS;
        self.lag.set(lag);
        let relief = if self.is_over.get() { RELIEF } else { 1.0 };
        let is_above = |limit: Option<f64>, now: f64| limit.is_some_and(|limit| now > limit * relief);
        let is_over = is_above(limits.connections, share(load.connections, load.most_connections))
            || is_above(limits.descriptors, load.descriptors.share())
            || is_above(limits.lag.map(|it| it.as_secs_f64()), lag.as_secs_f64());
        self.is_over.replace(is_over) != is_over
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of what a process has are exact as f64")]
fn share(some: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { some as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_above_the_limit_and_ends_below_it() {
        let limits = config::Overload { connections: Some(0.5), ..config::Overload::default() };
        let (overload, descriptors) = (Overload::default(), Descriptors::default());
        let mut look = |connections| {
            let load =
                Load { connections, most_connections: 100, descriptors: &descriptors, lag: Duration::ZERO };
            overload.look(&limits, &load);
            overload.is_over()
        };
        assert_eq!([50, 51, 50, 46, 45, 50].map(&mut look), [false, true, true, true, false, false]);
    }

    #[test]
    fn one_late_tick_is_not_a_lag_and_many_are() {
        let limits = config::Overload { lag: Some(Duration::from_millis(100)), ..Default::default() };
        let (overload, descriptors) = (Overload::default(), Descriptors::default());
        let look = |ms| {
            let lag = Duration::from_millis(ms);
            overload
                .look(&limits, &Load { connections: 0, most_connections: 1, descriptors: &descriptors, lag });
            overload.is_over()
        };
        assert!(!look(700) && !look(0));
        assert!((0..50).any(|_| look(300)) && look(300));
        assert!((0..50).any(|_| !look(0)) && !look(0));
    }

    #[test]
    fn descriptors_count_where_asked() {
        let descriptors = Descriptors::default();
        let overload = Overload::default();
        let load =
            || Load { connections: 0, most_connections: 1, descriptors: &descriptors, lag: Duration::ZERO };
        let limits = config::Overload { descriptors: Some(0.9), ..Default::default() };
        assert!(!overload.look(&limits, &load()), "nobody has counted yet");
        descriptors.counted(95, 100);
        assert!(!overload.look(&config::Overload::default(), &load()));
        assert!(overload.look(&limits, &load()) && overload.is_over());
    }
}
