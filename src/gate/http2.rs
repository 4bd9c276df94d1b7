//! HTTP/2 towards clients, by hyper: how heads and bodies arrive and leave; everything between is `handle`'s.

mod answer;
mod head;
mod upload;

use crate::gate::client::Client;
use crate::gate::own;
use crate::gate::record::{Outcome, Record};
use crate::gate::request::RequestHead;
use crate::gate::stream::Channel;
use crate::gate::watch::{Expired, WatchGuard};
use crate::gate::worker::Worker;
use crate::gate::{Answer, Incoming, handle};
use answer::{AnswerBody, Download};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use upload::Upload;

/// Streams that a client may have open at once.
const MAX_STREAMS: u32 = 128;
/// Octets that a client may send on a stream before they are passed on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Octets buffered for sending per stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams reset by the client that may wait to be noticed (rapid reset).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that we reset for errors of the client's before the connection ends.
const MAX_LOCAL_RESETS: usize = 256;
/// How long a connection may take to end once it was asked to.
const GOAWAY_TIME: Duration = Duration::from_secs(5);

/// One connection, as its streams see it.
struct Connection {
    worker: Rc<Worker>,
    client: Client,
    watch: WatchGuard,
    streams: Cell<usize>,
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

/// Runs hyper's tasks on this worker.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Serves a connection to its end. Octets that were read already come first.
pub async fn serve(worker: Rc<Worker>, client: Client, mut channel: Channel) {
    let prefix = Bytes::copy_from_slice(channel.input.data());
    channel.input.consume(prefix.len());
    let io = upload::Replay::new(prefix, channel.stream);
    let header_bytes = u32::try_from(worker.rules().limits.header_bytes).unwrap_or(u32::MAX);
    let watch = worker.clock.watch();
    watch.idle_within(worker.rules().limits.idle_timeout);
    let connection = Rc::new(Connection { worker, client, watch, streams: Cell::new(0) });
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(hyper_util::rt::TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(header_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS);
    let service = {
        let connection = Rc::clone(&connection);
        service_fn(move |request| stream(Rc::clone(&connection), request))
    };
    let mut serving = pin!(builder.serve_connection(hyper_util::rt::TokioIo::new(io), service));
    let mut is_ending = false;
    poll_fn(|cx| {
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
        serving.as_mut().poll(cx).map(drop)
    })
    .await;
}

/// One stream: a request and its answer.
async fn stream(
    connection: Rc<Connection>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let connection = OpenStream::new(connection);
    let (parts, body) = request.into_parts();
    let (worker, client) = (Rc::clone(&connection.worker), &connection.client);
    let mut record = Record::begin(worker.next_number());
    let mut head = RequestHead::default();
    let mut upload = Upload::new(body);
    let read = head::read(&parts, upload.is_ended(), &worker.rules().limits, &mut head);
    let watch = worker.clock.watch();
    let answer = match read {
        Ok(()) => {
            let request = Incoming { head: &head, body: &mut upload, watch: &watch };
            handle(&worker, client, request, &mut record).await
        }
        Err(reject) => {
            record.reject(&reject);
            Answer::Own(reject)
        }
    };
    let own = match answer {
        Answer::Forward(exchange, target) => {
            let idle_timeout = target.timeouts.idle;
            let download =
                Download { exchange: Some(exchange), upload, watch, idle_timeout, record, head, connection };
            return Ok(download.into_response());
        }
        Answer::Healthy => {
            (record.outcome, record.status) = (Outcome::Health, 200);
            Some(own::healthy())
        }
        Answer::Own(reject) => {
            own::respond(&reject, &worker.rules(), worker.shared.cache.synced_at(), &head, &mut record)
        }
    };
    record.bytes_out = own.as_ref().map_or(0, |own| own.body.len() as u64);
    worker.tell(&record, client, &head);
    Ok(answer::own(own, head.is_head()))
}

/// A status that is surely one: ours and parsed ones are all in range.
fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY)
}
