//! `[[site]]` and `[default_site]`: which hosts there are, and where their traffic goes.

use super::{
    BlockPage, Choice, ClientCertificates, ErrorPage, InClear, Mode, Networks, Rate, Redirect, Server,
    Treatment, Way,
};
use crate::domain::DomainName;
use crate::verdict::{Region, Scenario};
use std::net::IpAddr;
use std::sync::Arc;
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
    /// What metrics call it; without one it is not counted apart.
    pub name: Option<Arc<str>>,
    /// Empty where there is a redirect alone; all tcp or none.
    pub upstreams: Vec<Server>,
    /// Instead of upstreams.
    pub redirect: Option<Redirect>,
    /// How one is chosen.
    pub choice: Choice,
    /// How each is dealt with.
    pub way: Arc<Way>,
    /// The site's own servers are here: access here is required whatever the scenario.
    pub origin_here: bool,
    /// Which clients are answered.
    pub networks: Networks,
    /// What becomes of requests in clear; else as the listener says.
    pub in_clear: Option<InClear>,
    /// Which certificates clients show.
    pub clients: Option<ClientCertificates>,
    /// This site only; else that of `[enforcement]`.
    pub mode: Option<Mode>,
    /// Towards its upstreams.
    pub timeouts: SiteTimeouts,
    /// Its own pages, where they differ from those of `[block_page]`.
    pub block_page: Option<BlockPage>,
    /// In front of those of `[error_pages]`.
    pub error_pages: Vec<ErrorPage>,
    /// What its clients may send.
    pub limits: SiteLimits,
    /// What becomes of what passes.
    pub treatment: Treatment,
    /// Paths that go elsewhere.
    pub routes: Vec<PathRoute>,
}

/// `[[site.route]]`: the paths below a prefix, and where they go.
#[derive(Debug, Clone)]
pub struct PathRoute {
    /// Begins with a slash; named once in a site.
    pub prefix: String,
    /// Empty where there is a redirect; none is tcp.
    pub upstreams: Vec<Server>,
    /// Instead of upstreams.
    pub redirect: Option<Redirect>,
    /// How one is chosen.
    pub choice: Choice,
    /// How each is dealt with.
    pub way: Arc<Way>,
    /// Else the site's.
    pub timeouts: SiteTimeouts,
    /// Octets of a request body; else as the site says.
    pub body_bytes: Option<u64>,
    /// In front of the site's.
    pub error_pages: Vec<ErrorPage>,
    /// The site's, and what the route adds.
    pub treatment: Treatment,
}

/// `[site.limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SiteLimits {
    /// Octets of a request body; else as `[limits]` says.
    pub body_bytes: Option<u64>,
    /// Requests of one client to this site, beside what `[limits]` says of all.
    pub request_rate: Option<Rate>,
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

impl Default for SiteTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            response: Duration::from_secs(60),
            idle: Duration::from_secs(60),
        }
    }
}
