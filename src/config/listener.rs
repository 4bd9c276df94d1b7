//! `[[listener]]`: where clients connect, and what is spoken there.

use super::{InClear, Networks, Upstream};
use crate::verdict::{Region, Scenario};
use std::net::SocketAddr;

/// `[[listener]]`
#[derive(Debug, Clone)]
pub struct Listener {
    /// Port 0 is any free port.
    pub address: SocketAddr,
    /// What is spoken here.
    pub protocol: Protocol,
    /// For hosts without a site of their own.
    pub scenario: Scenario,
    /// For hosts without a site of their own.
    pub region: Region,
    /// Whether connections open with a PROXY header; only from `trusted_peers`.
    pub proxy_protocol: ProxyProtocol,
    /// Whose PROXY headers and `X-Forwarded-*` are believed.
    pub trusted_peers: Vec<ipnet::IpNet>,
    /// Answered by the gate itself, without a verdict; starts with a slash.
    pub health_path: Option<String>,
    /// Which clients may connect.
    pub networks: Networks,
    /// `http` only, for hosts whose site does not say.
    pub in_clear: InClear,
    /// `tls_passthrough` only.
    pub upstreams: Vec<Upstream>,
}

impl Listener {
    /// What each of these is called wherever it must be found again, in another config or another process: by its
    /// address, and where several have one (port 0), by their order.
    #[must_use]
    pub fn keys(listeners: &[Self]) -> Vec<String> {
        let of = |listener: &Self| listener.address.to_string();
        let key = |(at, listener): (usize, &Self)| {
            let earlier = listeners[..at].iter().filter(|it| of(it) == of(listener)).count();
            if earlier == 0 { of(listener) } else { format!("{}#{}", of(listener), earlier + 1) }
        };
        listeners.iter().enumerate().map(key).collect()
    }
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Cleartext HTTP.
    Http,
    /// HTTP over TLS, with our certificates.
    Https,
    /// TLS forwarded unopened, by the name in its hello.
    TlsPassthrough,
}

/// Whether connections open with a PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// No header is read.
    Off,
    /// A header is read where there is one.
    Optional,
    /// Connections without one are closed.
    Required,
}
