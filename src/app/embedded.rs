//! Where filings come from: a registry elsewhere, or one in this process on threads of its own, which is
//! followed over its real HTTP API like any other.

use super::aside;
use crate::config::{Config, EmbeddedRegistry, Registry};
use crate::registry;
use anyhow::{Context, Result};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread::JoinHandle;
use tokio::sync::watch;

/// A registry that can be followed.
pub(super) struct Source {
    pub(super) url: String,
    pub(super) token: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    /// Where the embedded one serves.
    pub(super) address: Option<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    /// Waits until an embedded registry has ended.
    pub(super) fn join(self) {
        if let Some(thread) = self.thread
            && thread.join().is_err()
        {
            tracing::error!("the registry panicked");
        }
    }
}

/// What else this process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// Serves requests, which come first.
    Gate,
    Nothing,
}

/// Starts the embedded registry where the config asks for one.
pub(super) fn start(config: &Config, stopping: &watch::Receiver<bool>, beside: Beside) -> Result<Source> {
    match config
        .registry
        .as_ref()
        .context("the config has no [registry]: give `url`, or [registry.embedded]")?
    {
        Registry::Remote { url, token, ca_file } => Ok(Source {
            url: url.clone(),
            token: token.clone(),
            ca_file: ca_file.clone(),
            address: None,
            thread: None,
        }),
        Registry::Embedded(embedded) => start_embedded(embedded, stopping.clone(), beside),
    }
}

fn start_embedded(
    embedded: &EmbeddedRegistry,
    stopping: watch::Receiver<bool>,
    beside: Beside,
) -> Result<Source> {
    let socket = super::bind_one(embedded.address, "registry.embedded.address")?;
    let address = socket.local_addr()?;
    let step_aside = move || {
        if beside == Beside::Gate {
            aside::step_aside();
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("registry")
        .on_thread_start(step_aside)
        .enable_all()
        .build()?;
    // On the runtime's own thread: the database's are started by it, and have its priority.
    let opening = embedded.clone();
    let registry = runtime.block_on(runtime.spawn(async move { open(&opening, address).await }))??;
    let options = registry::Options { token: embedded.token.clone() };
    let thread = std::thread::Builder::new().name("registry-main".into()).spawn(move || {
        step_aside();
        serve(&runtime, &registry, socket, options, stopping);
    })?;
    Ok(Source {
        url: format!("http://{address}"),
        token: embedded.token.clone(),
        ca_file: None,
        address: Some(address),
        thread: Some(thread),
    })
}

async fn open(embedded: &EmbeddedRegistry, address: SocketAddr) -> Result<registry::Registry> {
    let registry = registry::Registry::open(&embedded.database, Some(address)).await?;
    let sample = match (&embedded.sample, embedded.sample_text) {
        (_, Some(text)) => Some(text.to_owned()),
        (Some(path), None) => Some(std::fs::read_to_string(path).with_context(|| {
            format!(
                "registry.embedded.sample: can't read {}; give a CSV of filings, or leave the key out",
                path.display()
            )
        })?),
        (None, None) => None,
    };
    if let Some(text) = sample {
        registry.load_sample(&text).await.context("registry.embedded.sample")?;
    }
    Ok(registry)
}

fn serve(
    runtime: &tokio::runtime::Runtime,
    registry: &registry::Registry,
    socket: TcpListener,
    options: registry::Options,
    stopping: watch::Receiver<bool>,
) {
    if let Err(error) = runtime.block_on(registry.serve(socket, options, stopping)) {
        tracing::error!(%error, "the registry ended");
    }
}
