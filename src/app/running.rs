//! The gate while it runs: what signals make of it, and how a hand-over goes on.

use super::embedded::Source;
use super::hand_over::{Event, Successor};
use super::listeners::{Group, Layout};
use super::logging::AccessLogs;
use super::reload::{Reloaded, Reloader, warn_of_expiry, warn_of_trust};
use super::service_manager;
use super::watching::{Changed, Watching};
use crate::admin::Addresses;
use crate::config::Config;
use crate::follow::Keeper;
use crate::gate::local;
use crate::gate::worker::Shared;
use crate::warnings::WarningThread;
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// On Linux, MIPS aside.
const SIGXFSZ: i32 = 25;
/// How often the ends of certificates are looked at.
const EXPIRY_TIME: Duration = Duration::from_hours(24);

/// What ended the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A signal.
    Terminated,
    /// Another process accepts.
    HandedOver,
}

/// Signals, listened for from here on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// The access log's file was rotated.
    rotated: Signal,
    hand_over: Signal,
    /// Caught, a write beyond what a file may have (`ulimit -f`) is an error like another, and not the end.
    _too_large: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            rotated: signal(SignalKind::user_defined1())?,
            hand_over: signal(SignalKind::user_defined2())?,
            _too_large: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }
}

/// What signals reach.
pub(super) struct Running {
    /// In force.
    pub(super) config: Config,
    pub(super) reloader: Reloader,
    pub(super) watching: Watching,
    pub(super) shared: Arc<Shared>,
    pub(super) logs: Arc<AccessLogs>,
    pub(super) layout: watch::Sender<Arc<Layout>>,
    /// What the admin API shows.
    pub(super) shown: Arc<ArcSwap<Addresses>>,
    /// Sockets beside those of listeners and registry.
    pub(super) groups: Vec<Arc<Group>>,
    pub(super) source: Source,
    pub(super) keeper: Keeper,
    /// Who warns; has a queue in the data directory.
    pub(super) warnings: Option<Arc<WarningThread>>,
    /// A process that is about to take over.
    pub(super) successor: Option<Successor>,
    /// Data directory and database are the successor's.
    pub(super) has_released: bool,
}

impl Running {
    /// Obeys signals until one ends the gate, or a new process has taken over.
    pub(super) async fn until_the_end(&mut self, mut signals: Signals) -> Result<End> {
        // The first tick is at once.
        let mut expiry = tokio::time::interval(EXPIRY_TIME);
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return Ok(self.terminated()),
                _ = signals.interrupt.recv() => return Ok(self.terminated()),
                _ = signals.hang_up.recv() => {
                    self.shared.reopen.ask();
                    self.reload();
                }
                _ = signals.rotated.recv() => self.shared.reopen.ask(),
                _ = signals.hand_over.recv() => self.hand_over(),
                _ = expiry.tick() => {
                    warn_of_expiry(&self.shared.certificates.load());
                    warn_of_trust(&self.shared.rules.load());
                }
                changed = self.watching.changed() => match changed {
                    Changed::Config => self.reload(),
                    Changed::Certificates => self.reloader.reload_certificates(&self.config, &self.shared),
                    Changed::Trust => self.reloader.reload_trust(&self.config, &self.shared),
                },
                event = next(&mut self.successor) => {
                    if let Some(end) = self.follow_up(event).await {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn terminated(&self) -> End {
        if let Some(successor) = &self.successor {
            successor.kill();
        }
        End::Terminated
    }

    fn reload(&mut self) {
        service_manager::reloading();
        let old = Arc::clone(&self.layout.borrow());
        if let Some(Reloaded { config, layout }) =
            self.reloader.reload(&self.config.source, (&self.shared, &self.logs), &old)
        {
            let addresses = Addresses::clone(&self.shown.load());
            let (listeners, locals) = (layout.addresses(), layout.locals());
            self.shown.store(Arc::new(Addresses { listeners, locals, ..addresses }));
            self.layout.send_replace(Arc::new(layout));
            self.watching.follow(&config);
            self.config = config;
        }
        service_manager::ready();
    }

    /// Starts a new process that is to take over.
    fn hand_over(&mut self) {
        if let Some(successor) = &self.successor {
            tracing::warn!(pid = successor.pid, "SIGUSR2: a hand-over is under way already");
            return;
        }
        let layout = Arc::clone(&self.layout.borrow());
        let listeners = layout.bound.iter().map(|it| &it.group);
        let groups = listeners.chain(&self.groups).chain(self.source.group()).cloned().collect();
        match Successor::start(groups, self.reloader.tickets.keys()) {
            Ok(successor) => self.successor = Some(successor),
            Err(error) => self.not_handed_over(&error),
        }
    }

    async fn follow_up(&mut self, event: Event) -> Option<End> {
        let successor = self.successor.as_ref()?;
        match event {
            Event::Prepared => {
                let has_filings = self.shared.cache.status().position.epoch != 0;
                self.has_released = true;
                self.source.stop();
                self.keeper.release().await;
                if let Some(warnings) = &self.warnings {
                    warnings.release().await;
                }
                successor.released(has_filings);
                None
            }
            Event::Ready => {
                service_manager::main_process(successor.pid);
                tracing::info!(pid = successor.pid, "handed over");
                Some(End::HandedOver)
            }
            Event::Failed(error) => {
                self.successor = None;
                if std::mem::take(&mut self.has_released)
                    && let Err(error) = self.take_back()
                {
                    tracing::error!("filings go on from memory, but: {error:#}");
                }
                // Said last: who reads it may rely on all being as before.
                self.not_handed_over(&error);
                None
            }
        }
    }

    fn not_handed_over(&self, error: &anyhow::Error) {
        tracing::error!("SIGUSR2: not handed over, this process goes on: {error:#}");
        self.shared.life.hand_over_failed();
    }

    /// Goes on with what a new process was to have.
    fn take_back(&mut self) -> Result<()> {
        if let Some(warnings) = &self.warnings {
            warnings.retake();
        }
        let kept = self.keeper.retake().context("the data directory can't be taken back");
        self.source.start().context("the embedded registry can't be started again")?;
        kept
    }

    /// Takes the files of Unix sockets away, which nobody goes on with.
    pub(super) fn withdraw(&self) {
        let locals = self.config.listeners.iter().filter_map(|listener| listener.local.as_ref());
        locals.for_each(local::withdraw);
    }

    /// Leaves the listeners; what is left is the registry, which ends last.
    pub(super) fn leave(self) -> Source {
        self.layout.send_replace(Arc::default());
        self.source
    }
}

/// What the successor comes to; for ever where there is none.
async fn next(successor: &mut Option<Successor>) -> Event {
    match successor {
        Some(successor) => successor.event().await,
        None => std::future::pending().await,
    }
}
