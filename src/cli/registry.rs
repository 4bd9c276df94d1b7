//! `registry import` and `registry export`: filings between files and the database that the config names.

use super::refused::Refused;
use super::{ConfigFile, ExportArguments, FAILED, ImportArguments, block_on};
use crate::config::{Database, EmbeddedRegistry, Trust, token_of_environment};
use crate::registry::{self, Event, ImportError, Imported, Phase, Registry, Source, Terms, Wanting};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

const TICK: Duration = Duration::from_millis(100);
/// Events of an import that wait to be shown.
const EVENTS_WAITING: usize = 64;

pub(super) fn import(arguments: &ImportArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    let embedded = config.require_embedded_registry()?;
    let failed = || format!("can't import {}", arguments.file.display());
    let wanting = Wanting::new(arguments.number.clone(), arguments.access.as_deref()).with_context(failed)?;
    let source = Source::open(&arguments.file, arguments.format.map(Into::into)).with_context(failed)?;
    let source = source.with(wanting);
    let (octets_read, octets) = (source.octets_read(), source.octets());
    let source = source.because(arguments.reason.clone()).with_context(failed)?;
    let ImportArguments { replace: is_whole, strict: is_strict, dry_run: is_dry_run, .. } = *arguments;
    let terms = Terms { is_whole, is_strict, is_dry_run };
    let refused = match &arguments.report {
        Some(path) => {
            Refused::with_report(path).with_context(|| format!("can't write {}", path.display()))?
        }
        None => Refused::default(),
    };
    let imported = block_on(async {
        let (sender, mut events) = mpsc::channel(EVENTS_WAITING);
        let work = write(embedded, source, terms, sender);
        let (imported, shown) = tokio::join!(work, show(&mut events, refused, &octets_read, octets));
        shown?;
        Ok(imported)
    })?;
    match imported {
        Ok(imported) => {
            let Imported { created, updated, unchanged, deleted, refused } = imported;
            let mut out = std::io::stdout().lock();
            let done =
                if terms.is_dry_run { "would import 试运行, 未作更改" } else { "imported 已导入" };
            write!(
                out,
                "{done}: {created} created 新增, {updated} updated 更新, {unchanged} unchanged 未变, {deleted} deleted 删除"
            )?;
            if refused > 0 {
                write!(out, ", {refused} refused and left out 被拒绝未导入")?;
            }
            writeln!(out)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(ImportError::Refused(rows)) => {
            writeln!(
                std::io::stderr(),
                "{rows} 行被拒绝，未导入任何备案 / {rows} rows were refused, so nothing was imported"
            )?;
            Ok(ExitCode::from(FAILED))
        }
        Err(ImportError::Forgets(rows)) => {
            writeln!(
                std::io::stderr(),
                "{rows} 个被拒绝的行中有涉及现有备案的，整体替换会丢失这些备案，因此未导入 / {}",
                ImportError::Forgets(rows)
            )?;
            Ok(ExitCode::from(FAILED))
        }
        Err(error) => Err(error).with_context(failed),
    }
}

/// Through the registry that is running for the database, so that its followers learn of it; else straight in.
async fn write(
    embedded: &EmbeddedRegistry,
    source: Source,
    terms: Terms,
    events: mpsc::Sender<Event>,
) -> Result<Imported, ImportError> {
    // Registries that share a database learn of it from that.
    let running = match &embedded.database {
        Database::Sqlite(path) => registry::running_at(path),
        Database::Postgres { .. } => None,
    };
    if let Some(address) = running {
        let token = embedded.token.clone().or_else(token_of_environment);
        let at =
            registry::At { address: reachable(address), trust: embedded.tls.as_ref().map(Trust::in_own) };
        return registry::import_via(at, token.as_deref(), source, terms, events).await;
    }
    let opened = Registry::open(&embedded.database, None).await?;
    registry::import(&opened, source, terms, events).await
}

/// Shows how far an import is, and each refused row on a line of its own, in both languages.
async fn show(
    events: &mut mpsc::Receiver<Event>,
    mut refused: Refused,
    octets_read: &AtomicU64,
    octets: Option<u64>,
) -> std::io::Result<()> {
    let mut bar = octets_bar("reading 读取", octets);
    let mut is_reading = true;
    let mut ticks = tokio::time::interval(TICK);
    let mut failed = Ok(());
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = ticks.tick(), if is_reading => {
                bar.set_position(octets_read.load(Ordering::Relaxed));
                continue;
            }
        };
        match event {
            None => break,
            Some(Event::Phase(phase)) => {
                is_reading = false;
                bar.finish_and_clear();
                bar = spinner(phase_name(phase), "{spinner} {msg} ({elapsed})");
            }
            Some(Event::Done(_)) => is_reading = false,
            Some(Event::Resumed(rows)) => {
                bar.suspend(|| {
                    writeln!(
                        std::io::stderr(),
                        "resumed 续传: {rows} rows were set aside before 行此前已读入"
                    )
                })?;
            }
            Some(Event::Refused(row)) => {
                is_reading = false;
                bar.finish_and_clear();
                failed = failed.and_then(|()| refused.name(&row));
            }
        }
    }
    bar.finish_and_clear();
    failed.and_then(|()| refused.end())
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Reading => "reading 读取",
        Phase::Checking => "checking rows against each other 互相核对",
        Phase::Comparing => "comparing with what is filed 与现有备案比对",
        Phase::Swapping => "writing 写入",
        Phase::Settling => "settling on disk 落盘",
    }
}

