//! The composition root: builds, wires, drains. The only one that knows everybody.
//!
//! Everything that can fail because of config or machine fails before the first connection is taken.

mod alone;
mod aside;
mod banner;
mod demo_upstream;
mod descriptors;
mod dev_certificates;
mod embedded;
mod hand_over;
mod listeners;
mod logging;
mod others;
mod people;
mod reload;
mod running;
mod service_manager;
mod watching;
pub mod whereabouts;
mod workers;

pub use alone::serve_registry;

use crate::admin::Admin;
use crate::cache::{FilingCache, Staleness};
use crate::config::Config;
use crate::follow::{FollowOptions, FollowStats, Follower};
use crate::gate::doors::Doors;
use crate::gate::listen::Admission;
use crate::gate::rules::Rules;
use crate::gate::tls::CertificateStore;
use crate::gate::worker::Shared;
use crate::gate::{health, names};
use crate::telemetry::{Blocked, Counters, Reopen, SyslogEvents, Tail};
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use embedded::Beside;
use hand_over::Predecessor;
use listeners::Layout;
use others::Others;
use people::People;
use running::{End, Running};
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use workers::{Drain, Orders, Workers};

/// How long connections that wait for a next request may still send one: at the end of the gate, where clients find
/// nobody else, and at a hand-over, where nobody is in a hurry.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_HANDED_OVER: Duration = Duration::from_secs(5);
/// How long a process that takes over waits for filings, where the old one had some and the saved state does not.
const SYNC_TIME: Duration = Duration::from_secs(30);
/// How often that is looked at.
const SYNC_POLL: Duration = Duration::from_millis(10);
/// At least, for what ends after the workers: a last save, answers of the admin API.
const LEAST_TIME: Duration = Duration::from_secs(5);

/// Runs the gate, and whatever else the config asks for in this process, until a signal ends it.
///
/// # Errors
/// What could not be built; nothing is left running then.
pub fn run(config: &Config) -> Result<()> {
    install();
    let mut built = Built::new(config)?;
    let control = control()?;
    let _entered = control.enter();
    let predecessor = built.predecessor.take();
    // Data directory and database are the old process's until here.
    let expects_filings = predecessor.as_ref().map(Predecessor::prepared).transpose()?.unwrap_or(false);
    let mut serving = built.serve(config, &control, expects_filings)?;
    // A signal that comes as soon as this process is said to be ready finds it listening for signals.
    let signals = running::Signals::new()?;
    if let Some(predecessor) = predecessor {
        predecessor.ready()?;
    }
    banner::show(config, &serving.running.shown.load())?;
    service_manager::ready();
    let end = control.block_on(serving.running.until_the_end(signals))?;
    serving.drain(config, &control, end);
    Ok(())
}

/// Where follower, admin and reloading run.
fn control() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    aside::blocking_aside(&mut builder, "control");
    Ok(builder.worker_threads(1).enable_all().build()?)
}

/// What is built before anything is taken that one process alone may have.
struct Built {
    predecessor: Option<Predecessor>,
    workers: usize,
    layout: Layout,
    others: Others,
    source: embedded::Source,
    reloader: reload::Reloader,
    rules: Rules,
    certificates: CertificateStore,
}

