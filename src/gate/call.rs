//! One request to an upstream and its response, on a stream of an HTTP/2 connection that others share (`trunk`).
//!
//! Driven by polling from the client's own task, as an exchange over HTTP/1.1 is; only the connection itself has a
//! task. Dropped before it is over, the stream is reset: the upstream learns that nobody waits.

mod tunnel;

pub use tunnel::Hold;

use crate::gate::body::BodySource;
use crate::gate::buffer::{BUFFER_BYTES, WriteBuffer};
use crate::gate::endpoint::{Endpoint, Lease};
use crate::gate::exchange::{Failure, MAX_INTERIM};
use crate::gate::headers::{self, Onward};
use crate::gate::http1::framing::Framing;
use crate::gate::http1::head::ResponseHead;
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, Field, Known, RequestHead, Span, Version, Wishes};
use crate::gate::trailers;
use crate::gate::trunk::{self, Ticket};
use crate::gate::websocket;
use bytes::{Buf, Bytes};
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// How far the request body has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    Done,
    /// The upstream takes no more: it may have answered early.
    Abandoned,
}

/// A request under way.
#[derive(Debug)]
pub struct Call {
    ticket: Ticket,
    lease: Lease,
    begun: Instant,
    waiting: Option<ResponseFuture>,
    request: Option<SendStream<Bytes>>,
    sending: Sending,
    /// The last thing that sending waited for was the client.
    is_starved: bool,
    interim: u32,
    response: Option<RecvStream>,
    current: Bytes,
    is_ended: bool,
    trailers: Option<HeaderMap>,
    /// A WebSocket was asked for.
    is_for_tunnel: bool,
    /// The upstream has opened it: what follows is a tunnel.
    pub is_switched: bool,
    body_octets: u64,
    /// The most that they may be.
    pub body_limit: u64,
    /// The response head, once `poll_head` has given it.
    pub head: ResponseHead,
}

impl Call {
    /// On a connection that has room for one more stream.
    #[must_use]
    pub fn new(ticket: Ticket, endpoint: &Arc<Endpoint>) -> Self {
        Self {
            ticket,
            lease: Lease::new(endpoint),
            begun: Instant::now(),
            waiting: None,
            request: None,
            sending: Sending::Done,
            is_starved: false,
            interim: 0,
            response: None,
            current: Bytes::new(),
            is_ended: false,
            trailers: None,
            is_for_tunnel: false,
            is_switched: false,
            body_octets: 0,
            body_limit: u64::MAX,
            head: ResponseHead::default(),
        }
    }

    /// Begins: sends the request head; the body (if any) follows.
    ///
    /// # Errors
    /// `Unseen` where the connection takes no more streams.
    pub fn begin(&mut self, request: &RequestHead, onward: &Onward<'_>) -> Result<(), Failure> {
        self.is_for_tunnel = request.asks_for_websocket();
        if self.is_for_tunnel && request.named(websocket::KEY).is_none() {
            return Err(Reject::MalformedRequest("a WebSocket without a key").into());
        }
        let is_tls = self.endpoint().link.load().tls.is_some();
        let head = request_head(request, onward, is_tls)
            .ok_or(Reject::MalformedRequest("HTTP/2 has no words for this request"))?;
        let has_body = request.body != BodyLength::None;
        let is_whole = !has_body && !self.is_for_tunnel;
        let (waiting, stream) = self.ticket.send(head, is_whole).map_err(|_| Failure::Unseen)?;
        self.waiting = Some(waiting);
        self.request = Some(stream);
        self.sending = if has_body { Sending::Open } else { Sending::Done };
        Ok(())
    }

    /// The count that it is under.
    pub fn lease_mut(&mut self) -> &mut Lease {
        &mut self.lease
    }

