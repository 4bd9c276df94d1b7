//! `[[site]]` and `[default_site]`: which hosts there are, and where their traffic goes.

use super::{BlockPage, Mode};
use crate::domain::DomainName;
use crate::verdict::{Region, Scenario};
use std::net::IpAddr;
use std::time::Duration;

/// `[[site]]`
#[derive(Debug, Clone)]
pub struct Site {
    /// Never empty.
    pub hosts: Vec<HostRule>,
    /// Else the listener's.
    pub scenario: Option<Scenario>,
    /// Else the listener's.
    pub region: Option<Region>,
    /// Where it goes.
    pub target: SiteTarget,
}

/// A host that a site names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostRule {
    /// This name.
    Exact(DomainName),
    /// `*.name`: names below it.
    Below(DomainName),
    /// This address.
    Ip(IpAddr),
}

impl std::fmt::Display for HostRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Where a site's traffic goes.
#[derive(Debug, Clone)]
pub struct SiteTarget {
    /// Never empty; all tcp or none.
    pub upstreams: Vec<Upstream>,
    /// How one is chosen.
    pub balance: Balance,
    /// The site's own servers are here: access here is required whatever the scenario.
    pub origin_here: bool,
    /// This site only; else that of `[enforcement]`.
    pub mode: Option<Mode>,
    /// Towards its upstreams.
    pub timeouts: SiteTimeouts,
    /// Its own pages, where they differ from those of `[block_page]`.
    pub block_page: Option<BlockPage>,
}

/// One server that traffic is forwarded to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// What it speaks.
    pub scheme: UpstreamScheme,
    /// A name (A-labels) or an address, without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamScheme {
    /// Cleartext HTTP/1.1
    Http,
    /// HTTP over TLS.
    Https,
    /// Cleartext HTTP/2
    H2c,
    /// Octets, for passthrough.
    Tcp,
}

/// How an upstream is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The less busy of two chosen at random.
    P2c,
    /// One after the other.
    RoundRobin,
    /// The least busy.
    LeastConnections,
    /// The same client to the same upstream.
    Hash,
}

/// `[site.timeouts]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteTimeouts {
    /// Until connected; default 5s.
    pub connect: Duration,
    /// Until the response head; default 60s.
    pub response: Duration,
    /// Between octets; default 60s.
    pub idle: Duration,
}
