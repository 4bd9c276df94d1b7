//! The composition root: builds, wires, drains. The only one that knows everybody.
//!
//! Everything that can fail because of config or machine fails before the first connection is taken.

mod aside;
mod banner;
mod demo_upstream;
mod dev_certificates;
mod embedded;
mod reload;
pub mod whereabouts;
mod workers;

use crate::admin::{Addresses, Admin};
use crate::cache::{FilingCache, Staleness};
use crate::config::{AccessLog, Config};
use crate::follow::{FollowOptions, FollowStats, Follower};
use crate::gate::health;
use crate::gate::listen::{self, Admission};
use crate::gate::rules::Rules;
use crate::gate::tls::CertificateStore;
use crate::gate::worker::Shared;
use crate::telemetry::{AccessLogSink, AccessLogWriter, Counters};
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use std::io::{IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task;
use workers::{Sockets, Workers, bind_all};

/// On Linux, MIPS aside.
const SIGXFSZ: i32 = 25;

/// Runs the gate, and whatever else the config asks for in this process, until a signal ends it.
///
/// # Errors
/// What could not be built; nothing is left running then.
pub fn run(config: &Config) -> Result<()> {
    install();
    // A worker for each core where the config does not say.
    let workers = match config.workers {
        0 => std::thread::available_parallelism().map_or(1, Into::into),
        workers => workers,
    };
    if let Some(development) = &config.development {
        dev_certificates::ensure(&config.tls.directory, &development.certificates)
            .context("development certificates")?;
    }
    let (stop, stopping) = watch::channel(false);
    let sockets = bind_all(&config.listeners, workers)?;
    let others = Others::bind(config)?;
    let source = embedded::start(config, &stopping, embedded::Beside::Gate)?;
    let control = control()?;
    let _entered = control.enter();
    let (follower, cache, stats) = follow(config, &source)?;
    let reloader = reload::Reloader::new()?;
    let shared = share(config, &reloader, cache)?;
    let counters = Arc::new(Counters::default());
    let (log, log_thread) = access_log(&config.log.access)?;
    let addresses = others.addresses(&sockets, source.address)?;
    let token = config.admin.as_ref().and_then(|admin| admin.token.clone());
    let admin = Admin::new(Arc::clone(&shared), Arc::clone(&counters), stats, addresses.clone(), token);
    let mut served = others.serve(&control, admin, &stopping);
    served.push(control.spawn(follower.run(stopping.clone())));
    served.push(control.spawn(health::run(Arc::clone(&shared), stopping.clone())));
    let workers = Workers::start(sockets, &shared, &counters, log, &stopping, config.limits.drain_timeout)?;
    if let Some(address) = addresses.admin
        && let Err(error) = whereabouts::publish(&config.cache.directory, address)
    {
        tracing::warn!("can't say in {} where the admin API is: {error}", config.cache.directory.display());
    }
    banner::show(config, &addresses)?;

    control.block_on(until_told_to_stop(&reloader, config, &shared))?;
    tracing::info!("draining");
    stop.send_replace(true);
    workers.join();
    let ended = async {
        for task in served {
            let _ = task.await;
        }
    };
    let _ = control.block_on(async { tokio::time::timeout(config.limits.drain_timeout, ended).await });
    whereabouts::withdraw(&config.cache.directory);
    source.join();
    if let Some(thread) = log_thread {
        let _ = thread.join();
    }
    Ok(())
}

/// Where follower, admin and reloading run.
fn control() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    aside::blocking_aside(&mut builder, "control");
    Ok(builder.worker_threads(1).enable_all().build()?)
}

/// What is served beside the listeners.
struct Others {
    admin: Option<TcpListener>,
    demo: Option<TcpListener>,
}

impl Others {
    fn bind(config: &Config) -> Result<Self> {
        let admin =
            config.admin.as_ref().map(|admin| bind_one(admin.address, "admin.address")).transpose()?;
        let demo = config.development.as_ref().and_then(|development| development.upstream);
        let demo = demo.map(|address| bind_one(address, "development.upstream")).transpose()?;
        Ok(Self { admin, demo })
    }

