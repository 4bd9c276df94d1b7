//! Each worker's idle connections to upstreams: last in, first out.
//!
//! Only connections that are clean (exchange whole, nothing left over, silent) come back, and they are
//! looked at again before they are used.

use crate::gate::endpoint::Endpoint;
use crate::gate::exchange::Exchange;
use std::cell::{Cell, RefCell};
use std::time::Instant;

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
        if idle[slot].len() < most {
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
