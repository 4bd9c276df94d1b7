//! One stream between the connection, which reads frames, and the stream's own future, which serves a request: what has
//! come on it, what may be sent, and whether it is over.

use super::frame::Code;
use crate::gate::request::BodyLength;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Waker};

/// Octets of a body that are kept in one piece: what is passed on of it is given back with the last of them.
const PIECE_BYTES: usize = 16 * 1024;

/// How far what is sent on a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing.
    Nothing,
    /// The answer's head.
    Head,
    /// All there is.
    End,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Flow {
    /// Its number.
    pub(super) id: u32,
    /// Of its future, once that has run.
    waker: RefCell<Option<Waker>>,
    /// Octets that its client takes at the moment; below none after the client has taken back what it gave.
    pub(super) send_window: Cell<i64>,
    /// Octets that its client may send at the moment.
    pub(super) receive_window: Cell<u32>,
    /// Of the body, not yet taken by the future.
    body: RefCell<VecDeque<BytesMut>>,
    /// Octets that came and were not yet passed on, padding left out.
    pub(super) unused: Cell<usize>,
    /// Octets passed on that the client does not know of.
    pub(super) unsaid: Cell<u32>,
    /// Octets that `content-length` still promises.
    pub(super) left: Cell<Option<u64>>,
    /// The client has ended it.
    pub(super) is_ended: Cell<bool>,
    trailers: RefCell<Option<HeaderMap>>,
    pub(super) sent: Cell<Sent>,
    /// Why it was reset by us.
    pub(super) reset: Cell<Option<Code>>,
    /// That was for an error of the client's.
    pub(super) is_at_fault: Cell<bool>,
    /// The client has reset it, or its connection is over.
    is_gone: Cell<bool>,
    /// It waits for its turn to send.
    pub(super) is_queued: Cell<bool>,
    /// What it wants to send then is fields, which no window bounds.
    pub(super) has_fields: Cell<bool>,
}

impl Flow {
    pub(super) fn new(id: u32, send_window: i64, receive_window: u32) -> Self {
        Self {
            id,
            waker: RefCell::new(None),
            send_window: Cell::new(send_window),
            receive_window: Cell::new(receive_window),
            body: RefCell::default(),
            unused: Cell::new(0),
            unsaid: Cell::new(0),
            left: Cell::new(None),
            is_ended: Cell::new(false),
            trailers: RefCell::new(None),
            sent: Cell::new(Sent::Nothing),
            reset: Cell::new(None),
            is_at_fault: Cell::new(false),
            is_gone: Cell::new(false),
            is_queued: Cell::new(false),
            has_fields: Cell::new(false),
        }
    }

    /// What the head says of the body's length.
    pub(super) fn expect(&self, body: BodyLength) {
        self.left.set(match body {
            BodyLength::None => Some(0),
            BodyLength::Exactly(octets) => Some(octets),
            BodyLength::Unknown => None,
        });
    }

    /// To be called wherever its future is polled.
    pub(super) fn runs(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Whether its future has run yet.
    pub(super) fn has_begun(&self) -> bool {
        self.waker.borrow().is_some()
    }

    /// There is news for its future.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Nobody takes anything of it any more.
    pub(super) fn go(&self) {
        self.is_gone.set(true);
        self.wake();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// Whether nothing more is to be sent on it.
    pub(super) fn is_over(&self) -> bool {
        self.is_gone() || self.reset.get().is_some() || self.sent.get() == Sent::End
    }

    /// Octets of its body came.
    pub(super) fn receive(&self, octets: &[u8]) {
        if !octets.is_empty() {
            self.keep(octets);
            self.unused.set(self.unused.get() + octets.len());
            self.wake();
        }
    }

    fn keep(&self, octets: &[u8]) {
        let mut body = self.body.borrow_mut();
        match body.back_mut().filter(|last| last.len() + octets.len() <= PIECE_BYTES) {
            Some(last) => last.extend_from_slice(octets),
            None => body.push_back(octets.into()),
        }
    }

    /// Its client has ended it.
    pub(super) fn end(&self, trailers: Option<HeaderMap>) {
        self.is_ended.set(true);
        self.trailers.replace(trailers);
        self.wake();
    }

    /// The next piece that has come of the body. Of one whose length is known the last octet waits for the stream's end: with it an
    /// upstream would take the request for whole.
    pub(super) fn take(&self) -> Bytes {
        let mut body = self.body.borrow_mut();
        let Some(mut piece) = body.pop_front() else { return Bytes::new() };
        if body.is_empty()
            && self.left.get() == Some(0)
            && !self.is_ended.get()
            && let Some(last) = piece.last()
        {
            body.push_back([*last][..].into());
            piece.truncate(piece.len() - 1);
        }
        piece.freeze()
    }

    /// Nobody will take what has come of it.
    pub(super) fn forget(&self) {
        self.body.take();
        self.trailers.take();
    }

    /// Whether the body is whole, and all of it was taken.
    pub(super) fn is_whole(&self) -> bool {
        self.is_ended.get() && self.body.borrow().is_empty()
    }

    pub(super) fn take_trailers(&self) -> Option<HeaderMap> {
        self.trailers.take()
    }
}
