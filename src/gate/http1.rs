//! HTTP/1.1 towards clients: our own engine. One task per connection; requests one after the other, each
//! decided alone.

pub mod body;
pub mod framing;
pub mod head;
mod lines;
mod relay;
mod side;
mod waiting;

pub use waiting::Waiting;

use crate::gate::buffer::WriteBuffer;
use crate::gate::client::Client;
use crate::gate::ended::{By, Phase};
use crate::gate::http1::head::HeadLimits;
use crate::gate::lifetime::Lifetime;
use crate::gate::linger::{self, Bounds};
use crate::gate::own::{self, OwnResponse};
use crate::gate::record::{Outcome, Record, Waits};
use crate::gate::reject::{Afterwards, Reject};
use crate::gate::request::{RequestHead, Version};
use crate::gate::watch::{Expired, Watch};
use crate::gate::worker::Worker;
use crate::gate::{Answer, Incoming, handle, headers, http2, tunnel};
use relay::Broken;
use side::ClientSide;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use waiting::Ready;

/// How an HTTP/2 connection without TLS or upgrade begins (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is read of an unwanted body so that the client can see the answer.
const UNWANTED_BODY: Bounds =
    Bounds { octets: 256 * 1024, time: Duration::from_secs(30), silence: Duration::from_secs(5) };

/// What reading for a request came to.
enum Read {
    Request,
    /// The client speaks HTTP/2 with prior knowledge.
    Http2,
    /// Nothing, for a while.
    Silence,
    /// The connection is over: closed, idle for too long, or drained.
    End,
}

/// What becomes of the connection after a request.
enum Next {
    Request,
    Linger,
    Close,
}

/// Serves a connection to its end. What serving takes is in a box of its own, and given back in long silences.
#[allow(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps room for its arguments twice, as long as it runs"
)]
pub fn serve(worker: Rc<Worker>, mut waiting: Waiting) -> impl Future<Output = ()> {
    async move {
        loop {
            // Nothing of it but `waiting` is to live on during the wait, as what a `while let` looks at does.
            waiting = match Box::pin(serve_until_silent(&worker, waiting)).await {
                Some(silent) => silent,
                None => return,
            };
            waiting.wait(&worker).await;
        }
    }
}

/// Serves until the connection is over, or is silent: then what it waits with is given.
async fn serve_until_silent(worker: &Rc<Worker>, waiting: Waiting) -> Option<Waiting> {
    let Waiting { channel, client, lifetime, watch, mut is_first, mut has_waited } = waiting;
    let (side, head) = (ClientSide::new(channel), RequestHead::default());
    let mut connection = Connection { side, head, client, lifetime, head_us: None };
    loop {
        let next = match connection.read_request(worker, &watch, (is_first, has_waited)).await {
            Ok(Read::Request) => connection.request(worker, &watch).await,
            Ok(Read::Http2) => {
                drop(watch);
                let serving = http2::serve(Rc::clone(worker), connection.client, connection.side.channel);
                Box::pin(serving).await;
                return None;
            }
            Ok(Read::Silence) => {
                watch.forget();
                let Connection { side, client, lifetime, .. } = connection;
                return Some(Waiting {
                    channel: side.channel,
                    client,
                    lifetime,
                    watch,
                    is_first,
                    has_waited: true,
                });
            }
            Ok(Read::End) => Next::Close,
            Err(reject) => connection.refuse(worker, &watch, &reject).await,
        };
        (is_first, has_waited) = (false, false);
        match next {
            Next::Request => {}
            Next::Linger => connection.linger(&watch).await,
            Next::Close => connection.close(&watch).await,
        }
        if !matches!(next, Next::Request) {
            return None;
        }
        connection.side.channel.output.release();
    }
}

/// How far reading a head has come.
struct Reading {
    limits: HeadLimits,
    header_timeout: Duration,
    /// Octets that were looked through for the head's end.
    scanned: usize,
    /// Since when the head's own deadline runs.
    begun: Option<Instant>,
    may_skip_line: bool,
    /// How much longer than `waiting::AFTER` nothing may come.
    patience: Duration,
    /// Whether it waits here all the same for so long.
    may_stay: bool,
    /// Whether a connection may begin here that speaks HTTP/2.
    may_be_http2: bool,
}

struct Connection {
    side: ClientSide,
    head: RequestHead,
    client: Box<Client>,
    lifetime: Lifetime,
    /// How long the last head took to come.
    head_us: Option<u32>,
}

