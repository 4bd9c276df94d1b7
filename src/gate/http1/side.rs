//! The client's side of an HTTP/1.1 connection: its channel, and the body of the request under way.

use super::body::{BodyDecoder, Step};
use crate::gate::body::BodySource;
use crate::gate::buffer::BUFFER_BYTES;
use crate::gate::reject::Reject;
use crate::gate::request::RequestHead;
use crate::gate::stream::Channel;
use std::task::{Context, Poll, ready};

/// A client's channel and the request body on it.
#[derive(Debug)]
pub(super) struct ClientSide {
    pub(super) channel: Channel,
    decoder: BodyDecoder,
    /// Octets at the front of the input that are body.
    found: usize,
    /// The client waits for `100 Continue` before it sends the body.
    owes_continue: bool,
}

impl ClientSide {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, decoder: BodyDecoder::default(), found: 0, owes_continue: false }
    }

    /// A request's head was read: its body follows.
    pub(super) fn begin(&mut self, head: &RequestHead) {
        self.decoder = BodyDecoder::for_request(head.body);
        self.found = 0;
        self.owes_continue = head.expects_continue;
    }

    /// No `100 Continue` is owed any more.
    pub(super) fn no_continue(&mut self) {
        self.owes_continue = false;
    }

    /// Whether the input begins with what follows the body.
    pub(super) fn is_body_done(&self) -> bool {
        self.decoder.is_done() && self.found == 0
    }
}

impl BodySource for ClientSide {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Reject>> {
        loop {
            if self.found > 0 {
                return Poll::Ready(Ok(true));
            }
            match self
                .decoder
                .step(self.channel.input.data())
                .map_err(|error| Reject::MalformedRequest(error.0))?
            {
                Step::Done => return Poll::Ready(Ok(false)),
                Step::Data(octets) => self.found = octets,
                Step::Skip(octets) => self.channel.input.consume(octets),
                Step::NeedInput => {
                    if std::mem::take(&mut self.owes_continue) {
                        self.channel.output.put(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    if self.channel.poll_flush(cx)?.is_pending() {
                        return Poll::Pending;
                    }
                    if ready!(self.channel.poll_fill(cx, BUFFER_BYTES))? == 0 {
                        return Poll::Ready(Err(Reject::ClientGone));
                    }
                }
            }
        }
    }

    fn data(&self) -> &[u8] {
        &self.channel.input.data()[..self.found]
    }

    fn consume(&mut self, octets: usize) {
        self.channel.input.consume(octets);
        self.found -= octets;
    }

    fn has_hung_up(&self) -> bool {
        self.channel.is_input_closed
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Result<(), Reject> {
        // Octets that wait are the next request's, and an end of input may be half a close: neither is a reason
        // to give up. Only a broken connection is.
        if !self.channel.input.is_empty() || self.channel.is_input_closed {
            return Ok(());
        }
        match self.channel.poll_fill(cx, BUFFER_BYTES) {
            Poll::Ready(Err(_)) => Err(Reject::ClientGone),
            _ => Ok(()),
        }
    }
}

impl From<std::io::Error> for Reject {
    fn from(_: std::io::Error) -> Self {
        Self::ClientGone
    }
}
