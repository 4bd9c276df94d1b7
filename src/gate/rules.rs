//! Everything that a reload may change, made of the config: built aside, swapped whole.

mod addresses;
mod listeners;
mod plan;
mod words;

use crate::block_page::{BlockPages, TemplateError};
use crate::config::certificates::CertificateError;
use crate::config::{self, Config, Dns, Mode, Origin, Server, TlsBlocked, Upstream, UpstreamScheme, Way};
use crate::gate::compress::Compressions;
use crate::gate::doors::Doors;
use crate::gate::endpoint::{Endpoint, Endpoints, Link};
use crate::gate::error_pages::ErrorPages;
use crate::gate::footer::Footers;
use crate::gate::rate::SiteRate;
use crate::gate::redirect::Redirect;
use crate::gate::route::{Route, Routes, Servers, Target};
use crate::gate::tls::clients::Clients;
use crate::gate::tls::upstream::{UpstreamTlsConfigs, UpstreamTlsError};
use crate::gate::treat::Treatment;
use crate::telemetry::FooterReports;
use crate::verdict::{Policy, Region, Scenario};
use addresses::look_up;
use arc_swap::ArcSwap;
use plan::{NamedTarget, Plan, Planned};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// The rules in force.
#[derive(Debug)]
pub struct Rules {
    /// Sites.
    pub routes: Routes,
    /// The scenario table and the operator's lists.
    pub policy: Policy,
    /// What visitors read.
    pub pages: BlockPages,
    /// The operator's words for what the gate answers itself; `None`: there are none, at no site either.
    error_pages: Option<ErrorPages>,
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
    /// The config that they were made of.
    pub origin: Origin,
    /// Whether requests that name no trace get one.
    pub trace: bool,
    /// When what sites believe in ends.
    pub trust_ends: Vec<config::TrustEnd>,
    /// Limits.
    pub limits: config::Limits,
    /// For hosts that are asked about without a listener: the first one's.
    pub default_scenario: Scenario,
    /// The same.
    pub default_region: Region,
    /// How listeners are set.
    pub doors: Doors,
    /// `tls_passthrough` listeners' own upstreams, by listener key.
    pub passthrough: HashMap<String, Arc<Target>>,
    /// Every upstream that any of these names, at each of its addresses, in the order of their labels.
    pub endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    /// How names are looked up.
    pub dns: Dns,
    /// Connections to some are opened ahead.
    pub opens_ahead: bool,
    /// Targets with servers that have names.
    named: Vec<NamedTarget>,
    /// All others.
    fixed: Vec<Arc<Endpoint>>,
    /// For how long what names stand for holds.
    valid_for: HashMap<String, Duration>,
}

