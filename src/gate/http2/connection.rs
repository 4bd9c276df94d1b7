//! A connection as its task and its streams see it: its octets, its protocol, its deadlines.

use super::End;
use super::flow::Flow;
use super::frame::Code;
use super::protocol::{Born, Leaving, Protocol};
use crate::gate::buffer::{BUFFER_BYTES, WriteBuffer};
use crate::gate::client::Client;
use crate::gate::lifetime::Lifetime;
use crate::gate::stream::Channel;
use crate::gate::watch::WatchGuard;
use crate::gate::worker::Worker;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long a connection may take to end once it was asked to, while nothing is under way.
const GOAWAY_TIME: Duration = Duration::from_secs(5);
/// How often is read before streams go on.
const MAX_READS: usize = 4;

/// A connection's octets, and what they mean.
pub(super) struct Wire {
    pub(super) channel: Channel,
    protocol: Protocol,
}

/// One connection.
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) client: Box<Client>,
    /// Of a connection without streams.
    pub(super) watch: WatchGuard,
    /// Of what the client has begun to say.
    due: WatchGuard,
    /// What that is.
    due_of: Cell<u64>,
    header_timeout: Duration,
    lifetime: Cell<Lifetime>,
    /// Wakes it when its time is over; `None`: that is never.
    age: Option<WatchGuard>,
    /// How long a client that was told to go may take to say that it has heard.
    leaving: RefCell<Option<WatchGuard>>,
    pub(super) wire: RefCell<Wire>,
}

impl Connection {
    pub(super) fn new(worker: Rc<Worker>, client: Box<Client>, mut channel: Channel) -> Self {
        let rules = worker.rules();
        let limits = &rules.limits;
        let watch = worker.clock.watch();
        watch.idle_within(limits.idle_timeout);
        let now = worker.clock.now();
        let lifetime = Lifetime::new(limits, now, worker.next_number());
        let age = lifetime.time_left(now).map(|left| {
            let age = worker.clock.watch();
            age.within(left);
            age
        });
        let protocol = Protocol::new(limits, now, &mut channel.output);
        let header_timeout = limits.header_timeout;
        let due = worker.clock.watch();
        drop(rules);
        Self {
            worker,
            client,
            watch,
            due,
            due_of: Cell::new(0),
            header_timeout,
            lifetime: Cell::new(lifetime),
            age,
            leaving: RefCell::new(None),
            wire: RefCell::new(Wire { channel, protocol }),
        }
    }

