//! Which site a host belongs to, and which of its endpoints is next. Pure.
//!
//! Exact beats wildcard, the longest wildcard wins; hash look-ups only, so that 100,000 sites cost a
//! request what one does.

pub mod budget;
pub mod choose;
pub mod standing;
pub mod tally;

use crate::block_page::BlockPages;
use crate::config::{Choice, HostRule, InClear, Mode, Networks, SiteTarget, SiteTimeouts};
use crate::domain::{DomainName, HostForm};
use crate::gate::error_pages::ErrorPages;
use crate::gate::rate::SiteRate;
use crate::gate::redirect::Redirect;
use crate::gate::tls::clients::Clients;
use crate::gate::treat::Treatment;
use crate::telemetry::Meter;
use crate::verdict::{Region, Scenario};
use arc_swap::ArcSwap;
use budget::Budget;
use choose::{Ask, Member};
use standing::Wish;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Where a site's traffic goes, and how.
#[derive(Debug)]
pub struct Target {
    /// Its servers; none where there is a redirect.
    pub servers: Servers,
    /// Where else everything is.
    pub redirect: Option<Redirect>,
    /// How the next one is found.
    pub choice: Choice,
    /// Access here is required whatever the scenario.
    pub origin_here: bool,
    /// This site's own mode.
    pub mode: Option<Mode>,
    /// How long to wait for its upstreams.
    pub timeouts: SiteTimeouts,
    /// What becomes of what passes; `None`: nothing.
    pub treatment: Option<Arc<Treatment>>,
    /// Where paths go that have a route of their own, the longest prefix first.
    pub paths: Vec<(Box<[u8]>, Arc<Target>)>,
    /// Upstreams are told of the client's certificate.
    pub tells_certificate: bool,
    /// Octets that a request's body may have.
    pub body_bytes: u64,
    /// How often one client may ask here; `None`: as often as it may anywhere.
    pub rate: Option<Arc<SiteRate>>,
    /// For round robin.
    pub turn: AtomicUsize,
    /// What it may send again.
    pub budget: Budget,
    /// What visitors of this site read, where it is not what all read.
    pub pages: Option<Arc<BlockPages>>,
    /// The operator's words for what the gate answers itself, where they are not what all read.
    pub error_pages: Option<Arc<ErrorPages>>,
}

/// The servers of a target.
#[derive(Debug)]
pub enum Servers {
    /// Given by address: for as long as the rules hold.
    Fixed(Box<[Member]>),
    /// Given by name, some at least: as their names resolve now.
    Named(ArcSwap<Box<[Member]>>),
}

impl Servers {
    /// Those there are now, for one request.
    #[must_use]
    pub fn now(&self) -> Members<'_> {
        match self {
            Self::Fixed(members) => Members::Fixed(members),
            Self::Named(members) => Members::Named(Rc::new(members.load_full())),
        }
    }
}

/// The servers that a request chooses among.
#[derive(Debug)]
pub enum Members<'t> {
    /// The target's.
    Fixed(&'t [Member]),
    /// As their names resolved when it began; a worker's own count of them.
    #[allow(clippy::redundant_allocation, reason = "the outer count is what only one thread writes")]
    Named(Rc<Arc<Box<[Member]>>>),
}

impl std::ops::Deref for Members<'_> {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        match self {
            Self::Fixed(members) => members,
            Self::Named(members) => members,
        }
    }
}

/// A site.
#[derive(Debug, Clone)]
pub struct Route {
    /// Else the listener's.
    pub scenario: Option<Scenario>,
    /// Else the listener's.
    pub region: Option<Region>,
    /// Which clients are answered.
    pub networks: Networks,
    /// What becomes of requests in clear; else as the listener says.
    pub in_clear: Option<InClear>,
    /// Which certificates clients show.
    pub clients: Option<Arc<Clients>>,
    /// Where it is counted.
    pub meter: Meter,
    /// Where it goes.
    pub target: Arc<Target>,
}

impl Route {
    /// A site as it is configured, and where it goes.
    #[must_use]
    pub fn new(
        (scenario, region): (Option<Scenario>, Option<Region>),
        from: &SiteTarget,
        (target, clients): (Arc<Target>, Option<Arc<Clients>>),
    ) -> Self {
        Self {
            scenario,
            region,
            networks: from.networks.clone(),
            in_clear: from.in_clear,
            clients,
            meter: Meter::named(from.name.clone()),
            target,
        }
    }
}

