//! Document → [`Config`]: every key of the contract, section by section, then what sections owe each other.
//!
//! A section that is wrong records its mistakes and yields defaults, so that one reading finds them all.

mod across;
mod api;
mod audit;
mod block_page;
mod burden;
mod compression;
mod dns;
mod door;
mod enforcement;
mod error_page;
mod fields;
mod footer;
mod limits;
mod listener;
mod log;
mod lookup;
mod redirect;
mod registry;
mod route;
mod site;
mod syslog;
mod tokens;
mod treatment;
mod upstream;
mod webhooks;

use super::error::ConfigError;
use super::raw::{Document, Section, Value};
use super::{Cache, Config, ConfigSource, Development, Tls, TlsVersion, value};
use crate::verdict::{Region, Scenario};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A scenario by its name.
fn scenario(value: &Value<'_>) -> Option<Scenario> {
    value.choice("a scenario", &Scenario::ALL.map(|scenario| (scenario.as_str(), scenario)))
}

/// A region by its name.
fn region(value: &Value<'_>) -> Option<Region> {
    value.choice("a region", &Region::ALL.map(|region| (region.as_str(), region)))
}

/// Parses and checks a whole config.
pub(super) fn config(name: &str, text: &str) -> Result<Config, ConfigError> {
    let document = Document::new(name, text);
    let table = document.parse();
    if document.has_problems() {
        document.into_result()?;
        unreachable!("a document with problems is an error");
    }
    let mut root = Section::root(&document, table.get_ref());
    let provider = root.value("provider").and_then(|value| value.parse(value::provider)).unwrap_or_default();
    let workers = root.value("workers").and_then(|value| value.integer(0..=1024)).unwrap_or(0);
    let reload_on_change = root.value("reload_on_change").and_then(|value| value.boolean()).unwrap_or(false);
    let trace = root.value("trace").and_then(|value| value.boolean()).unwrap_or(false);
    let listeners = listener::listeners(&mut root);
    let sites = site::sites(&mut root);
    let (registry, gate) = root.section("registry").map(registry::registry).unwrap_or_default();
    let parsed = Config {
        workers,
        tls: tls(root.section("tls")),
        default_site: root.section("default_site").and_then(site::default_site),
        dns: dns::dns(root.section("dns")),
        registry,
        gate,
        cache: cache(root.section("cache")),
        enforcement: enforcement::enforcement(&mut root, &provider),
        limits: limits::limits(root.section("limits"), root.section("overload")),
        log: log::log(root.section("log")),
        syslog: root.section("syslog").and_then(syslog::syslog),
        otlp: root.section("otlp").and_then(syslog::otlp),
        audit: root.section("audit").map(audit::audit),
        lookup: root.section("lookup").and_then(lookup::lookup),
        admin: root.section("admin").and_then(api::admin),
        webhooks: webhooks::webhooks(&mut root),
        block_page: root.section("block_page").map(block_page::block_page).unwrap_or_default(),
        error_pages: error_page::error_pages(root.section("error_pages")),
        compression: compression::compression(root.section("compression")),
        footer_rules: footer::rules(root.section("footer")),
        development: root.section("development").map(development),
        listeners: listeners.iter().map(|placed| placed.listener.clone()).collect(),
        sites: sites.iter().map(|placed| Arc::clone(&placed.site)).collect(),
        provider,
        trace,
        reload_on_change,
        text: text.into(),
        digest: crate::telemetry::LineHash::of(text.as_bytes()).to_string(),
        source: ConfigSource::File(PathBuf::from(name)),
    };
    root.finish();
    across::check(&document, table.get_ref(), &parsed, &listeners, &sites);
    document.into_result().map(|()| parsed)
}

/// Parses the value of `key` where there is one.
fn optional<'t, T>(
    section: &mut Section<'t>,
    key: &'static str,
    parse: impl FnOnce(&Value<'t>) -> Option<T>,
) -> Option<T> {
    section.value(key).and_then(|value| parse(&value))
}

fn tls(section: Option<Section<'_>>) -> Tls {
    let mut tls = Tls {
        directory: PathBuf::from("certs"),
        certificates: Vec::new(),
        min_version: TlsVersion::V1_2,
        default_certificate: None,
        ticket_keys: None,
    };
    let Some(mut section) = section else { return tls };
    if let Some(directory) = optional(&mut section, "directory", Value::path) {
        tls.directory = directory;
    }
    for mut pair in section.sections("certificates") {
        let cert = pair.required("cert", "cert = \"certs/example.crt\"").and_then(|value| value.path());
        let key = pair.required("key", "key = \"certs/example.key\"").and_then(|value| value.path());
        tls.certificates.extend(cert.zip(key));
        pair.finish();
    }
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    if let Some(version) = optional(&mut section, "min_version", |v| v.choice("a TLS version", &versions)) {
        tls.min_version = version;
    }
    tls.default_certificate = optional(&mut section, "default_certificate", Value::string).map(str::to_owned);
    tls.ticket_keys = optional(&mut section, "ticket_keys", Value::path);
    section.finish();
    tls
}

fn cache(section: Option<Section<'_>>) -> Cache {
    let mut cache = Cache { directory: PathBuf::from("data"), hold_flips_above: 0.05 };
    let Some(mut section) = section else { return cache };
    if let Some(directory) = optional(&mut section, "directory", Value::path) {
        cache.directory = directory;
    }
    if let Some(share) = optional(&mut section, "hold_flips_above", |value| value.fraction(0.0..=1.0)) {
        cache.hold_flips_above = share;
    }
    section.finish();
    cache
}

/// The address in `value`; the default where it is left out.
fn listen_address(value: Option<&Value<'_>>, default: &str) -> Option<SocketAddr> {
    match value {
        Some(value) => value.parse(value::socket_address),
        None => default.parse().ok(),
    }
}

/// Reads the token in the file that `value` names.
fn token(value: &Value<'_>) -> Option<String> {
    let path = value.path()?;
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            value.refuse(format!("can't read the token in {}: {error}", path.display()));
            return None;
        }
    };
    let token = text.trim();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        value.refuse(format!(
            "{} must hold one token, made of visible ASCII characters without spaces",
            path.display()
        ));
        return None;
    }
    Some(token.to_owned())
}

fn development(mut section: Section<'_>) -> Development {
    let certificates = section.list("certificates", |text| match value::host_rule(text)? {
        super::HostRule::Exact(name) => Ok(name.as_str().to_owned()),
        super::HostRule::Below(name) => Ok(format!("*.{name}")),
        super::HostRule::Ip(_) => {
            Err(format!("{text:?} is an address; development certificates are for names"))
        }
    });
    let upstream = section.value("upstream");
    let address = upstream.as_ref().and_then(|value| value.parse(value::socket_address));
    if let (Some(value), Some(address)) = (&upstream, address)
        && !address.ip().is_loopback()
    {
        value.refuse(format!("{address} is not on loopback; the demo upstream listens there only"));
    }
    section.finish();
    Development { certificates, upstream: address }
}
