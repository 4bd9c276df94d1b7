//! HTTP/2 connections to upstreams: each worker's own, each shared by many requests.
//!
//! A new one is opened only when all that there are have no room, and by one request at a time: the others wait for
//! it. One that the upstream is about to close takes no more; one that is idle for long is given up.

use crate::gate::endpoint::Endpoint;
use crate::gate::reject::Reject;
use crate::gate::stream::{Channel, Stream};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// What a request for a WebSocket comes to where an upstream opens none. Asking is no fault of the upstream's.
pub const NO_TUNNEL: Reject = Reject::UpstreamError("it takes no WebSocket over HTTP/2");

/// Streams that one connection carries at most, whatever the upstream allows.
const MAX_STREAMS: usize = 100;
/// Connections to one endpoint from one worker.
const MAX_TRUNKS: usize = 64;
/// Octets that an upstream may send on a stream before they are passed on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What small DATA frames that wait to be passed on may cost, as h2 counts it (each up to 256 octets): one client that
/// takes what it is sent slowly, message by message, is no reason to end what all the others share.
const FRAME_BUDGET: usize = 4 * 1024 * 1024;
/// Octets of a request that wait for the connection.
const SEND_BUFFER: usize = 64 * 1024;
/// Of a response's head, and of its trailers.
const MAX_HEAD_BYTES: u32 = 64 * 1024;
/// How long a connection without streams is kept.
const MAX_IDLE_AGE: Duration = Duration::from_secs(50);

/// A connection.
#[derive(Debug)]
struct Trunk {
    sender: SendRequest<Bytes>,
    opened: Instant,
    streams: Cell<usize>,
    /// Its task has ended.
    is_over: Rc<Cell<bool>>,
    idle_since: Cell<Instant>,
    /// Asks whether the upstream's settings have come; none once they have.
    first_ping: Mutex<Option<PingPong>>,
}

impl Trunk {
    fn has_room(&self) -> bool {
        let most = self.sender.current_max_send_streams().min(MAX_STREAMS);
        !self.is_over.get() && self.streams.get() < most
    }
}

/// A place for one stream on a connection, until it is dropped.
#[derive(Debug)]
pub struct Ticket(Rc<Trunk>);

impl Ticket {
    fn new(trunk: &Rc<Trunk>) -> Self {
        trunk.streams.set(trunk.streams.get() + 1);
        Self(Rc::clone(trunk))
    }

    /// Whether the upstream opens tunnels (RFC 8441, 3). Its settings say so, which are the first thing that it sends:
    /// once a ping has come back, they are here. For the caller to bound in time.
    pub async fn takes_tunnels(&self) -> bool {
        let is_said = || self.0.sender.is_extended_connect_protocol_enabled();
        if is_said() {
            return true;
        }
        let mut first = self.0.first_ping.lock().await;
        if let Some(ping) = &mut *first {
            // It is on its way already where somebody gave up waiting for it. An error means that the connection is
            // over, which shows when it is used.
            let _ = ping.send_ping(Ping::opaque());
            let _ = poll_fn(|cx| ping.poll_pong(cx)).await;
            *first = None;
        }
        is_said()
    }

    /// Opens the stream.
    ///
    /// # Errors
    /// The connection takes no more: it is over for whoever comes next as well.
    pub fn send(
        &self,
        head: Request<()>,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        // A handle of its own: one that has a stream waiting for its turn takes no other.
        let sent = self.0.sender.clone().send_request(head, is_whole);
        if sent.is_err() {
            self.0.is_over.set(true);
        }
        sent
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
    }
}

/// One worker's connections to one endpoint, which lasts while they do: another never gets its slot meanwhile.
#[derive(Debug)]
struct Lines {
    endpoint: Arc<Endpoint>,
    trunks: RefCell<Vec<Rc<Trunk>>>,
    /// Held while one is being opened.
    opening: Mutex<()>,
}