impl Built {
    fn new(config: &Config) -> Result<Self> {
        let (predecessor, mut inherited) = Predecessor::meet()?;
        // A worker for each core where the config does not say.
        let workers = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, Into::into),
            workers => workers,
        };
        if let Some(development) = &config.development {
            dev_certificates::ensure(&config.tls.directory, &development.certificates)
                .context("development certificates")?;
        }
        let doors = Doors::new(&config.listeners);
        let layout = Layout::new((&config.listeners, &doors), workers, &mut inherited, &Layout::default())?;
        let others = Others::bind(config, &mut inherited)?;
        let source = embedded::Source::new(config, &mut inherited, Beside::Gate)?;
        inherited.finish();
        let reloader = reload::Reloader::new()?;
        if let Some(predecessor) = &predecessor {
            reloader.tickets.go_on(predecessor.ticket_keys())?;
        }
        let (rules, certificates) = reloader.build(config)?;
        Ok(Self { predecessor, workers, layout, others, source, reloader, rules, certificates })
    }

    /// Takes data directory and database, and starts everything.
    fn serve(mut self, config: &Config, control: &Runtime, expects_filings: bool) -> Result<Serving> {
        self.source.start()?;
        let (follower, cache, stats) = follow(config, &self.source)?;
        let mut people = People::start(config)?;
        let shared = share(config, &self.reloader, (self.rules, self.certificates), cache, &people)?;
        let counters = Arc::new(Counters::default());
        let tail = Arc::<Tail>::default();
        let logs = logging::Logs::start(config, &tail, &shared.reopen)?;
        let spans = logging::Spans::start(config)?;
        let addresses =
            self.others.addresses(&self.layout, (self.source.address(), self.source.is_secured()));
        let admin_address = addresses.admin;
        let shown = Arc::new(ArcSwap::from_pointee(addresses));
        let (stop, stopping) = watch::channel(false);
        let watching = people.watch((config, &self.source), control, &shared, &stats, &stopping)?;
        let admin = Admin::new(
            Arc::clone(&shared),
            Arc::clone(&counters),
            stats,
            Arc::clone(&shown),
            config.admin.as_ref(),
        )
        .showing(tail, people::registries(config, &self.source)?, logs.told(&spans, people.told()));
        let exporting = spans.exporter.map(|exporter| control.spawn(exporter.run(stopping.clone())));
        let keeper = follower.keeper();
        let following = control.spawn(follower.run(stopping.clone()));
        let probing = {
            let (shared, stopping) = (Arc::clone(&shared), stopping.clone());
            control.spawn_blocking(move || health::run(shared, stopping))
        };
        let resolving = control.spawn(names::run(Arc::clone(&shared), stopping.clone()));
        let counting = control.spawn(descriptors::run(Arc::clone(&shared), stopping));
        if expects_filings {
            control.block_on(filings(&shared.cache));
        }
        let (layout, newest) = watch::channel(Arc::new(self.layout));
        let (drain, told) = watch::channel(None);
        let orders = Orders { layout: newest, drain: told, drain_timeout: config.limits.drain_timeout };
        let workers =
            Workers::start(self.workers, &shared, &counters, (&logs.access.switch, spans.sink), &orders)?;
        let (stop_others, stopping_others) = watch::channel(false);
        let groups = self.others.groups();
        let lookup = people.lookup(config, &shared);
        let mut tasks = self.others.serve(control, admin, lookup, &stopping_others)?;
        tasks.extend([following, probing, resolving, counting].into_iter().chain(watching).chain(exporting));
        if let Some(address) = admin_address
            && let Err(error) = whereabouts::publish(&config.cache.directory, address)
        {
            let directory = config.cache.directory.display();
            tracing::warn!("can't say in {directory} where the admin API is: {error}");
        }
        let running = Running {
            config: config.clone(),
            reloader: self.reloader,
            watching: watching::Watching::start(config),
            shared,
            logs: Arc::clone(&logs.access),
            layout,
            shown,
            groups,
            source: self.source,
            keeper,
            warnings: people.warnings(),
            successor: None,
            has_released: false,
        };
        let watchdog = control.spawn(async { match service_manager::watchdog().await {} });
        Ok(Serving { running, workers, drain, stop_others, stop, tasks, watchdog, logs, people })
    }
}

/// All that runs, and how to end it.
struct Serving {
    running: Running,
    workers: Workers,
    drain: watch::Sender<Option<Drain>>,
    stop_others: watch::Sender<bool>,
    /// The follower's, which goes on while workers drain: what is cancelled meanwhile is cut.
    stop: watch::Sender<bool>,
    tasks: Vec<task::JoinHandle<()>>,
    watchdog: task::JoinHandle<()>,
    logs: logging::Logs,
    people: People,
}

