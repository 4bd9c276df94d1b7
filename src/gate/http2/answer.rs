//! A stream's answer: the upstream's response as its client reads it, or the gate's own.

use super::connection::Connection;
use super::flow::Flow;
use super::protocol::Protocol;
use super::upload::Upload;
use crate::digits::Digits;
use crate::gate::forward::Forward;
use crate::gate::own::OwnResponse;
use crate::gate::pace::Pace;
use crate::gate::record::{Outcome, Record};
use crate::gate::reject::Reject;
use crate::gate::request::RequestHead;
use crate::gate::watch::{Expired, Watch};
use crate::gate::{grpc, headers};
use http::HeaderMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A response on its way back, while the request body may still be on its way out.
pub(super) struct Download<'a> {
    connection: &'a Connection,
    flow: &'a Rc<Flow>,
    /// `None` once it is over.
    exchange: Option<Forward>,
    upload: Upload,
    watch: &'a Watch,
    idle_timeout: Duration,
    /// Of a gRPC call whose client gave it one.
    deadline: Option<Instant>,
    pace: Pace,
    /// Octets that came with the head, or before the client took what came before them.
    held: Vec<u8>,
    /// What the connection was told of it, with what else of the response waits here.
    noted: usize,
    record: &'a mut Record,
}

/// The next octets may take so long; a gRPC call's end has an instant.
type Times = (Duration, Option<Instant>);

impl<'a> Download<'a> {
    pub(super) fn new(
        (connection, flow): (&'a Rc<Connection>, &'a Rc<Flow>),
        exchange: Forward,
        upload: Upload,
        (watch, (idle_timeout, deadline), pace): (&'a Watch, Times, Pace),
        record: &'a mut Record,
    ) -> Self {
        Self {
            connection,
            flow,
            exchange: Some(exchange),
            upload,
            watch,
            idle_timeout,
            deadline,
            pace,
            held: Vec::new(),
            noted: 0,
            record,
        }
    }

    /// Passes the response on to its end.
    pub(super) async fn run(mut self) {
        self.wait();
        let watch = self.watch;
        let done = match watch.bound(|_| self.poll_head_s_turn()).await {
            Ok(()) => {
                self.send_head();
                self.wait();
                poll_fn(|cx| self.poll(cx)).await
            }
            Err(Expired::Cut) => Err(Reject::Cut),
            Err(_) => Err(Reject::ClientStalled),
        };
        if let Err(reject) = done {
            self.record.reject(&reject);
        }
    }

    /// Waits until there is room for the head. What came with it waits as well.
    fn poll_head_s_turn(&mut self) -> Poll<()> {
        let turn = poll_fields(self.connection, self.flow);
        if turn.is_pending() {
            self.settle();
        }
        turn
    }

    fn send_head(&mut self) {
        let Some(exchange) = &self.exchange else { return };
        let head = exchange.head();
        let is_whole = exchange.is_done() && exchange.is_sent();
        let via = self.connection.worker.via(head.version);
        self.connection.with(|protocol, out| {
            protocol.send_fields(self.flow, is_whole, out, |encoder, out| {
                encoder.status(head.status, out);
                for (name, value) in headers::response_fields(head) {
                    encoder.put(name, value, out);
                }
                encoder.put(b"via", via.as_bytes(), out);
                if let Some(octets) = headers::response_length(head).filter(|_| head.status != 204) {
                    encoder.put(b"content-length", Digits::decimal(octets).as_bytes(), out);
                }
            });
        });
        if is_whole {
            self.finish();
        }
    }

    /// # Errors
    /// The response broke off: the client must not take what it has for whole.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reject>> {
        loop {
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(Ok(())) };
            let now = self.connection.worker.clock.now();
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                self.end_too_late();
                return Poll::Ready(Ok(()));
            }
            if let Err(expired) = self.watch.check(cx) {
                return Poll::Ready(Err(self.expired(expired)));
            }
            // Between two polls it is the client that is waited for, where something is held.
            if !self.pace.keeps(now, false, self.record.bytes_out) {
                return Poll::Ready(Err(Reject::ClientStalled));
            }
            let before = exchange.body_octets();
            if !exchange.is_sent() {
                // Pending or not: the response goes on by itself.
                if let Poll::Ready(Err(reject)) = exchange.poll_send(cx, &mut self.upload) {
                    return Poll::Ready(Err(reject));
                }
            }
            if exchange.is_sent() && !exchange.is_body_read() {
                // Others need the room that the rest takes.
                self.upload.discard();
            }
            if exchange.body_octets() != before {
                self.wait();
            }
            if self.held.is_empty() {
                if !ready!(self.poll_piece(cx))? {
                    ready!(poll_fields(self.connection, self.flow));
                    self.end();
                    return Poll::Ready(Ok(()));
                }
            } else if !self.send_held() {
                self.pace.keeps(now, true, self.record.bytes_out);
                return Poll::Pending;
            }
        }
    }

    /// Sends what comes next, or holds it; `false`: nothing does.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Reject>> {
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(Ok(false)) };
        let room = self.connection.with(|protocol, _| protocol.room());
        exchange.set_room(room);
        let data = match exchange.poll_data(cx) {
            Poll::Ready(Ok(true)) => exchange.data(),
            Poll::Ready(Err(reject)) => return Poll::Ready(Err(reject)),
            other => {
                // The next octets may come much later.
                exchange.release();
                return other;
            }
        };
        let mut octets = self.connection.send(self.flow, data, false);
        let sent = octets;
        if octets == 0 {
            // The client may take it much later.
            octets = data.len().min(room);
            self.held.extend_from_slice(&data[..octets]);
        }
        exchange.consume(octets);
        if sent == 0 {
            self.settle();
        } else {
            self.note(0);
            self.moved(sent);
        }
        Poll::Ready(Ok(true))
    }

    /// Sends what is held; `false`: nothing of it can be sent now.
    fn send_held(&mut self) -> bool {
        let octets = self.connection.send(self.flow, &self.held, false);
        if octets == 0 {
            return false;
        }
        self.held.drain(..octets);
        if self.held.is_empty() {
            self.held = Vec::new();
            self.note(0);
        }
        self.moved(octets);
        true
    }

    /// Nothing of the response goes on for now: what lies here takes no more than it must, and counts.
    fn settle(&mut self) {
        let stored = self.exchange.as_mut().map_or(0, |exchange| {
            exchange.release();
            exchange.stored_octets()
        });
        self.note(self.held.len() + stored);
    }

    /// Tells the connection how much of the response waits here.
    fn note(&mut self, octets: usize) {
        if self.noted != octets {
            self.connection.with(|protocol, _| protocol.hold(&mut self.noted, octets));
        }
    }

    /// Octets were sent just now. The last of them end the stream in their own frame.
    fn moved(&mut self, octets: usize) {
        self.record.bytes_out += octets as u64;
        self.wait();
        let Some(exchange) = &mut self.exchange else { return };
        if self.held.is_empty() && exchange.is_done() && exchange.is_sent() && !exchange.has_trailers() {
            self.connection.with(|_, out| Protocol::end_with_last(self.flow, octets, out));
            self.finish();
        }
    }

    fn expired(&self, expired: Expired) -> Reject {
        match expired {
            Expired::Cut => Reject::Cut,
            _ if self.held.is_empty() => Reject::UpstreamTimeout,
            _ => Reject::ClientStalled,
        }
    }

    /// The response is whole.
    fn end(&mut self) {
        let trailers = self.exchange.as_mut().and_then(Forward::take_trailers);
        self.finish();
        match trailers {
            Some(trailers) => self.send_trailers(&trailers),
            None => self.connection.with(|_, out| Protocol::end_stream(self.flow, out)),
        }
    }

    fn send_trailers(&self, trailers: &HeaderMap) {
        self.connection.with(|protocol, out| {
            protocol.send_fields(self.flow, true, out, |encoder, out| {
                for (name, value) in trailers {
                    encoder.put(name.as_str().as_bytes(), value.as_bytes(), out);
                }
            });
        });
    }

    /// Ends a call whose time is over: the upstream's stream is reset, the client told.
    fn end_too_late(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.record.bytes_in = exchange.body_octets();
        }
        self.record.reject(&Reject::RequestTimeout);
        self.send_trailers(&grpc::too_late());
    }

    fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.record.bytes_in = exchange.body_octets();
            let worker = &self.connection.worker;
            exchange.finish(&worker.pool, worker.clock.now());
        }
    }

    /// The next octets may take as long as the site allows, and as the call has left.
    fn wait(&self) {
        let now = self.connection.worker.clock.now();
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        self.watch.within(left.map_or(self.idle_timeout, |left| left.min(self.idle_timeout)));
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        self.note(0);
        let Some(exchange) = &self.exchange else {
            if self.watch.is_cut() {
                self.record.reject(&Reject::Cut);
            }
            return;
        };
        self.record.bytes_in = exchange.body_octets();
        // Dropped on its way, as a stream is that was reset.
        if matches!(self.record.outcome, Outcome::Forwarded(_)) {
            self.record.reject(if self.watch.is_cut() { &Reject::Cut } else { &Reject::ClientGone });
        }
    }
}

