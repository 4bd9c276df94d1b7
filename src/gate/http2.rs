//! HTTP/2 towards clients, by hyper: how heads and bodies arrive and leave; everything between is `handle`'s.

mod answer;
mod frames;
mod head;
mod held;
mod hpack;
mod tasks;
mod tunnel;
mod upload;
mod walk;
mod wire;

use crate::gate::body::BodySource as _;
use crate::gate::client::Client;
use crate::gate::lifetime::Lifetime;
use crate::gate::record::{Outcome, Record};
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, RequestHead};
use crate::gate::stream::Channel;
use crate::gate::watch::{Expired, Watch, WatchGuard};
use crate::gate::worker::Worker;
use crate::gate::{Answer, Incoming, handle};
use crate::gate::{grpc, own};
use answer::{AnswerBody, Download};
use bytes::Bytes;
use frames::{Beneath, Frames};
use held::Held;
use http::{Method, Request, Response, StatusCode};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tasks::Streams;
use upload::Upload;

/// Streams that a client may have open at once.
const MAX_STREAMS: u32 = 100;
/// Octets that a client may send on a stream before they are passed on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 384 * 1024;
/// Heads that a connection keeps the storage of.
const MAX_SPARE_HEADS: usize = 8;
/// Octets of a stream that h2 may hold before it takes the next piece: the pieces themselves are bounded (`held`).
const SEND_BUFFER: usize = 1;
/// Streams reset by the client that may wait to be noticed (rapid reset).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that we reset for errors of the client's before the connection ends.
const MAX_LOCAL_RESETS: usize = 256;
/// How long a connection may take to end once it was asked to.
const GOAWAY_TIME: Duration = Duration::from_secs(5);

/// One connection, as its streams see it.
struct Connection {
    worker: Rc<Worker>,
    client: Box<Client>,
    watch: WatchGuard,
    lifetime: Cell<Lifetime>,
    /// Wakes it when its time is over; `None`: that is never.
    age: Option<WatchGuard>,
    streams: Cell<usize>,
    tasks: Streams,
    held: Rc<Held>,
    /// Storage that ended streams leave to the next.
    heads: RefCell<Vec<RequestHead>>,
}

impl Connection {
    fn new(worker: Rc<Worker>, client: Box<Client>) -> Self {
        let watch = worker.clock.watch();
        watch.idle_within(worker.rules().limits.idle_timeout);
        let now = worker.clock.now();
        let lifetime = Lifetime::new(&worker.rules().limits, now, worker.next_number());
        let age = lifetime.time_left(now).map(|left| {
            let age = worker.clock.watch();
            age.within(left);
            age
        });
        Self {
            worker,
            client,
            watch,
            lifetime: Cell::new(lifetime),
            age,
            streams: Cell::new(0),
            tasks: Streams::default(),
            held: Rc::default(),
            heads: RefCell::default(),
        }
    }

    /// To be called wherever the connection is polled: it is to be woken when its time is over, and once.
    fn ages(&self, cx: &mut Context<'_>) {
        if let Some(age) = &self.age
            && age.check(cx).is_err()
        {
            age.unbounded();
        }
    }

    /// Counts a request.
    fn count(&self) {
        let mut lifetime = self.lifetime.get();
        lifetime.count();
        self.lifetime.set(lifetime);
    }

    /// Whether its client's next requests are to come over another connection.
    fn is_leaving(&self) -> bool {
        self.worker.clock.is_draining() || self.lifetime.get().is_over(self.worker.clock.now())
    }
}

/// A stream of a connection, open until it is dropped.
struct OpenStream(Rc<Connection>);

impl OpenStream {
    fn new(connection: Rc<Connection>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        connection.watch.unbounded();
        Self(connection)
    }
}

impl std::ops::Deref for OpenStream {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        if self.streams.get() == 0 {
            self.watch.idle_within(self.worker.rules().limits.idle_timeout);
        }
    }
}

