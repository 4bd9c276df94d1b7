//! Each worker's idle connections to upstreams: last in, first out.
//!
//! Only connections that are clean (exchange whole, nothing left over, silent) come back, and they are
//! looked at again before they are used.

use crate::gate::endpoint::Endpoint;
use crate::gate::exchange::Exchange;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// How long a connection that is more than shall be kept waits all the same: one of as many as were used at once
/// lately is likely to be wanted again, and opening another costs as much as a request.
const SURPLUS_TIME: Duration = Duration::from_secs(1);
/// The most that wait for one endpoint, surplus ones included.
const MAX_IDLE: usize = 16 * 1024;
/// Surplus connections that are closed in one look: closing many must not keep requests waiting.
const MAX_LET_GO: usize = 256;

/// A connection that waits for an exchange.
#[derive(Debug)]
struct Idle {
    exchange: Box<Exchange>,
    since: Instant,
}

/// One worker's idle upstream connections.
#[derive(Debug, Default)]
pub struct Pool {
    /// By endpoint; each in the order in which they came back.
    idle: RefCell<Vec<Vec<Idle>>>,
    /// Connections to servers with limits have been kept.
    has_limited: Cell<bool>,
}

impl Pool {
    /// The most recently used connection that is still silent.
    ///
    /// It was read from in this turn of the reactor, or the reactor has looked at it since: an octet that nobody waits
    /// for, or an end, would be known. What arrives within a turn is not seen, whenever the connection came back; the
    /// kernel is asked only where readiness is left over.
    #[must_use]
    pub fn take(&self, endpoint: &Endpoint, now: Instant) -> Option<Box<Exchange>> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(endpoint.slot)?;
        while let Some(Idle { exchange, since }) = stack.pop() {
            let is_silent = exchange.is_known_quiet() || exchange.is_quiet();
            let idle = now.saturating_duration_since(since);
            if is_silent && idle < endpoint.way.keep.idle_timeout && exchange.may_be_kept(now) {
                return Some(exchange);
            }
        }
        None
    }

    /// Connections to an endpoint that wait.
    #[must_use]
    pub fn idle(&self, endpoint: &Endpoint) -> usize {
        self.idle.borrow().get(endpoint.slot).map_or(0, Vec::len)
    }

    /// Keeps a clean connection for the next exchange.
    pub fn put(&self, exchange: Box<Exchange>, now: Instant) {
        let (slot, most) = (exchange.endpoint().slot, exchange.endpoint().way.keep.idle);
        if exchange.endpoint().breaker.is_some() {
            self.has_limited.set(true);
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() <= slot {
            idle.resize_with(slot + 1, Vec::new);
        }
        if most > 0 && idle[slot].len() < MAX_IDLE {
            idle[slot].push(Idle { exchange, since: now });
        }
    }

    /// Closes what has been idle for too long or has been closed by the upstream.
    pub fn sweep(&self, now: Instant) {
        for stack in self.idle.borrow_mut().iter_mut() {
            stack.retain(|idle| {
                let age = now.saturating_duration_since(idle.since);
                let keep = &idle.exchange.endpoint().way.keep;
                age < keep.idle_timeout && idle.exchange.may_be_kept(now) && idle.exchange.is_quiet()
            });
        }
    }

    /// Closes what is more than shall be kept and has not been of use for a while; all of it where nothing may be spared.
    pub fn let_go(&self, now: Instant, is_short: bool) {
        let patience = if is_short { Duration::ZERO } else { SURPLUS_TIME };
        for stack in self.idle.borrow_mut().iter_mut() {
            let Some(first) = stack.first() else { continue };
            let most = first.exchange.endpoint().way.keep.idle;
            let count = surplus(stack.iter().map(|idle| idle.since), most, now, patience);
            stack.drain(..count);
        }
    }

    /// Closes what keeps others waiting: idle connections to servers whose limit of connections is reached.
    pub fn make_room(&self) {
        if !self.has_limited.get() {
            return;
        }
        for stack in self.idle.borrow_mut().iter_mut() {
            let first = stack.first().and_then(|idle| idle.exchange.endpoint().breaker.as_ref());
            if first.is_some_and(|breaker| breaker.wants_connections()) {
                stack.remove(0);
            }
        }
    }
}

/// How many, the longest unused first, are to be closed of connections that came back at these times, in their order.
fn surplus(
    since: impl ExactSizeIterator<Item = Instant>,
    most: usize,
    now: Instant,
    patience: Duration,
) -> usize {
    let more = since.len().saturating_sub(most).min(MAX_LET_GO);
    since.take(more).take_while(|&since| now.saturating_duration_since(since) >= patience).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds since which each waits, how many shall be kept, and how many go a second after the first came.
    #[track_caller]
    fn check(came_ms: &[u64], most: usize, expected: usize) {
        let begun = Instant::now();
        let since = came_ms.iter().map(|&ms| begun + Duration::from_millis(ms));
        assert_eq!(surplus(since, most, begun + SURPLUS_TIME, SURPLUS_TIME), expected, "{came_ms:?}, {most}");
    }

    #[test]
    fn only_what_is_too_many_and_of_no_use_is_let_go() {
        check(&[], 2, 0);
        check(&[0, 0], 2, 0);
        check(&[0, 0, 0, 0, 0], 2, 3);
        // What was of use a moment ago stays, were there ever so many.
        check(&[0, 0, 1, 1, 1], 2, 2);
        check(&[1, 1, 1, 1, 1], 2, 0);
        check(&vec![0; MAX_LET_GO * 2], 2, MAX_LET_GO);
    }
}
