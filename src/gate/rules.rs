//! Everything that a reload may change, made of the config: built aside, swapped whole.

use crate::block_page::BlockPages;
use crate::config::{self, Config, Mode, TlsBlocked, Upstream, UpstreamScheme};
use crate::gate::pool::{Endpoint, EndpointSlots};
use crate::gate::route::{Route, Routes, Target};
use crate::verdict::{Policy, Region, Scenario};
use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// What holds for the upstreams of a `tls_passthrough` listener itself.
const LISTENER_TIMEOUTS: config::SiteTimeouts = config::SiteTimeouts {
    connect: Duration::from_secs(5),
    response: Duration::from_secs(60),
    idle: Duration::from_secs(60),
};

/// The rules in force.
#[derive(Debug)]
pub struct Rules {
    /// Sites.
    pub routes: Routes,
    /// The scenario table and the operator's lists.
    pub policy: Policy,
    /// What visitors read.
    pub pages: BlockPages,
    /// Enforce or monitor.
    pub mode: Mode,
    /// 451 or 403.
    pub blocked_status: u16,
    /// The value of `Link` on block pages.
    pub blocked_by: String,
    /// What a TLS client of a blocked name gets.
    pub tls_blocked: TlsBlocked,
    /// Whether ACME challenges of blocked names are forwarded.
    pub acme_passthrough: bool,
    /// Limits.
    pub limits: config::Limits,
    /// For hosts that are asked about without a listener: the first one's.
    pub default_scenario: Scenario,
    /// The same.
    pub default_region: Region,
    /// `tls_passthrough` listeners' own upstreams, by listener index.
    pub passthrough: HashMap<usize, Arc<Target>>,
}

/// Why rules can't be made of a config.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A name of an upstream does not resolve.
    #[error(
        "upstream `{0}` does not resolve ({1}); give an address, or a name that this machine can look up"
    )]
    Unresolved(String, #[source] std::io::Error),
    /// A scheme that is not built.
    #[error(
        "upstream `{0}`: cleartext HTTP/2 (h2c) to upstreams is not supported by this version; use http or https"
    )]
    H2c(String),
    /// Templates.
    #[error("block page: {0}")]
    Pages(String),
}

impl Rules {
    /// Makes rules of a config; resolves the names of upstreams.
    ///
    /// # Errors
    /// `RulesError`: the old rules stay in force.
    pub fn new(
        config: &Config,
        slots: &EndpointSlots,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<Self, RulesError> {
        let mut resolver = Resolver { slots, tls, known: HashMap::new() };
        let mut routes = Routes::default();
        for site in &config.sites {
            let target = resolver.target(&site.target)?;
            let route = Arc::new(Route { scenario: site.scenario, region: site.region, target });
            for host in &site.hosts {
                routes.add(host, &route);
            }
        }
        if let Some(target) = &config.default_site {
            routes.set_default(Route { scenario: None, region: None, target: resolver.target(target)? });
        }
        let mut passthrough = HashMap::new();
        for (index, listener) in config.listeners.iter().enumerate().filter(|(_, l)| !l.upstreams.is_empty())
        {
            passthrough.insert(index, resolver.of_listener(&listener.upstreams)?);
        }
        let pages = match &config.block_page.directory {
            Some(directory) => {
                BlockPages::from_directory(directory).map_err(|error| RulesError::Pages(error.to_string()))?
            }
            None => BlockPages::embedded(),
        };
        let enforcement = &config.enforcement;
        Ok(Self {
            routes,
            policy: Policy::new(enforcement.policy.clone()),
            pages,
            mode: enforcement.mode,
            blocked_status: enforcement.status,
            blocked_by: format!("<{}>; rel=\"blocked-by\"", enforcement.blocked_by),
            tls_blocked: enforcement.tls_blocked,
            acme_passthrough: enforcement.acme_passthrough,
            limits: config.limits.clone(),
            default_scenario: config.listeners.first().map_or(Scenario::Web, |listener| listener.scenario),
            default_region: config.listeners.first().map_or(Region::Mainland, |listener| listener.region),
            passthrough,
        })
    }
}

struct Resolver<'a> {
    slots: &'a EndpointSlots,
    tls: &'a Arc<rustls::ClientConfig>,
    known: HashMap<Upstream, Arc<Endpoint>>,
}

impl Resolver<'_> {
    fn target(&mut self, target: &config::SiteTarget) -> Result<Arc<Target>, RulesError> {
        Ok(Arc::new(Target {
            endpoints: target
                .upstreams
                .iter()
                .map(|upstream| self.endpoint(upstream))
                .collect::<Result<_, _>>()?,
            balance: target.balance,
            origin_here: target.origin_here,
            mode: target.mode,
            timeouts: target.timeouts,
            turn: AtomicUsize::new(0),
        }))
    }

    fn of_listener(&mut self, upstreams: &[Upstream]) -> Result<Arc<Target>, RulesError> {
        Ok(Arc::new(Target {
            endpoints: upstreams.iter().map(|upstream| self.endpoint(upstream)).collect::<Result<_, _>>()?,
            balance: config::Balance::P2c,
            origin_here: false,
            mode: None,
            timeouts: LISTENER_TIMEOUTS,
            turn: AtomicUsize::new(0),
        }))
    }

    fn endpoint(&mut self, upstream: &Upstream) -> Result<Arc<Endpoint>, RulesError> {
        if let Some(endpoint) = self.known.get(upstream) {
            return Ok(Arc::clone(endpoint));
        }
        let written = format!("{}:{}", upstream.host, upstream.port);
        if upstream.scheme == UpstreamScheme::H2c {
            return Err(RulesError::H2c(written));
        }
        let addresses: Vec<SocketAddr> = (upstream.host.trim_matches(['[', ']']), upstream.port)
            .to_socket_addrs()
            .map_err(|error| RulesError::Unresolved(written, error))?
            .collect();
        let endpoint = Arc::new(self.slots.endpoint(upstream, addresses, self.tls));
        self.known.insert(upstream.clone(), Arc::clone(&endpoint));
        Ok(endpoint)
    }
}
