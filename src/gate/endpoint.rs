//! An upstream as the whole process knows it: where it is, how it is reached, how it stands. Survives reloads.

use crate::config::{Alpn, Upstream, UpstreamScheme, Way};
use crate::gate::breaker::{Breaker, Place};
use crate::gate::listen::watch_peer;
use crate::gate::local;
use crate::gate::names::Addresses;
use crate::gate::proxy_header::{self, Speaker};
use crate::gate::reject::Reject;
use crate::gate::route::standing::{self, Standing, Wish};
use crate::gate::route::tally::Tallies;
use crate::gate::stream::{Channel, Stream};
use crate::gate::watch::{Expired, Watch};
use crate::telemetry::Meter;
use arc_swap::ArcSwap;
use socket2::SockRef;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// One server at one address, in one way of dealing with it.
#[derive(Debug)]
pub struct Endpoint {
    /// As configured, for logs: `http://10.0.0.1:8080`. The addresses of one name share it.
    pub label: Arc<str>,
    /// Which.
    pub upstream: Upstream,
    /// Where it is.
    pub address: SocketAddr,
    /// Where it is counted.
    pub meter: Meter,
    /// How it is dealt with.
    pub way: Arc<Way>,
    /// How it stands.
    pub standing: Standing,
    /// What secures the way there; swapped as a whole.
    pub link: ArcSwap<Link>,
    /// Its place in every worker's pool.
    pub slot: usize,
    /// What it bears, where there are limits.
    pub breaker: Option<Breaker>,
}

/// What secures the way to an endpoint.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// TLS to it, and the name that its certificate must hold.
    pub tls: Option<(Arc<rustls::ClientConfig>, rustls::pki_types::ServerName<'static>)>,
}

/// Every endpoint of this process: the same one for the same upstream, address and way over all reloads.
#[derive(Debug)]
pub struct Endpoints {
    since: Instant,
    known: Mutex<Known>,
    /// What is under way to each.
    tallies: Arc<Tallies>,
    /// What the names of upstreams stand for.
    pub addresses: Addresses,
}

#[derive(Debug, Default)]
struct Known {
    endpoints: HashMap<(Upstream, SocketAddr, Arc<Way>), Arc<Endpoint>>,
    /// What the operator wants, by label, whatever a reload changes.
    wishes: HashMap<Arc<str>, Wish>,
    slots: usize,
    /// Slots of endpoints that are gone: nobody holds one of those, or a connection to it.
    free: Vec<usize>,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            known: Mutex::default(),
            tallies: Arc::default(),
            addresses: Addresses::default(),
        }
    }
}

impl Endpoints {
    /// `at` on the clock of `Standing`: milliseconds, never 0.
    #[must_use]
    pub fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// The endpoint of a configured upstream at an address, which is reached by `link` from now on.
    #[must_use]
    pub fn endpoint(
        &self,
        upstream: &Upstream,
        address: SocketAddr,
        way: &Arc<Way>,
        link: Link,
    ) -> Arc<Endpoint> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (upstream.clone(), address, Arc::clone(way));
        if let Some(endpoint) = known.endpoints.get(&key) {
            endpoint.link.store(Arc::new(link));
            return Arc::clone(endpoint);
        }
        let label: Arc<str> = upstream.to_string().into();
        let standing = Standing::new(&self.tallies);
        if let Some(wish) = known.wishes.get(&label) {
            standing.set_wish(*wish, self.millis(Instant::now()));
        }
        let slot = known.free.pop().unwrap_or_else(|| {
            known.slots += 1;
            known.slots - 1
        });
        let endpoint = Arc::new(Endpoint {
            label,
            meter: Meter::default(),
            upstream: upstream.clone(),
            address,
            way: Arc::clone(way),
            standing,
            link: ArcSwap::from_pointee(link),
            slot,
            breaker: way.breaker.as_ref().map(Breaker::new),
        });
        known.endpoints.insert(key, Arc::clone(&endpoint));
        endpoint
    }

    /// Forgets those that no rules name any more and no connection goes to.
    pub fn prune(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { endpoints, free, .. } = &mut *known;
        endpoints.retain(|_, endpoint| {
            let is_used = Arc::strong_count(endpoint) > 1;
            if !is_used {
                free.push(endpoint.slot);
            }
            is_used
        });
    }

    /// What the operator wants of an upstream from now on, over all reloads. Says whether there is such a one.
    #[must_use]
    pub fn wish(&self, label: &str, wish: Wish) -> bool {
        let now_ms = self.millis(Instant::now());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for endpoint in known.endpoints.values().filter(|endpoint| *endpoint.label == *label) {
            endpoint.standing.set_wish(wish, now_ms);
            found = Some(Arc::clone(&endpoint.label));
        }
        let is_found = found.is_some();
        if let Some(label) = found {
            known.wishes.insert(label, wish);
        }
        is_found
    }
}

/// Counts an exchange as under way until it is ended or dropped.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    is_active: bool,
    /// For the exchange, where its server has limits.
    place: Option<Place>,
    /// For the connection, likewise.
    connection: Option<Place>,
}

impl Lease {
    /// Counts one more.
    #[must_use]
    pub fn new(endpoint: &Arc<Endpoint>) -> Self {
        let mut lease = Self::idle(endpoint);
        lease.begin();
        lease
    }

