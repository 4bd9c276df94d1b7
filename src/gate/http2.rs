//! HTTP/2 towards clients: our own engine. One task per connection, which reads frames, runs the futures of its streams
//! and writes what all that were ready have to say at once; everything between a request and its answer is `handle`'s.

mod answer;
mod connection;
pub mod floods;
mod flow;
pub mod frame;
mod head;
pub mod hpack;
pub mod protocol;
mod stream;
mod tunnel;
mod upload;

pub use tunnel::Duplex;

use crate::gate::client::Client;
use crate::gate::linger::{self, Bounds};
use crate::gate::stream::Channel;
use crate::gate::worker::Worker;
use connection::{Connection, Wire};
use frame::Code;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often a connection goes on in one turn before others have theirs.
const MAX_ROUNDS: usize = 16;
/// What is read of a client that was told why its connection ends.
const LAST_WORD: Bounds =
    Bounds { octets: 256 * 1024, time: Duration::from_secs(2), silence: Duration::from_secs(1) };
/// The same of one that was told to go: what it still sends must not take its last answers back.
const LAST_ANSWERS: Bounds =
    Bounds { octets: 256 * 1024, time: Duration::from_secs(30), silence: Duration::from_secs(5) };

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing more is to come.
    Done,
    /// Nobody is there.
    Gone,
    /// The client is told what was wrong.
    Fault(Code),
}

/// Serves a connection to its end. Octets that were read already come first.
pub async fn serve(worker: Rc<Worker>, client: Box<Client>, channel: Channel) {
    let connection = Rc::new(Connection::new(worker, client, channel));
    let mut streams = FuturesUnordered::new();
    let mut born = Vec::new();
    let end = poll_fn(|cx| {
        poll(&connection, cx, |cx| {
            let begun = connection.poll_receive(cx, &mut born);
            streams.extend(born.drain(..).map(|one| Box::pin(stream::run(Rc::clone(&connection), one))));
            while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {}
            begun
        })
    })
    .await;
    if let End::Fault(code) = end {
        connection.fault(code);
    }
    drop(streams);
    let Some(Connection { wire, watch, .. }) = Rc::into_inner(connection) else { return };
    let Wire { mut channel, .. } = wire.into_inner();
    match end {
        End::Gone => {}
        End::Fault(_) => linger::run(&mut channel, &watch, LAST_WORD).await,
        End::Done => linger::run(&mut channel, &watch, LAST_ANSWERS).await,
    }
}

/// One turn: `run` reads frames and lets streams go on, and says where the connection is over.
fn poll(
    connection: &Connection,
    cx: &mut Context<'_>,
    mut run: impl FnMut(&mut Context<'_>) -> Poll<End>,
) -> Poll<End> {
    if let Some(end) = connection.check(cx) {
        return Poll::Ready(end);
    }
    for _ in 0..MAX_ROUNDS {
        if let Poll::Ready(end) = run(cx) {
            return Poll::Ready(end);
        }
        // The last request that the connection may carry has just come.
        connection.leave_in_time(cx);
        match connection.poll_leave(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(end)) => return Poll::Ready(end),
            Poll::Ready(Ok(goes_on)) if !goes_on => return Poll::Pending,
            Poll::Ready(Ok(_)) => {}
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}
