//! The registry alone, without a gate.

use super::embedded::{self, Beside};
use super::install;
use super::listeners::Inherited;
use super::people;
use super::service_manager;
use crate::config::Config;
use crate::warnings::{WarningState, WarningThread};
use anyhow::{Context, Result};
use std::io::Write as _;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Runs the registry alone.
///
/// # Errors
/// What could not be built, or what ended it.
pub fn serve_registry(config: &Config) -> Result<()> {
    install();
    let mut inherited = Inherited::activated()?;
    let mut source = embedded::Source::new(config, &mut inherited, Beside::Nothing)?;
    inherited.finish();
    let url = source.urls.first().cloned().context("`registry serve` needs a [registry.embedded] section")?;
    source.start()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "beian-gate {} registry is running\n  {:<11}{url}", env!("CARGO_PKG_VERSION"), "registry")?;
    out.flush()?;
    drop(out);
    // Of its own: a gate on this machine may have the same data directory.
    let state = Arc::<WarningState>::default();
    let warnings = people::warnings(config, &state, "webhooks-registry")?;
    let lookout = people::lookout(config, &source, &state, warnings.as_ref())?;
    let (stop, stopping) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let looking = warnings.is_some().then(|| tokio::spawn(lookout.run(stopping)));
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        service_manager::ready();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            never = service_manager::watchdog() => match never {},
        }
        stop.send_replace(true);
        if let Some(looking) = looking {
            let _ = looking.await;
        }
        Ok::<_, std::io::Error>(())
    })?;
    service_manager::stopping();
    warnings.into_iter().for_each(WarningThread::finish);
    source.stop();
    Ok(())
}
