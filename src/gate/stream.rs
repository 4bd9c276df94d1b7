//! A connection's octets, clear or TLS, with its buffers: `Stream` and `Channel`.
//!
//! Knows nothing of HTTP.

mod lane;
mod prefixed;

pub use lane::Lane;
pub use prefixed::Prefixed;

use crate::gate::buffer::{BUFFER_BYTES, ReadBuffer, WriteBuffer};
use crate::gate::http2::Duplex;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// One connection's octets.
#[derive(Debug)]
pub enum Stream {
    /// Clear.
    Tcp(TcpStream),
    /// TLS, from a client.
    TlsServer(Box<tokio_rustls::server::TlsStream<Prefixed>>),
    /// TLS, to an upstream.
    TlsClient(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    /// A stream of an HTTP/2 connection that has become a tunnel, from a client.
    Http2(Box<Duplex>),
    /// The same, to an upstream.
    Lane(Box<Lane>),
}

impl Stream {
    /// The TCP stream, where it carries the octets themselves.
    #[must_use]
    pub fn clear(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::TlsServer(_) | Self::TlsClient(_) | Self::Http2(_) | Self::Lane(_) => None,
        }
    }

    /// The TCP stream beneath; none where many share it.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::TlsServer(tls) => Some(tls.get_ref().0.tcp()),
            Self::TlsClient(tls) => Some(tls.get_ref().0),
            Self::Http2(_) | Self::Lane(_) => None,
        }
    }
}

