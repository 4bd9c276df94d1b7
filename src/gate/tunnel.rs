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
        let polled = poll_both(cx, (&mut up, client), (&mut down, &mut upstream));
        if up.moved + down.moved != before {
            watch.within(IDLE_TIMEOUT);
        }
        polled.map(drop)
    })
    .await;
    (up.moved, down.moved)
}

/// Moves what there is, both ways, before an end is passed on: where the other side has ended meanwhile, nobody needs
/// to be told.
fn poll_both(
    cx: &mut Context<'_>,
    (up, client): (&mut Direction, &mut Channel),
    (down, upstream): (&mut Direction, &mut Channel),
) -> Poll<io::Result<()>> {
    if let Poll::Ready(Err(error)) = up.poll(cx, client, upstream) {
        return Poll::Ready(Err(error));
    }
    if let Poll::Ready(Err(error)) = down.poll(cx, upstream, client) {
        return Poll::Ready(Err(error));
    }
    let is_last = up.has_ended && down.has_ended;
    let sent = up.poll_shut(cx, upstream, is_last)?;
    let received = down.poll_shut(cx, client, is_last)?;
    if sent.is_ready() && received.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
}

#[derive(Default)]
struct Direction {
    /// Octets passed on.
    moved: u64,
    /// Nothing more will come, and all that came was passed on.
    has_ended: bool,
    is_shut: bool,
    splice: Splice,
}

impl Direction {
    /// Says that nothing more will come, once that is so. Where nothing more comes back either, closing the socket
    /// says it.
    fn poll_shut(&mut self, cx: &mut Context<'_>, to: &mut Channel, is_last: bool) -> Poll<io::Result<()>> {
        if self.is_shut {
            return Poll::Ready(Ok(()));
        }
        if !self.has_ended {
            return Poll::Pending;
        }
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

    /// Passes on what there is; ready once nothing more will come.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Channel, to: &mut Channel) -> Poll<io::Result<()>> {
        while !self.has_ended {
            if let Some(ends) = self.splice_ends(from, to) {
                let (before, mut left) = (self.splice.moved, u64::MAX);
                let polled = self.splice.poll(cx, ends, &mut left);
                self.moved += self.splice.moved - before;
                match ready!(polled) {
                    Ok(_) => self.has_ended = true,
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
                Poll::Ready(octets) => self.has_ended = octets == 0,
                Poll::Pending => {
                    ready!(to.poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
        // Closing says all only of what has left.
        to.poll_flush(cx)
    }
}
