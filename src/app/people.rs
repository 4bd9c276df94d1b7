//! What goes on for people beside the data path: the audit log, whoever watches over the hosts that are served, warnings, the
//! look-up page; each where the config asks for it.

use super::embedded::Source;
use super::whereabouts;
use crate::admin::Told;
use crate::config::Config;
use crate::follow::FollowStats;
use crate::gate::worker::Shared;
use crate::inquiry::{Registries, learn_numbers};
use crate::lookup::LookupPage;
use crate::served::Watcher;
use crate::telemetry::{AuditEvent, AuditSink, AuditThread, ServedName, ServedNamesSink, served_names};
use crate::warnings::{Lookout, WarningState, WarningThread, Warnings};
use anyhow::{Context, Result};
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Hosts whose verdicts are watched where `[audit]` does not say.
const WATCHED_HOSTS: usize = 100_000;

/// Threads and channels of all that; none where nobody asks for it.
#[derive(Default)]
pub(super) struct People {
    audit: Option<AuditThread>,
    warnings: Option<Arc<WarningThread>>,
    served: Option<(ServedNamesSink, Receiver<ServedName>)>,
    told: Told,
}

/// What this gate, or the registry in this process, is called.
fn name(config: &Config) -> String {
    config.gate.clone().unwrap_or_else(whereabouts::host_name)
}

/// The thread that sends warnings, where there is anybody to send them to.
pub(super) fn warnings(
    config: &Config,
    state: &Arc<WarningState>,
    queue: &str,
) -> Result<Option<WarningThread>> {
    if config.webhooks.hooks.is_empty() {
        return Ok(None);
    }
    let warnings = Warnings {
        config: config.webhooks.clone(),
        provider: config.provider.clone(),
        gate: name(config),
        directory: config.cache.directory.join(queue),
        state: Arc::clone(state),
    };
    Ok(Some(WarningThread::start(warnings).context("webhooks")?))
}

/// Whom to ask what filings, gates and deadlines there are.
pub(super) fn registries(config: &Config, source: &Source) -> Result<Registries> {
    Registries::new(source.urls.clone(), source.token.clone(), &config.provider, &source.trust)
        .context("the client that asks the registry")
}

/// Who looks at what comes up. A fleet's registry is spared the question where nobody is warned of the answer.
pub(super) fn lookout(
    config: &Config,
    source: &Source,
    state: &Arc<WarningState>,
    warnings: Option<&WarningThread>,
) -> Result<Lookout> {
    let is_asked = warnings.is_some() || source.address().is_some();
    let registries = registries(config, source)?;
    Ok(Lookout {
        state: Arc::clone(state),
        sink: warnings.map(WarningThread::sink),
        gate: None,
        registries: is_asked.then_some(registries),
        config: config.webhooks.clone(),
        name: name(config),
    })
}

impl People {
    /// Opens the audit log, and starts who warns.
    pub(super) fn start(config: &Config) -> Result<Self> {
        let told = Told::default();
        let warnings = warnings(config, &told.warnings, "webhooks")?.map(Arc::new);
        let audit = config.audit.as_ref().map(|audit| {
            let thread = AuditThread::start(&audit.file, audit.rotation, |found| AuditEvent::Begin {
                version: env!("CARGO_PKG_VERSION"),
                provider: config.provider.clone(),
                gate: name(config),
                pid: std::process::id(),
                config: Some(config.digest.clone()),
                torn_bytes: found.torn_bytes,
                missing_lines: found.missing_lines,
            });
            thread.with_context(|| {
                format!(
                    "audit.file: can't go on in {}; give a path that the gate's user may write",
                    audit.file.display()
                )
            })
        });
        let audit = audit.transpose()?;
        let served = (audit.is_some() || warnings.is_some()).then(served_names);
        Ok(Self { audit, warnings, served, told })
    }

    /// Where records are handed over.
    pub(super) fn sink(&self) -> Option<AuditSink> {
        self.audit.as_ref().map(AuditThread::sink)
    }

    /// Where served hosts are.
    pub(super) fn served(&self) -> Option<ServedNamesSink> {
        self.served.as_ref().map(|(sink, _)| sink.clone())
    }

    /// Who warns.
    pub(super) fn warnings(&self) -> Option<Arc<WarningThread>> {
        self.warnings.clone()
    }

    /// Watches over the hosts that are served, and over what comes up; learns what pages must show.
    pub(super) fn watch(
        &mut self,
        (config, source): (&Config, &Source),
        control: &Runtime,
        shared: &Arc<Shared>,
        stats: &Arc<FollowStats>,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Vec<JoinHandle<()>>> {
        let warnings = self.warnings.as_deref();
        let lookout = lookout(config, source, &self.told.warnings, warnings)?;
        let lookout = Lookout { gate: Some(Arc::clone(shared)), ..lookout };
        let (known, registries) = (shared.footers.known(), registries(config, source)?);
        let numbers_stop = stopping.clone();
        let numbers = async move { learn_numbers(&known, &registries, numbers_stop).await };
        let mut watching = vec![control.spawn(lookout.run(stopping.clone())), control.spawn(numbers)];
        if let Some((_, from)) = self.served.take() {
            let watcher = Watcher {
                shared: Arc::clone(shared),
                stats: Arc::clone(stats),
                from,
                audit: self.sink(),
                warnings: warnings.map(WarningThread::sink),
                state: Arc::clone(&self.told.served),
                most: config.audit.as_ref().map_or(WATCHED_HOSTS, |audit| audit.hosts),
            };
            watching.push(control.spawn(watcher.run(stopping.clone())));
        }
        Ok(watching)
    }

    /// What is counted on the way, for the admin API.
    pub(super) fn told(&self) -> Told {
        Told { sink: self.warnings.as_ref().map(|it| it.sink()), ..self.told.clone() }
    }

    /// The public look-up page, where there is one.
    pub(super) fn lookup(&self, config: &Config, shared: &Arc<Shared>) -> Option<LookupPage> {
        let counts = Arc::clone(&self.told.lookups);
        Some(LookupPage::new(config.lookup.as_ref()?, Arc::clone(shared), counts))
    }

    /// Writes what is left.
    pub(super) fn finish(self) {
        if let Some(thread) = self.audit {
            thread.finish();
        }
        if let Some(thread) = self.warnings.and_then(Arc::into_inner) {
            thread.finish();
        }
    }
}