    fn addresses(&self, sockets: &Sockets, registry: Option<SocketAddr>) -> Result<Addresses> {
        let bound = sockets.listeners().iter().map(|listener| (listener.protocol, listener.address));
        Ok(Addresses {
            listeners: bound.collect(),
            registry,
            admin: self.admin.as_ref().map(TcpListener::local_addr).transpose()?,
            demo_upstream: self.demo.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }

    fn serve(
        self,
        control: &Runtime,
        admin: Admin,
        stopping: &watch::Receiver<bool>,
    ) -> Vec<task::JoinHandle<()>> {
        let admin =
            self.admin.map(|socket| control.spawn(logged("admin", admin.serve(socket, stopping.clone()))));
        let demo = self.demo.map(|socket| demo_upstream::serve(socket, told(stopping.clone())));
        let demo = demo.map(|serving| control.spawn(logged("demo upstream", serving)));
        admin.into_iter().chain(demo).collect()
    }
}

async fn logged(what: &str, serving: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(%error, "{what} ended");
    }
}

/// A follower with the saved state loaded, and what it keeps.
fn follow(
    config: &Config,
    source: &embedded::Source,
) -> Result<(Follower, Arc<FilingCache>, Arc<FollowStats>)> {
    let stats = Arc::new(FollowStats::default());
    let cache = Arc::new(FilingCache::new(Staleness {
        stale_after: config.enforcement.stale_after,
        when_stale: config.enforcement.when_stale,
    }));
    let follower = Follower::new(FollowOptions {
        url: source.url.clone(),
        token: source.token.clone(),
        ca_file: source.ca_file.clone(),
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
fn share(config: &Config, reloader: &reload::Reloader, cache: Arc<FilingCache>) -> Result<Arc<Shared>> {
    let (rules, certificates) = reloader.build(config)?;
    Ok(Arc::new(Shared {
        rules: ArcSwap::from_pointee(rules),
        certificates: ArcSwap::from_pointee(certificates),
        cache,
        admission: Admission::new(config.limits.connections, config.limits.connections_per_client),
        via: via_name()?,
        endpoints: Arc::clone(&reloader.endpoints),
    }))
}

/// Runs the registry alone.
///
/// # Errors
/// What could not be built, or what ended it.
pub fn serve_registry(config: &Config) -> Result<()> {
    install();
    let (stop, stopping) = watch::channel(false);
    let source = embedded::start(config, &stopping, embedded::Beside::Nothing)?;
    let address = source.address.context("`registry serve` needs a [registry.embedded] section")?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "beian-gate {} registry is running\n  {:<11}http://{address}",
        env!("CARGO_PKG_VERSION"),
        "registry"
    )?;
    out.flush()?;
    drop(out);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        Ok::<_, std::io::Error>(())
    })?;
    stop.send_replace(true);
    source.join();
    Ok(())
}

async fn told(mut stopping: watch::Receiver<bool>) {
    // An error means that nobody is left to tell: the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// What the whole process needs once: a crypto provider, and events on standard error (`RUST_LOG` filters them).
fn install() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // Fails only where there is one already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
    // Fails only where one is installed already, which is then the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn bind_one(address: SocketAddr, key: &str) -> Result<TcpListener> {
    let bound = listen::bind(address, 1).with_context(|| workers::cannot_listen(address, key))?;
    bound.into_iter().next().context("one socket was asked for")
}

/// Names this gate in Via, differently from every other, so that only true loops are loops.
fn via_name() -> Result<String> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)?;
    Ok(format!("beian-gate-{:08x}", u32::from_le_bytes(random)))
}

fn access_log(to: &AccessLog) -> Result<(Option<AccessLogSink>, Option<JoinHandle<()>>)> {
    if *to == AccessLog::Off {
        return Ok((None, None));
    }
    let (sink, writer) = AccessLogWriter::new();
    let out: Box<dyn std::io::Write + Send> = match to {
        AccessLog::File(path) => Box::new(AccessLogWriter::open(path).with_context(|| {
            format!(
                "log.access: can't append to {}; give a path that the gate's user may write",
                path.display()
            )
        })?),
        _ => Box::new(std::io::stdout()),
    };
    let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run(out))?;
    Ok((Some(sink), Some(thread)))
}

async fn until_told_to_stop(reloader: &reload::Reloader, config: &Config, shared: &Shared) -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Caught, a write beyond what a file may have (`ulimit -f`) is an error like another, and not the end.
    let _too_large = signal(SignalKind::from_raw(SIGXFSZ))?;
    let (mut hang_up, mut hand_over) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined2())?);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => reloader.reload(config, shared),
            _ = hand_over.recv() => {
                tracing::error!("SIGUSR2: handing over to a new binary is not supported by this version; going on");
            }
        }
    }
}

/// Checks what `run` would build beyond the config's own text.
///
/// # Errors
/// The first thing that could not be built.
pub fn check(config: &Config) -> Result<()> {
    install();
    let reloader = reload::Reloader::new()?;
    let _built: (Rules, CertificateStore) = reloader.build(config)?;
    Ok(())
}
