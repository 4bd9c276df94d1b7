//! HTTP/2 connections to upstreams: each worker's own, each shared by many requests.
//!
//! A new one is opened only when all that there are have no room, and by one request at a time: the others wait for
//! it. One is open once the upstream's settings are here, and say that it takes requests. One that the upstream is about
//! to close takes no more; one that is idle for long, or says nothing while an answer is due, is given up.

mod guard;

use crate::gate::endpoint::Endpoint;
use crate::gate::reject::Reject;
use crate::gate::stream::{Channel, Stream};
use bytes::Bytes;
use guard::Guard;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// What a request for a WebSocket comes to where an upstream opens none. Asking is no fault of the upstream's.
pub const NO_TUNNEL: Reject = Reject::UpstreamError("it takes no WebSocket over HTTP/2");

/// What is said where the upstream of a check is gone.
const BROKE: &str = "the connection broke";
/// What is said of an upstream that sends frames without end that say nothing.
pub const FLOODED: &str = "it floods its connection";

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

/// Streams that were reset, of which what was on its way is still taken: a client that leaves ends up to a hundred at
/// once, and what upstreams had sent by then is no fault of theirs.
const MAX_RESET_STREAMS: usize = 512;
/// For how long.
const RESET_TIME: Duration = Duration::from_secs(5);

/// What a connection's task, and who reads for it, tell of it.
#[derive(Debug)]
struct State {
    /// It takes no more streams.
    is_over: Cell<bool>,
    /// The upstream's settings have come.
    has_settings: Cell<bool>,
    /// When the upstream was last heard.
    heard: Cell<Instant>,
    /// Streams that were begun.
    begun: Cell<u64>,
    /// Of who waits for it to be open.
    opener: RefCell<Option<Waker>>,
}

impl State {
    fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            is_over: Cell::new(false),
            has_settings: Cell::new(false),
            heard: Cell::new(now),
            begun: Cell::new(0),
            opener: RefCell::new(None),
        })
    }

    fn wake_opener(&self) {
        if let Some(waker) = self.opener.take() {
            waker.wake();
        }
    }
}

/// A connection.
#[derive(Debug)]
struct Trunk {
    sender: SendRequest<Bytes>,
    opened: Instant,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    state: Rc<State>,
}

impl Trunk {
    fn has_room(&self) -> bool {
        let most = self.sender.current_max_send_streams().min(MAX_STREAMS);
        !self.state.is_over.get() && self.streams.get() < most
    }

    /// Waits for the upstream's settings, and that by them it takes requests.
    ///
    /// # Errors
    /// It was over before.
    async fn settled(&self) -> Result<(), Reject> {
        poll_fn(|cx| {
            if self.state.is_over.get() {
                return Poll::Ready(Err(Reject::UpstreamError("the HTTP/2 handshake failed")));
            }
            if self.state.has_settings.get() && self.has_room() {
                return Poll::Ready(Ok(()));
            }
            self.state.opener.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
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

    /// Whether the upstream opens tunnels (RFC 8441, 3), as its settings say.
    #[must_use]
    pub fn takes_tunnels(&self) -> bool {
        self.0.sender.is_extended_connect_protocol_enabled()
    }

    /// An answer is overdue that was asked for at this time: where nothing at all was heard since, nobody may be there
    /// any more, and the connection takes no more streams.
    pub fn overdue(&self, since: Instant) {
        if self.0.state.heard.get() < since {
            self.0.state.is_over.set(true);
        }
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
        self.0.state.begun.set(self.0.state.begun.get() + 1);
        if sent.is_err() {
            self.0.state.is_over.set(true);
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
        trunks.retain(|trunk| !trunk.state.is_over.get());
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
                !trunk.state.is_over.get() && (trunk.streams.get() > 0 || idle < MAX_IDLE_AGE)
            });
            !trunks.is_empty() || Rc::strong_count(lines) > 1
        });
    }
}

/// How every connection to an upstream is set up.
fn builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(FRAME_BUDGET)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .reset_stream_duration(RESET_TIME)
        .initial_max_send_streams(MAX_STREAMS);
    builder
}

/// Asks one thing on a connection of its own, and gives the answer's status. For the caller to bound in time.
///
/// # Errors
/// What went wrong, in words.
pub async fn ask_once(stream: Stream, request: Request<()>) -> Result<u16, &'static str> {
    let state = State::new(Instant::now());
    let begun = builder().handshake::<_, Bytes>(Guard::new(stream, &state)).await;
    let (mut sender, connection) = begun.map_err(|_| "the HTTP/2 handshake failed")?;
    let asking = async {
        state.begun.set(1);
        let (response, _) = sender.send_request(request, true)?;
        response.await
    };
    let words = |error: &h2::Error, else_| if is_flood(error) { FLOODED } else { else_ };
    tokio::select! {
        answer = asking => match answer {
            Ok(answer) => Ok(answer.status().as_u16()),
            Err(error) => Err(words(&error, "it reset the stream")),
        },
        ended = connection => Err(ended.err().map_or(BROKE, |error| words(&error, BROKE))),
    }
}

/// Whether a connection ended for the frames that it was flooded with.
#[must_use]
pub fn is_flood(error: &h2::Error) -> bool {
    error.get_io().is_some_and(|error| error.kind() == guard::FLOODED)
}

/// Begins to speak HTTP/2 on a connection, and waits until it may be used. For the caller to bound in time.
async fn open(stream: Stream) -> Result<Rc<Trunk>, Reject> {
    let opened = Instant::now();
    let state = State::new(opened);
    let begun = builder().handshake::<_, Bytes>(Guard::new(stream, &state)).await;
    let (sender, mut connection) = begun.map_err(|_| Reject::UpstreamError("the HTTP/2 handshake failed"))?;
    let of_task = Rc::clone(&state);
    tokio::task::spawn_local(async move {
        poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            // What was read is in force now.
            of_task.wake_opener();
            // However it ends, its streams learn of it.
            polled.map(drop)
        })
        .await;
        of_task.is_over.set(true);
        of_task.wake_opener();
    });
    let trunk =
        Rc::new(Trunk { sender, opened, streams: Cell::new(0), idle_since: Cell::new(opened), state });
    trunk.settled().await?;
    Ok(trunk)
}
