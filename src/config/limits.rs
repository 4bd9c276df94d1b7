//! `[limits]` and `[overload]`: bounds on everything that a client can use up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// `[limits]`
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of all clients.
    pub connections: usize,
    /// Of one client.
    pub connections_per_client: usize,
    /// Which addresses are one client.
    pub client: ClientWidth,
    /// New connections of one client; `None`: any.
    pub connection_rate: Option<Rate>,
    /// After how long a connection ends once it is free; `None`: never.
    pub connection_age: Option<Duration>,
    /// After how many requests; `None`: any.
    pub connection_requests: Option<u32>,
    /// Octets of a request head.
    pub header_bytes: usize,
    /// Fields of a request head.
    pub headers: usize,
    /// Until a request head is complete.
    pub header_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// How long requests in flight may take to finish when draining; may be zero.
    pub drain_timeout: Duration,
    /// The longest pause between octets of a request body; default 30s.
    pub body_timeout: Duration,
    /// Octets a second that a client must send of its body or take of its answer while it is waited for, over
    /// `body_timeout`; 0: any.
    pub min_rate: usize,
    /// Octets of a request body; no limit: `u64::MAX`.
    pub body_bytes: u64,
    /// Requests of one client; `None`: any.
    pub request_rate: Option<Rate>,
    /// When new work is refused.
    pub overload: Overload,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_client: 1024,
            client: ClientWidth::default(),
            connection_rate: None,
            connection_age: None,
            connection_requests: None,
            header_bytes: 32 << 10,
            headers: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            drain_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            min_rate: 240,
            body_bytes: u64::MAX,
            request_rate: None,
            overload: Overload::default(),
        }
    }
}

/// How many of something a client may have in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// How many leading bits of an address tell one client from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientWidth {
    /// Of IPv4: 1 to 32.
    pub v4: u8,
    /// Of IPv6: 1 to 128.
    pub v6: u8,
}

impl Default for ClientWidth {
    /// An IPv4 address, and with IPv6 its /64, which is what one subscriber gets.
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

impl ClientWidth {
    /// Whom an address counts as.
    #[must_use]
    pub fn of(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(it) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.v4.min(32))).unwrap_or(0);
                Ipv4Addr::from_bits(it.to_bits() & mask).into()
            }
            IpAddr::V6(it) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.v6.min(128))).unwrap_or(0);
                Ipv6Addr::from_bits(it.to_bits() & mask).into()
            }
        }
    }
}

/// `[overload]`: what is too much, so that new work is refused and what is under way goes on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Overload {
    /// A share (0 to 1) of `limits.connections`.
    pub connections: Option<f64>,
    /// A share (0 to 1) of the descriptors that the process may have.
    pub descriptors: Option<f64>,
    /// How late a worker comes to what it means to do.
    pub lag: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_one_client() {
        #[track_caller]
        fn check((v4, v6): (u8, u8), address: &str, expected: &str) {
            let seen = ClientWidth { v4, v6 }.of(address.parse().unwrap());
            assert_eq!(seen.to_string(), expected, "{address} by {v4} and {v6}");
        }
        check((32, 64), "192.0.2.77", "192.0.2.77");
        check((24, 64), "192.0.2.77", "192.0.2.0");
        check((24, 64), "::ffff:192.0.2.77", "192.0.2.0");
        check((32, 64), "2001:db8:1:2:3::4", "2001:db8:1:2::");
        check((32, 48), "2001:db8:1:2:3::4", "2001:db8:1::");
        check((32, 128), "2001:db8::4", "2001:db8::4");
    }
}
