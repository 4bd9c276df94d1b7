//! What is served beside the listeners: the admin API, and the demo upstream.

use super::demo_upstream;
use super::listeners::{Group, Inherited, Layout};
use crate::admin::{Addresses, Admin};
use crate::config::{Config, EmbeddedRegistry, Registry};
use crate::lookup::LookupPage;
use crate::serve::Tls;
use anyhow::{Context as _, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task;

/// What is served beside the listeners.
pub(super) struct Others {
    admin: Option<Arc<Group>>,
    admin_tls: Option<Arc<Tls>>,
    demo: Option<Arc<Group>>,
    lookup: Option<Arc<Group>>,
}

impl Others {
    /// Takes or binds their addresses.
    pub(super) fn bind(config: &Config, inherited: &mut Inherited) -> Result<Self> {
        let mut take = |kind, key, address: Option<SocketAddr>| {
            address.map(|it| inherited.take_or_bind(format!("{kind} {it}"), it, (1, key))).transpose()
        };
        let admin = take("admin", "admin.address", config.admin.as_ref().map(|admin| admin.address))?;
        let lookup = config.lookup.as_ref().map(|lookup| lookup.address);
        let lookup = take("lookup", "lookup.address", lookup)?;
        let demo = config.development.as_ref().and_then(|development| development.upstream);
        let admin_tls = config.admin.as_ref().and_then(|admin| admin.tls.as_ref());
        let admin_tls =
            admin_tls.map(|files| Tls::load(files).map(Arc::new)).transpose().context("admin.tls")?;
        Ok(Self { admin, admin_tls, demo: take("demo", "development.upstream", demo)?, lookup })
    }

    /// Everything that listens.
    pub(super) fn addresses(&self, layout: &Layout, registry: (Option<SocketAddr>, bool)) -> Addresses {
        let address = |group: &Option<Arc<Group>>| group.as_ref().map(|group| group.address);
        Addresses {
            listeners: layout.addresses(),
            locals: layout.locals(),
            registry: registry.0,
            secured: (registry.1, self.admin_tls.is_some()),
            admin: address(&self.admin),
            demo_upstream: address(&self.demo),
            lookup: address(&self.lookup),
        }
    }

    /// Their sockets, for a process that takes over.
    pub(super) fn groups(&self) -> Vec<Arc<Group>> {
        self.admin.iter().chain(&self.demo).chain(&self.lookup).cloned().collect()
    }

    /// Serves them until told to stop.
    pub(super) fn serve(
        self,
        control: &Runtime,
        admin: Admin,
        lookup: Option<LookupPage>,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Vec<task::JoinHandle<()>>> {
        let mut served = Vec::new();
        if let Some(group) = self.admin {
            served.push(
                control.spawn(logged("admin", admin.serve((group.one()?, self.admin_tls), stopping.clone()))),
            );
        }
        if let (Some(group), Some(page)) = (self.lookup, lookup) {
            served.push(control.spawn(logged("look-up page", page.serve(group.one()?, stopping.clone()))));
        }
        if let Some(group) = self.demo {
            let serving = demo_upstream::serve(group.one()?, told(stopping.clone()));
            served.push(control.spawn(logged("demo upstream", serving)));
        }
        Ok(served)
    }
}

/// Whether TLS can be spoken as the config says.
pub(super) fn check(config: &Config) -> Result<()> {
    if let Some(files) = config.admin.as_ref().and_then(|admin| admin.tls.as_ref()) {
        Tls::load(files).context("admin.tls")?;
    }
    if let Some(Registry::Embedded(EmbeddedRegistry { tls: Some(files), .. })) = &config.registry {
        Tls::load(files).context("registry.embedded.tls")?;
    }
    Ok(())
}

async fn logged(what: &str, serving: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(%error, "{what} ended");
    }
}

async fn told(mut stopping: watch::Receiver<bool>) {
    // An error means that nobody is left to tell: the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