/// All sites, by host.
#[derive(Debug, Default)]
pub struct Routes {
    exact: HashMap<Box<[u8]>, Arc<Route>>,
    below: HashMap<Box<[u8]>, Arc<Route>>,
    addresses: HashMap<IpAddr, Arc<Route>>,
    default: Option<Arc<Route>>,
}

impl Routes {
    /// Adds a site's host.
    pub fn add(&mut self, host: &HostRule, route: &Arc<Route>) {
        let route = Arc::clone(route);
        match host {
            HostRule::Exact(name) => self.exact.insert(name.as_bytes().into(), route),
            HostRule::Below(name) => self.below.insert(name.as_bytes().into(), route),
            HostRule::Ip(address) => self.addresses.insert(*address, route),
        };
    }

    /// Sets where hosts go that no site names.
    pub fn set_default(&mut self, route: Route) {
        self.default = Some(Arc::new(route));
    }

    /// The hosts that sites name one by one.
    pub fn exact_hosts(&self) -> impl Iterator<Item = String> {
        let addresses = self.addresses.keys().map(ToString::to_string);
        self.exact.keys().map(|name| String::from_utf8_lossy(name).into_owned()).chain(addresses)
    }

    /// The names that sites name, those of a wildcard without it.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let names = self.exact.keys().chain(self.below.keys());
        names.map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// Whether hosts that no site names go somewhere.
    #[must_use]
    pub fn has_default(&self) -> bool {
        self.default.is_some()
    }

    /// The site of a host.
    #[must_use]
    pub fn find(&self, host: &HostForm) -> Option<&Arc<Route>> {
        let named = match host {
            HostForm::Ip(address) => self.addresses.get(address),
            HostForm::Name(_) if self.exact.is_empty() && self.below.is_empty() => None,
            HostForm::Name(name) => self.exact.get(name.as_bytes()).or_else(|| self.find_below(name)),
        };
        named.or(self.default.as_ref())
    }

    fn find_below(&self, name: &DomainName) -> Option<&Arc<Route>> {
        if self.below.is_empty() {
            return None;
        }
        name.parents().find_map(|parent| self.below.get(parent.as_bytes()))
    }
}

/// Whether a path, as it was sent, is the prefix or below it.
fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.ends_with(b"/") || matches!(rest, [] | [b'/' | b'?', ..]))
}

impl Target {
    /// Where a path goes: what is matched is what is sent, octet for octet.
    #[must_use]
    pub fn of_path<'t>(self: &'t Arc<Self>, path: &[u8]) -> &'t Arc<Self> {
        let own = self.paths.iter().find(|(prefix, _)| is_below(path, prefix));
        own.map_or(self, |(_, target)| target)
    }

    /// The server for the next try, by its place among `members`; `None` where there is none left.
    #[must_use]
    pub fn pick(&self, members: &[Member], ask: &Ask<'_>) -> Option<usize> {
        choose::choose(members, &self.choice, &self.turn, ask)
    }
}

impl Members<'_> {
    /// The server of a site that has one alone, if the operator lets it be used.
    #[must_use]
    pub fn only(&self) -> Option<usize> {
        match &self[..] {
            [only] if only.endpoint.standing.wish() == Wish::Up => Some(0),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_below;

    #[test]
    fn a_prefix_is_whole_segments_of_the_path_as_sent() {
        #[track_caller]
        fn check(path: &str, prefix: &str, expected: bool) {
            assert_eq!(is_below(path.as_bytes(), prefix.as_bytes()), expected, "{path} below {prefix}");
        }
        for path in ["/api", "/api/", "/api/x", "/api?x", "/api//", "/api/../admin"] {
            check(path, "/api", true);
        }
        for path in ["/", "/ap", "/apix", "/API", "/%61pi", "//api", "/x/../api", "/api;x", "*"] {
            check(path, "/api", false);
        }
        check("/api/x", "/api/", true);
        check("/api", "/api/", false);
        check("/any", "/", true);
    }
}