/// Why rules can't be made of a config.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A name of an upstream does not resolve.
    #[error(
        "upstream `{0}` does not resolve ({1}); give an address, or a name that this machine can look up"
    )]
    Unresolved(String, String),
    /// TLS towards an upstream can't be set up.
    #[error(transparent)]
    Tls(#[from] UpstreamTlsError),
    /// Whose certificates clients show.
    #[error("site.client_certificates: {0}")]
    Clients(#[from] CertificateError),
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
        let valid_for = look_up(config, endpoints)?;
        let mut resolver = Resolver {
            endpoints,
            tls,
            links: HashMap::new(),
            named: Vec::new(),
            fixed: Vec::new(),
            all: &config.block_page,
            pages: Vec::new(),
            error_pages: &config.error_pages,
            body_bytes: config.limits.body_bytes,
            has_error_pages: false,
            clients: Vec::new(),
            footer_rules: Arc::new(config.footer_rules.clone()),
            compressions: Compressions::new(config.compression.as_ref()),
            reports,
        };
        let mut routes = Routes::default();
        for site in &config.sites {
            let target = resolver.target(&site.target, || site_name(&site.hosts))?;
            let clients = resolver.clients(&site.target)?;
            let route = Route::new((site.scenario, site.region), &site.target, (target, clients));
            let route = Arc::new(route);
            site.hosts.iter().for_each(|host| routes.add(host, &route));
        }
        if let Some(target) = &config.default_site {
            let resolved = resolver.target(target, || "default_site".to_owned())?;
            let clients = resolver.clients(target)?;
            routes.set_default(Route::new((None, None), target, (resolved, clients)));
        }
        let passthrough = resolver.of_listeners(&config.listeners)?;
        let pages = config.block_page.pages()?;
        let has_error_pages = !config.error_pages.is_empty() || resolver.has_error_pages;
        let enforcement = &config.enforcement;
        let Resolver { named, fixed, .. } = resolver;
        let rules = Self {
            routes,
            policy: Policy::new(enforcement.policy.clone()),
            pages,
            error_pages: has_error_pages.then(|| ErrorPages::new(&config.error_pages, &[])),
            mode: enforcement.mode,
            blocked_status: enforcement.status,
            blocked_by: format!("<{}>; rel=\"blocked-by\"", enforcement.blocked_by),
            tls_blocked: enforcement.tls_blocked,
            acme_passthrough: enforcement.acme_passthrough,
            origin: Origin::new(config),
            trace: config.trace,
            trust_ends: config.trust_ends(),
            limits: config.limits.clone(),
            default_scenario: config.listeners.first().map_or(Scenario::Web, |listener| listener.scenario),
            default_region: config.listeners.first().map_or(Region::Mainland, |listener| listener.region),
            doors: Doors::new(&config.listeners),
            passthrough,
            endpoints: ArcSwap::default(),
            opens_ahead: config.opens_ahead(),
            dns: config.dns.clone(),
            named,
            fixed,
            valid_for,
        };
        rules.list();
        Ok(rules)
    }

    /// The same, to be in force after `before`: who came by a listener finds its settings here.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        self.doors = self.doors.after(&before.doors);
        self
    }

    /// The names of upstreams.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.named.iter().flat_map(|named| named.plan.names()).map(str::to_owned).collect()
    }

    /// For how long the answer held that these rules were made of.
    #[must_use]
    pub fn valid_for(&self, name: &str) -> Duration {
        self.valid_for.get(name).copied().unwrap_or(self.dns.min_ttl)
    }

    /// Puts in force what these names stand for now.
    pub fn apply(&self, endpoints: &Endpoints, is_changed: impl Fn(&str) -> bool) {
        let mut has_changed = false;
        for named in self.named.iter().filter(|named| named.plan.names().any(&is_changed)) {
            if let Servers::Named(members) = &named.target.servers {
                members.store(Arc::new(named.plan.members(endpoints)));
                has_changed = true;
            }
        }
        if has_changed {
            self.list();
            endpoints.prune();
        }
    }

    /// Lists the endpoints there are.
    fn list(&self) {
        let mut all = self.fixed.clone();
        for named in &self.named {
            all.extend(named.target.servers.now().iter().map(|member| Arc::clone(&member.endpoint)));
        }
        all.sort_by(|one, other| (&one.label, one.slot).cmp(&(&other.label, other.slot)));
        all.dedup_by_key(|endpoint| endpoint.slot);
        self.endpoints.store(Arc::new(all));
    }
}