/// An address that listens on every interface is called on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

pub(super) fn export(arguments: &ExportArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    let embedded = config.require_embedded_registry()?;
    let is_standard = arguments.file.as_os_str() == "-";
    if arguments.format.is_some() && !is_standard {
        bail!("--format is for standard output; {} says its format by its name", arguments.file.display());
    }
    let bar = progress("exporting 导出");
    let rows = block_on(async {
        let registry = Registry::open_read_only(&embedded.database).await?;
        let rows = match arguments.format {
            Some(format) => {
                let mut out = std::io::BufWriter::new(std::io::stdout());
                registry::export(&registry, format.into(), &mut out, |rows| bar.set_position(rows)).await?
            }
            None => registry::export_to(&registry, &arguments.file, |rows| bar.set_position(rows)).await?,
        };
        Ok(rows)
    });
    bar.finish_and_clear();
    let rows = rows?;
    if !is_standard {
        writeln!(std::io::stdout(), "exported 已导出: {rows} filings 条备案, {}", arguments.file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn new_epoch(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let embedded = config.require_embedded_registry()?;
    let epoch = block_on(async { Ok(Registry::open(&embedded.database, None).await?.new_epoch().await?) })?;
    writeln!(std::io::stdout(), "epoch 周期: {epoch}; every gate takes a snapshot 各网关将重新取得快照")?;
    Ok(ExitCode::SUCCESS)
}

/// Rows so far.
fn progress(what: &'static str) -> ProgressBar {
    spinner(what, "{spinner} {msg}: {human_pos} ({per_sec}, {elapsed})")
}

/// Octets so far, of as many as there are where that is known.
fn octets_bar(what: &'static str, octets: Option<u64>) -> ProgressBar {
    let Some(octets) = octets else {
        return spinner(what, "{spinner} {msg}: {binary_bytes} ({binary_bytes_per_sec}, {elapsed})");
    };
    let bar = ProgressBar::new(octets).with_message(what);
    let form = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} ({binary_bytes_per_sec}, {eta})";
    shown(bar, form, ProgressStyle::default_bar)
}

/// Something that takes its time.
fn spinner(what: &'static str, form: &str) -> ProgressBar {
    shown(ProgressBar::new_spinner().with_message(what), form, ProgressStyle::default_spinner)
}

/// Drawn where standard error is a terminal and nowhere else.
fn shown(bar: ProgressBar, form: &str, or: impl FnOnce() -> ProgressStyle) -> ProgressBar {
    let bar = bar.with_style(ProgressStyle::with_template(form).unwrap_or_else(|_| or()));
    if !bar.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    bar
}
