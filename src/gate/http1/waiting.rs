//! A connection that waits for a next request: all that is kept of it once it has been silent for a while.

use crate::gate::client::Client;
use crate::gate::lifetime::Lifetime;
use crate::gate::stream::Channel;
use crate::gate::watch::WatchGuard;
use crate::gate::worker::Worker;
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// How long a connection waits with all that serving it takes before that is given back: the next request of a busy
/// one finds it there.
pub(super) const AFTER: Duration = Duration::from_secs(1);
/// Connections of a worker that may wait so; a further one gives it back at once.
const MAX_READY: usize = 256;

/// What a connection is between requests.
pub struct Waiting {
    pub(super) channel: Channel,
    pub(super) client: Box<Client>,
    pub(super) lifetime: Lifetime,
    pub(super) watch: WatchGuard,
    /// No request has come yet.
    pub(super) is_first: bool,
    /// Its wait began before, and so did its deadline.
    pub(super) has_waited: bool,
}

impl Waiting {
    /// A connection that is about to wait for its first request.
    #[must_use]
    pub fn new(worker: &Rc<Worker>, client: Box<Client>, channel: Channel) -> Self {
        let lifetime = Lifetime::new(&worker.rules().limits, worker.clock.now(), worker.next_number());
        Self { channel, client, lifetime, watch: worker.clock.watch(), is_first: true, has_waited: false }
    }

    /// Until octets come, its time is over, or the gate goes away: which of them, reading finds out.
    pub(super) async fn wait(&mut self, worker: &Rc<Worker>) {
        let _counted = Counted::new(worker);
        poll_fn(|cx| match self.watch.check(cx) {
            Ok(()) => self.channel.poll_readable(cx),
            Err(_) => Poll::Ready(()),
        })
        .await;
    }
}

/// One of the places to wait with all that serving takes.
#[derive(Debug)]
pub(super) struct Ready<'a>(&'a Cell<usize>);

impl<'a> Ready<'a> {
    pub(super) fn take(worker: &'a Worker) -> Option<Self> {
        let taken = worker.ready.get();
        (taken < MAX_READY).then(|| {
            worker.ready.set(taken + 1);
            Self(&worker.ready)
        })
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Counts a connection as silent until it is dropped.
struct Counted<'a>(&'a Worker);

impl<'a> Counted<'a> {
    fn new(worker: &'a Worker) -> Self {
        worker.counters.one(|c| &c.silent);
        Self(worker)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.counters.one_less(|c| &c.silent);
    }
}
