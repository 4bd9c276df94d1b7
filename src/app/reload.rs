//! What SIGHUP reloads: rules and certificates. Built aside; a bad config leaves the old one in force.

use crate::config::{Config, ConfigSource};
use crate::gate::endpoint::Endpoints;
use crate::gate::rules::Rules;
use crate::gate::tls::CertificateStore;
use crate::gate::worker::Shared;
use anyhow::{Context, Result};
use rustls::server::ProducesTickets;
use std::sync::Arc;

/// Builds rules and certificates; what must survive a reload lives here.
pub(super) struct Reloader {
    pub(super) endpoints: Arc<Endpoints>,
    ticketer: Arc<dyn ProducesTickets>,
    upstream_tls: Arc<rustls::ClientConfig>,
}

impl Reloader {
    pub(super) fn new() -> Result<Self> {
        let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().context("no key for session tickets")?;
        let mut roots = rustls::RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        let upstream_tls =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { endpoints: Arc::default(), ticketer, upstream_tls: Arc::new(upstream_tls) })
    }

    pub(super) fn build(&self, config: &Config) -> Result<(Rules, CertificateStore)> {
        let rules = Rules::new(config, &self.endpoints, &self.upstream_tls)?;
        let certificates = CertificateStore::load(&config.tls, &self.ticketer)?;
        Ok((rules, certificates))
    }

    /// Reads the config again and puts it in force, or says why not.
    pub(super) fn reload(&self, config: &Config, shared: &Shared) {
        let path = match &config.source {
            ConfigSource::File(path) => Some(path.as_path()),
            ConfigSource::BuiltIn => None,
        };
        let built = Config::load(path)
            .and_then(|config| config.require_gate().map(|()| config))
            .map_err(anyhow::Error::from)
            .and_then(|config| self.build(&config));
        match built {
            Ok((rules, certificates)) => {
                shared.rules.store(Arc::new(rules));
                shared.certificates.store(Arc::new(certificates));
                tracing::info!(
                    "reloaded config and certificates; changed listeners, registry, cache, log and admin need a restart"
                );
            }
            Err(error) => tracing::error!("reload refused, the old config stays in force: {error:#}"),
        }
    }
}
