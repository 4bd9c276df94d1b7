//! A stream's answer: the upstream's response as its client reads it, or the gate's own.

use super::held::Piece;
use super::upload::Upload;
use super::{Told, status};
use crate::gate::forward::Forward;
use crate::gate::own::OwnResponse;
use crate::gate::pace::Pace;
use crate::gate::record::Outcome;
use crate::gate::reject::Reject;
use crate::gate::watch::{Expired, Watch, WatchGuard};
use crate::gate::{grpc, headers};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A stream's answer body.
pub(super) enum AnswerBody {
    /// Ready octets; taken once.
    Ready(Bytes),
    /// The upstream's, as it comes.
    Download(Box<Download>),
}

/// What an exchange that breaks off does to its stream: it is reset.
#[derive(Debug, thiserror::Error)]
#[error("the response broke off")]
pub(super) struct BrokenOff;

/// A response on its way back, while the request body may still be on its way out.
pub(super) struct Download {
    /// `None` once it is over.
    pub(super) exchange: Option<Forward>,
    pub(super) upload: Upload,
    pub(super) watch: WatchGuard,
    pub(super) idle_timeout: Duration,
    /// Of a gRPC call whose client gave it one.
    pub(super) deadline: Option<Instant>,
    pub(super) pace: Pace,
    pub(super) told: Box<Told>,
}

impl Download {
    /// The response; its body goes on being driven by hyper.
    pub(super) fn into_response(mut self) -> Response<AnswerBody> {
        let mut response = Response::new(AnswerBody::Ready(Bytes::new()));
        let Some(exchange) = &mut self.exchange else { return response };
        // The client may want the first octets much later.
        exchange.release();
        *response.status_mut() = status(exchange.head().status);
        response.headers_mut().reserve(exchange.head().fields.len() + 2);
        for (name, value) in headers::response_fields(exchange.head()) {
            // Both were held against RFC 9110's characters when the head was parsed.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                response.headers_mut().append(name, value);
            }
        }
        if let Some(via) = self.told.stream.worker.via(exchange.head().version) {
            response.headers_mut().append(http::header::VIA, via);
        }
        if let Some(octets) =
            headers::response_length(exchange.head()).filter(|_| exchange.head().status != 204)
        {
            response.headers_mut().insert(http::header::CONTENT_LENGTH, octets.into());
        }
        wait(&self.watch, (self.idle_timeout, self.deadline), self.told.stream.worker.clock.now());
        // An exchange that is over already tells its story by being dropped here.
        if !(exchange.is_done() && exchange.is_sent()) {
            *response.body_mut() = AnswerBody::Download(Box::new(self));
        } else {
            let mut done = self;
            done.finish();
        }
        response
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, Reject>>> {
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        if self.deadline.is_some_and(|deadline| deadline <= self.told.stream.worker.clock.now()) {
            return Poll::Ready(Some(Ok(self.too_late())));
        }
        if let Err(expired) = self.watch.check(cx) {
            let reject = if expired == Expired::Cut { Reject::Cut } else { Reject::UpstreamTimeout };
            return Poll::Ready(Some(Err(reject)));
        }
        // Between two polls it is the client that is waited for, unless the last one found nothing to give.
        let (now, taken) = (self.told.stream.worker.clock.now(), self.told.record.bytes_out);
        if !self.pace.keeps(now, false, taken) {
            return Poll::Ready(Some(Err(Reject::ClientStalled)));
        }
        let before = exchange.body_octets();
        if !exchange.is_sent()
            && let Poll::Ready(Err(reject)) = exchange.poll_send(cx, &mut self.upload)
        {
            return Poll::Ready(Some(Err(reject)));
        }
        if exchange.body_octets() != before {
            wait(&self.watch, (self.idle_timeout, self.deadline), self.told.stream.worker.clock.now());
        }
        let held = &self.told.stream.held;
        let room = held.room();
        exchange.set_room(room);
        match exchange.poll_data(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(reject)) => Poll::Ready(Some(Err(reject))),
            Poll::Ready(Ok(false)) => {
                let trailers = exchange.take_trailers();
                self.finish();
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(Ok(true)) => {
                let octets = exchange.data().len().min(room);
                let data = held.hold(&exchange.data()[..octets]);
                exchange.consume(octets);
                // The client may take this piece much later.
                exchange.release();
                self.told.record.bytes_out += octets as u64;
                wait(&self.watch, (self.idle_timeout, self.deadline), self.told.stream.worker.clock.now());
                self.pace.keeps(now, true, self.told.record.bytes_out);
                // The last octets end the stream in their own frame.
                if exchange.is_done() && exchange.is_sent() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
        }
    }

    /// Ends a call whose time is over: the upstream's stream is reset, the client told.
    fn too_late(&mut self) -> Frame<Piece> {
        if let Some(exchange) = self.exchange.take() {
            self.told.record.bytes_in = exchange.body_octets();
        }
        self.told.record.reject(&Reject::RequestTimeout);
        Frame::trailers(grpc::too_late())
    }

    fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.told.record.bytes_in = exchange.body_octets();
            exchange.finish(&self.told.stream.worker.pool, self.told.stream.worker.clock.now());
        }
    }
}

/// The next octets may take as long as the site allows, and as the call has left.
fn wait(watch: &Watch, (idle_timeout, deadline): (Duration, Option<Instant>), now: Instant) {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
    watch.within(left.map_or(idle_timeout, |left| left.min(idle_timeout)));
}

impl Drop for Download {
    fn drop(&mut self) {
        let record = &mut self.told.record;
        let Some(exchange) = &self.exchange else {
            if self.watch.is_cut() {
                record.reject(&Reject::Cut);
            }
            return;
        };
        record.bytes_in = exchange.body_octets();
        // Dropped on its way, as a stream is that was reset or took nothing for too long.
        if matches!(record.outcome, Outcome::Forwarded(_)) {
            record.reject(if self.watch.is_cut() { &Reject::Cut } else { &Reject::ClientGone });
        }
    }
}

impl Body for AnswerBody {
    type Data = Piece;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BrokenOff>>> {
        let download = match self.get_mut() {
            Self::Ready(octets) if octets.is_empty() => return Poll::Ready(None),
            Self::Ready(octets) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(octets).into())))),
            Self::Download(download) => download,
        };
        download.poll(cx).map(|polled| match polled {
            None => None,
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(reject)) => {
                download.told.record.reject(&reject);
                Some(Err(BrokenOff))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ready(octets) => octets.is_empty(),
            Self::Download(download) => download.exchange.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ready(octets) => SizeHint::with_exact(octets.len() as u64),
            Self::Download(_) => SizeHint::default(),
        }
    }
}

/// The gate's own answer; without one (nobody is there) an empty 502 that nobody will read.
pub(super) fn own(own: Option<OwnResponse>, is_head: bool) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Ready(Bytes::new()));
    let Some(own) = own else {
        *response.status_mut() = status(502);
        return response;
    };
    *response.status_mut() = status(own.status);
    for (name, value) in own.fields {
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    response.headers_mut().insert(http::header::CONTENT_LENGTH, own.body.len().into());
    if !is_head {
        *response.body_mut() = AnswerBody::Ready(own.body);
    }
    response
}
