//! From an accepted socket to the protocol that serves it: PROXY header, ClientHello, handshake, ALPN.

use crate::config::{Alpn, Protocol, ProxyProtocol, TlsBlocked};
use crate::domain::{DomainName, HostForm};
use crate::gate::client::{Client, Listener, TlsFacts};
use crate::gate::hello::{self, Alert, HelloReader};
use crate::gate::linger::{self, Bounds};
use crate::gate::listen::{Place, Source};
use crate::gate::proxy_header::{self, Start};
use crate::gate::stream::{Channel, Prefixed, Stream};
use crate::gate::tls::Served;
use crate::gate::tls::clients::{Clients, Shown};
use crate::gate::watch::{Watch, WatchGuard};
use crate::gate::worker::Worker;
use crate::gate::{http1, http2, judge, passthrough};
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How long accepting pauses when the system has nothing to accept with (descriptors, memory).
const PAUSE: Duration = Duration::from_millis(50);

/// What is read behind a hello that was refused: as much again as the longest one, from a client on a slow line.
const AFTER_ALERT: Bounds =
    Bounds { octets: hello::MAX_HELLO_BYTES, time: Duration::from_secs(10), silence: Duration::from_secs(2) };

/// The longest hello, its records included, that rustls puts together: it ends longer ones without a word.
const MAX_SHAKEN_BYTES: usize = 0xffff;

