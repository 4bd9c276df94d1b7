//! A connection's octets as hyper sees them: those that were read already come first, and what is written is
//! gathered until it is flushed, so that the frames of many streams leave in one TLS record and one write.

use crate::gate::buffer::WriteBuffer;
use crate::gate::stream::Stream;
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets gathered before they are written unasked: two full TLS records.
const GATHER_BYTES: usize = 32 * 1024;

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    prefix: Bytes,
    stream: Stream,
    output: WriteBuffer,
}

impl Wire {
    /// `prefix` will be read before what `stream` still brings.
    pub(super) fn new(prefix: Bytes, stream: Stream) -> Self {
        Self { prefix, stream, output: WriteBuffer::default() }
    }

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
            self.output.written(written);
        }
        self.output.release();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let octets = self.prefix.len().min(into.remaining());
        into.put_slice(&self.prefix.split_to(octets));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let some = ready!(self.poll_room(cx))?.min(octets.len());
        self.output.put(&octets[..some]);
        Poll::Ready(Ok(some))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx))?;
        let mut left = room;
        for piece in pieces {
            let some = left.min(piece.len());
            self.output.put(&piece[..some]);
            left -= some;
        }
        Poll::Ready(Ok(room - left))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
