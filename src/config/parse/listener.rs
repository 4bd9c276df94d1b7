//! `[[listener]]`.

pub(super) mod socket;

use super::{door, optional, upstream};
use crate::config::raw::{Place, Section, Value};
use crate::config::{Alpn, InClear, Listener, Protocol, ProxyProtocol, UpstreamScheme, value};
use crate::verdict::{Region, Scenario};

const PROTOCOLS: [(&str, Protocol); 3] =
    [("http", Protocol::Http), ("https", Protocol::Https), ("tls_passthrough", Protocol::TlsPassthrough)];
const PROXY_PROTOCOLS: [(&str, ProxyProtocol); 3] = [
    ("off", ProxyProtocol::Off),
    ("optional", ProxyProtocol::Optional),
    ("required", ProxyProtocol::Required),
];

/// A listener and where its address stands.
pub(super) struct PlacedListener {
    pub(super) listener: Listener,
    pub(super) address: Place,
}

pub(super) fn listeners(root: &mut Section<'_>) -> Vec<PlacedListener> {
    root.sections("listener").into_iter().filter_map(listener).collect()
}

fn listener(mut section: Section<'_>) -> Option<PlacedListener> {
    let address = section.required("address", "address = \"0.0.0.0:80\"");
    let place = socket::place(&mut section, address.as_ref());
    let protocol = match section.value("protocol") {
        Some(value) => value.choice("a protocol", &PROTOCOLS),
        None => Some(Protocol::Http),
    };
    let scenario = optional(&mut section, "scenario", super::scenario);
    let region = optional(&mut section, "region", super::region);
    let proxy_protocol = section.value("proxy_protocol");
    let mode =
        proxy_protocol.as_ref().and_then(|value| value.choice("a PROXY protocol mode", &PROXY_PROTOCOLS));
    let trusted_peers = section.list("trusted_peers", value::network);
    let health_path = optional(&mut section, "health_path", |value| value.parse(path_of_url));
    let redirect = section.value("redirect_to_https");
    let in_clear = redirect.as_ref().and_then(door::in_clear);
    if let (Some(value), Some(Protocol::Https | Protocol::TlsPassthrough), Some(InClear::Redirected(_))) =
        (&redirect, protocol, in_clear)
    {
        value.refuse_key("clients come by TLS here already; it goes with an http listener or a site");
    }
    let networks = door::networks(&mut section);
    let upstreams = section.value("upstreams");
    if let (Some(value), Some(ProxyProtocol::Optional | ProxyProtocol::Required)) = (&proxy_protocol, mode)
        && trusted_peers.is_empty()
    {
        value.refuse("PROXY headers are taken from trusted peers only; add trusted_peers = [\"10.0.0.0/8\"]");
    }
    let upstreams = match (&upstreams, protocol) {
        (Some(value), Some(Protocol::TlsPassthrough)) => passthrough_upstreams(value),
        (Some(value), Some(_)) => {
            value.refuse_key("only a tls_passthrough listener has upstreams; name them in a [[site]]");
            Vec::new()
        }
        _ => Vec::new(),
    };
    let alpn = alpn(&mut section, protocol);
    section.finish();
    let (address_of, local, socket) = place?;
    let listener = Listener {
        address: address_of,
        local,
        socket,
        alpn,
        protocol: protocol?,
        scenario: scenario.unwrap_or(Scenario::Web),
        region: region.unwrap_or(Region::Mainland),
        proxy_protocol: mode.unwrap_or(ProxyProtocol::Off),
        trusted_peers,
        health_path,
        networks,
        in_clear: in_clear.unwrap_or_default(),
        upstreams,
    };
    Some(PlacedListener { listener, address: address?.place() })
}

/// What clients may agree on.
fn alpn(section: &mut Section<'_>, protocol: Option<Protocol>) -> Vec<Alpn> {
    let Some(offered) = section.value("alpn") else { return Alpn::BOTH.to_vec() };
    if matches!(protocol, Some(Protocol::Http | Protocol::TlsPassthrough)) {
        offered.refuse_key("only an https listener agrees on a protocol; leave it out");
    }
    upstream::alpn(&offered)
}

fn passthrough_upstreams(value: &Value<'_>) -> Vec<crate::config::Upstream> {
    let mut upstreams = Vec::new();
    for item in value.items() {
        match item.parse(value::upstream) {
            Some(upstream) if upstream.scheme == UpstreamScheme::Tcp => upstreams.push(upstream),
            Some(_) => item.refuse(
                "a tls_passthrough listener forwards octets; write its upstream like \"tcp://10.0.0.9:443\"",
            ),
            None => {}
        }
    }
    upstreams
}

/// A path as it stands in a request line.
fn path_of_url(text: &str) -> Result<String, String> {
    let is_path =
        text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b));
    if is_path {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a path; write one like \"/healthz\""))
    }
}