/// What the protocol itself is held to.
fn builder(connection: &Connection, header_bytes: u32) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(connection.tasks.clone());
    builder
        .timer(hyper_util::rt::TokioTimer::new())
        .auto_date_header(false)
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(header_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS);
    builder
}

/// Serves a connection to its end. Octets that were read already come first.
pub async fn serve(worker: Rc<Worker>, client: Box<Client>, mut channel: Channel) {
    let prefix = Bytes::copy_from_slice(channel.input.data());
    channel.input.consume(prefix.len());
    let wire = wire::Wire::new(prefix, channel.stream);
    let header_bytes = u32::try_from(worker.rules().limits.header_bytes).unwrap_or(u32::MAX);
    let beneath = Beneath::new(&worker.clock, worker.rules().limits.header_timeout, header_bytes);
    let io = Frames::new(wire.clone(), Rc::clone(&beneath));
    let connection = Rc::new(Connection::new(worker, client));
    let builder = builder(&connection, header_bytes);
    let service = {
        let connection = Rc::clone(&connection);
        // In a box, hyper lets go of it once the answer's head is there, and not only when the stream ends.
        service_fn(move |request| {
            connection.count();
            Box::pin(stream(Rc::clone(&connection), request))
        })
    };
    let mut serving = pin!(builder.serve_connection(hyper_util::rt::TokioIo::new(io), service));
    let (mut is_ending, mut is_leaving) = (false, false);
    poll_fn(|cx| {
        // A field block that never ends, or a flood whose sender doesn't listen: nothing is worth waiting for.
        if beneath.watch.check(cx).is_err() {
            return Poll::Ready(());
        }
        // The client hears of it while its streams go on: its next ones come over another connection.
        connection.ages(cx);
        if !is_leaving && connection.is_leaving() {
            is_leaving = true;
            serving.as_mut().graceful_shutdown();
        }
        if let Err(expired) = connection.watch.check(cx) {
            if is_ending && expired == Expired::Deadline {
                return Poll::Ready(());
            }
            is_ending = true;
            serving.as_mut().graceful_shutdown();
            connection.watch.within(GOAWAY_TIME);
            // Registers for the new deadline; it can't have passed yet.
            let _ = connection.watch.check(cx);
        }
        let polled = serving.as_mut().poll(cx).map(drop);
        let polled = match polled {
            // The last request that it may carry has just come.
            Poll::Pending if !is_leaving && connection.is_leaving() => {
                is_leaving = true;
                serving.as_mut().graceful_shutdown();
                serving.as_mut().poll(cx).map(drop)
            }
            polled => polled,
        };
        // What all streams that were ready have to say leaves at once.
        if let Poll::Ready(Err(_)) = wire.poll_leave(cx) {
            return Poll::Ready(());
        }
        polled
    })
    .await;
    if beneath.is_flooded() {
        connection.worker.counters.one(|c| &c.floods);
    }
}

/// What log and counters will be told of a stream, however it ends. In a box: it is handed on more than once.
struct Told {
    stream: OpenStream,
    record: Record,
    head: RequestHead,
}

impl Drop for Told {
    fn drop(&mut self) {
        // A stream that its client resets is dropped wherever it waits: no response has come to it yet.
        if self.record.status == 0 && matches!(self.record.outcome, Outcome::Forwarded(_)) {
            self.record.reject(&Reject::ClientGone);
        }
        self.stream.worker.tell(&self.record, &self.stream.client, &self.head);
        let mut heads = self.stream.heads.borrow_mut();
        if heads.len() < MAX_SPARE_HEADS {
            heads.push(std::mem::take(&mut self.head));
        }
    }
}

/// A stream whose head was read.
struct Begun {
    /// What is wrong with the head.
    read: Result<(), Reject>,
    upload: Upload,
    upgrade: Option<OnUpgrade>,
    watch: WatchGuard,
    told: Box<Told>,
}

