//! One request to an upstream and its response, over a connection of ours (HTTP/1.1).
//!
//! Driven by polling from the client's own task: there is no task and no channel between the two
//! connections. Both directions advance in every poll, so neither side can stall the other.

mod afterwards;
mod head_of_response;
mod unseen;

use crate::gate::body::BodySource;
use crate::gate::buffer::BUFFER_BYTES;
use crate::gate::endpoint::{Endpoint, Lease};
use crate::gate::headers::{self, Onward};
use crate::gate::http1::body::{BodyDecoder, Step};
use crate::gate::http1::framing::Framing;
use crate::gate::http1::head::{self, HeadLimits, ResponseHead};
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, RequestHead};
use crate::gate::stream::Channel;
use crate::gate::trailers;
use http::HeaderMap;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Limits of an upstream's response head.
const RESPONSE_LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: head::MAX_FIELDS };
/// Interim (1xx) responses taken before a final one.
pub const MAX_INTERIM: u32 = 8;
/// Body octets gathered before they are written to the upstream.
const GATHER_BYTES: usize = 64 * 1024;

/// How far the request body has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Plain,
    Chunked,
    Done,
    /// The upstream takes no more: it may have answered early.
    Abandoned,
}

/// Why there is no response.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// A reused connection had been closed: nothing of a response was seen. The request may have arrived.
    Stale,
    /// The upstream has not looked at the request (RFC 9113, 8.7), and nothing of its body is used up.
    Unseen,
    /// Anything else.
    Reject(Reject),
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

/// An exchange under way.
#[derive(Debug)]
pub struct Exchange {
    channel: Channel,
    lease: Lease,
    /// When the connection was made.
    made: Instant,
    /// Requests that it has carried.
    carried: u32,
    sending: Sending,
    is_reused: bool,
    interim: u32,
    scanned: usize,
    /// The response head, once `poll_head` has given it.
    pub head: ResponseHead,
    decoder: BodyDecoder,
    body_octets: u64,
    /// The most that they may be.
    pub body_limit: u64,
    /// Octets at the front of the input that the decoder has found to be body.
    found: usize,
    /// The trailer section so far, which the decoder bounds.
    trailers: Vec<u8>,
    /// Octets of the response that one read may bring.
    pub room: usize,
    /// The upstream has switched protocols: what follows is a tunnel.
    pub is_switched: bool,
}

impl Exchange {
    /// Over a fresh connection.
    #[must_use]
    pub fn new(channel: Channel, endpoint: &Arc<Endpoint>) -> Self {
        Self::with(channel, Lease::new(endpoint), 1)
    }

    /// Over a connection that is there before anybody asks.
    #[must_use]
    pub fn ahead(channel: Channel, endpoint: &Arc<Endpoint>) -> Self {
        Self::with(channel, Lease::idle(endpoint), 0)
    }

    fn with(channel: Channel, lease: Lease, carried: u32) -> Self {
        Self {
            channel,
            lease,
            made: Instant::now(),
            carried,
            sending: Sending::Done,
            is_reused: false,
            interim: 0,
            scanned: 0,
            head: ResponseHead::default(),
            decoder: BodyDecoder::default(),
            body_octets: 0,
            body_limit: u64::MAX,
            found: 0,
            trailers: Vec::new(),
            room: BUFFER_BYTES,
            is_switched: false,
        }
    }

    /// Begins: writes the request head; the body (if any) follows.
    pub fn begin(&mut self, request: &RequestHead, onward: &Onward<'_>) {
        headers::write_request(request, onward, &mut self.channel.output);
        self.sending = match request.body {
            BodyLength::None => Sending::Done,
            BodyLength::Exactly(_) => Sending::Plain,
            BodyLength::Unknown => Sending::Chunked,
        };
    }

    /// Once more, over a connection that was kept: all that is left of the last exchange is storage.
    pub fn renew(&mut self) {
        self.lease.begin();
        self.carried = self.carried.saturating_add(1);
        self.is_reused = true;
        (self.interim, self.scanned, self.body_octets, self.found) = (0, 0, 0, 0);
        self.trailers.clear();
    }

