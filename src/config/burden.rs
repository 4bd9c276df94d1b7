//! What the servers of a site may be burdened with: retries, limits, kept connections.

use std::time::Duration;

/// `[site.retries]`: what may be sent again, and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Retries {
    /// Servers that one request may try after the first.
    pub most: usize,
    /// Answers after which another server is asked, where sending twice does no harm.
    pub statuses: Vec<u16>,
    /// The share (0 to 1) of a site's requests that may be tried again.
    pub share: f64,
    /// Retries a second that may be in any case.
    pub per_second: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self { most: 2, statuses: Vec::new(), share: 0.2, per_second: 10 }
    }
}

/// `[site.breaker]`: what one server bears, from all workers together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Breaker {
    /// Open connections, but those of HTTP/2; no limit where there is none.
    pub connections: Option<usize>,
    /// Requests and tunnels under way; no limit where there is none.
    pub requests: Option<usize>,
    /// Requests that may wait for a place.
    pub pending: usize,
    /// For how long.
    pub pending_timeout: Duration,
}

/// `[site.keep]`: connections that are kept for the next request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Keep {
    /// Idle ones, for each server and worker; 0: none.
    pub idle: usize,
    /// Idle ones that each worker opens before they are asked for.
    pub ahead: usize,
    /// How long one is kept idle.
    pub idle_timeout: Duration,
    /// How old one may get; any age where there is none.
    pub max_age: Option<Duration>,
    /// Requests that one may carry; any number where there is none.
    pub max_requests: Option<u32>,
}

impl Default for Keep {
    fn default() -> Self {
        Self { idle: 128, ahead: 0, idle_timeout: Duration::from_secs(50), max_age: None, max_requests: None }
    }
}
