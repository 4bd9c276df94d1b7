//! Everything that a reload may change, made of the config: built aside, swapped whole.

use crate::block_page::{BlockPages, TemplateError};
use crate::config::{self, Choice, Config, Mode, Server, TlsBlocked, Upstream, UpstreamScheme, Way};
use crate::domain::HostForm;
use crate::gate::endpoint::{Endpoint, Endpoints, Link};
use crate::gate::route::choose::Member;
use crate::gate::route::{Route, Routes, Target};
use crate::gate::tls::upstream::{UpstreamTlsConfigs, UpstreamTlsError};
use crate::gate::treat::Treatment;
use crate::telemetry::FooterReports;
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
    /// `tls_passthrough` listeners' own upstreams, by listener key.
    pub passthrough: HashMap<String, Arc<Target>>,
    /// Every upstream that any of these names, once, in the order of their labels.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// Why rules can't be made of a config.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A name of an upstream does not resolve.
    #[error(
        "upstream `{0}` does not resolve ({1}); give an address, or a name that this machine can look up"
    )]
    Unresolved(String, #[source] std::io::Error),
    /// TLS towards an upstream can't be set up.
    #[error(transparent)]
    Tls(#[from] UpstreamTlsError),
    /// Templates.
    #[error("block page: {0}")]
    Pages(#[from] TemplateError),
}

impl Rules {
    /// Makes rules of a config; resolves the names of upstreams.
    ///
    /// # Errors
    /// `RulesError`: the old rules stay in force.
    pub fn new(
        config: &Config,
        endpoints: &Endpoints,
        tls: &UpstreamTlsConfigs,
        reports: &FooterReports,
    ) -> Result<Self, RulesError> {
        endpoints.prune();
        let mut resolver = Resolver {
            endpoints,
            tls,
            known: HashMap::new(),
            all: &config.block_page,
            pages: Vec::new(),
            footer_rules: Arc::new(config.footer_rules.clone()),
            reports,
        };
        let mut routes = Routes::default();
        for site in &config.sites {
            let target = resolver.target(&site.target, || site_name(&site.hosts))?;
            let route = Arc::new(Route { scenario: site.scenario, region: site.region, target });
            for host in &site.hosts {
                routes.add(host, &route);
            }
        }
        if let Some(target) = &config.default_site {
            routes.set_default(Route {
                scenario: None,
                region: None,
                target: resolver.target(target, || "default_site".to_owned())?,
            });
        }
        let mut passthrough = HashMap::new();
        let keys = config::Listener::keys(&config.listeners);
        for (key, listener) in
            keys.into_iter().zip(&config.listeners).filter(|(_, l)| !l.upstreams.is_empty())
        {
            passthrough.insert(key, resolver.of_listener(&listener.upstreams)?);
        }
        let pages = config.block_page.pages()?;
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
            endpoints: resolver.all(),
        })
    }
}

impl Rules {
    /// What visitors of `host` read.
    #[must_use]
    pub fn pages(&self, host: Option<&HostForm>) -> &BlockPages {
        let site = host.and_then(|host| self.routes.find(host));
        site.and_then(|site| site.target.pages.as_deref()).unwrap_or(&self.pages)
    }
}

struct Resolver<'a> {
    endpoints: &'a Endpoints,
    tls: &'a UpstreamTlsConfigs,
    known: HashMap<(Upstream, Way), Arc<Endpoint>>,
    /// What sites' own pages are filled up with.
    all: &'a config::BlockPage,
    /// Those made so far: sites share them.
    pages: Vec<(config::BlockPage, Arc<BlockPages>)>,
    footer_rules: Arc<config::FooterRules>,
    reports: &'a FooterReports,
}

/// What a site is called: its first host.
fn site_name(hosts: &[config::HostRule]) -> String {
    hosts.first().map(ToString::to_string).unwrap_or_default()
}

