//! The servers of a site, how one is chosen, and what is asked of each.

use super::listener::socket::peer_watch;
use super::{burden, optional};
use crate::config::raw::{Section, Value};
use crate::config::{
    Alpn, Balance, Choice, Ejection, HashOn, Health, HealthKind, MAX_SERVERS, ProxyHeader, Server, Sticky,
    Upstream, UpstreamScheme, UpstreamTls, Way, value,
};
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const BALANCES: [(&str, Balance); 4] = [
    ("p2c", Balance::P2c),
    ("round_robin", Balance::RoundRobin),
    ("least_connections", Balance::LeastConnections),
    ("hash", Balance::Hash),
];
const MAX_WEIGHT: usize = 1000;
/// The most checks or failures in a row that can be asked for.
const MAX_IN_A_ROW: usize = 1000;

/// `upstreams`: URLs, or tables of a URL and what holds for it.
pub(super) fn servers(value: &Value<'_>) -> Vec<Server> {
    let items = value.items();
    if value.is_empty_list() {
        value.refuse("a site needs an upstream; write one like [\"http://10.0.0.1:8080\"]");
    }
    if items.len() > MAX_SERVERS {
        value.refuse(format!("{} upstreams are too many; at most {MAX_SERVERS} for one site", items.len()));
    }
    let mut servers: Vec<Server> = Vec::new();
    for item in items {
        let Some(server) = server(&item) else { continue };
        let is_tcp = |server: &Server| server.upstream.scheme == UpstreamScheme::Tcp;
        match servers.first() {
            Some(first) if is_tcp(first) != is_tcp(&server) => item.refuse(
                "the upstreams of one site are all tcp (TLS passes through unopened) or all http, https or h2c; \
                 use one [[site]] for each",
            ),
            _ => match servers.iter_mut().find(|known| known.upstream == server.upstream) {
                // Named twice, it has two shares.
                Some(known) => known.weight += server.weight,
                None => servers.push(server),
            },
        }
    }
    if let Some(first) = servers.first()
        && servers.iter().all(|server| server.is_backup)
    {
        value.refuse(format!(
            "all upstreams are backups; leave backup out for at least one, like {}",
            first.upstream
        ));
    }
    servers
}

fn server(item: &Value<'_>) -> Option<Server> {
    if !item.is_table() {
        let upstream = item.parse(value::upstream)?;
        return Some(Server { upstream, weight: 1, is_backup: false });
    }
    let mut section = item.clone().section()?;
    let url = section.required("url", "{ url = \"http://10.0.0.1:8080\" }");
    let upstream: Option<Upstream> = url.and_then(|url| url.parse(value::upstream));
    let weight = optional(&mut section, "weight", |value| value.integer(1..=MAX_WEIGHT));
    let is_backup = optional(&mut section, "backup", Value::boolean);
    section.finish();
    let weight = weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1);
    Some(Server { upstream: upstream?, weight, is_backup: is_backup.unwrap_or(false) })
}

/// `balance`, `hash_on`, `[site.sticky]`, `panic_below`.
pub(super) fn choice(section: &mut Section<'_>) -> Choice {
    let mut choice = Choice::default();
    if let Some(balance) = optional(section, "balance", |value| value.choice("a way to balance", &BALANCES)) {
        choice.balance = balance;
    }
    if let Some(written) = section.value("hash_on") {
        if choice.balance != Balance::Hash {
            written.refuse_key("hash_on goes with balance = \"hash\"; set that, or leave this out");
        }
        choice.hash_on = written.parse(hash_on).unwrap_or_default();
    }
    choice.sticky = section.section("sticky").and_then(sticky);
    if let Some(share) = optional(section, "panic_below", |value| value.fraction(0.0..=1.0)) {
        choice.panic_below = share;
    }
    choice.retries = burden::retries(section.section("retries"));
    choice
}

fn hash_on(text: &str) -> Result<HashOn, String> {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(is_token);
    match text.split_once(':') {
        None if text == "client" => Ok(HashOn::Client),
        None if text == "path" => Ok(HashOn::Path),
        Some(("header", name)) if is_name(name) => Ok(HashOn::Header(name.to_ascii_lowercase())),
        Some(("cookie", name)) if is_name(name) => Ok(HashOn::Cookie(name.to_owned())),
        _ => Err(format!(
            "{text:?} is nothing to hash on; use \"client\", \"path\", \"header:NAME\" or \"cookie:NAME\""
        )),
    }
}

