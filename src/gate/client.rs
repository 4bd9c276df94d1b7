//! What is known of a client connection before its first request, and how the listener it came by is set.

use crate::config::{self, Alpn, InClear, Networks, Protocol, ProxyProtocol};
use crate::domain::DomainName;
use crate::gate::headers::Onward;
use crate::gate::proxy_header::Speaker;
use crate::gate::request::{Known, RequestHead, list_elements};
use crate::gate::tls::CertificateNames;
use crate::gate::tls::clients::Shown;
use crate::telemetry::Meter;
use crate::verdict::{Region, Scenario};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A listener, as its connections see it.
#[derive(Debug, PartialEq, Eq)]
pub struct Listener {
    /// What the config calls it (`config::Listener::keys`).
    pub key: String,
    /// Where it is bound (a port of 0 resolved).
    pub address: SocketAddr,
    /// Which Unix socket it is, as text.
    pub local: Option<Box<str>>,
    /// What clients may agree on.
    pub alpn: Vec<Alpn>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Default for the hosts that arrive here.
    pub scenario: Scenario,
    /// Default for the hosts that arrive here.
    pub region: Region,
    /// Whether PROXY headers are expected.
    pub proxy_protocol: ProxyProtocol,
    /// Whose PROXY headers and forwarding fields are believed.
    pub trusted_peers: Vec<ipnet::IpNet>,
    /// A path that is answered without a verdict.
    pub health_path: Option<String>,
    /// Which clients may connect.
    pub networks: Networks,
    /// What becomes of requests in clear, for hosts whose site does not say.
    pub in_clear: InClear,
    /// Where it is counted.
    pub meter: Meter,
}

impl Listener {
    /// Of its config, bound at `address`.
    #[must_use]
    pub fn new(key: String, from: &config::Listener, address: SocketAddr) -> Self {
        Self {
            key,
            address,
            local: from.local_text().map(Into::into),
            alpn: from.alpn.clone(),
            protocol: from.protocol,
            scenario: from.scenario,
            region: from.region,
            proxy_protocol: from.proxy_protocol,
            trusted_peers: from.trusted_peers.clone(),
            health_path: from.health_path.clone(),
            networks: from.networks.clone(),
            in_clear: from.in_clear,
            meter: Meter::default(),
        }
    }

    /// What metrics call it.
    #[must_use]
    pub fn label(&self) -> String {
        self.address.to_string()
    }

    /// What holds where a host's site says nothing else.
    #[must_use]
    pub fn defaults(&self) -> Defaults {
        Defaults { scenario: self.scenario, region: self.region }
    }

    /// Whether this peer's word on whom it speaks for is believed.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_peers.iter().any(|net| net.contains(&peer))
    }

    /// Whether a request asks for the health path.
    #[must_use]
    pub fn is_health_check(&self, head: &RequestHead) -> bool {
        self.health_path
            .as_ref()
            .is_some_and(|path| head.path() == path.as_bytes() && matches!(head.method(), b"GET" | b"HEAD"))
    }
}

/// A listener's product and region, for hosts whose site has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// The product.
    pub scenario: Scenario,
    /// Where.
    pub region: Region,
}

/// What TLS told of a client.
#[derive(Debug)]
pub struct TlsFacts {
    /// The name that it asked for.
    pub sni: Option<DomainName>,
    /// The names in the certificate that it was shown.
    pub names: Arc<CertificateNames>,
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The cipher suite, for the log.
    pub cipher: &'static str,
    /// What was agreed on (ALPN).
    pub agreed: Option<Alpn>,
    /// What it has shown, where it was asked for a certificate.
    pub shown: Option<Shown>,
}

/// A client connection.
#[derive(Debug)]
pub struct Client {
    /// Who, by TCP or by a trusted PROXY header.
    pub address: SocketAddr,
    /// Whether the TCP peer is one whose forwarding fields are believed.
    pub is_trusted: bool,
    /// Where it came in.
    pub listener: Arc<Listener>,
    /// TLS, where it is.
    pub tls: Option<Box<TlsFacts>>,
}

impl Client {
    /// What a PROXY header tells an upstream of this client.
    #[must_use]
    pub fn speaker(&self) -> Speaker<'_> {
        let sni = self.tls.as_ref().and_then(|tls| tls.sni.as_ref());
        let authority = sni.map(DomainName::as_str);
        let agreed = self.tls.as_ref().and_then(|tls| tls.agreed).map(Alpn::name);
        Speaker { client: self.address, listener: self.listener.address, authority, agreed }
    }

    /// Whom a request is of: the client itself, or where that speaks for others, the last of the addresses in its
    /// `X-Forwarded-For` that is not trusted as well. `None`: it names nobody.
    #[must_use]
    pub fn caller(&self, head: &RequestHead) -> Option<IpAddr> {
        if !self.is_trusted {
            return Some(self.address.ip());
        }
        let (mut first, mut last) = (None, None);
        for element in head.values(Known::ForwardedFor).flat_map(list_elements) {
            let address = forwarded_address(element);
            first = first.or(Some(address));
            if address.is_none_or(|it| !self.listener.trusts(it)) {
                last = Some(address);
            }
        }
        last.or(first).flatten()
    }

    /// What the gate tells an upstream of a request of this client's.
    #[must_use]
    pub fn onward<'a>(&self, host: &'a [u8], via: &'a str) -> Onward<'a> {
        Onward {
            host,
            client: self.address,
            is_trusted: self.is_trusted,
            is_tls: self.tls.is_some(),
            via,
            certificate: None,
            rules: None,
            trace: None,
        }
    }
}

/// An address as it stands in `X-Forwarded-For`, where some write a port as well.
fn forwarded_address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
}
