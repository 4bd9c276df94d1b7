//! What becomes of a site's servers when the names among them resolve to something else.

use crate::config::{MAX_SERVERS, NO_ADDRESS, Server, Way};
use crate::gate::endpoint::{Endpoints, Link};
use crate::gate::route::Target;
use crate::gate::route::choose::Member;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A server as it is configured, and what secures the way to each of its addresses.
#[derive(Debug)]
pub(super) struct Planned {
    /// As configured.
    pub(super) server: Server,
    /// What secures the way.
    pub(super) link: Link,
}

/// The servers of a target as they are configured.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order of the config.
    pub(super) servers: Vec<Planned>,
    /// How each is dealt with.
    pub(super) way: Arc<Way>,
}

/// A target whose servers' names are looked up again.
#[derive(Debug)]
pub(super) struct NamedTarget {
    /// Which.
    pub(super) target: Arc<Target>,
    /// Its servers.
    pub(super) plan: Plan,
}

impl Plan {
    /// The names that it needs.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let upstreams = self.servers.iter().map(|planned| &planned.server.upstream);
        upstreams.filter(|upstream| upstream.is_name()).map(|upstream| upstream.host.as_str())
    }

    /// A member for every address of every server.
    #[must_use]
    pub(super) fn members(&self, endpoints: &Endpoints) -> Box<[Member]> {
        let mut members = Vec::with_capacity(self.servers.len());
        for Planned { server, link } in &self.servers {
            let upstream = &server.upstream;
            let of_name = || endpoints.addresses.last(&upstream.host).unwrap_or_default().to_vec();
            let addresses = match upstream.host.parse::<IpAddr>() {
                Ok(ip) => vec![ip],
                Err(_) if upstream.is_local() => vec![NO_ADDRESS.ip()],
                Err(_) => of_name(),
            };
            members.extend(addresses.into_iter().map(|ip| {
                let address = SocketAddr::new(ip, upstream.port);
                let endpoint = endpoints.endpoint(upstream, address, &self.way, link.clone());
                Member::new(endpoint, server.weight, server.is_backup)
            }));
        }
        members.truncate(MAX_SERVERS);
        members.into()
    }
}
