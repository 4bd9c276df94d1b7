//! A response's way back to an HTTP/1.1 client, while the request body may still be on its way out.
//!
//! Head and small bodies leave in one write; large bodies go from the upstream's buffer straight to the
//! client's socket.

use super::Next;
use super::framing::Framing;
use super::side::ClientSide;
use crate::gate::forward::Forward;
use crate::gate::headers::{self, Delivery};
use crate::gate::pace::Pace;
use crate::gate::record::Record;
use crate::gate::reject::Reject;
use crate::gate::request::{RequestHead, Version};
use crate::gate::route::Target;
use crate::gate::splice::{self, Splice};
use crate::gate::trailers;
use crate::gate::watch::{Clock, Expired, Watch};
use crate::gate::worker::Worker;
use std::future::poll_fn;
use std::task::{self, Poll, ready};
use std::time::Duration;

/// Octets gathered before a write.
const GATHER_BYTES: usize = 16 * 1024;

/// What a relay needs to know.
pub(super) struct Context<'a> {
    head: &'a RequestHead,
    watch: &'a Watch,
    idle_timeout: Duration,
    pace: Pace,
    may_keep_alive: bool,
    via: &'a str,
    clock: &'a Clock,
}

impl<'a> Context<'a> {
    pub(super) fn new(head: &'a RequestHead, target: &Target, watch: &'a Watch, worker: &'a Worker) -> Self {
        Self {
            head,
            watch,
            idle_timeout: target.timeouts.idle,
            pace: worker.pace(),
            may_keep_alive: head.keep_alive && !worker.clock.is_draining(),
            via: &worker.shared.via,
            clock: &worker.clock,
        }
    }
}

/// Why a response did not get to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// Nothing of it was sent: the gate can still answer itself.
    Unsent(Reject),
    /// The client must not take what it has for whole.
    Amid(Reject),
}

/// Passes the response on to its end.
///
/// # Errors
/// `Broken`.
pub(super) async fn run(
    side: &mut ClientSide,
    exchange: &mut Forward,
    mut context: Context<'_>,
    record: &mut Record,
) -> Result<Next, Broken> {
    if context.watch.is_cut() {
        return Err(Broken::Unsent(Reject::Cut));
    }
    let delivery = match exchange.body_framing() {
        Framing::Empty | Framing::Length(_) => Delivery::AsFramed,
        _ if context.head.version == Version::Http10 => Delivery::UntilClose,
        _ => Delivery::Chunked,
    };
    // The end of an early answer ends the request: after a refusal nobody waits for the rest of its body.
    let is_early = !exchange.is_body_read() && (exchange.is_done() || exchange.head().status >= 400);
    let keeps = context.may_keep_alive && delivery != Delivery::UntilClose && !is_early;
    // The final head goes out: an interim one would stand within the response.
    side.no_continue();
    let to = (context.head.version, context.via);
    headers::write_response(exchange.head(), delivery, keeps, to, &mut side.channel.output);
    context.watch.within(context.idle_timeout);
    let mut relay = Relay {
        delivery,
        takes_trailers: delivery == Delivery::Chunked && trailers::are_taken(context.head),
        has_ended: false,
        is_last: !keeps,
        moved: 0,
        splice: Splice::default(),
    };
    let result = poll_fn(|cx| {
        if let Err(expired) = context.watch.check(cx) {
            if expired == Expired::Cut {
                return Poll::Ready(Err(Reject::Cut));
            }
            return Poll::Ready(Err(if side.channel.output.is_empty() {
                Reject::UpstreamTimeout
            } else {
                Reject::ClientStalled
            }));
        }
        let progress = |relay: &Relay, exchange: &Forward, side: &ClientSide| {
            (relay.octets(), exchange.body_octets(), side.channel.output.len())
        };
        let before = progress(&relay, exchange, side);
        let polled = relay.poll(cx, side, exchange);
        if progress(&relay, exchange, side) != before {
            context.watch.within(context.idle_timeout);
            // What was written and not taken stands in the one or the other place.
            let is_waiting =
                !side.channel.output.is_empty() || !exchange.data().is_empty() || relay.splice.holds_octets();
            if !context.pace.keeps(context.clock.now(), polled.is_pending() && is_waiting, relay.octets()) {
                return Poll::Ready(Err(Reject::ClientStalled));
            }
        }
        polled
    })
    .await;
    record.bytes_out = relay.octets();
    result.map_err(Broken::Amid)?;
    let is_whole = exchange.is_body_read() && side.is_body_done();
    Ok(match (keeps, context.head.keep_alive) {
        (true, _) if is_whole => Next::Request,
        // Its last request by its own word, and nothing unread: no reset can take the answer back.
        (false, false) if is_whole && side.channel.input.is_empty() => Next::Close,
        _ => Next::Linger,
    })
}