struct Resolver<'a> {
    endpoints: &'a Endpoints,
    tls: &'a UpstreamTlsConfigs,
    links: HashMap<(Upstream, config::UpstreamTls), Link>,
    named: Vec<NamedTarget>,
    fixed: Vec<Arc<Endpoint>>,
    /// What sites' own pages are filled up with.
    all: &'a config::BlockPage,
    /// Those made so far: sites share them.
    pages: Vec<(config::BlockPage, Arc<BlockPages>)>,
    /// What sites' own error pages come before.
    error_pages: &'a [config::ErrorPage],
    /// Octets of a request's body, where a site does not say.
    body_bytes: u64,
    /// Some site has pages of its own.
    has_error_pages: bool,
    clients: Vec<Arc<Clients>>,
    footer_rules: Arc<config::FooterRules>,
    compressions: Compressions,
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
        let footer = &target.treatment.footer;
        let footers =
            Footers::new(footer, &self.footer_rules, |mode| reports.of(&name(), mode)).map(Arc::new);
        let pages = target.block_page.as_ref().map(|own| self.pages(own)).transpose()?;
        let of_site = self.own_error_pages(&target.error_pages, self.error_pages);
        let body_bytes = target.limits.body_bytes.unwrap_or(self.body_bytes);
        let rate = target.limits.request_rate.map(|rate| Arc::new(SiteRate::new(rate)));
        let mut paths = Vec::new();
        for route in &target.routes {
            let site_pages = [&target.error_pages[..], self.error_pages].concat();
            let own = self.own_error_pages(&route.error_pages, &site_pages);
            let treatment = Treatment::new(&route.treatment, footers.as_ref(), &self.compressions);
            let target = self.made(&route.upstreams, &route.way, |servers| Target {
                servers,
                redirect: route.redirect.as_ref().map(|redirect| Redirect::new(redirect, &route.prefix)),
                choice: route.choice.clone(),
                origin_here: target.origin_here,
                mode: target.mode,
                timeouts: route.timeouts,
                treatment,
                tells_certificate: target.clients.is_some(),
                paths: Vec::new(),
                body_bytes: route.body_bytes.unwrap_or(body_bytes),
                rate: rate.clone(),
                turn: AtomicUsize::new(0),
                budget: Default::default(),
                pages: pages.clone(),
                error_pages: own.or_else(|| of_site.clone()),
            })?;
            paths.push((route.prefix.as_bytes().into(), target));
        }
        paths.sort_by_key(|(prefix, _): &(Box<[u8]>, _)| std::cmp::Reverse(prefix.len()));
        let treatment = Treatment::new(&target.treatment, footers.as_ref(), &self.compressions);
        self.made(&target.upstreams, &target.way, |servers| Target {
            servers,
            redirect: target.redirect.as_ref().map(|redirect| Redirect::new(redirect, "")),
            choice: target.choice.clone(),
            origin_here: target.origin_here,
            mode: target.mode,
            timeouts: target.timeouts,
            treatment,
            tells_certificate: target.clients.is_some(),
            paths,
            body_bytes,
            rate,
            turn: AtomicUsize::new(0),
            budget: Default::default(),
            pages,
            error_pages: of_site,
        })
    }

    /// What the site asks its clients to show.
    fn clients(&mut self, target: &config::SiteTarget) -> Result<Option<Arc<Clients>>, RulesError> {
        let Some(asked) = &target.clients else { return Ok(None) };
        if let Some(made) = self.clients.iter().find(|made| made.asked == *asked) {
            return Ok(Some(Arc::clone(made)));
        }
        self.clients.push(Clients::new(asked)?);
        Ok(self.clients.last().cloned())
    }

    fn own_error_pages(
        &mut self,
        own: &[config::ErrorPage],
        then: &[config::ErrorPage],
    ) -> Option<Arc<ErrorPages>> {
        self.has_error_pages |= !own.is_empty();
        (!own.is_empty()).then(|| Arc::new(ErrorPages::new(own, then)))
    }

    /// A target on these servers; its names will be looked up again.
    fn made(
        &mut self,
        servers: &[Server],
        way: &Arc<Way>,
        target: impl FnOnce(Servers) -> Target,
    ) -> Result<Arc<Target>, RulesError> {
        let planned = |server: &Server| {
            Ok::<_, RulesError>(Planned { server: server.clone(), link: self.link(&server.upstream, way)? })
        };
        let plan =
            Plan { servers: servers.iter().map(planned).collect::<Result<_, _>>()?, way: Arc::clone(way) };
        let members = plan.members(self.endpoints);
        if plan.names().next().is_none() {
            self.fixed.extend(members.iter().map(|member| Arc::clone(&member.endpoint)));
            return Ok(Arc::new(target(Servers::Fixed(members))));
        }
        let target = Arc::new(target(Servers::Named(ArcSwap::from_pointee(members))));
        self.named.push(NamedTarget { target: Arc::clone(&target), plan });
        Ok(target)
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

    fn link(&mut self, upstream: &Upstream, way: &Way) -> Result<Link, RulesError> {
        if upstream.scheme != UpstreamScheme::Https {
            return Ok(Link::default());
        }
        let key = (upstream.clone(), way.tls.clone());
        if let Some(link) = self.links.get(&key) {
            return Ok(link.clone());
        }
        let link = Link { tls: Some(self.tls.link(upstream.server_name(), &way.tls)?) };
        self.links.insert(key, link.clone());
        Ok(link)
    }
}