impl Lines {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        Self { endpoint: Arc::clone(endpoint), trunks: RefCell::default(), opening: Mutex::default() }
    }

    /// The one with the fewest streams that has room and was opened since.
    fn take(&self, since: Option<Instant>) -> Option<Ticket> {
        let mut trunks = self.trunks.borrow_mut();
        trunks.retain(|trunk| !trunk.is_over.get());
        let is_fresh = |trunk: &Trunk| since.is_none_or(|since| trunk.opened >= since);
        let free = trunks.iter().filter(|trunk| trunk.has_room() && is_fresh(trunk));
        free.min_by_key(|trunk| trunk.streams.get()).map(Ticket::new)
    }
}

/// What an endpoint turned out to speak.
#[derive(Debug)]
pub enum Reached {
    /// HTTP/2.
    Trunk(Ticket),
    /// HTTP/1.1, although HTTP/2 was offered.
    Channel(Box<Channel>),
}

/// One worker's HTTP/2 connections.
#[derive(Debug, Default)]
pub struct Trunks(RefCell<HashMap<usize, Rc<Lines>>>);

impl Trunks {
    /// A place on a connection that is open already, and was opened since.
    #[must_use]
    pub fn take(&self, endpoint: &Endpoint, since: Option<Instant>) -> Option<Ticket> {
        self.0.borrow().get(&endpoint.slot)?.take(since)
    }

    /// The same, opening a connection where none has room. For the caller to bound in time.
    ///
    /// # Errors
    /// Those of connecting, or `Overloaded`.
    pub async fn reach(&self, endpoint: &Arc<Endpoint>, since: Option<Instant>) -> Result<Reached, Reject> {
        let lines = Rc::clone(
            self.0.borrow_mut().entry(endpoint.slot).or_insert_with(|| Rc::new(Lines::new(endpoint))),
        );
        let _opening = lines.opening.lock().await;
        // Somebody else may have opened one meanwhile.
        if let Some(ticket) = lines.take(since) {
            return Ok(Reached::Trunk(ticket));
        }
        if lines.trunks.borrow().len() >= MAX_TRUNKS {
            return Err(Reject::Overloaded);
        }
        let channel = lines.endpoint.connect(None).await?;
        if !endpoint.speaks_http2(&channel.stream) {
            return Ok(Reached::Channel(Box::new(channel)));
        }
        let trunk = open(channel.stream).await?;
        lines.trunks.borrow_mut().push(Rc::clone(&trunk));
        Ok(Reached::Trunk(Ticket::new(&trunk)))
    }

    /// Gives up what has been idle for too long or is over.
    pub fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, lines| {
            let mut trunks = lines.trunks.borrow_mut();
            trunks.retain(|trunk| {
                let idle = now.saturating_duration_since(trunk.idle_since.get());
                !trunk.is_over.get() && (trunk.streams.get() > 0 || idle < MAX_IDLE_AGE)
            });
            !trunks.is_empty() || Rc::strong_count(lines) > 1
        });
    }
}

/// How every connection to an upstream is set up.
#[must_use]
pub fn builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(FRAME_BUDGET)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_send_buffer_size(SEND_BUFFER)
        .initial_max_send_streams(MAX_STREAMS);
    builder
}

async fn open(stream: Stream) -> Result<Rc<Trunk>, Reject> {
    let opened = builder().handshake::<_, Bytes>(stream).await;
    let (sender, mut connection) =
        opened.map_err(|_| Reject::UpstreamError("the HTTP/2 handshake failed"))?;
    let first_ping = Mutex::new(connection.ping_pong());
    let is_over = Rc::new(Cell::new(false));
    let ended = Rc::clone(&is_over);
    tokio::task::spawn_local(async move {
        // However it ends, its streams learn of it.
        let _ = connection.await;
        ended.set(true);
    });
    let opened = Instant::now();
    let idle_since = Cell::new(opened);
    Ok(Rc::new(Trunk { sender, opened, streams: Cell::new(0), is_over, idle_since, first_ping }))
}
