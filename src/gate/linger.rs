//! The end of a connection whose client may still be sending: where octets of its were left unread, closing would
//! reset the connection, and the last answer be lost with it.

use crate::gate::stream::{Channel, Prefixed};
use crate::gate::watch::Watch;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

/// Octets that are held at once, only to be thrown away.
const HELD_BYTES: usize = 1024;

/// How long a client is given to take the last answer.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Octets that are read meanwhile.
    pub octets: usize,
    /// In all.
    pub time: Duration,
    /// Without a sign of the client.
    pub silence: Duration,
}

/// A connection that is about to end.
pub trait Parting {
    /// Writes what is left and says that it was all.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Reads, and throws away what was read; gives the octets: 0 at the end of the stream.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;
}

impl Parting for Channel {
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_shutdown(cx).map(drop)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let held = self.input.data().len();
        self.input.consume(held);
        self.poll_fill(cx, HELD_BYTES)
    }
}

/// Of a handshake that failed: what it holds is the alert.
impl Parting for Prefixed {
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(self).poll_shutdown(cx).map(drop)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); HELD_BYTES];
        let mut space = ReadBuf::uninit(&mut space);
        ready!(Pin::new(self).poll_read(cx, &mut space))?;
        Poll::Ready(Ok(space.filled().len()))
    }
}

/// Writes what is left and says that it was all, then reads to the client's end or to the bounds.
pub async fn run(connection: &mut impl Parting, watch: &Watch, bounds: Bounds) {
    let since = Instant::now();
    watch.within(bounds.silence);
    let mut left = bounds.octets;
    let mut has_left = false;
    poll_fn(|cx| {
        if watch.check(cx).is_err() || since.elapsed() > bounds.time {
            return Poll::Ready(());
        }
        if !has_left {
            has_left = connection.poll_leave(cx).is_ready();
        }
        loop {
            match ready!(connection.poll_discard(cx)) {
                Ok(octets) if octets > 0 && left > octets => {
                    left -= octets;
                    watch.within(bounds.silence);
                }
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}
