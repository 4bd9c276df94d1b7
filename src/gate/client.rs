//! What is known of a client connection before its first request.

use crate::config::{self, Alpn};
use crate::domain::DomainName;
use crate::gate::doors::Doors;
use crate::gate::headers::Onward;
use crate::gate::proxy_header::Speaker;
use crate::gate::request::{Known, RequestHead, list_elements};
use crate::gate::tls::CertificateNames;
use crate::gate::tls::clients::Shown;
use crate::telemetry::Meter;
use crate::verdict::{Region, Scenario};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A listener: where connections come in. How it is set is told by the rules of the moment (`Doors`).
#[derive(Debug)]
pub struct Listener {
    /// What the config calls it (`config::Listener::keys`).
    pub key: String,
    /// Its place among the settings of all listeners.
    pub place: usize,
    /// Where it is bound (a port of 0 resolved).
    pub address: SocketAddr,
    /// Which Unix socket it is, as text.
    pub local: Option<Box<str>>,
    /// Where it is counted.
    pub meter: Meter,
}

impl Listener {
    /// Of its config, bound at `address`, with its settings at `place`.
    #[must_use]
    pub fn new((key, place): (String, usize), from: &config::Listener, address: SocketAddr) -> Self {
        let local = from.local_text().map(Into::into);
        Self { key, place, address, local, meter: Meter::default() }
    }

    /// What metrics call it.
    #[must_use]
    pub fn label(&self) -> String {
        self.address.to_string()
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
    /// The peer whose PROXY header names that address, where one does.
    pub balancer: Option<Box<IpAddr>>,
    /// Where it came in.
    pub listener: Arc<Listener>,
    /// TLS, where it is.
    pub tls: Option<Box<TlsFacts>>,
    /// As it was last looked at.
    standing: Cell<Option<Standing>>,
}

/// How a client stands under its listener's settings.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// Which settings those are.
    generation: u32,
    is_trusted: bool,
    is_to_go: bool,
}

/// For whom something is served, kept so that it can be asked again whether it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose {
    /// The place of the listener that it came by.
    pub place: usize,
    /// The client's.
    pub address: IpAddr,
    /// Whom the client speaks for, where it is believed.
    pub caller: IpAddr,
    /// The peer whose PROXY header names the client.
    pub balancer: Option<IpAddr>,
}

impl Client {
    /// Of an address, by a listener, in clear so far.
    #[must_use]
    pub fn new(address: SocketAddr, balancer: Option<Box<IpAddr>>, listener: Arc<Listener>) -> Self {
        Self { address, balancer, listener, tls: None, standing: Cell::new(None) }
    }

    /// Whether its forwarding fields are believed: the settings in force say so, whenever it connected. Whom a PROXY
    /// header names is a stranger unless listed, however trusted the balancer that named it.
    #[must_use]
    pub fn is_trusted(&self, doors: &Doors) -> bool {
        self.standing(doors).is_trusted
    }

    /// Whether its connection is to carry no further request: nobody would be let in any more who came as it did.
    #[must_use]
    pub fn is_to_go(&self, doors: &Doors) -> bool {
        self.standing(doors).is_to_go
    }

    fn standing(&self, doors: &Doors) -> Standing {
        if let Some(known) = self.standing.get().filter(|known| known.generation == doors.generation) {
            return known;
        }
        let (door, address) = (doors.of(&self.listener), self.address.ip());
        let is_trusted = door.trusts(address);
        let is_named_by_nobody = self.balancer.as_ref().is_some_and(|balancer| !door.trusts(**balancer));
        let is_to_go = door.is_gone || is_named_by_nobody || !(is_trusted || door.networks.admits(address));
        let standing = Standing { generation: doors.generation, is_trusted, is_to_go };
        self.standing.set(Some(standing));
        standing
    }

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
    pub fn caller(&self, head: &RequestHead, doors: &Doors) -> Option<IpAddr> {
        if !self.is_trusted(doors) {
            return Some(self.address.ip());
        }
        let door = doors.of(&self.listener);
        let (mut first, mut last) = (None, None);
        for element in head.values(Known::ForwardedFor).flat_map(list_elements) {
            let address = forwarded_address(element);
            first = first.or(Some(address));
            if address.is_none_or(|it| !door.trusts(it)) {
                last = Some(address);
            }
        }
        last.or(first).flatten()
    }

    /// For whom a request of this client's is served.
    #[must_use]
    pub fn whose(&self, head: &RequestHead, doors: &Doors) -> Whose {
        let address = self.address.ip();
        Whose {
            place: self.listener.place,
            address,
            caller: self.caller(head, doors).unwrap_or(address),
            balancer: self.balancer.as_deref().copied(),
        }
    }

    /// What the gate tells an upstream of a request of this client's.
    #[must_use]
    pub fn onward<'a>(&self, host: &'a [u8], via: &'a str, doors: &Doors) -> Onward<'a> {
        Onward {
            host,
            client: self.address,
            is_trusted: self.is_trusted(doors),
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
