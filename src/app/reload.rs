//! What a reload puts in force: rules, certificates and listeners. Built aside; a bad config leaves the old one in
//! force.

use super::listeners::{Inherited, Layout};
use super::logging::AccessLogs;
use crate::config::{Config, ConfigSource, TrustKind};
use crate::gate::endpoint::Endpoints;
use crate::gate::rules::Rules;
use crate::gate::tickets::Tickets;
use crate::gate::tls::CertificateStore;
use crate::gate::tls::upstream::UpstreamTlsConfigs;
use crate::gate::worker::Shared;
use crate::telemetry::{AuditEvent, FooterReports};
use anyhow::Result;
use std::sync::Arc;

/// Builds rules and certificates; what must survive a reload lives here.
pub(super) struct Reloader {
    pub(super) endpoints: Arc<Endpoints>,
    /// What was seen at the foot of pages.
    pub(super) footers: Arc<FooterReports>,
    pub(super) tickets: Arc<Tickets>,
    upstream_tls: UpstreamTlsConfigs,
}

/// A config that has come into force, and where it listens.
pub(super) struct Reloaded {
    pub(super) config: Config,
    pub(super) layout: Layout,
}

impl Reloader {
    pub(super) fn new() -> Result<Self> {
        let tickets = Arc::new(Tickets::new()?);
        let (endpoints, footers) = Default::default();
        Ok(Self { endpoints, footers, tickets, upstream_tls: UpstreamTlsConfigs::default() })
    }

    pub(super) fn build(&self, config: &Config) -> Result<(Rules, CertificateStore)> {
        self.upstream_tls.forget();
        let rules = Rules::new(config, &self.endpoints, &self.upstream_tls, &self.footers)?;
        Ok((rules, self.certificates(config)?))
    }

    fn certificates(&self, config: &Config) -> Result<CertificateStore> {
        Ok(CertificateStore::load(&config.tls, &self.tickets)?)
    }

    /// Reads the config again and puts it in force, but for the layout, which is the caller's to put in force; or
    /// says why not.
    pub(super) fn reload(
        &self,
        source: &ConfigSource,
        (shared, logs): (&Shared, &AccessLogs),
        old: &Layout,
    ) -> Option<Reloaded> {
        let reloaded = self.try_reload(source, (shared, logs), old);
        let refused = reloaded.as_ref().err().map(|error| format!("{error:#}"));
        shared.life.reloaded(refused.clone());
        if let Some(audit) = &shared.audit {
            let config = reloaded.as_ref().ok().map(|it| it.config.digest.clone());
            audit.tell(AuditEvent::Reload { config, refused });
        }
        match reloaded {
            Ok(reloaded) => {
                tracing::info!(
                    "reloaded config, certificates and listeners; changed workers, connection limits, registry, cache, admin and what else is not reloaded need a restart or SIGUSR2"
                );
                Some(reloaded)
            }
            Err(error) => {
                tracing::error!("reload refused, the old config stays in force: {error:#}");
                None
            }
        }
    }

    fn try_reload(
        &self,
        source: &ConfigSource,
        (shared, logs): (&Shared, &AccessLogs),
        old: &Layout,
    ) -> Result<Reloaded> {
        let path = match source {
            ConfigSource::File(path) => Some(path.as_path()),
            ConfigSource::BuiltIn => None,
        };
        let config = Config::load(path)?;
        config.require_gate()?;
        let (rules, certificates) = self.build(&config)?;
        let rules = rules.after(&shared.rules.load());
        // Groups of new listeners are as large as those of the others.
        let workers = old.bound.iter().map(|it| it.group.sockets.len()).max().unwrap_or(1);
        let layout = Layout::new((&config.listeners, &rules.doors), workers, &mut Inherited::default(), old)?;
        let log = logs.open(&config.log)?;
        warn_of_expiry(&certificates);
        if let Some(log) = log {
            logs.turn_to(log);
        }
        shared.rules.store(Arc::new(rules));
        shared.certificates.store(Arc::new(certificates));
        Ok(Reloaded { config, layout })
    }

    /// Reads the certificates again and puts them in force, or says why not.
    pub(super) fn reload_certificates(&self, config: &Config, shared: &Shared) {
        let certificates = self.certificates(config);
        shared.life.reloaded(certificates.as_ref().err().map(|error| format!("{error:#}")));
        match certificates {
            Ok(certificates) => {
                warn_of_expiry(&certificates);
                shared.certificates.store(Arc::new(certificates));
                tracing::info!("reloaded certificates");
            }
            Err(error) => tracing::error!("the old certificates stay in force: {error:#}"),
        }
    }

    /// Reads again whom sites believe, clients and upstreams, and puts it in force, or says why not. The config is the
    /// one that is in force, whatever its file says by now.
    pub(super) fn reload_trust(&self, config: &Config, shared: &Shared) {
        self.upstream_tls.forget();
        let rules = Rules::new(config, &self.endpoints, &self.upstream_tls, &self.footers);
        shared.life.reloaded(rules.as_ref().err().map(ToString::to_string));
        match rules {
            Ok(rules) => {
                let mut rules = rules.after(&shared.rules.load());
                rules.origin.since = shared.rules.load().origin.since;
                warn_of_trust(&rules);
                shared.rules.store(Arc::new(rules));
                tracing::info!("reloaded authorities and revocation lists");
            }
            Err(error) => tracing::error!("the old authorities and revocation lists stay in force: {error}"),
        }
    }
}

/// An end of validity nearer than this is worth a word.
const SOON_S: i64 = 30 * 24 * 60 * 60;

/// Says which certificates have expired, or soon will have.
pub(super) fn warn_of_expiry(certificates: &CertificateStore) {
    let now = jiff::Timestamp::now().as_second();
    for served in certificates.all().iter().filter(|served| served.not_after < now + SOON_S) {
        let file = served.file.display();
        let until = jiff::Timestamp::from_second(served.not_after)
            .map_or_else(|_| String::new(), |it| it.to_string());
        if served.not_after < now {
            tracing::warn!(until, "the certificate {file} has expired; clients refuse it");
        } else {
            tracing::warn!(until, "the certificate {file} expires soon; renew it");
        }
    }
}

/// Lists are renewed by the day or the week: sooner than that is no news.
const LIST_SOON_S: i64 = 24 * 60 * 60;

/// Says which authorities and revocation lists have ended, or soon will have: then nobody is let in by them.
pub(super) fn warn_of_trust(rules: &Rules) {
    let now = jiff::Timestamp::now().as_second();
    for end in &rules.trust_ends {
        let (what, soon) = match end.kind {
            TrustKind::Certificate => ("a certificate in", SOON_S),
            TrustKind::RevocationList => ("the revocation list", LIST_SOON_S),
        };
        let (file, left) = (end.file.display(), end.not_after - now);
        if left < 0 {
            tracing::warn!("{what} {file} has expired; whom it speaks for is not let in");
        } else if left < soon {
            tracing::warn!("{what} {file} expires soon; renew it");
        }
    }
}