/// Accepts on one listener until the worker drains.
pub async fn run(worker: Rc<Worker>, listener: Arc<Listener>, source: Source) {
    loop {
        match source.accept().await {
            Ok((tcp, peer)) => {
                if worker.shared.life.accepted(worker.clock.now()) {
                    tracing::info!("connections are accepted again");
                }
                let Some(place) = worker.shared.admission.admit() else {
                    worker.counters.one(|c| &c.refused);
                    continue;
                };
                let (worker, listener) = (Rc::clone(&worker), Arc::clone(&listener));
                tokio::task::spawn_local(connection(worker, listener, (tcp, peer), place));
            }
            Err(error) => {
                if worker.shared.life.accept_failed(worker.clock.now()) {
                    tracing::warn!(
                        "can't accept connections, clients wait (said once until it is over): {error}"
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Counts a connection as open, and holds its place, until it is dropped.
struct Open {
    worker: Rc<Worker>,
    place: Place,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.counters.one_less(|c| &c.open);
    }
}

/// A connection's service, to its end.
type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// Each stage is in a box of its own, given back when it is over: a connection that waits holds what it waits with.
fn connection(
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    accepted: (TcpStream, SocketAddr),
    place: Place,
) -> impl Future<Output = ()> {
    let arriving = Box::pin(arrive(worker, listener, accepted, place));
    async move {
        let Some((serving, _open)) = arriving.await else { return };
        serving.await;
    }
}

/// Finds out what a connection carries, and who serves that. `None`: it is over.
async fn arrive(
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    accepted: (TcpStream, SocketAddr),
    place: Place,
) -> Option<(Serving, Open)> {
    worker.counters.connection(worker.counters.listener_of(&listener.meter, || listener.label()));
    worker.counters.one(|c| &c.open);
    let mut open = Open { worker: Rc::clone(&worker), place };
    let (client, channel, watch) = welcome(&worker, listener, accepted, &mut open.place).await?;
    let protocol = worker.rules().doors.of(&client.listener).protocol;
    let (client, channel, is_http2) = match protocol {
        Protocol::Http => (client, channel, false),
        Protocol::Https => Box::pin(tls(&worker, client, channel, &watch)).await?,
        Protocol::TlsPassthrough => {
            let serving = async move { passthrough::serve(worker, client, channel, &watch).await };
            return Some((Box::pin(serving), open));
        }
    };
    let serving: Serving = if is_http2 {
        Box::pin(http2::serve(worker, client, channel))
    } else {
        let waiting = http1::Waiting::new(&worker, client, channel);
        Box::pin(http1::serve(worker, waiting))
    };
    Some((serving, open))
}

/// Who the client is, and whether it may come in.
async fn welcome(
    worker: &Rc<Worker>,
    listener: Arc<Listener>,
    (tcp, peer): (TcpStream, SocketAddr),
    place: &mut Place,
) -> Option<(Box<Client>, Channel, WatchGuard)> {
    let (is_trusted, expected) = {
        let rules = worker.rules();
        let door = rules.doors.of(&listener);
        (door.trusts(peer.ip()), door.proxy_protocol)
    };
    let mut channel = Channel::new(Stream::Tcp(tcp));
    let watch = worker.clock.watch();
    watch.within(worker.rules().limits.header_timeout);
    // A load balancer's connections are its clients': each counts as that of whom it names.
    if !is_trusted && !is_let_in(worker, &listener, peer, place) {
        return None;
    }
    let address = match (expected, is_trusted) {
        (ProxyProtocol::Off, _) | (ProxyProtocol::Optional, false) => peer,
        (ProxyProtocol::Required, false) => return None,
        (wanted, true) => Box::pin(client_address(wanted, peer, &mut channel, &watch)).await?,
    };
    if is_trusted && address != peer && !is_let_in(worker, &listener, address, place) {
        return None;
    }
    let balancer = (address != peer).then(|| Box::new(peer.ip()));
    Some((Box::new(Client::new(address, balancer, listener)), channel, watch))
}

/// Whether one more connection of this client's is taken; counted as one of its own.
fn is_let_in(worker: &Worker, listener: &Listener, client: SocketAddr, place: &mut Place) -> bool {
    let rules = worker.rules();
    if !rules.doors.of(listener).networks.admits(client.ip()) {
        worker.counters.one(|c| &c.denied);
        return false;
    }
    let (limits, client) = (&rules.limits, rules.limits.client.of(client.ip()));
    if let Some(rate) = limits.connection_rate
        && !worker.shared.connection_rates.admits(client, rate, worker.clock.now())
    {
        worker.counters.one(|c| &c.hurried);
        return false;
    }
    if !place.claim(client) {
        worker.counters.one(|c| &c.refused);
        return false;
    }
    true
}

/// Reads the PROXY header of a trusted peer; `None` ends the connection.
async fn client_address(
    wanted: ProxyProtocol,
    peer: SocketAddr,
    channel: &mut Channel,
    watch: &Watch,
) -> Option<SocketAddr> {
    loop {
        match proxy_header::parse(channel.input.data()) {
            Start::Header(octets, client) => {
                channel.input.consume(octets);
                return Some(client.unwrap_or(peer));
            }
            Start::Absent if wanted == ProxyProtocol::Optional => return Some(peer),
            Start::Absent | Start::Malformed => return None,
            Start::Incomplete => fill(channel, watch, proxy_header::MAX_HEADER_BYTES).await.ok()?,
        }
    }
}

/// Reads more.
///
/// # Errors
/// The connection ended, or the wait lasted too long.
pub(super) async fn fill(channel: &mut Channel, watch: &Watch, capacity: usize) -> io::Result<()> {
    let filled = watch.bound(|cx| channel.poll_fill(cx, capacity)).await;
    let octets = filled.map_err(|_| io::ErrorKind::TimedOut)??;
    if octets == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Reads until the ClientHello is whole; it stays in the channel's input. `Err(None)`: the client went away.
pub(super) async fn client_hello(
    channel: &mut Channel,
    watch: &Watch,
) -> Result<hello::Hello, Option<Alert>> {
    let mut reader = HelloReader::default();
    loop {
        match reader.read(channel.input.data()) {
            Ok(Some(hello)) => return Ok(hello),
            Ok(None) => fill(channel, watch, hello::MAX_HELLO_BYTES).await.map_err(|_| None)?,
            Err(alert) => return Err(Some(alert)),
        }
    }
}

/// Sends an alert, and reads on a little so that the client gets to see it.
pub(super) async fn alert(channel: &mut Channel, watch: &Watch, alert: Alert) {
    channel.output.put(&alert.record());
    linger::run(channel, watch, AFTER_ALERT).await;
}

/// Ends with a reset: no octet, no alert.
pub(super) fn reset(channel: &Channel) {
    if let Stream::Tcp(tcp) = &channel.stream {
        let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}

/// The handshake; `None` where it comes to nothing. Also whether HTTP/2 was agreed on.
async fn tls(
    worker: &Worker,
    mut client: Box<Client>,
    mut channel: Channel,
    watch: &Watch,
) -> Option<(Box<Client>, Channel, bool)> {
    let hello = match client_hello(&mut channel, watch).await {
        Ok(hello) if hello.octets > MAX_SHAKEN_BYTES => Err(Some(Alert::DecodeError)),
        read => read,
    };
    let served = match hello {
        Err(None) => return None,
        Err(Some(code)) => {
            worker.counters.one(|c| &c.handshakes_failed);
            alert(&mut channel, watch, code).await;
            return None;
        }
        Ok(hello) => {
            let certificates = worker.shared.certificates.load();
            let served = certificates.find(hello.server_name.as_ref(), hello.takes_ecdsa).cloned();
            served
                .filter(|_| may_shake_hands(worker, &client, hello.server_name.as_ref()))
                .map(|served| (served, hello))
        }
    };
    let Some((served, hello)) = served else {
        worker.counters.one(|c| &c.handshakes_failed);
        if worker.rules().tls_blocked == TlsBlocked::Reset {
            reset(&channel);
        } else {
            alert(&mut channel, watch, Alert::UnrecognizedName).await;
        }
        return None;
    };
    let Stream::Tcp(tcp) = channel.stream else { return None };
    let prefixed = Prefixed::new(Bytes::copy_from_slice(channel.input.data()), tcp);
    drop(channel.input);
    let clients = asked(worker, &client, hello.server_name.as_ref());
    let rules = worker.rules();
    let alpn = &rules.doors.of(&client.listener).alpn;
    let (stream, shown) = match handshake(&served, (&hello, alpn, clients), prefixed, watch).await {
        Ok(agreed) => agreed,
        Err(alerted) => {
            worker.counters.one(|c| &c.handshakes_failed);
            if let Some(mut prefixed) = alerted {
                linger::run(&mut prefixed, watch, AFTER_ALERT).await;
            }
            return None;
        }
    };
    worker.counters.one(|c| &c.handshakes);
    let session = stream.get_ref().1;
    let agreed = Alpn::BOTH.into_iter().find(|alpn| session.alpn_protocol() == Some(alpn.name()));
    client.tls = Some(Box::new(TlsFacts {
        sni: hello.server_name,
        names: Arc::clone(&served.names),
        version: if session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
            "1.3"
        } else {
            "1.2"
        },
        cipher: session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or("unknown"),
        agreed,
        shown,
    }));
    watch.unbounded();
    Some((client, Channel::new(Stream::TlsServer(Box::new(stream))), agreed == Some(Alpn::Http2)))
}

/// The handshake itself, and what the client has shown where it was asked to.
///
/// # Errors
/// It came to nothing; with the connection where an alert is to leave on it.
async fn handshake(
    served: &Served,
    (hello, alpn, clients): (&hello::Hello, &[Alpn], Option<Arc<Clients>>),
    prefixed: Prefixed,
    watch: &Watch,
) -> Result<(TlsStream<Prefixed>, Option<Shown>), Option<Prefixed>> {
    let config = match &clients {
        None if *alpn == Alpn::BOTH => Arc::clone(served.config_for(hello)),
        _ => served.variant(hello, clients.as_ref(), alpn).map_err(|_| None)?,
    };
    let mut accepting = pin!(tokio_rustls::TlsAcceptor::from(config).accept(prefixed).into_fallible());
    let accepted = watch.bound(|cx| accepting.as_mut().poll(cx)).await.map_err(|_| None)?;
    let is_to_leave = |(_, prefixed): (io::Error, Prefixed)| Some(prefixed).filter(|it| !it.is_flushed());
    let stream = accepted.map_err(is_to_leave)?;
    let shown = match &clients {
        None => None,
        Some(clients) => Some(Shown::new(clients, stream.get_ref().1.peer_certificates()).ok_or(None)?),
    };
    Ok((stream, shown))
}

/// What the site of that name asks its clients to show. Where it is blocked there is nothing but a page, for everybody.
fn asked(worker: &Worker, client: &Client, name: Option<&DomainName>) -> Option<Arc<Clients>> {
    let (rules, name) = (worker.rules(), name?);
    let site = judge::site(&rules, &HostForm::Name(*name))?;
    let clients = site.clients.as_ref()?;
    (!is_blocked(worker, client, name)).then(|| Arc::clone(clients))
}

/// Whether a name for which a certificate is held gets as far as a page.
fn may_shake_hands(worker: &Worker, client: &Client, name: Option<&DomainName>) -> bool {
    worker.rules().tls_blocked == TlsBlocked::Page
        || name.is_none_or(|name| !is_blocked(worker, client, name))
}

fn is_blocked(worker: &Worker, client: &Client, name: &DomainName) -> bool {
    let rules = worker.rules();
    let host = HostForm::Name(*name);
    let site = judge::site(&rules, &host);
    let defaults = rules.doors.of(&client.listener).defaults();
    let decision = judge::decide(&rules, defaults, (&host, site), &worker.filings(), worker.today());
    decision.verdict.is_blocked() && judge::mode(&rules, site) != crate::config::Mode::Monitor
}
