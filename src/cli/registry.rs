//! `registry import` and `registry export`: filings between files and the database that the config names.

use super::{ExportArguments, ExportFormat, FAILED, ImportArguments, block_on};
use crate::config::{Database, EmbeddedRegistry};
use crate::registry::{self, Format, ImportError, Imported, RefusedRow, Registry, Rows};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);

pub(super) fn import(arguments: &ImportArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    let embedded = config.require_embedded_registry()?;
    let bar = progress("reading 读取");
    let imported = match Rows::read(&arguments.file, |rows| bar.set_position(rows)) {
        Ok(rows) => {
            bar.set_message("writing 写入");
            block_on(async { Ok(write(embedded, rows, arguments.replace).await) })?
        }
        Err(error) => Err(error),
    };
    bar.finish_and_clear();
    match imported {
        Ok(imported) => {
            let Imported { created, updated, unchanged, deleted } = imported;
            let mut out = std::io::stdout().lock();
            writeln!(
                out,
                "imported 已导入: {created} created 新增, {updated} updated 更新, {unchanged} unchanged 未变, {deleted} deleted 删除"
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Err(ImportError::Refused(rows)) => {
            refused(&rows)?;
            Ok(ExitCode::from(FAILED))
        }
        Err(error) => Err(error).with_context(|| format!("can't import {}", arguments.file.display())),
    }
}

/// Through the registry that is running for the database, so that its followers learn of it; else straight in.
async fn write(embedded: &EmbeddedRegistry, rows: Rows, replace: bool) -> Result<Imported, ImportError> {
    let Database::Sqlite(path) = &embedded.database;
    if let Some(address) = registry::running_at(path) {
        return registry::import_via(reachable(address), embedded.token.as_deref(), rows, replace).await;
    }
    let opened = Registry::open(&embedded.database, None).await?;
    registry::import(&opened, rows, replace).await
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

/// One line per row, in both languages.
fn refused(rows: &[RefusedRow]) -> std::io::Result<()> {
    let mut out = std::io::stderr().lock();
    for RefusedRow { line, domain, rule, detail, detail_zh } in rows {
        writeln!(out, "line {line}: {domain}: {rule}: {detail_zh} / {detail}")?;
    }
    writeln!(out, "{0} 行被拒绝，未导入任何备案 / {0} rows were refused, so nothing was imported", rows.len())
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
            Some(ExportFormat::Ndjson) => {
                let mut out = std::io::BufWriter::new(std::io::stdout());
                registry::export(&registry, Format::Ndjson, &mut out, |rows| bar.set_position(rows)).await?
            }
            _ => registry::export_to(&registry, &arguments.file, |rows| bar.set_position(rows)).await?,
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

/// Rows so far, drawn where standard error is a terminal and nowhere else.
fn progress(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}: {human_pos} ({per_sec}, {elapsed})")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style).with_message(what);
    if !bar.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    bar
}