    /// Whether the connection is silent, as it must be while nothing is asked on it.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.channel.is_quiet()
    }

    /// The same as of the reactor's last turn. `false`: not known.
    #[must_use]
    pub fn is_known_quiet(&self) -> bool {
        self.channel.is_known_quiet()
    }

    /// Where it goes.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.lease.endpoint()
    }

    /// Whether the request has been passed on whole, or the upstream wants no more of it.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        matches!(self.sending, Sending::Done) && self.channel.is_flushed()
            || self.sending == Sending::Abandoned
    }

    /// Whether the request body was read to its end.
    #[must_use]
    pub fn is_body_read(&self) -> bool {
        self.sending == Sending::Done
    }

    /// Octets of request body passed on so far.
    #[must_use]
    pub fn body_octets(&self) -> u64 {
        self.body_octets
    }

    /// Whether the next step is the client's: more of its body.
    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        matches!(self.sending, Sending::Plain | Sending::Chunked) && self.channel.output.is_empty()
    }

    /// Passes the request body on as far as both sides let it.
    ///
    /// # Errors
    /// Only the client's: what the upstream does wrong shows where its response is read.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut impl BodySource,
    ) -> Poll<Result<(), Reject>> {
        loop {
            if self.sending == Sending::Abandoned {
                return Poll::Ready(Ok(()));
            }
            if !self.channel.output.is_empty() && ready!(self.channel.poll_flush(cx)).is_err() {
                self.abandon();
                continue;
            }
            if self.sending == Sending::Done {
                return self.poll_settle(cx);
            }
            match body.poll_data(cx)? {
                // Octets that a TLS stream still holds must leave before the wait.
                Poll::Pending => {
                    if self.channel.poll_flush(cx).ready_and(|result| result.is_err()) {
                        self.abandon();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(false) => self.end_body(),
                Poll::Ready(true) => self.gather(body)?,
            }
        }
    }

    fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reject>> {
        if ready!(self.channel.poll_flush(cx)).is_err() {
            self.abandon();
        }
        Poll::Ready(Ok(()))
    }

    /// Gives up passing the request body on: its end will not come, or nobody wants it.
    pub fn abandon(&mut self) {
        self.sending = Sending::Abandoned;
        let left = self.channel.output.len();
        self.channel.output.written(left);
    }

    fn end_body(&mut self) {
        if self.sending == Sending::Chunked {
            self.channel.output.put(b"0\r\n\r\n");
        }
        self.sending = Sending::Done;
    }

    fn gather(&mut self, body: &mut impl BodySource) -> Result<(), Reject> {
        let octets = body.data().len().min(GATHER_BYTES);
        if self.body_octets + octets as u64 > self.body_limit {
            return Err(Reject::BodyTooLarge);
        }
        if self.sending == Sending::Chunked {
            self.channel.put_chunk(&body.data()[..octets]);
        } else {
            self.channel.output.put(&body.data()[..octets]);
        }
        body.consume(octets);
        self.body_octets += octets as u64;
        Ok(())
    }

    /// Waits for the final response head, passing the request body on meanwhile.
    ///
    /// # Errors
    /// `Failure`; the connection is not to be used again.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHead,
        body: &mut impl BodySource,
    ) -> Poll<Result<(), Failure>> {
        loop {
            if !self.is_sent() {
                // Pending or not, the response may come before the request is whole.
                if let Poll::Ready(Err(reject)) = self.poll_send(cx, body) {
                    return Poll::Ready(Err(reject.into()));
                }
            }
            if self.take_head(request)? {
                return Poll::Ready(Ok(()));
            }
            self.room = body.room();
            match self.channel.poll_fill_some(cx, RESPONSE_LIMITS.bytes, self.room) {
                Poll::Ready(Ok(octets)) if octets > 0 => {}
                Poll::Ready(_) if self.is_reused && self.interim == 0 && self.channel.input.is_empty() => {
                    return Poll::Ready(Err(Failure::Stale));
                }
                Poll::Ready(_) => {
                    return Poll::Ready(Err(
                        Reject::UpstreamError("closed before its response was whole").into()
                    ));
                }
                Poll::Pending => {
                    body.poll_gone(cx)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// How the body will arrive; `Empty` where there is none whatever the fields say.
    #[must_use]
    pub fn body_framing(&self) -> Framing {
        if self.decoder.is_done() && self.found == 0 { Framing::Empty } else { self.head.framing }
    }

    /// Whether the response is whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.decoder.is_done() && self.found == 0
    }

    /// Waits for response body octets: `true` when `data` has some, `false` when the response is whole.
    ///
    /// # Errors
    /// It broke off or is malformed.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Reject>> {
        loop {
            if self.found > 0 {
                return Poll::Ready(Ok(true));
            }
            let in_trailers = self.decoder.is_in_trailers();
            match self
                .decoder
                .step(self.channel.input.data())
                .map_err(|error| Reject::UpstreamError(error.0))?
            {
                Step::Done => return Poll::Ready(Ok(false)),
                Step::Data(octets) => self.found = octets,
                Step::Skip(octets) => {
                    if in_trailers {
                        self.trailers.extend_from_slice(&self.channel.input.data()[..octets]);
                    }
                    self.channel.input.consume(octets);
                }
                Step::NeedInput => {
                    match ready!(self.channel.poll_fill_some(cx, RESPONSE_LIMITS.bytes, self.room)) {
                        Ok(octets) if octets > 0 => {}
                        Ok(_) if self.decoder.may_end() => {
                            self.decoder = BodyDecoder::default();
                            return Poll::Ready(Ok(false));
                        }
                        _ => return Poll::Ready(Err(Reject::UpstreamError("its response broke off"))),
                    }
                }
            }
        }
    }

    /// Whether something followed the body.
    #[must_use]
    pub fn has_trailers(&self) -> bool {
        // The empty line alone is what mostly stands there.
        self.trailers.len() > 2
    }

    /// What followed the body, as far as it may be passed on; taken once.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        if !self.has_trailers() {
            return None;
        }
        trailers::of_section(&std::mem::take(&mut self.trailers))
    }

    /// Response body octets that are there.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.channel.input.data()[..self.found]
    }

    /// Uses up response body octets.
    pub fn consume(&mut self, octets: usize) {
        self.channel.input.consume(octets);
        self.found -= octets;
    }

    /// Octets of the response that have been read and not used.
    #[must_use]
    pub fn stored_octets(&self) -> usize {
        self.channel.input.data().len()
    }

    /// Gives buffers back that hold nothing: the next octets may be wanted much later.
    pub fn release(&mut self) {
        self.channel.input.fit();
        // What is over goes back to the pool at once, where the small buffer is of use.
        if !self.is_done() {
            self.channel.output.release();
        }
    }
}

trait ReadyAnd<T> {
    /// Whether it is ready with a value of which `is` holds.
    fn ready_and(self, is: impl FnOnce(T) -> bool) -> bool;
}

impl<T> ReadyAnd<T> for Poll<T> {
    fn ready_and(self, is: impl FnOnce(T) -> bool) -> bool {
        match self {
            Poll::Ready(value) => is(value),
            Poll::Pending => false,
        }
    }
}
