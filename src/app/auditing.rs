//! What goes on for people beside the data path: the audit log, whoever watches over the hosts that are served, the look-up
//! page; each where the config asks for it.

use super::whereabouts;
use crate::admin::Told;
use crate::config::Config;
use crate::follow::FollowStats;
use crate::gate::worker::Shared;
use crate::lookup::LookupPage;
use crate::served::Watcher;
use crate::telemetry::{AuditEvent, AuditSink, AuditThread, ServedName, ServedNamesSink, served_names};
use anyhow::{Context, Result};
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The log's thread and the hosts that workers serve; neither where nothing is recorded.
#[derive(Default)]
pub(super) struct Auditing {
    thread: Option<AuditThread>,
    served: Option<(ServedNamesSink, Receiver<ServedName>)>,
    told: Told,
}

impl Auditing {
    /// Opens the log.
    pub(super) fn start(config: &Config) -> Result<Self> {
        let Some(audit) = &config.audit else { return Ok(Self::default()) };
        let thread = AuditThread::start(&audit.file, audit.rotation, |found| AuditEvent::Begin {
            version: env!("CARGO_PKG_VERSION"),
            provider: config.provider.clone(),
            gate: config.gate.clone().unwrap_or_else(whereabouts::host_name),
            pid: std::process::id(),
            config: Some(config.digest.clone()),
            torn_bytes: found.torn_bytes,
            missing_lines: found.missing_lines,
        });
        let thread = thread.with_context(|| {
            format!(
                "audit.file: can't go on in {}; give a path that the gate's user may write",
                audit.file.display()
            )
        })?;
        Ok(Self { thread: Some(thread), served: Some(served_names()), told: Told::default() })
    }

    /// Where records are handed over.
    pub(super) fn sink(&self) -> Option<AuditSink> {
        self.thread.as_ref().map(AuditThread::sink)
    }

    /// Where served hosts are.
    pub(super) fn served(&self) -> Option<ServedNamesSink> {
        self.served.as_ref().map(|(sink, _)| sink.clone())
    }

    /// Watches over the hosts that are served.
    pub(super) fn watch(
        &mut self,
        config: &Config,
        control: &Runtime,
        shared: &Arc<Shared>,
        stats: &Arc<FollowStats>,
        stopping: watch::Receiver<bool>,
    ) -> Option<JoinHandle<()>> {
        let (_, from) = self.served.take()?;
        let watcher = Watcher {
            shared: Arc::clone(shared),
            stats: Arc::clone(stats),
            from,
            audit: self.sink(),
            state: Arc::clone(&self.told.served),
            most: config.audit.as_ref()?.hosts,
        };
        Some(control.spawn(watcher.run(stopping)))
    }

    /// What is counted on the way, for the admin API.
    pub(super) fn told(&self) -> Told {
        self.told.clone()
    }

    /// The public look-up page, where there is one.
    pub(super) fn lookup(&self, config: &Config, shared: &Arc<Shared>) -> Option<LookupPage> {
        let counts = Arc::clone(&self.told.lookups);
        Some(LookupPage::new(config.lookup.as_ref()?, Arc::clone(shared), counts))
    }

    /// Writes what is left.
    pub(super) fn finish(self) {
        if let Some(thread) = self.thread {
            thread.finish();
        }
    }
}
