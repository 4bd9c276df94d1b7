//! Where this process listens, for operators.

use crate::config::Protocol;
use std::net::SocketAddr;

/// Where this process listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Listeners, in the order of the config.
    pub listeners: Vec<(Protocol, SocketAddr)>,
    /// Unix sockets among them, as text.
    pub locals: Vec<(Protocol, String)>,
    /// The embedded registry.
    pub registry: Option<SocketAddr>,
    /// This API.
    pub admin: Option<SocketAddr>,
    /// Whether the registry, and whether this API, speak TLS.
    pub secured: (bool, bool),
    /// The demo upstream.
    pub demo_upstream: Option<SocketAddr>,
    /// The public look-up page.
    pub lookup: Option<SocketAddr>,
}

impl Addresses {
    /// What is where, as URLs.
    pub fn urls(&self) -> impl Iterator<Item = (&'static str, String)> {
        let name = |protocol| match protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::TlsPassthrough => "passthrough",
        };
        let listeners = self.listeners.iter().map(move |(protocol, address)| match protocol {
            Protocol::TlsPassthrough => (name(*protocol), format!("tls://{address}")),
            _ => (name(*protocol), format!("{}://{address}", name(*protocol))),
        });
        let scheme = |is_secured| if is_secured { "https" } else { "http" };
        let others = [
            ("registry", scheme(self.secured.0), self.registry),
            ("admin", scheme(self.secured.1), self.admin),
            ("demo", "http", self.demo_upstream),
            ("lookup", "http", self.lookup),
        ];
        let url =
            |(what, scheme, address): (_, &str, Option<_>)| Some((what, format!("{scheme}://{}", address?)));
        let locals = self.locals.iter().map(move |(protocol, text)| (name(*protocol), text.clone()));
        listeners.chain(locals).chain(others.into_iter().filter_map(url))
    }
}