struct Relay {
    delivery: Delivery,
    takes_trailers: bool,
    has_ended: bool,
    /// Nothing follows it on the connection.
    is_last: bool,
    /// Octets of body passed on through this process.
    moved: u64,
    splice: Splice,
}

impl Relay {
    fn octets(&self) -> u64 {
        self.moved + self.splice.moved
    }

    /// Moves a large clear body unseen, where that is possible; else nothing.
    fn poll_splice(
        &mut self,
        cx: &mut task::Context<'_>,
        side: &mut ClientSide,
        exchange: &mut Forward,
    ) -> Poll<Result<(), Reject>> {
        let is_worth_it = self.splice.holds_octets() || exchange.unseen_octets() >= splice::FROM_BYTES;
        if !is_worth_it || self.delivery != Delivery::AsFramed || !exchange.is_sent() {
            return Poll::Ready(Ok(()));
        }
        ready!(side.channel.poll_flush(cx))?;
        match side.channel.stream.clear() {
            Some(to) => exchange.poll_splice(cx, &mut self.splice, to),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll(
        &mut self,
        cx: &mut task::Context<'_>,
        side: &mut ClientSide,
        exchange: &mut Forward,
    ) -> Poll<Result<(), Reject>> {
        loop {
            if !exchange.is_sent() && !self.has_ended {
                // Pending or not: the response goes on by itself.
                if let Poll::Ready(Err(reject)) = exchange.poll_send(cx, side) {
                    // A client that stops sending may still wait for the answer that made it stop.
                    if reject != Reject::ClientGone {
                        return Poll::Ready(Err(reject));
                    }
                    exchange.abandon();
                }
            }
            if self.has_ended {
                let channel = &mut side.channel;
                ready!(if self.is_last { channel.poll_flush_last(cx) } else { channel.poll_flush(cx) })?;
                return Poll::Ready(Ok(()));
            }
            if side.channel.output.len() >= GATHER_BYTES {
                ready!(side.channel.poll_flush(cx))?;
            }
            ready!(self.poll_splice(cx, side, exchange))?;
            match exchange.poll_data(cx) {
                Poll::Ready(Ok(true)) => ready!(self.pass_on(cx, side, exchange))?,
                Poll::Ready(Ok(false)) => {
                    if self.delivery == Delivery::Chunked {
                        side.channel.output.put(b"0\r\n");
                        if let Some(trailers) = exchange.take_trailers().filter(|_| self.takes_trailers) {
                            trailers::write(&trailers, &mut side.channel.output);
                        }
                        side.channel.output.put(b"\r\n");
                    }
                    self.has_ended = true;
                }
                Poll::Ready(Err(reject)) => {
                    // What came before belongs to the client, whether or not it can be sent now.
                    let _ = side.channel.poll_flush(cx);
                    return Poll::Ready(Err(reject));
                }
                Poll::Pending => {
                    ready!(side.channel.poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn pass_on(
        &mut self,
        cx: &mut task::Context<'_>,
        side: &mut ClientSide,
        exchange: &mut Forward,
    ) -> Poll<Result<(), Reject>> {
        let octets = exchange.data().len();
        let passed = if self.delivery == Delivery::Chunked {
            side.channel.put_chunk(exchange.data());
            octets
        } else if !side.channel.output.is_empty() || octets < GATHER_BYTES / 4 {
            let some = octets.min(GATHER_BYTES);
            side.channel.output.put(&exchange.data()[..some]);
            some
        } else {
            ready!(side.channel.poll_write(cx, exchange.data()))?
        };
        exchange.consume(passed);
        self.moved += passed as u64;
        Poll::Ready(Ok(()))
    }
}
