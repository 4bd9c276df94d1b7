//! Octets both ways after a switch of protocols or for a passed-through TLS connection.

use crate::gate::buffer::BUFFER_BYTES;
use crate::gate::stream::Channel;
use crate::gate::watch::Watch;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

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
        let (sent, received) = (up.poll(cx, client, &mut upstream), down.poll(cx, &mut upstream, client));
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
    moved: u64,
    is_shut: bool,
}

impl Direction {
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Channel, to: &mut Channel) -> Poll<io::Result<()>> {
        loop {
            if self.is_shut {
                return Poll::Ready(Ok(()));
            }
            if !to.output.is_empty() {
                ready!(to.poll_flush(cx))?;
            }
            while !from.input.is_empty() {
                let written = ready!(to.poll_write(cx, from.input.data()))?;
                from.input.consume(written);
                self.moved += written as u64;
            }
            match from.poll_fill(cx, BUFFER_BYTES)? {
                Poll::Ready(0) => {
                    ready!(to.poll_shutdown(cx))?;
                    self.is_shut = true;
                }
                Poll::Ready(_) => {}
                Poll::Pending => {
                    ready!(to.poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
    }
}