impl Resolver<'_> {
    fn target(
        &mut self,
        target: &config::SiteTarget,
        name: impl FnOnce() -> String,
    ) -> Result<Arc<Target>, RulesError> {
        let reports = self.reports;
        let treatment =
            Treatment::new(&target.treatment, &self.footer_rules, |mode| reports.of(&name(), mode));
        let pages = target.block_page.as_ref().map(|own| self.pages(own)).transpose()?;
        let mut paths = Vec::new();
        for route in &target.routes {
            let target = Target {
                members: self.members(&route.upstreams, &route.way)?,
                choice: route.choice.clone(),
                origin_here: target.origin_here,
                mode: target.mode,
                timeouts: route.timeouts,
                treatment: treatment.clone(),
                paths: Vec::new(),
                turn: AtomicUsize::new(0),
                pages: pages.clone(),
            };
            paths.push((route.prefix.as_bytes().into(), Arc::new(target)));
        }
        paths.sort_by_key(|(prefix, _): &(Box<[u8]>, _)| std::cmp::Reverse(prefix.len()));
        Ok(Arc::new(Target {
            members: self.members(&target.upstreams, &target.way)?,
            choice: target.choice.clone(),
            origin_here: target.origin_here,
            mode: target.mode,
            timeouts: target.timeouts,
            treatment,
            paths,
            turn: AtomicUsize::new(0),
            pages,
        }))
    }

    fn members(&mut self, servers: &[Server], way: &Way) -> Result<Vec<Member>, RulesError> {
        let member = |server: &Server| {
            let endpoint = self.endpoint(&server.upstream, way)?;
            Ok(Member::new(endpoint, server.weight, server.is_backup))
        };
        servers.iter().map(member).collect()
    }

    fn pages(&mut self, own: &config::BlockPage) -> Result<Arc<BlockPages>, RulesError> {
        let own = own.clone().over(self.all);
        if let Some((_, pages)) = self.pages.iter().find(|(made, _)| *made == own) {
            return Ok(Arc::clone(pages));
        }
        let pages = Arc::new(own.pages()?);
        self.pages.push((own, Arc::clone(&pages)));
        Ok(pages)
    }

    fn of_listener(&mut self, upstreams: &[Upstream]) -> Result<Arc<Target>, RulesError> {
        let mut member =
            |upstream| Ok::<_, RulesError>(Member::new(self.endpoint(upstream, &Way::default())?, 1, false));
        Ok(Arc::new(Target {
            members: upstreams.iter().map(&mut member).collect::<Result<_, _>>()?,
            choice: Choice::default(),
            origin_here: false,
            mode: None,
            timeouts: LISTENER_TIMEOUTS,
            treatment: None,
            paths: Vec::new(),
            turn: AtomicUsize::new(0),
            pages: None,
        }))
    }

    fn endpoint(&mut self, upstream: &Upstream, way: &Way) -> Result<Arc<Endpoint>, RulesError> {
        let key = (upstream.clone(), way.clone());
        if let Some(endpoint) = self.known.get(&key) {
            return Ok(Arc::clone(endpoint));
        }
        let written = format!("{}:{}", upstream.host, upstream.port);
        let addresses: Vec<SocketAddr> = (upstream.host.trim_matches(['[', ']']), upstream.port)
            .to_socket_addrs()
            .map_err(|error| RulesError::Unresolved(written, error))?
            .collect();
        let tls = match upstream.scheme {
            UpstreamScheme::Https => Some(self.tls.link(&upstream.host, &way.tls)?),
            _ => None,
        };
        let endpoint = self.endpoints.endpoint(upstream, way, Link { addresses, tls });
        self.known.insert(key, Arc::clone(&endpoint));
        Ok(endpoint)
    }

    fn all(self) -> Vec<Arc<Endpoint>> {
        let mut all: Vec<_> = self.known.into_values().collect();
        all.sort_by(|one, other| (&one.label, one.slot).cmp(&(&other.label, other.slot)));
        all
    }
}
