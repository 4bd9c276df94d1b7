//! The upstreams of `tls_passthrough` listeners, for names whose site has none of its own.

use super::{Resolver, RulesError};
use crate::config::{self, Choice, Server, Upstream};
use crate::gate::route::Target;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// What holds for the upstreams of a `tls_passthrough` listener itself.
const LISTENER_TIMEOUTS: config::SiteTimeouts = config::SiteTimeouts {
    connect: Duration::from_secs(5),
    response: Duration::from_secs(60),
    idle: Duration::from_secs(60),
};

impl Resolver<'_> {
    /// Those of listeners that name upstreams, by listener key.
    pub(super) fn of_listeners(
        &mut self,
        all: &[config::Listener],
    ) -> Result<HashMap<String, Arc<Target>>, RulesError> {
        let named =
            config::Listener::keys(all).into_iter().zip(all).filter(|(_, it)| !it.upstreams.is_empty());
        named.map(|(key, it)| Ok((key, self.of_listener(&it.upstreams)?))).collect()
    }

    fn of_listener(&mut self, upstreams: &[Upstream]) -> Result<Arc<Target>, RulesError> {
        let server = |it: &Upstream| Server { upstream: it.clone(), weight: 1, is_backup: false };
        let servers: Vec<_> = upstreams.iter().map(server).collect();
        self.made(&servers, &Arc::default(), |servers| Target {
            servers,
            redirect: None,
            choice: Choice::default(),
            origin_here: false,
            mode: None,
            timeouts: LISTENER_TIMEOUTS,
            treatment: None,
            tells_certificate: false,
            paths: Vec::new(),
            body_bytes: u64::MAX,
            rate: None,
            turn: AtomicUsize::new(0),
            budget: Default::default(),
            pages: None,
            error_pages: None,
        })
    }
}