/// Waits until there is room for fields: with those of many streams a connection would hold more than it may.
fn poll_fields(connection: &Connection, flow: &Rc<Flow>) -> Poll<()> {
    if connection.with(|protocol, out| protocol.may_send_fields(flow, out)) {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}

/// Sends the gate's own answer; without one (nobody is there) the stream is reset.
///
/// It is made anew whenever the stream goes on, from the same facts: what its client does not take yet, beside a
/// hundred others maybe, is not held.
pub(super) async fn own(
    (connection, flow): (&Rc<Connection>, &Rc<Flow>),
    watch: &Watch,
    make: impl Fn(&mut Record) -> Option<OwnResponse>,
    (head, record): (&RequestHead, &mut Record),
) {
    watch.within(connection.worker.rules().limits.body_timeout);
    let (mut is_begun, mut sent) = (false, 0);
    // A client that takes nothing for so long has its stream reset.
    let _ = watch
        .bound(|_| {
            let Some(own) = make(record) else { return Poll::Ready(()) };
            let body = if head.is_head() { &[] } else { &own.body[..] };
            if !is_begun {
                ready!(poll_fields(connection, flow));
                send_own_head(connection, flow, &own, body.is_empty());
                is_begun = true;
            }
            while sent < body.len() {
                match connection.send(flow, &body[sent..], true) {
                    0 => return Poll::Pending,
                    octets => sent += octets,
                }
                record.bytes_out = sent as u64;
            }
            Poll::Ready(())
        })
        .await;
}

fn send_own_head(connection: &Connection, flow: &Flow, own: &OwnResponse, is_bare: bool) {
    connection.with(|protocol, out| {
        protocol.send_fields(flow, is_bare, out, |encoder, out| {
            encoder.status(own.status, out);
            for (name, value) in &own.fields {
                encoder.put(name.as_bytes(), value, out);
            }
            encoder.put(b"content-length", Digits::decimal(own.body.len() as u64).as_bytes(), out);
        });
    });
}
