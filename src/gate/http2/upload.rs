//! A stream's request body as a `BodySource`.

use super::connection::Connection;
use super::flow::Flow;
use crate::gate::body::BodySource;
use crate::gate::reject::Reject;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A request body on its way in.
pub(super) struct Upload {
    connection: Rc<Connection>,
    flow: Rc<Flow>,
    current: Bytes,
    /// The client waits for a word before it sends the body.
    owes_continue: bool,
}

impl Upload {
    pub(super) fn new(connection: Rc<Connection>, flow: Rc<Flow>, owes_continue: bool) -> Self {
        Self { connection, flow, current: Bytes::new(), owes_continue }
    }

    /// Throws away what has come: nobody wants the rest.
    pub(super) fn discard(&mut self) {
        loop {
            match self.current.len() {
                0 => self.current = self.flow.take(),
                octets => self.consume(octets),
            }
            if self.current.is_empty() {
                return;
            }
        }
    }

    /// Whether the stream has ended, and nothing of it is left.
    pub(super) fn is_ended(&self) -> bool {
        self.current.is_empty() && self.flow.is_whole()
    }
}

impl BodySource for Upload {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, Reject>> {
        // The stream's future is woken by whatever comes.
        if self.current.is_empty() {
            self.current = self.flow.take();
        }
        if !self.current.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.flow.is_whole() {
            return Poll::Ready(Ok(false));
        }
        if std::mem::take(&mut self.owes_continue) {
            self.connection.with(|protocol, out| protocol.go_on(&self.flow, out));
        }
        Poll::Pending
    }

    fn data(&self) -> &[u8] {
        &self.current
    }

    fn consume(&mut self, octets: usize) {
        self.current.advance(octets);
        if self.current.is_empty() {
            // Not even an empty rest holds the piece.
            self.current = Bytes::new();
        }
        self.connection.with(|protocol, out| protocol.used(&self.flow, octets, out));
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.flow.take_trailers()
    }

    fn room(&self) -> usize {
        self.connection.with(|protocol, _| protocol.room())
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Result<(), Reject> {
        // A stream whose client is gone is dropped.
        Ok(())
    }
}
