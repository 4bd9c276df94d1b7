//! The keys of listeners and sites that say how clients may come in.

use crate::config::raw::{Section, Value};
use crate::config::{InClear, Networks, ToHttps, value};
use ipnet::{IpNet, Ipv4Net};

/// The most networks of one list.
const MAX_NETWORKS: usize = 10_000;
const STATUSES: [u16; 4] = [301, 302, 307, 308];

/// `redirect_to_https = true`, `= 301` or `= { status = 301, port = 8443 }`.
pub(super) fn in_clear(value: &Value<'_>) -> Option<InClear> {
    if value.is_integer() {
        return Some(InClear::Redirected(ToHttps { status: status(value)?, ..ToHttps::default() }));
    }
    if !value.is_table() {
        return match value.boolean()? {
            true => Some(InClear::Redirected(ToHttps::default())),
            false => Some(InClear::Served),
        };
    }
    let mut section = value.clone().section()?;
    let mut to = ToHttps::default();
    if let Some(written) = section.value("status") {
        to.status = status(&written)?;
    }
    if let Some(written) = section.value("port") {
        to.port = u16::try_from(written.integer(1..=65_535)?).ok()?;
    }
    section.finish();
    Some(InClear::Redirected(to))
}

fn status(value: &Value<'_>) -> Option<u16> {
    let status = u16::try_from(value.integer(0..=999)?).ok()?;
    if !STATUSES.contains(&status) {
        value.refuse(format!("{status} is no redirect that keeps the path; use 308 (or 301, 302, 307)"));
        return None;
    }
    Some(status)
}

/// `allow` and `deny`.
pub(super) fn networks(section: &mut Section<'_>) -> Networks {
    let allowed = list(section, "allow");
    let denied = list(section, "deny");
    for (net, value) in &denied {
        if allowed.iter().any(|(allowed, _)| allowed == net) {
            value.refuse(format!("{net} is allowed as well; leave it out of one of the lists"));
        }
    }
    let only = |list: Vec<(IpNet, Value<'_>)>| list.into_iter().map(|(net, _)| net).collect::<Vec<_>>();
    Networks::new(&only(allowed), &only(denied))
}

fn list<'t>(section: &mut Section<'t>, key: &'static str) -> Vec<(IpNet, Value<'t>)> {
    let Some(written) = section.value(key) else { return Vec::new() };
    let items = written.items();
    if items.len() > MAX_NETWORKS {
        written.refuse(format!("{} networks are too many; {MAX_NETWORKS} at most", items.len()));
        return Vec::new();
    }
    if items.is_empty() && key == "allow" {
        written.refuse("an empty list would let nobody in; leave the key out to let everybody in");
    }
    items.into_iter().filter_map(|item| Some((item.parse(network)?, item))).collect()
}

/// A network as addresses are compared with it: without bits beyond its prefix, IPv4 in IPv6 as IPv4.
fn network(text: &str) -> Result<IpNet, String> {
    let net = value::network(text)?.trunc();
    let mapped = match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => {
            v6.network().to_ipv4_mapped().map(|it| (it, v6.prefix_len() - 96))
        }
        _ => None,
    };
    Ok(mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(net, IpNet::V4))
}
