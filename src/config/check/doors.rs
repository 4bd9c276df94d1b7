//! The admin API and the registry: their certificates, and tokens that cross a network in the clear.

use super::{Finding, Level, certificate, finding};
use crate::config::certificates::Pair;
use crate::config::{ApiTls, Config, Demand, Registry};
use jiff::Timestamp;
use std::net::SocketAddr;
use std::sync::Arc;

/// What there is to say of them.
pub(super) fn doors(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(admin) = &config.admin {
        findings.extend(door(("admin.address", "admin.tls"), admin.address, admin.tls.as_ref(), now));
    }
    if let Some(Registry::Embedded(embedded)) = &config.registry {
        let places = ("registry.embedded.address", "registry.embedded.tls");
        findings.extend(door(places, embedded.address, embedded.tls.as_ref(), now));
    }
    if let Some(Registry::Remote { trust, .. }) = &config.registry
        && let Some((cert, key)) = &trust.shown
    {
        findings.push(pair("registry.client_cert", cert.clone(), key.clone(), now));
    }
    findings
}

fn door(
    (address_key, tls_key): (&'static str, &'static str),
    address: SocketAddr,
    tls: Option<&ApiTls>,
    now: Timestamp,
) -> Vec<Finding> {
    let Some(tls) = tls else {
        let message =
            format!("{address} is not on loopback and speaks no TLS: put it on a network of your own");
        let is_open = !address.ip().is_loopback();
        return is_open.then(|| finding(Level::Warning, address_key, message)).into_iter().collect();
    };
    let mut findings = vec![pair(tls_key, tls.cert.clone(), tls.key.clone(), now)];
    if let Some(clients) = &tls.clients {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        findings.push(match clients.verifier(Demand::Required, &provider) {
            Ok(_) => finding(
                Level::Ok,
                tls_key,
                format!("callers show certificates of {}", clients.ca_file.display()),
            ),
            Err(error) => finding(Level::Error, tls_key, error.to_string()),
        });
    }
    findings
}

fn pair(place: &'static str, cert: std::path::PathBuf, key: std::path::PathBuf, now: Timestamp) -> Finding {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let found = certificate(&Pair { name: String::new(), cert, key }, &provider, now);
    Finding { place, ..found }
}
