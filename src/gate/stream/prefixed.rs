//! A TCP stream as TLS sees it: with octets in front that were read before, and with writes that can be held until there
//! is something to go with them.

use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Octets that are held, but for the last write: a handshake's flight, a ticket and an answer.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// A TCP stream with octets in front that were read while finding out what it carries.
///
/// It begins by holding what is written: a handshake's octets leave when somebody waits for an answer to them, and what is
/// left of them then with the first octets after it.
#[derive(Debug)]
pub struct Prefixed {
    prefix: Bytes,
    tcp: TcpStream,
    held: Vec<u8>,
    /// Octets of `held` that were written.
    sent: usize,
    is_holding: bool,
}

impl Prefixed {
    /// `prefix` will be read before what `tcp` still brings.
    #[must_use]
    pub fn new(prefix: Bytes, tcp: TcpStream) -> Self {
        Self { prefix, tcp, held: Vec::new(), sent: 0, is_holding: true }
    }

    /// The TCP stream beneath.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// From now on what is written is held, or no longer: what is held then leaves with the next write or flush.
    pub(super) fn hold(&mut self, is_holding: bool) {
        self.is_holding = is_holding;
    }

    /// Whether nothing is held in either direction.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_flushed() && self.prefix.is_empty()
    }

    /// Whether nothing is held.
    pub fn is_flushed(&self) -> bool {
        self.held.is_empty()
    }

    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.held[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        // Connections live long after their handshake.
        (self.held, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Takes octets in behind those that are held; once nothing is to be held all leave together.
    fn poll_take(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.held.len() >= MAX_HELD_BYTES {
            ready!(self.poll_release(cx))?;
        }
        pieces.iter().for_each(|piece| self.held.extend_from_slice(piece));
        if !self.is_holding {
            // Where the socket takes no more, a flush waits for it.
            let _ = self.poll_release(cx)?;
        }
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }

    fn passes_on(&self) -> bool {
        self.held.is_empty() && !self.is_holding
    }
}

impl Drop for Prefixed {
    /// The alert that a handshake ends with, as far as the socket takes it.
    fn drop(&mut self) {
        if !self.held.is_empty() {
            let _ = self.tcp.try_write(&self.held[self.sent..]);
        }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            let polled = Pin::new(&mut self.tcp).poll_read(cx, into);
            if polled.is_pending() && !self.held.is_empty() {
                // Its answer may be what is waited for.
                let _ = self.poll_release(cx)?;
            }
            return polled;
        }
        let octets = self.prefix.len().min(into.remaining());
        into.put_slice(&self.prefix[..octets]);
        self.prefix.advance(octets);
        if self.prefix.is_empty() {
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        if self.passes_on() {
            return Pin::new(&mut self.tcp).poll_write(cx, octets);
        }
        self.poll_take(cx, &[IoSlice::new(octets)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_holding || self.held.is_empty() { Poll::Ready(Ok(())) } else { self.poll_release(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_holding = false;
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.passes_on() {
            return self.poll_take(cx, pieces);
        }
        match pieces {
            // A record by itself, as mostly: the kernel has less to do for it than for a list of one.
            [piece] => Pin::new(&mut self.tcp).poll_write(cx, piece),
            _ => Pin::new(&mut self.tcp).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn pair() -> (Prefixed, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Prefixed::new(Bytes::from_static(b"first "), listener.accept().await.unwrap().0), other)
    }

    async fn read(from: &mut TcpStream, octets: usize) -> String {
        let mut read = vec![0; octets];
        from.read_exact(&mut read).await.unwrap();
        String::from_utf8(read).unwrap()
    }

    /// What is held is what the other side waits for: without leaving at the wait both would wait for ever.
    #[tokio::test]
    async fn what_is_held_leaves_at_a_wait() {
        let (mut held, mut other) = pair().await;
        held.write_all(b"flight").await.unwrap();
        held.flush().await.unwrap();
        assert!(!held.is_flushed(), "a flush alone does not let it go");
        let mut octets = [0; 64];
        assert_eq!(held.read(&mut octets).await.unwrap(), 6, "the prefix comes without a wait");
        assert!(!held.is_flushed());
        let answer = async {
            assert_eq!(read(&mut other, 6).await, "flight");
            other.write_all(b"answer").await.unwrap();
        };
        let (read, ()) = futures_util::future::join(held.read(&mut octets), answer).await;
        assert_eq!((read.unwrap(), &octets[..6]), (6, &b"answer"[..]));
    }

    #[tokio::test]
    async fn what_is_held_leaves_with_what_follows_or_at_the_end() {
        let (mut held, mut other) = pair().await;
        held.write_all(b"ticket ").await.unwrap();
        held.hold(false);
        assert!(!held.is_flushed());
        held.write_all(b"answer ").await.unwrap();
        assert!(held.is_flushed(), "both are gone");
        held.hold(true);
        held.write_all(b"alert").await.unwrap();
        drop(held);
        assert_eq!(read(&mut other, 19).await, "ticket answer alert");
        assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn it_holds_so_much_and_no_more() {
        let (mut held, mut other) = pair().await;
        let sending = async {
            for _ in 0..64 {
                held.write_all(&[b'x'; 16 * 1024]).await.unwrap();
                assert!(held.held.len() <= MAX_HELD_BYTES + 16 * 1024);
            }
            held.shutdown().await.unwrap();
        };
        let mut all = Vec::new();
        let (_, read) = futures_util::future::join(sending, other.read_to_end(&mut all)).await;
        assert_eq!(read.unwrap(), 1024 * 1024);
    }
}
