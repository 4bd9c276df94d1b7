//! A stream's request body as a `BodySource`.

use super::held::Held;
use crate::gate::body::BodySource;
use crate::gate::reject::Reject;
use crate::gate::request::BodyLength;
use crate::gate::trailers;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A request body on its way in.
#[derive(Debug)]
pub(super) struct Upload {
    body: hyper::body::Incoming,
    current: Bytes,
    /// Octets that `content-length` still promises.
    left: Option<u64>,
    /// The last of them, while the stream has not ended: with them an upstream would take the request for whole.
    withheld: Bytes,
    trailers: Option<HeaderMap>,
    held: Rc<Held>,
}

impl Upload {
    pub(super) fn new(body: hyper::body::Incoming, held: Rc<Held>) -> Self {
        Self { body, current: Bytes::new(), left: None, withheld: Bytes::new(), trailers: None, held }
    }

    /// What the head says of the body's length.
    pub(super) fn expect(&mut self, body: BodyLength) {
        self.left = match body {
            BodyLength::None => Some(0),
            BodyLength::Exactly(octets) => Some(octets),
            BodyLength::Unknown => None,
        };
    }

    /// Withholds what would make the body whole while more may come.
    fn take(&mut self, data: Bytes) {
        let Some(left) = &mut self.left else { return self.current = data };
        *left = left.saturating_sub(data.len() as u64);
        if *left == 0 && !self.body.is_end_stream() {
            self.withheld = data;
        } else {
            self.current = data;
        }
    }

    /// Whether the stream ended with its head.
    pub(super) fn is_ended(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl BodySource for Upload {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Reject>> {
        while self.current.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => self.take(data),
                    // They may name anything (attacks, section 3).
                    Err(frame) => {
                        self.trailers = frame.trailers_ref().and_then(trailers::passed_on);
                    }
                },
                // Also a length that is not the one that was promised: h2 holds them against each other.
                Some(Err(_)) => return Poll::Ready(Err(Reject::ClientGone)),
                None if self.withheld.is_empty() => return Poll::Ready(Ok(false)),
                None => self.current = std::mem::take(&mut self.withheld),
            }
        }
        Poll::Ready(Ok(true))
    }

    fn data(&self) -> &[u8] {
        &self.current
    }

    fn consume(&mut self, octets: usize) {
        self.current.advance(octets);
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    fn room(&self) -> usize {
        self.held.room()
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Result<(), Reject> {
        // hyper drops the stream's task when the client resets it.
        Ok(())
    }
}
