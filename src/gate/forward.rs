//! A request under way to an upstream, whichever HTTP that speaks: what both ways back to a client are written on.

mod changed;

use crate::gate::body::BodySource;
use crate::gate::call::{Call, Hold};
use crate::gate::endpoint::{Endpoint, Lease};
use crate::gate::exchange::{Exchange, Failure};
use crate::gate::headers::Onward;
use crate::gate::http1::framing::Framing;
use crate::gate::http1::head::ResponseHead;
use crate::gate::pool::Pool;
use crate::gate::reject::Reject;
use crate::gate::request::RequestHead;
use crate::gate::splice::Splice;
use crate::gate::stream::Channel;
use crate::gate::transform::Transform;
use http::HeaderMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::net::TcpStream;

/// An exchange with an upstream. Methods are those of `Exchange`, where they are explained.
#[derive(Debug)]
pub struct Forward {
    over: Over,
    /// What the body is read through, where a site's pages are looked at or changed.
    transform: Option<Box<Transform>>,
}

#[derive(Debug)]
enum Over {
    Http1(Box<Exchange>),
    Http2(Box<Call>),
}

impl From<Box<Exchange>> for Forward {
    fn from(exchange: Box<Exchange>) -> Self {
        Self { over: Over::Http1(exchange), transform: None }
    }
}

impl From<Call> for Forward {
    fn from(call: Call) -> Self {
        Self { over: Over::Http2(Box::new(call)), transform: None }
    }
}

macro_rules! each {
    ($self:expr, $it:ident => $do:expr) => {
        match $self {
            Over::Http1($it) => $do,
            Over::Http2($it) => $do,
        }
    };
}

#[allow(missing_docs, clippy::missing_errors_doc, reason = "as in `Exchange`")]
impl Forward {
    pub fn begin(&mut self, request: &RequestHead, onward: &Onward<'_>) -> Result<(), Failure> {
        match &mut self.over {
            Over::Http1(exchange) => {
                exchange.begin(request, onward);
                Ok(())
            }
            Over::Http2(call) => call.begin(request, onward),
        }
    }

    /// The count that it is under.
    pub fn lease_mut(&mut self) -> &mut Lease {
        each!(&mut self.over, it => it.lease_mut())
    }

    /// The most octets that the request's body may have.
    pub fn limit_body(&mut self, octets: u64) {
        each!(&mut self.over, it => it.body_limit = octets);
    }

    #[must_use]
    pub fn head_mut(&mut self) -> &mut ResponseHead {
        each!(&mut self.over, it => &mut it.head)
    }

    #[must_use]
    pub fn head(&self) -> &ResponseHead {
        each!(&self.over, it => &it.head)
    }

    /// Adds a field to the response's head.
    pub fn add_field(&mut self, name: &[u8], value: &[u8]) {
        each!(&mut self.over, it => it.head.add(name, value));
    }

    /// Whether the upstream has switched protocols.
    #[must_use]
    pub fn is_switched(&self) -> bool {
        each!(&self.over, it => it.is_switched)
    }

    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        each!(&self.over, it => it.endpoint())
    }

    #[must_use]
    pub fn is_sent(&self) -> bool {
        each!(&self.over, it => it.is_sent())
    }

    #[must_use]
    pub fn is_body_read(&self) -> bool {
        each!(&self.over, it => it.is_body_read())
    }

    #[must_use]
    pub fn body_octets(&self) -> u64 {
        each!(&self.over, it => it.body_octets())
    }

    /// No answer has come in time.
    pub fn overdue(&self) {
        if let Over::Http2(call) = &self.over {
            call.overdue();
        }
    }

    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        each!(&self.over, it => it.waits_for_client())
    }

    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut impl BodySource,
    ) -> Poll<Result<(), Reject>> {
        each!(&mut self.over, it => it.poll_send(cx, body))
    }

    pub fn abandon(&mut self) {
        each!(&mut self.over, it => it.abandon());
    }

    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHead,
        body: &mut impl BodySource,
    ) -> Poll<Result<(), Failure>> {
        each!(&mut self.over, it => it.poll_head(cx, request, body))
    }

    #[must_use]
    pub fn body_framing(&self) -> Framing {
        if self.is_done() { Framing::Empty } else { self.head().framing }
    }

    #[must_use]
    pub fn is_done(&self) -> bool {
        each!(&self.over, it => it.is_done()) && self.transform.as_ref().is_none_or(|it| it.is_done())
    }

    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Reject>> {
        if self.transform.is_some() { self.poll_changed(cx) } else { self.poll_own_data(cx) }
    }

    fn poll_own_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Reject>> {
        each!(&mut self.over, it => it.poll_data(cx))
    }

    /// Octets of the response that one read may bring.
    pub fn set_room(&mut self, octets: usize) {
        if let Over::Http1(exchange) = &mut self.over {
            exchange.room = octets;
        }
    }

    fn own_data(&self) -> &[u8] {
        each!(&self.over, it => it.data())
    }

    fn consume_own(&mut self, octets: usize) {
        each!(&mut self.over, it => it.consume(octets));
    }

    /// Whether something followed the response's body that may be passed on.
    #[must_use]
    pub fn has_trailers(&self) -> bool {
        each!(&self.over, it => it.has_trailers())
    }

    /// What followed the response's body, once it is whole; taken once.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        each!(&mut self.over, it => it.take_trailers())
    }

    #[must_use]
    pub fn unseen_octets(&self) -> u64 {
        match &self.over {
            Over::Http1(exchange) if self.transform.is_none() => exchange.unseen_octets(),
            _ => 0,
        }
    }

    pub fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        splice: &mut Splice,
        to: &TcpStream,
    ) -> Poll<Result<(), Reject>> {
        match &mut self.over {
            Over::Http1(exchange) => exchange.poll_splice(cx, splice, to),
            Over::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Octets of the response that have been read and lie here.
    #[must_use]
    pub fn stored_octets(&self) -> usize {
        match &self.over {
            Over::Http1(exchange) => exchange.stored_octets(),
            Over::Http2(_) => 0,
        }
    }

    pub fn release(&mut self) {
        if let Over::Http1(exchange) = &mut self.over {
            exchange.release();
        }
    }

    pub fn finish(self, pool: &Pool, now: Instant) {
        if let Over::Http1(exchange) = self.over {
            exchange.finish(pool, now);
        }
    }

    /// The connection or stream of a switched exchange, for a tunnel, and what keeps its server in use.
    #[must_use]
    pub fn into_tunnel(self) -> Option<(Channel, Hold)> {
        match self.over {
            Over::Http1(exchange) => {
                let (channel, lease) = exchange.into_tunnel();
                Some((channel, lease.into()))
            }
            Over::Http2(call) => call.into_tunnel(),
        }
    }
}
