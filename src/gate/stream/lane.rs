//! A stream of an HTTP/2 connection to an upstream that has become a tunnel (RFC 8441), as octets.

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets that one write hands over.
const WRITE_BYTES: usize = 16 * 1024;

/// Both ways of the stream. Dropped before its end, it is reset.
#[derive(Debug)]
pub struct Lane {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// Received, not yet read.
    current: Bytes,
    has_said_end: bool,
}

impl Lane {
    /// What opened by a 2xx.
    #[must_use]
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self { send, receive, current: Bytes::new(), has_said_end: false }
    }
}

fn broken(error: h2::Error) -> io::Error {
    match error.reason() {
        Some(_) => io::Error::new(io::ErrorKind::ConnectionReset, error),
        None => io::Error::other(error),
    }
}

impl AsyncRead for Lane {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.current.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                Some(Ok(data)) => this.current = data,
                // Whoever has said all may leave so.
                Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let octets = this.current.len().min(into.remaining());
        into.put_slice(&this.current[..octets]);
        this.current.advance(octets);
        // An error means that the stream is over, which shows when it is read.
        let _ = this.receive.flow_control().release_capacity(octets);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Lane {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wanted = octets.len().min(WRITE_BYTES);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        this.send.reserve_capacity(wanted);
        while this.send.capacity() == 0 {
            match ready!(this.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let taken = this.send.capacity().min(wanted);
        this.send.send_data(Bytes::copy_from_slice(&octets[..taken]), false).map_err(broken)?;
        Poll::Ready(Ok(taken))
    }

    /// The connection's own task writes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.has_said_end, true) {
            this.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}
