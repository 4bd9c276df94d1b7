//! A connection's octets as hyper sees them: those that were read already come first, and what is written is
//! gathered until the connection's task has done all that it can, so that the frames of many streams leave in one TLS
//! record and one write.
//!
//! h2 flushes after each DATA frame of some size; here that writes nothing. Whoever polls hyper lets what was gathered
//! leave afterwards (`poll_leave`).

use crate::gate::buffer::WriteBuffer;
use crate::gate::stream::Stream;
use bytes::Bytes;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets gathered before they are written unasked: two full TLS records.
const GATHER_BYTES: usize = 32 * 1024;

/// A connection: hyper's, and that of the task that polls hyper.
#[derive(Debug, Clone)]
pub(super) struct Wire(Rc<RefCell<Octets>>);

#[derive(Debug)]
struct Octets {
    prefix: Bytes,
    stream: Stream,
    output: WriteBuffer,
    /// TLS may hold what has left `output`.
    needs_flush: bool,
}

impl Wire {
    /// `prefix` will be read before what `stream` still brings.
    pub(super) fn new(prefix: Bytes, stream: Stream) -> Self {
        let octets = Octets { prefix, stream, output: WriteBuffer::default(), needs_flush: false };
        Self(Rc::new(RefCell::new(octets)))
    }

    /// Lets what was gathered leave.
    ///
    /// # Errors
    /// The client takes nothing any more.
    pub(super) fn poll_leave(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_leave(cx)
    }
}

impl Octets {
    /// Waits for room; gives how much there is, which is never nothing.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.output.len() >= GATHER_BYTES {
            ready!(self.poll_drain(cx))?;
        }
        Poll::Ready(Ok(GATHER_BYTES - self.output.len()))
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.output.data()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            self.output.written(written);
        }
        self.output.release();
        Poll::Ready(Ok(()))
    }

    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if self.needs_flush {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut this = self.0.borrow_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, into);
        }
        let octets = this.prefix.len().min(into.remaining());
        into.put_slice(&this.prefix.split_to(octets));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let mut this = self.0.borrow_mut();
        let some = ready!(this.poll_room(cx))?.min(octets.len());
        this.output.put(&octets[..some]);
        Poll::Ready(Ok(some))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut this = self.0.borrow_mut();
        let room = ready!(this.poll_room(cx))?;
        let mut left = room;
        for piece in pieces {
            let some = left.min(piece.len());
            this.output.put(&piece[..some]);
            left -= some;
        }
        Poll::Ready(Ok(room - left))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It leaves once all that is ready has been gathered.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.0.borrow_mut();
        ready!(this.poll_leave(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
