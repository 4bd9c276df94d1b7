//! Octets both ways after a switch of protocols or for a passed-through TLS connection.

use crate::gate::buffer::BUFFER_BYTES;
use crate::gate::splice::{self, Splice};
use crate::gate::stream::Channel;
use crate::gate::watch::Watch;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a tunnel may be silent.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Carries octets until both sides have ended, one breaks, or the tunnel is silent for too long. What the
/// channels hold already goes first. Gives the octets from and to the client.
pub async fn run(client: &mut Channel, mut upstream: Channel, watch: &Watch) -> (u64, u64) {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    watch.within(IDLE_TIMEOUT);
    poll_fn(|cx| {
        if watch.check(cx).is_err() {
            return Poll::Ready(());
        }
        let before = up.moved + down.moved;
        let sent = up.poll(cx, (client, &mut upstream), down.is_shut);
        let received = down.poll(cx, (&mut upstream, client), up.is_shut);
        if up.moved + down.moved != before {
            watch.within(IDLE_TIMEOUT);
        }
        match (sent, received) {
            (Poll::Ready(Err(_)), _)
            | (_, Poll::Ready(Err(_)))
            | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    (up.moved, down.moved)
}

#[derive(Default)]
struct Direction {
    /// Octets passed on.
    moved: u64,
    is_shut: bool,
    splice: Splice,
}

impl Direction {
    /// Says that nothing more will come. Where nothing more comes back either, closing the socket says so.
    fn poll_shut(&mut self, cx: &mut Context<'_>, to: &mut Channel, is_last: bool) -> Poll<io::Result<()>> {
        if !(is_last && to.ends_by_closing()) {
            ready!(to.poll_shutdown(cx))?;
        }
        self.is_shut = true;
        Poll::Ready(Ok(()))
    }

    /// The sockets, once so much has passed that more is likely, and nothing is held here.
    fn splice_ends<'a>(&self, from: &'a Channel, to: &'a Channel) -> Option<(&'a TcpStream, &'a TcpStream)> {
        let is_worth_it = self.splice.holds_octets() || self.moved >= splice::FROM_BYTES;
        let is_bare = from.input.is_empty() && !from.is_input_closed && to.is_flushed();
        (is_worth_it && is_bare).then_some(())?;
        from.stream.clear().zip(to.stream.clear())
    }

    /// `is_last`: the other direction is over.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (&mut Channel, &mut Channel),
        is_last: bool,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.is_shut {
                return Poll::Ready(Ok(()));
            }
            if let Some(ends) = self.splice_ends(from, to) {
                let (before, mut left) = (self.splice.moved, u64::MAX);
                let polled = self.splice.poll(cx, ends, &mut left);
                self.moved += self.splice.moved - before;
                match ready!(polled) {
                    Ok(_) => ready!(self.poll_shut(cx, to, is_last))?,
                    Err(splice::Failure::From(error) | splice::Failure::To(error)) => {
                        return Poll::Ready(Err(error));
                    }
                }
                continue;
            }
            if !to.output.is_empty() {
                ready!(to.poll_flush(cx))?;
            }
            while !from.input.is_empty() {
                let Poll::Ready(written) = to.poll_write(cx, from.input.data()) else {
                    from.input.fit();
                    return Poll::Pending;
                };
                let written = written?;
                from.input.consume(written);
                self.moved += written as u64;
            }
            match from.poll_fill_some(cx, BUFFER_BYTES, to.room())? {
                Poll::Ready(0) => ready!(self.poll_shut(cx, to, is_last))?,
                Poll::Ready(_) => {}
                Poll::Pending => {
                    ready!(to.poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
    }
}