impl Begun {
    /// To be called from the stream's task.
    fn new(connection: Rc<Connection>, mut request: Request<hyper::body::Incoming>) -> Self {
        let upgrade = (request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let watch = connection.worker.clock.watch();
        if let Some(task) = connection.tasks.current() {
            watch.aborts(task);
        }
        let record = Record::begin(connection.worker.next_number());
        let mut head = connection.heads.borrow_mut().pop().unwrap_or_default();
        head.reset();
        let mut told = Box::new(Told { stream: OpenStream::new(connection), record, head });
        let mut upload = Upload::new(body, Rc::clone(&told.stream.held));
        let rules = told.stream.worker.rules();
        let read = head::read(&parts, upload.is_ended(), &rules.limits, &mut told.head);
        upload.expect(told.head.body);
        Self { read, upload, upgrade, watch, told }
    }
}

/// One stream: a request and its answer.
#[allow(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps room for its arguments twice, as long as it runs"
)]
fn stream(
    connection: Rc<Connection>,
    request: Request<hyper::body::Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> {
    async move {
        let worker = Rc::clone(&connection.worker);
        let Begun { read, mut upload, upgrade, watch, mut told } = Begun::new(connection, request);
        let deadline = grpc::timeout(&told.head).map(|time| worker.clock.now() + time);
        let whole = match read {
            Ok(()) if told.head.body == BodyLength::None => nothing_more(&worker, &mut upload, &watch).await,
            other => other,
        };
        let answer = match whole {
            Ok(()) => {
                let Told { stream, record, head } = &mut *told;
                let request = Incoming { head, body: &mut upload, watch: &watch };
                handle(&worker, &stream.client, request, record).await
            }
            Err(reject) => {
                told.record.reject(&reject);
                Answer::Own(reject)
            }
        };
        match (tunnel::checked(answer, upgrade.is_some(), &watch, &mut told), upgrade) {
            (Answer::Forward(exchange, _), Some(upgrade)) if exchange.is_switched() => {
                Ok(tunnel::open(told, watch, exchange, upgrade))
            }
            (Answer::Forward(exchange, target), _) => {
                let (idle_timeout, pace) = (target.timeouts.idle, worker.pace());
                let exchange = Some(exchange);
                let download = Download { exchange, upload, watch, idle_timeout, deadline, pace, told };
                Ok(download.into_response())
            }
            (Answer::Healthy, _) => Ok(by_the_gate(&worker, told, None)),
            (Answer::Own(reject), _) => Ok(by_the_gate(&worker, told, Some(&reject))),
        }
    }
}

/// What the gate answers itself: to a health check, or why not.
fn by_the_gate(worker: &Worker, mut told: Box<Told>, reject: Option<&Reject>) -> Response<AnswerBody> {
    let own = match reject {
        None => {
            (told.record.outcome, told.record.status) = (Outcome::Health, 200);
            Some(own::healthy())
        }
        Some(reject) => {
            let synced_at = worker.shared.cache.synced_at();
            own::respond(reject, &worker.rules(), synced_at, &told.head, &mut told.record)
        }
    };
    told.record.bytes_out = own.as_ref().map_or(0, |own| own.body.len() as u64);
    answer::own(own, told.head.is_head())
}

/// Waits for the end of a stream that has no body: what it may still send is no part of a request.
async fn nothing_more(worker: &Worker, upload: &mut Upload, watch: &Watch) -> Result<(), Reject> {
    if upload.is_ended() {
        return Ok(());
    }
    watch.within(worker.rules().limits.body_timeout);
    match watch.bound(|cx| upload.poll_data(cx)).await {
        Ok(Ok(false)) => Ok(()),
        Ok(Ok(true) | Err(_)) => Err(Reject::MalformedRequest("a body where there is none")),
        Err(_) => Err(Reject::RequestTimeout),
    }
}

/// A status that is surely one: ours and parsed ones are all in range.
fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY)
}