impl Connection {
    async fn read_request(
        &mut self,
        worker: &Worker,
        watch: &Watch,
        (is_first, has_waited): (bool, bool),
    ) -> Result<Read, Reject> {
        self.head.reset();
        let rules = worker.rules();
        let limits = &rules.limits;
        let patience = if is_first { limits.header_timeout } else { limits.idle_timeout };
        let place = Ready::take(worker);
        let is_split = place.is_some() && !has_waited;
        let mut reading = Reading {
            limits: HeadLimits { bytes: limits.header_bytes, fields: limits.headers },
            header_timeout: limits.header_timeout,
            scanned: 0,
            begun: None,
            may_skip_line: true,
            patience: if is_split { patience.saturating_sub(waiting::AFTER) } else { Duration::ZERO },
            may_stay: place.is_some(),
            may_be_http2: is_first && self.client.tls.is_none(),
        };
        if !has_waited {
            watch.idle_within(patience - reading.patience);
        }
        drop(rules);
        self.head_us = Some(0);
        let read = poll_fn(|cx| self.poll_request(cx, watch, &mut reading)).await;
        if let Some(begun) = reading.begun {
            Waits::add(&mut self.head_us, begun);
        }
        read
    }

    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        watch: &Watch,
        reading: &mut Reading,
    ) -> Poll<Result<Read, Reject>> {
        let limits = reading.limits;
        loop {
            if let Some(read) = self.take_request(reading)? {
                return Poll::Ready(Ok(read));
            }
            let channel = &mut self.side.channel;
            if !channel.input.is_empty() && reading.begun.is_none() {
                reading.begun = Some(Instant::now());
                watch.within(reading.header_timeout);
            }
            if let Err(expired) = watch.check(cx) {
                let is_silent = channel.input.is_empty() || expired == Expired::Drained;
                if expired == Expired::Deadline && is_silent && !reading.patience.is_zero() {
                    watch.idle_within(std::mem::take(&mut reading.patience));
                    if channel.is_at_rest() {
                        return Poll::Ready(Ok(Read::Silence));
                    }
                    continue;
                }
                return Poll::Ready(if is_silent { Ok(Read::End) } else { Err(Reject::RequestTimeout) });
            }
            let filled = channel.poll_fill(cx, limits.bytes);
            if filled.is_pending() {
                self.head.release();
                if !reading.may_stay && reading.begun.is_none() && channel.is_at_rest() {
                    return Poll::Ready(Ok(Read::Silence));
                }
            }
            match ready!(filled) {
                Ok(octets) if octets > 0 => {}
                Ok(_) if channel.input.is_empty() => return Poll::Ready(Ok(Read::End)),
                Ok(_) => {
                    return Poll::Ready(Err(Reject::MalformedRequest("the connection ended within a head")));
                }
                Err(_) => return Poll::Ready(Ok(Read::End)),
            }
        }
    }

    /// Takes a head from the input, if one is whole.
    fn take_request(&mut self, reading: &mut Reading) -> Result<Option<Read>, Reject> {
        let (limits, input) = (reading.limits, &mut self.side.channel.input);
        // One empty line before a request is let pass (RFC 9112, 2.2).
        if reading.may_skip_line && input.data().starts_with(b"\r\n") {
            input.consume(2);
            (reading.may_skip_line, reading.scanned) = (false, 0);
        }
        let raw = input.data();
        reading.may_skip_line &= raw.is_empty() || raw == b"\r";
        let preface = &HTTP2_PREFACE[..raw.len().min(HTTP2_PREFACE.len())];
        if reading.may_be_http2 && !raw.is_empty() && raw.starts_with(preface) {
            return Ok((raw.len() >= HTTP2_PREFACE.len()).then_some(Read::Http2));
        }
        let Some(end) = head::take_request(raw, reading.scanned, limits, &mut self.head)? else {
            reading.scanned = raw.len();
            return head::check_begun(raw).map(|()| None);
        };
        input.consume(end);
        // Answering may take long, and the next to read finds it warm.
        input.release();
        self.side.begin(&self.head);
        Ok(Some(Read::Request))
    }

    async fn request(&mut self, worker: &Worker, watch: &Watch) -> Next {
        let mut record = Record::begin(worker.next_number());
        record.waits.head_us = self.head_us;
        self.lifetime.count();
        self.head.keep_alive &= !worker.clock.is_draining()
            && !self.lifetime.is_over(worker.clock.now())
            && !self.client.is_to_go(&worker.rules().doors);
        let request = Incoming { head: &self.head, body: &mut self.side, watch };
        let answer = handle(worker, &self.client, request, &mut record).await;
        let next = match answer {
            Answer::Forward(exchange, _) if exchange.is_switched() => {
                headers::write_switch(exchange.head(), &mut self.side.channel.output);
                let Some((upstream, _hold)) = exchange.into_tunnel() else { return Next::Close };
                let running = Box::pin(tunnel::run(&mut self.side.channel, upstream, watch));
                record.phase = Phase::Tunnel;
                (record.bytes_in, record.bytes_out) = running.await;
                record.ended_by = watch.is_cut().then_some(By::Cut);
                Next::Close
            }
            Answer::Forward(mut exchange, target) => {
                let relayed = relay::run(
                    &mut self.side,
                    &mut exchange,
                    relay::Context::new(&self.head, &target, watch, worker),
                    &mut record,
                )
                .await;
                record.bytes_in = exchange.body_octets();
                exchange.finish(&worker.pool, worker.clock.now());
                match relayed {
                    Ok(next) => next,
                    Err(Broken::Unsent(reject)) => {
                        record.reject(&reject);
                        watch.serve(None);
                        self.answer(worker, watch, &reject, &mut record).await
                    }
                    // Cut short, so that no client takes half a response for a whole one.
                    Err(Broken::Amid(reject)) => {
                        record.reject(&reject);
                        Next::Close
                    }
                }
            }
            Answer::Own(reject) => {
                watch.serve(None);
                self.answer(worker, watch, &reject, &mut record).await
            }
            Answer::Healthy => {
                (record.outcome, record.status) = (Outcome::Health, 200);
                let patience = worker.rules().limits.body_timeout;
                self.write_own((watch, patience), &own::healthy(), Afterwards::KeepAlive, &mut record).await
            }
        };
        watch.serve(None);
        worker.tell(&record, &self.client, &self.head);
        next
    }

    /// Answers what is no request, and ends.
    async fn refuse(&mut self, worker: &Worker, watch: &Watch, reject: &Reject) -> Next {
        let mut record = Record::begin(worker.next_number());
        record.waits.head_us = self.head_us;
        record.reject(reject);
        let next = self.answer(worker, watch, reject, &mut record).await;
        worker.tell(&record, &self.client, &self.head);
        next
    }

    async fn answer(&mut self, worker: &Worker, watch: &Watch, reject: &Reject, record: &mut Record) -> Next {
        let rules = worker.rules();
        let synced_at = worker.shared.cache.synced_at();
        match own::respond(reject, &rules, synced_at, &self.head, record) {
            Some(response) => {
                self.write_own((watch, rules.limits.body_timeout), &response, reject.afterwards(), record)
                    .await
            }
            None => Next::Close,
        }
    }

    async fn write_own(
        &mut self,
        (watch, patience): (&Watch, Duration),
        response: &OwnResponse,
        afterwards: Afterwards,
        record: &mut Record,
    ) -> Next {
        // An unread body could be taken for the next request: the connection ends then.
        let is_whole = self.side.is_body_done();
        let keeps = afterwards == Afterwards::KeepAlive && self.head.keep_alive && is_whole;
        write_own(response, &self.head, keeps, &mut self.side.channel.output);
        record.bytes_out = if self.head.is_head() { 0 } else { response.body.len() as u64 };
        watch.within(patience);
        let channel = &mut self.side.channel;
        let flushed =
            watch.bound(|cx| if keeps { channel.poll_flush(cx) } else { channel.poll_flush_last(cx) });
        match flushed.await {
            Ok(Ok(())) if keeps => Next::Request,
            Ok(Ok(())) => Next::Linger,
            _ => Next::Close,
        }
    }

    /// Ends what is sent, and reads on for a while: a reset would take the answer back from the client.
    async fn linger(&mut self, watch: &Watch) {
        linger::run(&mut self.side.channel, watch, UNWANTED_BODY).await;
    }

    async fn close(&mut self, watch: &Watch) {
        if self.side.channel.ends_by_closing() {
            return;
        }
        watch.within(UNWANTED_BODY.silence);
        // Nobody is owed more than the try.
        let _ = watch.bound(|cx| self.side.channel.poll_shutdown(cx)).await;
    }
}

fn write_own(response: &OwnResponse, head: &RequestHead, keeps: bool, out: &mut WriteBuffer) {
    headers::put_status_line(out, response.status);
    for (name, value) in &response.fields {
        headers::put_field(out, name.as_bytes(), value);
    }
    out.put(b"content-length: ");
    headers::put_decimal(out, response.body.len() as u64);
    out.put(b"\r\n");
    if !keeps {
        headers::put_field(out, b"connection", b"close");
    } else if head.version == Version::Http10 {
        headers::put_field(out, b"connection", b"keep-alive");
    }
    out.put(b"\r\n");
    if !head.is_head() {
        out.put(&response.body);
    }
}
