//! Which site a host belongs to, and which of its endpoints is next. Pure.
//!
//! Exact beats wildcard, the longest wildcard wins; hash look-ups only, so that 100,000 sites cost a
//! request what one does.

use crate::block_page::BlockPages;
use crate::config::{Balance, HostRule, Mode, SiteTimeouts};
use crate::domain::{DomainName, HostForm};
use crate::gate::pool::Endpoint;
use crate::verdict::{Region, Scenario};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a site's traffic goes, and how.
#[derive(Debug)]
pub struct Target {
    /// Never empty.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// How the next endpoint is found.
    pub balance: Balance,
    /// Access here is required whatever the scenario.
    pub origin_here: bool,
    /// This site's own mode.
    pub mode: Option<Mode>,
    /// How long to wait for its upstreams.
    pub timeouts: SiteTimeouts,
    /// For round robin.
    pub turn: AtomicUsize,
    /// What visitors of this site read, where it is not what all read.
    pub pages: Option<Arc<BlockPages>>,
}

/// A site.
#[derive(Debug, Clone)]
pub struct Route {
    /// Else the listener's.
    pub scenario: Option<Scenario>,
    /// Else the listener's.
    pub region: Option<Region>,
    /// Where it goes.
    pub target: Arc<Target>,
}

/// All sites, by host.
#[derive(Debug, Default)]
pub struct Routes {
    exact: HashMap<Box<str>, Arc<Route>>,
    below: HashMap<Box<str>, Arc<Route>>,
    addresses: HashMap<IpAddr, Arc<Route>>,
    default: Option<Arc<Route>>,
}

impl Routes {
    /// Adds a site's host.
    pub fn add(&mut self, host: &HostRule, route: &Arc<Route>) {
        let route = Arc::clone(route);
        match host {
            HostRule::Exact(name) => self.exact.insert(name.as_str().into(), route),
            HostRule::Below(name) => self.below.insert(name.as_str().into(), route),
            HostRule::Ip(address) => self.addresses.insert(*address, route),
        };
    }

    /// Sets where hosts go that no site names.
    pub fn set_default(&mut self, route: Route) {
        self.default = Some(Arc::new(route));
    }

    /// The site of a host.
    #[must_use]
    pub fn find(&self, host: &HostForm) -> Option<&Arc<Route>> {
        let named = match host {
            HostForm::Ip(address) => self.addresses.get(address),
            HostForm::Name(_) if self.exact.is_empty() && self.below.is_empty() => None,
            HostForm::Name(name) => self.exact.get(name.as_str()).or_else(|| self.find_below(name)),
        };
        named.or(self.default.as_ref())
    }

    fn find_below(&self, name: &DomainName) -> Option<&Arc<Route>> {
        if self.below.is_empty() {
            return None;
        }
        name.parents().find_map(|parent| self.below.get(parent))
    }
}

impl Target {
    /// The endpoint for the next exchange. `client` is a hash of the client's address, `random` any number.
    #[must_use]
    pub fn pick(&self, client: u64, random: u64) -> &Arc<Endpoint> {
        let among = self.endpoints.len();
        if among == 1 {
            return &self.endpoints[0];
        }
        let nth = |number: u64| usize::try_from(number % among as u64).unwrap_or(0);
        let load = |index: &usize| self.endpoints[*index].active.load(Ordering::Relaxed);
        let index = match self.balance {
            Balance::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed) % among,
            Balance::Hash => nth(client),
            Balance::LeastConnections => (0..among).min_by_key(load).unwrap_or(0),
            Balance::P2c => {
                let one = nth(random);
                let other =
                    (one + 1 + usize::try_from((random >> 32) % (among as u64 - 1)).unwrap_or(0)) % among;
                if load(&other) < load(&one) { other } else { one }
            }
        };
        &self.endpoints[index]
    }
}