macro_rules! each {
    ($self:expr, $io:ident => $do:expr) => {
        match $self.get_mut() {
            Stream::Tcp($io) => $do,
            Stream::TlsServer($io) => $do,
            Stream::TlsClient($io) => $do,
            Stream::Http2($io) => $do,
            Stream::Lane($io) => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_read(cx, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write(cx, octets))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}

/// A stream and its buffers.
#[derive(Debug)]
pub struct Channel {
    /// The octets.
    pub stream: Stream,
    /// Read, not yet used.
    pub input: ReadBuffer,
    /// To be written.
    pub output: WriteBuffer,
    /// The other side has said that it sends no more.
    pub is_input_closed: bool,
    needs_flush: bool,
    /// TLS has said that nothing more will be sent.
    has_said_end: bool,
}

impl Channel {
    /// Adds one chunk to the output (RFC 9112, 7.1).
    pub fn put_chunk(&mut self, data: &[u8]) {
        let mut line = [0_u8; 18];
        let mut rest = &mut line[..];
        let room = rest.len();
        let used = if write!(rest, "{:x}\r\n", data.len()).is_ok() { room - rest.len() } else { 0 };
        self.output.put(&line[..used]);
        self.output.put(data);
        self.output.put(b"\r\n");
    }

    /// A fresh channel.
    #[must_use]
    pub fn new(mut stream: Stream) -> Self {
        if let Stream::TlsServer(tls) = &mut stream {
            // What is left of its handshake goes with the first answer.
            tls.get_mut().0.hold(false);
        }
        Self {
            stream,
            input: ReadBuffer::default(),
            output: WriteBuffer::default(),
            is_input_closed: false,
            needs_flush: false,
            has_said_end: false,
        }
    }

    /// Whether the socket alone can bring news: nothing is held in either direction, by TLS neither.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let is_tls_at_rest = match &self.stream {
            Stream::Tcp(_) => true,
            Stream::TlsServer(tls) => tls.get_ref().0.is_at_rest() && !tls.get_ref().1.wants_write(),
            Stream::TlsClient(_) | Stream::Http2(_) | Stream::Lane(_) => false,
        };
        self.input.is_empty() && self.is_flushed() && is_tls_at_rest
    }

    /// Waits until the socket has news, without reading them.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.tcp().map_or(Poll::Ready(()), |tcp| tcp.poll_read_ready(cx).map(drop))
    }

    /// Octets that may be read at once for the other side, which may take them much later.
    #[must_use]
    pub fn room(&self) -> usize {
        match &self.stream {
            Stream::Http2(stream) => stream.room(),
            _ => BUFFER_BYTES,
        }
    }

    /// Reads once; `capacity` bounds what may be held. Gives the octets read: 0 at the end of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, capacity: usize) -> Poll<io::Result<usize>> {
        self.poll_fill_some(cx, capacity, usize::MAX)
    }

    /// As `poll_fill`, `most` octets at most.
    pub fn poll_fill_some(
        &mut self,
        cx: &mut Context<'_>,
        capacity: usize,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.is_input_closed {
            return Poll::Ready(Ok(0));
        }
        // Wait for readability without holding a buffer.
        if self.input.is_empty()
            && let Stream::Tcp(tcp) = &self.stream
            && tcp.poll_read_ready(cx)?.is_pending()
        {
            self.input.release();
            return Poll::Pending;
        }
        let space = self.input.space(capacity);
        let octets = space.len().min(most);
        let mut space = ReadBuf::new(&mut space[..octets]);
        if space.remaining() == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, "the read buffer is full")));
        }
        let result = Pin::new(&mut self.stream).poll_read(cx, &mut space);
        let octets = space.filled().len();
        match result {
            Poll::Pending => {
                self.input.release();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                self.input.filled(octets);
                self.is_input_closed = octets == 0;
                Poll::Ready(Ok(octets))
            }
        }
    }

    /// Writes until `output` is empty.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.output.data()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            self.output.written(written);
        }
        if self.needs_flush && !matches!(self.stream, Stream::Tcp(_)) {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        }
        self.needs_flush = false;
        Poll::Ready(Ok(()))
    }

    /// As `poll_flush`, of the last there is: TLS says in the same write that nothing follows.
    pub fn poll_flush_last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_said_end
            && let Stream::TlsServer(tls) = &mut self.stream
        {
            tls.get_mut().0.hold(true);
            ready!(self.poll_flush(cx))?;
            self.say_end();
        }
        self.poll_flush(cx)
    }

    fn say_end(&mut self) {
        if let Stream::TlsServer(tls) = &mut self.stream {
            let (tcp, session) = tls.get_mut();
            session.send_close_notify();
            tcp.hold(false);
            (self.has_said_end, self.needs_flush) = (true, true);
        }
    }

    /// Whether everything written has left for the kernel: TLS may still hold octets when `output` is empty.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.needs_flush
    }

    /// Writes octets that are not in `output`, which must be empty; gives how many.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        debug_assert!(self.output.is_empty(), "order would be lost");
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, octets))?;
        self.needs_flush = true;
        if written == 0 {
            Poll::Ready(Err(io::ErrorKind::WriteZero.into()))
        } else {
            Poll::Ready(Ok(written))
        }
    }

    /// Whether closing the socket says all that `poll_shutdown` would.
    #[must_use]
    pub fn ends_by_closing(&self) -> bool {
        let has_said_all = match &self.stream {
            Stream::Tcp(_) => true,
            Stream::TlsServer(tls) => self.has_said_end && tls.get_ref().0.is_flushed(),
            Stream::TlsClient(_) | Stream::Http2(_) | Stream::Lane(_) => false,
        };
        has_said_all && self.is_flushed()
    }

    /// Says that nothing more will be sent.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Whether no octet and no end has arrived that nobody waits for: an idle upstream connection must be silent.
    /// Asks the kernel.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let Some(tcp) = self.stream.tcp() else { return false };
        let peeked = socket2::SockRef::from(tcp).peek(&mut [std::mem::MaybeUninit::uninit()]);
        self.input.is_empty()
            && !self.is_input_closed
            && peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same as of the reactor's last turn, without a call. `false`: the kernel has to be asked.
    #[must_use]
    pub fn is_known_quiet(&self) -> bool {
        let Some(tcp) = self.stream.tcp() else { return false };
        // Out of budget a socket that has news would seem to have none.
        let ready = pin!(tokio::task::unconstrained(poll_fn(|cx| tcp.poll_read_ready(cx))));
        self.input.is_empty()
            && !self.is_input_closed
            && ready.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}
