//! Where filings come from: a registry elsewhere, or one in this process on threads of its own, which is
//! followed over its real HTTP API like any other.

use super::aside;
use super::listeners::{Group, Inherited};
use crate::config::{Config, EmbeddedRegistry, Registry, Trust};
use crate::registry;
use crate::serve::Tls;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// What else this process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// Serves requests, which come first.
    Gate,
    Nothing,
}

impl Beside {
    fn step_aside(self) {
        if self == Self::Gate {
            aside::step_aside();
        }
    }
}

/// A registry that can be followed.
pub(super) struct Source {
    pub(super) urls: Vec<String>,
    pub(super) token: Option<String>,
    pub(super) trust: Trust,
    embedded: Option<Embedded>,
}

/// The registry of this process: what it serves, and while it runs, how to end it.
struct Embedded {
    /// Whose registry it is.
    provider: String,
    config: EmbeddedRegistry,
    tls: Option<Arc<Tls>>,
    group: Arc<Group>,
    beside: Beside,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl Source {
    /// Takes or binds the address of an embedded registry, where the config asks for one; starts nothing.
    pub(super) fn new(config: &Config, inherited: &mut Inherited, beside: Beside) -> Result<Self> {
        match config
            .registry
            .as_ref()
            .context("the config has no [registry]: give `url`, or [registry.embedded]")?
        {
            Registry::Remote { urls, token, trust } => {
                let (urls, token) = (urls.clone(), token.clone());
                Ok(Self { urls, token, trust: trust.clone(), embedded: None })
            }
            Registry::Embedded(embedded) => {
                let (name, key) = (format!("registry {}", embedded.address), "registry.embedded.address");
                let group = inherited.take_or_bind(name, embedded.address, (1, key))?;
                let token = own_token(embedded)?;
                let provider = config.provider.clone();
                let config = EmbeddedRegistry { token: token.clone(), ..embedded.clone() };
                let tls = embedded.tls.as_ref().map(|files| Tls::load(files).map(Arc::new));
                let tls = tls.transpose().context("registry.embedded.tls")?;
                let scheme = if tls.is_some() { "https" } else { "http" };
                Ok(Self {
                    urls: vec![format!("{scheme}://{}", group.address)],
                    token,
                    trust: embedded.tls.as_ref().map(Trust::in_own).unwrap_or_default(),
                    embedded: Some(Embedded { provider, config, tls, group, beside, running: None }),
                })
            }
        }
    }

    /// Where the embedded registry serves.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.embedded.as_ref().map(|embedded| embedded.group.address)
    }

    /// Whether it speaks TLS.
    pub(super) fn is_secured(&self) -> bool {
        self.embedded.as_ref().is_some_and(|embedded| embedded.tls.is_some())
    }

    /// The sockets of the embedded registry.
    pub(super) fn group(&self) -> Option<&Arc<Group>> {
        self.embedded.as_ref().map(|embedded| &embedded.group)
    }

    /// Opens the database of the embedded registry, if there is one, and serves it.
    pub(super) fn start(&mut self) -> Result<()> {
        let Some(embedded) = &mut self.embedded else { return Ok(()) };
        let (stop, stopping) = watch::channel(false);
        let thread = start(embedded, stopping)?;
        embedded.running = Some((stop, thread));
        Ok(())
    }

    /// Ends the embedded registry, if it runs, and waits until its database is free.
    pub(super) fn stop(&mut self) {
        let Some((stop, thread)) = self.embedded.as_mut().and_then(|it| it.running.take()) else { return };
        stop.send_replace(true);
        if thread.join().is_err() {
            tracing::error!("the registry panicked");
        }
    }
}

fn start(embedded: &Embedded, stopping: watch::Receiver<bool>) -> Result<JoinHandle<()>> {
    let (socket, address) = (embedded.group.one()?, embedded.group.address);
    let (config, beside, provider) = (embedded.config.clone(), embedded.beside, embedded.provider.clone());
    let tls = embedded.tls.clone();
    let (tell, opened) = mpsc::channel();
    let thread = std::thread::Builder::new().name("registry-main".into()).spawn(move || {
        beside.step_aside();
        let options = registry::Options {
            token: config.token.clone(),
            tokens: config.tokens.clone(),
            provider,
            rules: config.rules.clone(),
            tls,
        };
        match build(config, address, beside) {
            Ok((runtime, registry)) => {
                let _ = tell.send(Ok(()));
                if let Err(error) = runtime.block_on(registry.serve(socket, options, stopping)) {
                    tracing::error!(%error, "the registry ended");
                }
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    })?;
    opened.recv().context("the registry ended at its start")??;
    Ok(thread)
}

fn build(
    config: EmbeddedRegistry,
    address: SocketAddr,
    beside: Beside,
) -> Result<(Runtime, registry::Registry)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("registry")
        .on_thread_start(move || beside.step_aside())
        .enable_all()
        .build()?;
    // On the runtime's own thread: the database's are started by it, and have its priority.
    let registry = runtime.block_on(runtime.spawn(async move { open(&config, address).await }))??;
    Ok((runtime, registry))
}

/// What the gate in this process shows; one that nobody else knows where only hashes are configured.
fn own_token(embedded: &EmbeddedRegistry) -> Result<Option<String>> {
    if embedded.token.is_some() || embedded.tokens.is_empty() {
        return Ok(embedded.token.clone());
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(Some(crate::hexadecimal::hexadecimal(&random)))
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