    /// What a stream has to do with the protocol; what it writes leaves when all streams that are ready have run.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Protocol, &mut WriteBuffer) -> T) -> T {
        let Wire { channel, protocol } = &mut *self.wire.borrow_mut();
        act(protocol, &mut channel.output)
    }

    /// Sends octets of an answer, as many as may be sent now; 0: the stream's future is woken when there may be more.
    /// `is_end`: they are the last.
    pub(super) fn send(&self, flow: &Rc<Flow>, data: &[u8], is_end: bool) -> usize {
        self.with(|protocol, out| {
            let octets = protocol.send_data(flow, data, out);
            if is_end && octets > 0 && octets == data.len() {
                Protocol::end_with_last(flow, octets, out);
            }
            octets
        })
    }

    /// A stream begins.
    pub(super) fn begin(&self) {
        let mut lifetime = self.lifetime.get();
        lifetime.count();
        self.lifetime.set(lifetime);
        self.watch.unbounded();
    }

    /// A stream is over.
    pub(super) fn close(&self, flow: &Flow) {
        let (streams, leaving) = self.with(|protocol, out| {
            protocol.close(flow, out);
            (protocol.streams(), protocol.leaving)
        });
        if streams > 0 {
            return;
        }
        if leaving == Leaving::No {
            self.watch.idle_within(self.worker.rules().limits.idle_timeout);
        } else {
            self.watch.within(GOAWAY_TIME);
        }
    }

    /// Whether its time is over. To be called wherever it is polled.
    pub(super) fn check(&self, cx: &mut Context<'_>) -> Option<End> {
        if self.due.check(cx).is_err() {
            return Some(End::Fault(Code::NoError));
        }
        if let Some(age) = &self.age
            && age.check(cx).is_err()
        {
            age.unbounded();
        }
        self.leave_in_time(cx);
        let is_late = self.leaving.borrow().as_ref().is_some_and(|leaving| leaving.check(cx).is_err());
        if is_late {
            self.leaving.take();
            self.with(Protocol::leave);
        }
        if self.watch.check(cx).is_err() {
            if self.with(|protocol, _| protocol.leaving) != Leaving::No {
                return Some(End::Done);
            }
            self.announce(cx);
            // Registers for the new deadline; it can't have passed yet.
            let _ = self.watch.check(cx);
        }
        None
    }

    /// Tells the client once its connection carries no more: its streams go on, its next ones come over another.
    pub(super) fn leave_in_time(&self, cx: &mut Context<'_>) {
        let is_leaving = self.worker.clock.is_draining()
            || self.lifetime.get().is_over(self.worker.clock.now())
            || self.client.is_to_go(&self.worker.rules().doors);
        if is_leaving && self.with(|protocol, _| protocol.leaving == Leaving::No) {
            self.announce(cx);
        }
    }

    fn announce(&self, cx: &mut Context<'_>) {
        let streams = self.with(|protocol, out| {
            protocol.announce(out);
            protocol.streams()
        });
        if streams == 0 {
            self.watch.within(GOAWAY_TIME);
        }
        let leaving = self.worker.clock.watch();
        leaving.within(GOAWAY_TIME);
        // Registers for the deadline; it can't have passed yet.
        let _ = leaving.check(cx);
        self.leaving.replace(Some(leaving));
    }

    /// Reads frames, as far as there is room for what they make us say.
    pub(super) fn poll_receive(&self, cx: &mut Context<'_>, born: &mut Vec<Born>) -> Poll<End> {
        let now = self.worker.clock.now();
        let Wire { channel, protocol } = &mut *self.wire.borrow_mut();
        protocol.ran();
        for _ in 0..MAX_READS {
            while !Protocol::is_full(&channel.output) {
                match protocol.take(channel.input.data(), now, &mut channel.output, born) {
                    Ok(0) => break,
                    Ok(octets) => channel.input.consume(octets),
                    Err(code) => return Poll::Ready(End::Fault(code)),
                }
            }
            if Protocol::is_full(&channel.output) {
                // It is the client's to take something first.
                self.stamp(0);
                return Poll::Pending;
            }
            self.stamp(protocol.due(channel.input.data()));
            match channel.poll_fill(cx, BUFFER_BYTES) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(End::Gone),
            }
        }
        // There may be more.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sets the deadline of what the client has begun to say, where that is something new.
    fn stamp(&self, due: u64) {
        if self.due_of.replace(due) == due {
            return;
        }
        if due == 0 {
            self.due.unbounded();
        } else {
            self.due.within(self.header_timeout);
        }
    }

    /// Lets what was gathered leave; `true`: there may be more to be done at once.
    pub(super) fn poll_leave(&self, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        let Wire { channel, protocol } = &mut *self.wire.borrow_mut();
        let (before, was_full) = (channel.output.len(), Protocol::is_full(&channel.output));
        let flushed = channel.poll_flush(cx);
        protocol.wrote(before - channel.output.len());
        match flushed {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Gone)),
            Poll::Ready(Ok(())) => {}
        }
        if protocol.leaving == Leaving::Final && protocol.streams() == 0 {
            return Poll::Ready(Err(End::Done));
        }
        channel.output.release();
        Poll::Ready(Ok(protocol.next_turns(&channel.output) || was_full))
    }

    /// Says why the connection ends.
    pub(super) fn fault(&self, code: Code) {
        if code == Code::Calm {
            self.worker.counters.one(|c| &c.floods);
        }
        self.with(|protocol, out| protocol.end(code, out));
    }
}
