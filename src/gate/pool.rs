//! Upstream endpoints and each worker's idle connections to them: last in, first out.
//!
//! Only connections that are clean (exchange whole, nothing left over, silent) come back, and they are
//! looked at again before they are used.

use crate::config::{Upstream, UpstreamScheme};
use crate::gate::reject::Reject;
use crate::gate::stream::{Channel, Stream};
use crate::gate::watch::{Expired, Watch};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Idle connections kept per endpoint and worker.
const MAX_IDLE: usize = 128;
/// How long an idle connection is kept.
const MAX_IDLE_AGE: Duration = Duration::from_secs(50);

/// One address of an upstream, as the whole process knows it.
#[derive(Debug)]
pub struct Endpoint {
    /// As configured, for logs: `http://10.0.0.1:8080`.
    pub label: Arc<str>,
    /// What it speaks.
    pub scheme: UpstreamScheme,
    /// Where it is, in the order in which to try.
    pub addresses: Vec<SocketAddr>,
    /// TLS to it, and the name that its certificate must hold.
    pub tls: Option<(Arc<rustls::ClientConfig>, rustls::pki_types::ServerName<'static>)>,
    /// Exchanges under way, over all workers.
    pub active: AtomicUsize,
    slot: usize,
}

/// Numbers endpoints, the same one for the same label over all reloads.
#[derive(Debug, Default)]
pub struct EndpointSlots(Mutex<HashMap<Arc<str>, usize>>);

impl EndpointSlots {
    /// The endpoint of a configured upstream that was resolved to `addresses`.
    #[must_use]
    pub fn endpoint(
        &self,
        upstream: &Upstream,
        addresses: Vec<SocketAddr>,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Endpoint {
        let label: Arc<str> = label(upstream).into();
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = slots.len();
        let slot = *slots.entry(Arc::clone(&label)).or_insert(next);
        let tls = (upstream.scheme == UpstreamScheme::Https)
            .then(|| rustls::pki_types::ServerName::try_from(upstream.host.clone()).ok())
            .flatten()
            .map(|name| (Arc::clone(tls), name));
        Endpoint { label, scheme: upstream.scheme, addresses, tls, active: AtomicUsize::new(0), slot }
    }
}

fn label(upstream: &Upstream) -> String {
    let scheme = match upstream.scheme {
        UpstreamScheme::Http => "http",
        UpstreamScheme::Https => "https",
        UpstreamScheme::H2c => "h2c",
        UpstreamScheme::Tcp => "tcp",
    };
    format!("{scheme}://{}:{}", upstream.host, upstream.port)
}

/// Counts an exchange as under way until it is dropped.
#[derive(Debug)]
pub struct Lease(pub Arc<Endpoint>);

impl Lease {
    /// Counts one more.
    #[must_use]
    pub fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One worker's idle upstream connections.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<Vec<Vec<(Channel, Instant)>>>,
}

impl Pool {
    /// The most recently used connection that is still silent.
    #[must_use]
    pub fn take(&self, endpoint: &Endpoint, now: Instant) -> Option<Channel> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(endpoint.slot)?;
        while let Some((channel, since)) = stack.pop() {
            if channel.is_quiet() && now.saturating_duration_since(since) < MAX_IDLE_AGE {
                return Some(channel);
            }
        }
        None
    }

    /// Keeps a clean connection for the next exchange.
    pub fn put(&self, endpoint: &Endpoint, mut channel: Channel, now: Instant) {
        channel.input.release();
        channel.output.release();
        let mut idle = self.idle.borrow_mut();
        if idle.len() <= endpoint.slot {
            idle.resize_with(endpoint.slot + 1, Vec::new);
        }
        if idle[endpoint.slot].len() < MAX_IDLE {
            idle[endpoint.slot].push((channel, now));
        }
    }

    /// Closes what has been idle for too long or has been closed by the upstream.
    pub fn sweep(&self, now: Instant) {
        for stack in self.idle.borrow_mut().iter_mut() {
            stack.retain(|(channel, since)| {
                channel.is_quiet() && now.saturating_duration_since(*since) < MAX_IDLE_AGE
            });
        }
    }
}

/// `connect`, as long as `limit` allows.
///
/// # Errors
/// `UpstreamError`, `UpstreamTimeout`, or `Cut`.
pub async fn connect_within(endpoint: &Endpoint, limit: Duration, watch: &Watch) -> Result<Channel, Reject> {
    watch.within(limit);
    let mut connecting = pin!(connect(endpoint));
    let late = |expired| if expired == Expired::Cut { Reject::Cut } else { Reject::UpstreamTimeout };
    watch.bound(|cx| connecting.as_mut().poll(cx)).await.map_err(late)?
}

/// Opens a connection: the addresses in order, the first that answers.
///
/// # Errors
/// `UpstreamError` where none does.
async fn connect(endpoint: &Endpoint) -> Result<Channel, Reject> {
    let mut failure = Reject::UpstreamError("no address");
    for address in &endpoint.addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => return secure(endpoint, tcp).await,
            Err(_) => failure = Reject::UpstreamError("connect failed"),
        }
    }
    Err(failure)
}

async fn secure(endpoint: &Endpoint, tcp: TcpStream) -> Result<Channel, Reject> {
    // Small writes are whole messages here; an error only means that the peer is gone, which shows soon enough.
    let _ = tcp.set_nodelay(true);
    let Some((config, name)) = &endpoint.tls else { return Ok(Channel::new(Stream::Tcp(tcp))) };
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let tls = connector
        .connect(name.clone(), tcp)
        .await
        .map_err(|_| Reject::UpstreamError("TLS handshake failed"))?;
    Ok(Channel::new(Stream::TlsClient(Box::new(tls))))
}
