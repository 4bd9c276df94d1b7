//! What a reload puts in force: rules, certificates and listeners. Built aside; a bad config leaves the old one in
//! force.

use super::listeners::{Inherited, Layout};
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

/// A config that has come into force, and where it listens.
pub(super) struct Reloaded {
    pub(super) config: Config,
    pub(super) layout: Layout,
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
        Ok((rules, self.certificates(config)?))
    }

    fn certificates(&self, config: &Config) -> Result<CertificateStore> {
        Ok(CertificateStore::load(&config.tls, &self.ticketer)?)
    }

    /// Reads the config again and puts it in force, but for the layout, which is the caller's to put in force; or
    /// says why not.
    pub(super) fn reload(&self, source: &ConfigSource, shared: &Shared, old: &Layout) -> Option<Reloaded> {
        let reloaded = self.try_reload(source, shared, old);
        shared.life.reloaded(reloaded.as_ref().err().map(|error| format!("{error:#}")));
        match reloaded {
            Ok(reloaded) => {
                tracing::info!(
                    "reloaded config, certificates and listeners; changed workers, connection limits, registry, cache, log and admin need a restart or SIGUSR2"
                );
                Some(reloaded)
            }
            Err(error) => {
                tracing::error!("reload refused, the old config stays in force: {error:#}");
                None
            }
        }
    }

    fn try_reload(&self, source: &ConfigSource, shared: &Shared, old: &Layout) -> Result<Reloaded> {
        let path = match source {
            ConfigSource::File(path) => Some(path.as_path()),
            ConfigSource::BuiltIn => None,
        };
        let config = Config::load(path)?;
        config.require_gate()?;
        let (rules, certificates) = self.build(&config)?;
        // Groups of new listeners are as large as those of the others.
        let workers = old.bound.iter().map(|it| it.group.sockets.len()).max().unwrap_or(1);
        let layout = Layout::new(&config.listeners, workers, &mut Inherited::default(), old)?;
        shared.rules.store(Arc::new(rules));
        shared.certificates.store(Arc::new(certificates));
        Ok(Reloaded { config, layout })
    }
}