    /// Counts none yet.
    #[must_use]
    pub fn idle(endpoint: &Arc<Endpoint>) -> Self {
        Self { endpoint: Arc::clone(endpoint), is_active: false, place: None, connection: None }
    }

    /// Counts one more, after an end.
    pub fn begin(&mut self) {
        self.end();
        self.endpoint.standing.begin();
        self.is_active = true;
    }

    /// Holds a place for the exchange until it ends.
    pub fn hold(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// Holds a place for the connection.
    pub fn hold_connection(&mut self, place: Option<Place>) {
        self.connection = place;
    }

    /// Of what.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Counts one less.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_active) {
            self.endpoint.standing.end();
        }
        self.place = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end();
    }
}

impl Endpoint {
    /// Whether TLS passes through it unopened.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.upstream.scheme == UpstreamScheme::Tcp
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self.upstream.is_local() {
            true => self.upstream.host.clone(),
            false => self.address.to_string(),
        }
    }

    /// Whether it could be HTTP/2 that it speaks.
    #[must_use]
    pub fn may_speak_http2(&self) -> bool {
        match self.upstream.scheme {
            UpstreamScheme::H2c => true,
            UpstreamScheme::Https => self.way.tls.alpn.contains(&Alpn::Http2),
            UpstreamScheme::Http | UpstreamScheme::Tcp => false,
        }
    }

    /// Whether HTTP/1.1 could be.
    #[must_use]
    pub fn may_speak_http1(&self) -> bool {
        match self.upstream.scheme {
            UpstreamScheme::Http => true,
            UpstreamScheme::Https => self.way.tls.alpn.contains(&Alpn::Http1),
            UpstreamScheme::H2c | UpstreamScheme::Tcp => false,
        }
    }

    /// Whether it is, on this connection.
    #[must_use]
    pub fn speaks_http2(&self, stream: &Stream) -> bool {
        match stream {
            Stream::TlsClient(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
            _ => self.upstream.scheme == UpstreamScheme::H2c,
        }
    }

    /// `connect`, as long as `limit` allows.
    ///
    /// # Errors
    /// `UpstreamError`, `UpstreamTimeout`, or `Cut`.
    pub async fn connect_within(
        &self,
        limit: Duration,
        watch: &Watch,
        speaker: Option<Speaker<'_>>,
    ) -> Result<Channel, Reject> {
        watch.within(limit);
        let mut connecting = pin!(self.connect(speaker));
        watch.bound(|cx| connecting.as_mut().poll(cx)).await.map_err(late)?
    }

    /// Opens a connection, for a client or for the gate itself.
    ///
    /// # Errors
    /// `UpstreamError`.
    pub async fn connect(&self, speaker: Option<Speaker<'_>>) -> Result<Channel, Reject> {
        secure(&self.link.load_full(), self.open(speaker).await?).await
    }

    /// The same, offering HTTP/1.1 alone.
    ///
    /// # Errors
    /// `UpstreamError`.
    pub async fn connect_http1(&self, speaker: Option<Speaker<'_>>) -> Result<Channel, Reject> {
        let mut link = Link::clone(&self.link.load());
        if let Some((config, _)) = &mut link.tls {
            Arc::make_mut(config).alpn_protocols = vec![Alpn::Http1.name().to_vec()];
        }
        secure(&link, self.open(speaker).await?).await
    }

    async fn open(&self, speaker: Option<Speaker<'_>>) -> Result<TcpStream, Reject> {
        let connected = match self.upstream.is_local() {
            true => local::connect(&self.upstream.host).await,
            false => TcpStream::connect(self.address).await,
        };
        let mut tcp = connected.map_err(|_| Reject::UpstreamError("connect failed"))?;
        let (keep_alive, user_timeout) = (self.way.keep_alive, self.way.user_timeout);
        if (keep_alive.is_some() || user_timeout.is_some()) && !self.upstream.is_local() {
            // An error only means that the peer is gone already.
            let _ = watch_peer(&SockRef::from(&tcp), keep_alive, user_timeout);
        }
        standing::count(&self.standing.counts().connections);
        if let Some(version) = self.way.proxy_header {
            let header = proxy_header::write(version, speaker.as_ref());
            let written = tcp.write_all(&header).await;
            written.map_err(|_| Reject::UpstreamError("connect failed"))?;
        }
        Ok(tcp)
    }
}

/// What a wait for an upstream that lasted too long comes to.
#[must_use]
pub fn late(expired: Expired) -> Reject {
    if expired == Expired::Cut { Reject::Cut } else { Reject::UpstreamTimeout }
}

async fn secure(link: &Link, tcp: TcpStream) -> Result<Channel, Reject> {
    // Small writes are whole messages here; an error only means that the peer is gone, which shows soon enough.
    let _ = tcp.set_nodelay(true);
    let Some((config, name)) = &link.tls else { return Ok(Channel::new(Stream::Tcp(tcp))) };
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let tls = connector
        .connect(name.clone(), tcp)
        .await
        .map_err(|_| Reject::UpstreamError("TLS handshake failed"))?;
    Ok(Channel::new(Stream::TlsClient(Box::new(tls))))
}
