//! `[dns]`: who is asked for the addresses of upstreams that have names, and how often.

use super::{Config, Upstream};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Name servers; those of the machine (`/etc/resolv.conf`, with its search list) where there are none.
    pub servers: Vec<SocketAddr>,
    /// Which addresses are asked for.
    pub family: DnsFamily,
    /// An answer holds at least so long, whatever its TTL; also the pause after a failure.
    pub min_ttl: Duration,
    /// An answer holds at most so long.
    pub max_ttl: Duration,
    /// For one question to one server; each is asked twice.
    pub timeout: Duration,
}

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv4 and IPv6 (A and AAAA).
    Both,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            family: DnsFamily::Both,
            min_ttl: Duration::from_secs(5),
            max_ttl: Duration::from_secs(600),
            timeout: Duration::from_secs(2),
        }
    }
}

impl Config {
    /// Every upstream that is named, with the section that names it.
    pub fn upstreams(&self) -> impl Iterator<Item = (&Upstream, &'static str)> {
        let sites = self.sites.iter().map(|site| (&site.target, "site.upstreams"));
        let default = self.default_site.iter().map(|target| (target, "default_site.upstreams"));
        let of_targets = sites.chain(default).flat_map(|(target, place)| {
            let of_routes = target.routes.iter().flat_map(|route| &route.upstreams);
            target.upstreams.iter().chain(of_routes).map(move |server| (&server.upstream, place))
        });
        let listeners = self.listeners.iter().flat_map(|listener| &listener.upstreams);
        of_targets.chain(listeners.map(|upstream| (upstream, "listener.upstreams")))
    }

    /// Whether connections to any of them are opened ahead.
    #[must_use]
    pub fn opens_ahead(&self) -> bool {
        let targets = self.sites.iter().map(|site| &site.target).chain(&self.default_site);
        let mut ways = targets.flat_map(|it| it.routes.iter().map(|route| &route.way).chain([&it.way]));
        ways.any(|way| way.keep.ahead > 0)
    }

    /// The names among their hosts.
    #[must_use]
    pub fn upstream_names(&self) -> BTreeSet<String> {
        let named = self.upstreams().map(|(upstream, _)| upstream).filter(|upstream| upstream.is_name());
        named.map(|upstream| upstream.host.clone()).collect()
    }
}