impl Serving {
    fn drain(self, config: &Config, control: &Runtime, end: End) {
        let since = Instant::now();
        self.running.shared.life.drain();
        let linger = match end {
            End::HandedOver => {
                self.stop_others.send_replace(true);
                LINGER_HANDED_OVER
            }
            End::Terminated => {
                service_manager::stopping();
                self.running.withdraw();
                LINGER
            }
        };
        tracing::info!("draining");
        self.drain.send_replace(Some(Drain { linger }));
        let mut source = self.running.leave();
        self.workers.join();
        self.watchdog.abort();
        self.stop_others.send_replace(true);
        self.stop.send_replace(true);
        let ended = async {
            for task in self.tasks {
                let _ = task.await;
            }
        };
        let left = config.limits.drain_timeout.saturating_sub(since.elapsed()).max(LEAST_TIME);
        let _ = control.block_on(async { tokio::time::timeout(left, ended).await });
        source.stop();
        if end == End::Terminated {
            whereabouts::withdraw(&config.cache.directory);
        }
        self.logs.finish();
        self.people.finish();
    }
}

/// Waits until there are filings: better served by the old process than told that there are none.
async fn filings(cache: &FilingCache) {
    let synced = async {
        while cache.status().position.epoch == 0 {
            tokio::time::sleep(SYNC_POLL).await;
        }
    };
    if tokio::time::timeout(SYNC_TIME, synced).await.is_err() {
        tracing::warn!("taking over without filings: there are no saved ones, and the registry gave none");
    }
}

/// A follower with the saved state loaded, and what it keeps.
fn follow(
    config: &Config,
    source: &embedded::Source,
) -> Result<(Follower, Arc<FilingCache>, Arc<FollowStats>)> {
    let stats = Arc::new(FollowStats::default());
    let staleness =
        Staleness { stale_after: config.enforcement.stale_after, when_stale: config.enforcement.when_stale };
    let cache = Arc::new(FilingCache::new(staleness).resting(aside::rest));
    let follower = Follower::new(FollowOptions {
        urls: source.urls.clone(),
        token: source.token.clone(),
        trust: source.trust.clone(),
        provider: config.provider.clone(),
        gate: config.gate.clone().unwrap_or_else(whereabouts::host_name),
        directory: config.cache.directory.clone(),
        hold_flips_above: config.cache.hold_flips_above,
        cache: Arc::clone(&cache),
        stats: Arc::clone(&stats),
    })?;
    follower.load_saved();
    Ok((follower, cache, stats))
}

/// What the workers share.
fn share(
    config: &Config,
    reloader: &reload::Reloader,
    (rules, certificates): (Rules, CertificateStore),
    cache: Arc<FilingCache>,
    people: &People,
) -> Result<Arc<Shared>> {
    Ok(Arc::new(Shared {
        rules: ArcSwap::from_pointee(rules),
        certificates: ArcSwap::from_pointee(certificates),
        cache,
        admission: Admission::new(config.limits.connections, config.limits.connections_per_client),
        via: via_name()?,
        life: Arc::default(),
        endpoints: Arc::clone(&reloader.endpoints),
        blocked: Blocked::default(),
        footers: Arc::clone(&reloader.footers),
        rates: Default::default(),
        connection_rates: Default::default(),
        descriptors: Default::default(),
        reopen: Reopen::default(),
        audit: people.sink(),
        served: people.served(),
    }))
}

/// Events that are told unless `RUST_LOG` says otherwise. Libraries warn of what a client alone brings about, as often as
/// it likes (each PING answer that nobody asked for, each renegotiation): that would be its way to fill a log.
const EVENTS: &str = "info,h2=error,rustls=error";

/// What the whole process needs once: a crypto provider, and events on standard error (`RUST_LOG` filters them).
fn install() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| EVENTS.into());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Fails only where there is one already.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(SyslogEvents).try_init();
    // Fails only where one is installed already, which is then the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Names this gate in Via, differently from every other, so that only true loops are loops.
fn via_name() -> Result<String> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)?;
    Ok(format!("beian-gate-{:08x}", u32::from_le_bytes(random)))
}

/// Checks what `run` would build beyond the config's own text.
///
/// # Errors
/// The first thing that could not be built.
pub fn check(config: &Config) -> Result<()> {
    install();
    let reloader = reload::Reloader::new()?;
    let _built: (Rules, CertificateStore) = reloader.build(config)?;
    others::check(config)
}
