//! The end of a connection whose client may still be sending: where octets of its were left unread, closing would
//! reset the connection, and the last answer be lost with it.

use crate::gate::stream::Channel;
use crate::gate::watch::Watch;
use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

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

/// Writes what is left and says that it was all, then reads to the client's end or to the bounds.
pub async fn run(channel: &mut Channel, watch: &Watch, bounds: Bounds) {
    let since = Instant::now();
    watch.within(bounds.silence);
    let mut left = bounds.octets;
    let mut is_shut = false;
    poll_fn(|cx| {
        if watch.check(cx).is_err() || since.elapsed() > bounds.time {
            return Poll::Ready(());
        }
        if !is_shut {
            is_shut = channel.poll_shutdown(cx).is_ready();
        }
        loop {
            let held = channel.input.data().len();
            channel.input.consume(held);
            match ready!(channel.poll_fill(cx, HELD_BYTES)) {
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