/// RFC 9110, 5.6.2.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

fn sticky(mut section: Section<'_>) -> Option<Sticky> {
    let cookie = section.required("cookie", "cookie = \"beian_gate\"").and_then(|value| {
        value.parse(|text| match text {
            "" => Err("a cookie needs a name, like \"route\"".to_owned()),
            text if text.bytes().all(is_token) => Ok(text.to_owned()),
            text => Err(format!("{text:?} is no name of a cookie; use letters, digits, \"-\" and \"_\"")),
        })
    });
    let max_age = optional(&mut section, "max_age", Value::duration);
    section.finish();
    Some(Sticky { cookie: cookie?, max_age })
}

/// What holds for each server: health, ejection, slow start. Sites that say nothing of it share one.
pub(super) fn way(section: &mut Section<'_>, servers: &[Server]) -> Arc<Way> {
    static DEFAULT: LazyLock<Arc<Way>> = LazyLock::new(Arc::default);
    let way = own_way(section, servers);
    if way == **DEFAULT { Arc::clone(&DEFAULT) } else { Arc::new(way) }
}

fn own_way(section: &mut Section<'_>, servers: &[Server]) -> Way {
    let mut way = Way::default();
    let is_tcp = servers.iter().any(|server| server.upstream.scheme == UpstreamScheme::Tcp);
    way.health = section.section("health").and_then(|section| health(section, is_tcp));
    if let Some(section) = section.section("ejection") {
        way.ejection = ejection(section);
    }
    if let Some(time) = optional(section, "slow_start", Value::duration_or_zero) {
        way.slow_start = time;
    }
    way.breaker = section.section("breaker").and_then(burden::breaker);
    way.keep = section.section("keep").map(burden::keep).unwrap_or_default();
    if let Some(value) = section.value("tls") {
        if !servers.iter().any(|server| server.upstream.scheme == UpstreamScheme::Https) {
            value.refuse_key("none of the upstreams is https; write one like \"https://10.0.0.1\"");
        }
        if let Some(section) = value.section() {
            way.tls = tls(section);
        }
    }
    let are_local = !servers.is_empty() && servers.iter().all(|server| server.upstream.is_local());
    (way.keep_alive, way.user_timeout) = peer_watch(section, are_local);
    if let Some(written) = section.value("proxy_protocol") {
        let versions = [("off", None), ("v1", Some(ProxyHeader::V1)), ("v2", Some(ProxyHeader::V2))];
        way.proxy_header = written.choice("a version of the PROXY protocol", &versions).flatten();
        let is_shared = |server: &Server| match server.upstream.scheme {
            UpstreamScheme::H2c => true,
            UpstreamScheme::Https => way.tls.alpn.contains(&Alpn::Http2),
            UpstreamScheme::Http | UpstreamScheme::Tcp => false,
        };
        if way.proxy_header.is_some() && servers.iter().any(is_shared) {
            written.refuse(
                "connections over HTTP/2 are shared by clients, and a PROXY header names one; use http, or https without h2",
            );
        }
    }
    way
}

fn health(mut section: Section<'_>, is_tcp: bool) -> Option<Health> {
    let kinds = [("http", HealthKind::Http), ("tcp", HealthKind::Tcp)];
    let kind = section.value("type");
    let chosen = kind.as_ref().and_then(|value| value.choice("a type of check", &kinds));
    if let (Some(value), Some(HealthKind::Http), true) = (&kind, chosen, is_tcp) {
        value.refuse("tcp upstreams are checked by connecting; use \"tcp\", or leave it out");
    }
    let kind = chosen.unwrap_or(if is_tcp { HealthKind::Tcp } else { HealthKind::Http });
    let mut health = Health {
        kind,
        path: "/".to_owned(),
        host: None,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        healthy: 2,
        unhealthy: 3,
        statuses: vec![200..=399],
    };
    if let Some(path) = only_http(&mut section, "path", kind).and_then(|value| value.parse(path)) {
        health.path = path;
    }
    health.host = only_http(&mut section, "host", kind).and_then(|value| value.parse(host));
    if let Some(statuses) = only_http(&mut section, "status", kind) {
        let items = if statuses.is_list() { statuses.items() } else { vec![statuses.clone()] };
        health.statuses = items.iter().filter_map(status_range).collect();
        if statuses.is_empty_list() {
            statuses.refuse("no status would be good; write some like [\"200-399\"]");
        }
    }
    if let Some(interval) = optional(&mut section, "interval", Value::duration) {
        health.interval = interval;
        health.timeout = health.timeout.min(interval);
    }
    if let Some(timeout) = optional(&mut section, "timeout", Value::duration) {
        health.timeout = timeout;
    }
    let counts = [("healthy", &mut health.healthy), ("unhealthy", &mut health.unhealthy)];
    for (key, slot) in counts {
        if let Some(count) = optional(&mut section, key, |value| value.integer(1..=MAX_IN_A_ROW)) {
            *slot = u32::try_from(count).unwrap_or(1);
        }
    }
    section.finish();
    Some(health)
}

