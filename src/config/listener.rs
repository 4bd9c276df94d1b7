//! `[[listener]]`: where clients connect, and what is spoken there.

use super::{Alpn, InClear, Networks, Upstream};
use crate::verdict::{Region, Scenario};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// `[[listener]]`
#[derive(Debug, Clone)]
pub struct Listener {
    /// Port 0 is any free port. `NO_ADDRESS` where it is a Unix socket.
    pub address: SocketAddr,
    /// The file of a Unix socket.
    pub local: Option<LocalSocket>,
    /// How its sockets are set.
    pub socket: SocketOptions,
    /// What clients may agree on, the most wanted first; `https` only.
    pub alpn: Vec<Alpn>,
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

/// What stands for an address where there is none: whoever comes by a Unix socket is on this machine.
pub const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A Unix socket's file, and who may open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSocket {
    /// Where.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Whose; else the gate's user's.
    pub owner: Option<u32>,
    /// Whose; else the gate's group's.
    pub group: Option<u32>,
}

/// How a listening socket is set, and each connection that comes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Connections that may wait to be accepted.
    pub backlog: u16,
    /// An IPv6 address takes no IPv4.
    pub is_only_v6: bool,
    /// Whether the system asks now and then if a silent peer is still there.
    pub keep_alive: Option<KeepAlive>,
    /// How long what was sent may stay unacknowledged (TCP_USER_TIMEOUT).
    pub user_timeout: Option<Duration>,
}

/// `tcp_keepalive`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeepAlive {
    /// Silence before the first question (TCP_KEEPIDLE).
    pub idle: Duration,
    /// Between questions (TCP_KEEPINTVL).
    pub interval: Duration,
    /// Questions without an answer that end the connection (TCP_KEEPCNT).
    pub probes: u8,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { backlog: 4096, is_only_v6: true, keep_alive: None, user_timeout: None }
    }
}

impl Listener {
    /// `unix:/run/beian-gate.sock`, where it is such a one.
    #[must_use]
    pub fn local_text(&self) -> Option<String> {
        self.local.as_ref().map(|local| format!("unix:{}", local.path.display()))
    }

    /// What each of these is called wherever it must be found again, in another config or another process: by its
    /// address, and where several have one (port 0), by their order.
    #[must_use]
    pub fn keys(listeners: &[Self]) -> Vec<String> {
        let of = |listener: &Self| listener.local_text().unwrap_or_else(|| listener.address.to_string());
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
