//! What the sections of one config owe each other: addresses and hosts named once, every site reachable.

use super::listener::PlacedListener;
use super::site::PlacedSite;
use crate::config::raw::{Document, Place, Section};
use crate::config::{Config, HostRule, Protocol, Registry};
use crate::telemetry::MAX_SITES;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use toml::de::DeTable;

pub(super) fn check(
    document: &Document<'_>,
    table: &DeTable<'_>,
    config: &Config,
    listeners: &[PlacedListener],
    sites: &[PlacedSite],
) {
    let is_sound = !document.has_problems();
    addresses(document, table, config, listeners);
    hosts(document, sites);
    names(document, sites);
    // Where a listener was refused, what it would have served is unknown: no mistakes made of mistakes.
    if is_sound && !listeners.is_empty() {
        reachability(document, listeners, sites);
    }
    if config.development.is_some() {
        development(document, listeners);
    }
}

fn refuse(document: &Document<'_>, place: &Place, message: String) {
    document.refuse(&place.span, &place.path, message);
}

/// No address is listened on twice (port 0 is another port each time).
fn addresses(document: &Document<'_>, table: &DeTable<'_>, config: &Config, listeners: &[PlacedListener]) {
    let mut taken: HashMap<SocketAddr, &str> = HashMap::new();
    let mut paths = HashSet::new();
    for placed in listeners {
        let address = placed.listener.address;
        if let Some(local) = &placed.listener.local
            && !paths.insert(&local.path)
        {
            let path = local.path.display();
            refuse(document, &placed.address, format!("{path} is listened on already; use another file"));
        }
        if address.port() != 0 && taken.insert(address, "listener").is_some() {
            refuse(document, &placed.address, format!("{address} is listened on already; use another port"));
        }
    }
    let mut root = Section::root(document, table);
    let mut claim = |address: SocketAddr, mut section: Section<'_>, name| {
        let earlier = (address.port() != 0).then(|| taken.insert(address, name)).flatten();
        if let (Some(earlier), Some(value)) = (earlier, section.value("address")) {
            value.refuse(format!("{address} is the address of a {earlier} already; use another port"));
        }
    };
    if let Some(Registry::Embedded(embedded)) = &config.registry
        && let Some(section) = root.section("registry").and_then(|mut registry| registry.section("embedded"))
    {
        claim(embedded.address, section, "registry");
    }
    if let Some(admin) = &config.admin
        && let Some(section) = root.section("admin")
    {
        claim(admin.address, section, "admin");
    }
}

/// No host is named by two sites.
fn hosts(document: &Document<'_>, sites: &[PlacedSite]) {
    let mut taken: HashMap<&HostRule, ()> = HashMap::new();
    for (rule, place) in sites.iter().flat_map(|placed| &placed.hosts) {
        if taken.insert(rule, ()).is_some() {
            refuse(document, place, format!("\"{rule}\" is named already; a host belongs to one site"));
        }
    }
}

/// No more names are counted apart than there are places.
fn names(document: &Document<'_>, sites: &[PlacedSite]) {
    let mut names = HashSet::new();
    for placed in sites {
        let Some(name) = &placed.site.target.name else { continue };
        let is_new = names.insert(name);
        if is_new
            && names.len() == MAX_SITES + 1
            && let Some((_, place)) = placed.hosts.first()
        {
            let message = format!("{name:?} is one name too many; at most {MAX_SITES} are counted apart");
            refuse(document, place, message);
        }
    }
}

/// Every site can be reached through some listener.
fn reachability(document: &Document<'_>, listeners: &[PlacedListener], sites: &[PlacedSite]) {
    let is_passthrough = |placed: &PlacedListener| placed.listener.protocol == Protocol::TlsPassthrough;
    for site in sites {
        let message = match site.is_passthrough() {
            true if !listeners.iter().any(is_passthrough) => {
                "tcp upstreams need a [[listener]] with protocol = \"tls_passthrough\"; for HTTP write \"http://…\""
            }
            false if listeners.iter().all(is_passthrough) => {
                "a tls_passthrough listener needs tcp upstreams, like \"tcp://10.0.0.9:443\", and there is no other"
            }
            _ => continue,
        };
        refuse(document, &site.upstreams, message.to_owned());
    }
    let has_passthrough_site = sites.iter().any(PlacedSite::is_passthrough);
    for placed in listeners.iter().filter(|placed| is_passthrough(placed)) {
        if placed.listener.upstreams.is_empty() && !has_passthrough_site {
            refuse(
                document,
                &placed.address,
                "this tls_passthrough listener has nowhere to go; add upstreams = [\"tcp://10.0.0.9:443\"]"
                    .to_owned(),
            );
        }
    }
}

/// Development certificates and demo answers stay on this machine.
fn development(document: &Document<'_>, listeners: &[PlacedListener]) {
    for placed in listeners.iter().filter(|placed| !placed.listener.address.ip().is_loopback()) {
        let address = placed.listener.address;
        refuse(
            document,
            &placed.address,
            format!(
                "{address} is not on loopback, and [development] is for loopback only; leave that section out"
            ),
        );
    }
}
