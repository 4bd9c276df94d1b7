//! Upstream endpoints and each worker's idle connections to them: last in, first out.
//!
//! Only connections that are clean (exchange whole, nothing left over, silent) come back, and they are
//! looked at again before they are used.

use crate::config::{Upstream, UpstreamScheme};
use crate::gate::exchange::Exchange;
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
use tokio::runtime::{Handle, RuntimeMetrics};

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

/// Counts an exchange as under way until it is ended or dropped.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    is_active: bool,
}

impl Lease {
    /// Counts one more.
    #[must_use]
    pub fn new(endpoint: &Arc<Endpoint>) -> Self {
        let mut lease = Self { endpoint: Arc::clone(endpoint), is_active: false };
        lease.begin(endpoint);
        lease
    }

    /// Counts one more, after an end. After a reload the endpoint is another one of the same label.
    pub fn begin(&mut self, endpoint: &Arc<Endpoint>) {
        self.end();
        if !Arc::ptr_eq(&self.endpoint, endpoint) {
            self.endpoint = Arc::clone(endpoint);
        }
        self.endpoint.active.fetch_add(1, Ordering::Relaxed);
        self.is_active = true;
    }

    /// Of what.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Counts one less.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_active) {
            self.endpoint.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end();
    }
}

/// A connection that waits for an exchange.
#[derive(Debug)]
struct Idle {
    exchange: Box<Exchange>,
    since: Instant,
    /// The turn of the worker's reactor in which it came back.
    turn: u64,
}

/// One worker's idle upstream connections.
#[derive(Debug)]
pub struct Pool {
    /// By endpoint; each in the order in which they came back.
    idle: RefCell<Vec<Vec<Idle>>>,
    reactor: Option<RuntimeMetrics>,
}

impl Default for Pool {
    fn default() -> Self {
        let reactor = Handle::try_current().ok().map(|handle| handle.metrics());
        Self { idle: RefCell::default(), reactor }
    }
}

impl Pool {
    /// How often the reactor was asked for news; always 0 where there is none.
    fn turn(&self) -> u64 {
        self.reactor.as_ref().map_or(0, |reactor| reactor.worker_park_count(0))
    }

    /// The most recently used connection that is still silent.
    ///
    /// One that came back before the reactor's last turn would have been heard of by now if it had spoken or ended:
    /// those come first, for the kernel need not be asked. Of a younger one it is asked.
    #[must_use]
    pub fn take(&self, endpoint: &Endpoint, now: Instant) -> Option<Box<Exchange>> {
        let turn = self.turn();
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(endpoint.slot)?;
        while !stack.is_empty() {
            let settled = stack.partition_point(|idle| idle.turn < turn);
            let is_settled = settled > 0;
            let Idle { exchange, since, .. } =
                stack.remove(if is_settled { settled - 1 } else { stack.len() - 1 });
            let is_silent = is_settled && exchange.is_known_quiet() || exchange.is_quiet();
            if is_silent && now.saturating_duration_since(since) < MAX_IDLE_AGE {
                return Some(exchange);
            }
        }
        None
    }

    /// Keeps a clean connection for the next exchange.
    pub fn put(&self, exchange: Box<Exchange>, now: Instant) {
        let slot = exchange.endpoint().slot;
        let mut idle = self.idle.borrow_mut();
        if idle.len() <= slot {
            idle.resize_with(slot + 1, Vec::new);
        }
        if idle[slot].len() < MAX_IDLE {
            idle[slot].push(Idle { exchange, since: now, turn: self.turn() });
        }
    }

    /// Closes what has been idle for too long or has been closed by the upstream.
    pub fn sweep(&self, now: Instant) {
        for stack in self.idle.borrow_mut().iter_mut() {
            stack.retain(|idle| {
                idle.exchange.is_quiet() && now.saturating_duration_since(idle.since) < MAX_IDLE_AGE
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