    /// Where it goes.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.lease.endpoint()
    }

    /// Whether the request has been passed on whole, or the upstream wants no more of it.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.sending != Sending::Open
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
        self.sending == Sending::Open && self.is_starved
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
            let Some(stream) = self.request.as_mut().filter(|_| self.sending == Sending::Open) else {
                return Poll::Ready(Ok(()));
            };
            if stream.poll_reset(cx).is_ready() {
                self.abandon();
                continue;
            }
            let polled = body.poll_data(cx)?;
            self.is_starved = polled.is_pending();
            if !ready!(polled) {
                // An error means that the stream is over, which shows where its response is read.
                let _ = match body.take_trailers() {
                    Some(trailers) => stream.send_trailers(trailers),
                    None => stream.send_data(Bytes::new(), true),
                };
                self.sending = Sending::Done;
                continue;
            }
            let wanted = body.data().len().min(BUFFER_BYTES);
            stream.reserve_capacity(wanted);
            if stream.capacity() == 0 && !matches!(ready!(stream.poll_capacity(cx)), Some(Ok(_))) {
                self.abandon();
                continue;
            }
            let octets = stream.capacity().min(wanted);
            if self.body_octets + octets as u64 > self.body_limit {
                return Poll::Ready(Err(Reject::BodyTooLarge));
            }
            if octets > 0 && stream.send_data(Bytes::copy_from_slice(&body.data()[..octets]), false).is_err()
            {
                self.abandon();
                continue;
            }
            body.consume(octets);
            self.body_octets += octets as u64;
        }
    }

    /// Gives up passing the request body on: its end will not come, or nobody wants it.
    pub fn abandon(&mut self) {
        self.sending = Sending::Abandoned;
    }

    /// Waits for the final response head, passing the request body on meanwhile.
    ///
    /// # Errors
    /// `Failure`.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHead,
        body: &mut impl BodySource,
    ) -> Poll<Result<(), Failure>> {
        if !self.is_sent()
            && let Poll::Ready(Err(reject)) = self.poll_send(cx, body)
        {
            return Poll::Ready(Err(reject.into()));
        }
        let Some(waiting) = &mut self.waiting else {
            return Poll::Ready(Err(Reject::UpstreamError("there is no response").into()));
        };
        while let Poll::Ready(Some(Ok(interim))) = waiting.poll_informational(cx) {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Poll::Ready(Err(Reject::UpstreamError("too many interim responses").into()));
            }
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                // HTTP/2 knows no such thing (RFC 9113, 8.6).
                return Poll::Ready(Err(Reject::UpstreamError("it switched protocols on a stream").into()));
            }
        }
        match Pin::new(waiting).poll(cx) {
            Poll::Pending => {
                body.poll_gone(cx)?;
                Poll::Pending
            }
            Poll::Ready(Ok(response)) => {
                self.waiting = None;
                Poll::Ready(self.take_head(response, request).map_err(Failure::Reject))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.failure(request, &error))),
        }
    }

    /// No answer has come in time.
    pub fn overdue(&self) {
        self.ticket.overdue(self.begun);
    }

    /// What the upstream says it has not looked at may be sent again, if nothing of its body is used up.
    fn failure(&self, request: &RequestHead, error: &h2::Error) -> Failure {
        let is_refused = error.reason() == Some(h2::Reason::REFUSED_STREAM) && error.is_reset();
        // Streams above the last one that a GOAWAY names are told of it; the others go on.
        let is_above = error.is_go_away();
        let is_unseen = error.is_remote() && (is_refused || is_above);
        let is_untouched =
            self.body_octets == 0 && (request.body == BodyLength::None || self.sending != Sending::Done);
        match error {
            _ if is_unseen && is_untouched && self.interim == 0 => Failure::Unseen,
            error if trunk::is_flood(error) => Reject::UpstreamError(trunk::FLOODED).into(),
            error if error.is_io() => Reject::UpstreamError("closed before its response was whole").into(),
            _ => Reject::UpstreamError("it reset the stream").into(),
        }
    }

    fn take_head(&mut self, response: Response<RecvStream>, request: &RequestHead) -> Result<(), Reject> {
        let (parts, stream) = response.into_parts();
        let head = &mut self.head;
        *head = ResponseHead { status: parts.status.as_u16(), version: Version::Http2, ..Default::default() };
        let mut append = |octets: &[u8]| {
            let start = head.text.len();
            head.text.extend_from_slice(octets);
            Span::new(start, octets.len()).unwrap_or_default()
        };
        let mut spans = Vec::with_capacity(parts.headers.len());
        for (name, value) in &parts.headers {
            let name = append(name.as_str().as_bytes());
            append(b": ");
            let value = append(value.as_bytes());
            append(b"\r\n");
            spans.push((name, value));
        }
        for (name, value) in spans {
            head.fields.push(Field::new(&head.text, name, value));
        }
        head.wishes = Wishes::of(&head.fields, &head.text);
        let lengths = parts.headers.get_all(http::header::CONTENT_LENGTH);
        let length = match (lengths.iter().next(), lengths.iter().count()) {
            (None, _) => None,
            (Some(value), 1) => value.to_str().ok().and_then(|text| text.parse().ok()),
            _ => return Err(Reject::UpstreamError("its content-length is given twice")),
        };
        self.is_ended = stream.is_end_stream() || request.is_head() || matches!(head.status, 204 | 304);
        head.framing = match length {
            Some(octets) => Framing::Length(octets),
            None if self.is_ended => Framing::Empty,
            None => Framing::Chunked,
        };
        head.keep_alive = true;
        if self.is_for_tunnel && matches!(head.status, 200..300) {
            tunnel::switch(head, request);
            self.is_switched = true;
        }
        self.response = Some(stream);
        Ok(())
    }

    /// How the body will arrive; `Empty` where there is none whatever the fields say.
    #[must_use]
    pub fn body_framing(&self) -> Framing {
        if self.is_done() { Framing::Empty } else { self.head.framing }
    }

    /// Whether the response is whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_ended && self.current.is_empty()
    }

    /// Waits for response body octets: `true` when `data` has some, `false` when the response is whole.
    ///
    /// # Errors
    /// It broke off or is malformed.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Reject>> {
        let broken = |_| Reject::UpstreamError("its response broke off");
        while self.current.is_empty() {
            let Some(stream) = self.response.as_mut().filter(|_| !self.is_ended) else {
                return Poll::Ready(Ok(false));
            };
            match ready!(stream.poll_data(cx)).transpose().map_err(broken)? {
                Some(data) => self.current = data,
                None => {
                    let trailers = ready!(stream.poll_trailers(cx)).map_err(broken)?;
                    self.trailers = trailers.as_ref().and_then(trailers::passed_on);
                    self.is_ended = true;
                }
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Response body octets that are there.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.current
    }

    /// Uses up response body octets, which lets the upstream send more.
    pub fn consume(&mut self, octets: usize) {
        self.current.advance(octets);
        if let Some(stream) = &mut self.response {
            // An error means that the stream is over, which shows when it is read.
            let _ = stream.flow_control().release_capacity(octets);
        }
    }

    /// Whether something followed the body that may be passed on.
    #[must_use]
    pub fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// What followed the body; taken once.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }
}

/// The head as HTTP/2 says it: with the very fields that an HTTP/1.1 upstream would get.
fn request_head(request: &RequestHead, onward: &Onward<'_>, is_tls: bool) -> Option<Request<()>> {
    let mut written = WriteBuffer::default();
    headers::write_request(request, onward, &mut written);
    let path = std::str::from_utf8(request.path()).ok()?;
    let scheme = if is_tls { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(onward.host).path_and_query(path).build().ok()?;
    let mut head = Request::new(());
    let is_for_tunnel = request.asks_for_websocket();
    match is_for_tunnel {
        true => tunnel::ask(&mut head),
        false => *head.method_mut() = Method::from_bytes(request.method()).ok()?,
    }
    *head.uri_mut() = uri;
    *head.version_mut() = http::Version::HTTP_2;
    for line in written.data().split(|octet| *octet == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_framing = matches!(
            Known::of(name),
            Known::Host | Known::Connection | Known::TransferEncoding | Known::Upgrade | Known::Te
        );
        let is_left_out = is_framing || (is_for_tunnel && tunnel::is_left_out(name));
        if !is_left_out {
            head.headers_mut()
                .append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
    }
    if trailers::are_taken(request) {
        head.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    Some(head)
}
