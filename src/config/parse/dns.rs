//! `[dns]`.

use super::optional;
use crate::config::raw::Section;
use crate::config::{Dns, DnsFamily, value};
use std::net::{IpAddr, SocketAddr};

const FAMILIES: [(&str, DnsFamily); 3] =
    [("both", DnsFamily::Both), ("ipv4", DnsFamily::Ipv4), ("ipv6", DnsFamily::Ipv6)];
/// Where name servers listen.
const PORT: u16 = 53;
/// Name servers that can be named.
const MAX_SERVERS: usize = 8;

pub(super) fn dns(section: Option<Section<'_>>) -> Dns {
    let mut dns = Dns::default();
    let Some(mut section) = section else { return dns };
    if let Some(servers) = section.value("servers") {
        let items = servers.items();
        if servers.is_empty_list() {
            servers.refuse("nobody would be asked; write some like [\"10.0.0.2\"], or leave this out");
        }
        if items.len() > MAX_SERVERS {
            servers.refuse(format!("{} name servers are too many; at most {MAX_SERVERS}", items.len()));
        }
        dns.servers = items.iter().filter_map(|item| item.parse(name_server)).collect();
    }
    if let Some(family) = optional(&mut section, "family", |value| value.choice("a family", &FAMILIES)) {
        dns.family = family;
    }
    let min_ttl = section.value("min_ttl");
    let times = [
        (min_ttl.clone(), &mut dns.min_ttl),
        (section.value("max_ttl"), &mut dns.max_ttl),
        (section.value("timeout"), &mut dns.timeout),
    ];
    for (written, slot) in times {
        if let Some(time) = written.and_then(|value| value.duration()) {
            *slot = time;
        }
    }
    if let Some(written) = min_ttl.filter(|_| dns.min_ttl > dns.max_ttl) {
        written.refuse("min_ttl is more than max_ttl; make it less, or max_ttl more");
    }
    section.finish();
    dns
}

/// `10.0.0.2`, `10.0.0.2:5353`, `[2001:db8::2]:53`.
fn name_server(text: &str) -> Result<SocketAddr, String> {
    let bare = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT));
    bare.map_or_else(|| value::socket_address(text), Ok).map_err(|_| {
        format!("{text:?} is not an address; write a name server like \"10.0.0.2\" or \"10.0.0.2:53\"")
    })
}