/// A key that only a check by HTTP has.
fn only_http<'t>(section: &mut Section<'t>, key: &'static str, kind: HealthKind) -> Option<Value<'t>> {
    let value = section.value(key)?;
    if kind == HealthKind::Tcp {
        value.refuse_key("a check by tcp asks for nothing; leave it out, or use type = \"http\"");
    }
    Some(value)
}

/// A path, and perhaps a query, as it stands in a request line.
fn path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if is_path {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a path; write one like \"/healthz\""))
    }
}

fn host(text: &str) -> Result<String, String> {
    crate::domain::Authority::from_wire(text.as_bytes())
        .map(|_| text.to_owned())
        .map_err(|error| format!("{text:?} is not a host: {error}; write one like \"app.example.com\""))
}

/// `200`, `"200-399"`.
fn status_range(item: &Value<'_>) -> Option<RangeInclusive<u16>> {
    if item.is_integer() {
        let status = u16::try_from(item.integer(100..=599)?).ok()?;
        return Some(status..=status);
    }
    item.parse(|text| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.trim().parse::<u16>().ok().filter(|it| (100..=599).contains(it));
        match (status(from), status(to)) {
            (Some(from), Some(to)) if from <= to => Ok(from..=to),
            _ => Err(format!("{text:?} is no status; write 200 or \"200-399\"")),
        }
    })
}

/// Protocols in the order of preference.
pub(super) fn alpn(offered: &Value<'_>) -> Vec<Alpn> {
    let names = [("h2", Alpn::Http2), ("http/1.1", Alpn::Http1)];
    if offered.is_empty_list() {
        offered.refuse("nothing would be offered; write [\"h2\", \"http/1.1\"]");
    }
    offered.items().iter().filter_map(|item| item.choice("a protocol", &names)).collect()
}

fn tls(mut section: Section<'_>) -> UpstreamTls {
    let ca_file = optional(&mut section, "ca_file", Value::path);
    let mut tls = UpstreamTls { ca_file, ..UpstreamTls::default() };
    tls.server_name = optional(&mut section, "server_name", |value| {
        value.parse(|text| match rustls::pki_types::ServerName::try_from(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err(format!("{text:?} is no name of a server; write one like \"app.internal\"")),
        })
    });
    if let Some(verify) = optional(&mut section, "verify", Value::boolean) {
        tls.verify = verify;
    }
    let certificate = section.value("client_cert");
    let key = section.value("client_key");
    if let (Some(alone), None) | (None, Some(alone)) = (&certificate, &key) {
        alone.refuse_key("client_cert and client_key go together");
    }
    let path = |value: Option<Value<'_>>| value.and_then(|value| value.path());
    tls.client = path(certificate).zip(path(key));
    if let Some(offered) = section.value("alpn") {
        tls.alpn = alpn(&offered);
    }
    section.finish();
    tls
}

fn ejection(mut section: Section<'_>) -> Ejection {
    let mut ejection = Ejection::default();
    let counts = [("failures", &mut ejection.failures), ("server_errors", &mut ejection.server_errors)];
    for (key, slot) in counts {
        if let Some(count) = optional(&mut section, key, |value| value.integer(0..=MAX_IN_A_ROW)) {
            *slot = u32::try_from(count).unwrap_or(0);
        }
    }
    for (key, slot) in [("time", &mut ejection.time), ("max_time", &mut ejection.max_time)] {
        if let Some(time) = optional(&mut section, key, Value::duration) {
            *slot = time;
        }
    }
    ejection.max_time = ejection.max_time.max(ejection.time);
    section.finish();
    ejection
}
