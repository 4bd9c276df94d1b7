//! Deadlines without a timer per request: a coarse tick per worker wakes what has waited too long.
//!
//! A connection (or an HTTP/2 stream) stamps its deadline into its `Watch`; the worker's tick looks
//! through all of them. Also how a drain reaches connections that wait for a next request.

use crate::cache::View;
use crate::domain::HostForm;
use crate::feed::Fingerprint;
use crate::gate::client::Whose;
use crate::gate::sessions::Sessions;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How often deadlines are looked at: a wait may last this much longer than its limit.
pub const TICK: Duration = Duration::from_millis(50);

/// A wait has lasted too long, or the gate is going away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// The deadline passed.
    Deadline,
    /// The gate drains and this connection waits for nothing but a next request.
    Drained,
    /// The name that is being served may no longer be.
    Cut,
}

/// What a connection or stream is about to forward.
#[derive(Debug, Clone, Copy)]
pub struct Serving<'a> {
    /// The name that was judged.
    pub host: &'a HostForm,
    /// For whom.
    pub whose: Whose,
    /// Whether it is an ACME challenge, which may pass although the name is blocked.
    pub is_acme_challenge: bool,
}

/// The same, kept so that it can be judged again while it lasts.
#[derive(Debug)]
pub struct Live {
    /// The name that was judged.
    pub host: HostForm,
    /// For whom.
    pub whose: Whose,
    /// Whether it is an ACME challenge.
    pub is_acme_challenge: bool,
    /// It is over, but the connection's next request may be for the same name.
    is_over: bool,
}

/// One connection's deadline.
#[derive(Debug)]
pub struct Watch {
    deadline: Cell<Option<Instant>>,
    idle: Cell<bool>,
    /// In a box: most watches that there are wait for a next request.
    live: RefCell<Option<Box<Live>>>,
    is_cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    clock: Rc<Clock>,
    key: usize,
}

/// A worker's coarse clock and everything that waits on it.
#[derive(Debug)]
pub struct Clock {
    now: Cell<Instant>,
    /// From when on what waits for a next request ends; none: the gate does not drain.
    draining: Cell<Option<Instant>>,
    watches: RefCell<slab::Slab<Rc<Watch>>>,
    /// By the watches' keys.
    sessions: RefCell<Sessions>,
}

impl Clock {
    /// A clock that stands at the current time.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(Instant::now()),
            draining: Cell::new(None),
            watches: RefCell::default(),
            sessions: RefCell::default(),
        })
    }

    /// The time of the last tick.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// How many connections and streams are being watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.watches.borrow().len()
    }

    /// Whether no new request is to be read.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// From now on connections end after what they are doing, or after `linger` where they wait for a next request:
    /// one may be on its way, and where its connection were closed under it, it would be lost.
    pub fn drain(&self, linger: Duration) {
        let now = Instant::now();
        self.draining.set(Some(now + linger));
        self.tick(now);
        // HTTP/2 connections say at once that they will end.
        for (_, watch) in self.watches.borrow().iter() {
            if let Some(waker) = watch.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    /// Moves the clock and wakes what has expired.
    pub fn tick(&self, now: Instant) {
        self.now.set(now);
        for (_, watch) in self.watches.borrow().iter() {
            watch.tick();
        }
    }

    /// Above every session's number.
    #[must_use]
    pub fn ceiling(&self) -> usize {
        self.watches.borrow().capacity()
    }

    /// A session that began to serve another name since it was put into the index.
    pub fn take_noted(&self) -> Option<usize> {
        self.sessions.borrow_mut().take_noted()
    }

    /// Puts a session into the index: under whatever could decide about its name among filings (nothing does about
    /// an address).
    pub fn index(&self, session: usize, filings: &View<'_>) {
        let watches = self.watches.borrow();
        let Some(watch) = watches.get(session) else { return };
        if let Some(live) = &*watch.live.borrow() {
            let names = live.host.name().into_iter();
            self.sessions.borrow_mut().put(session, names.flat_map(|name| filings.fingerprints(name)));
        }
    }

    /// Adds the sessions under these fingerprints to `found`.
    pub fn under(&self, fingerprints: &[Fingerprint], found: &mut Vec<usize>) {
        let sessions = self.sessions.borrow();
        found.extend(fingerprints.iter().flat_map(|one| sessions.under(*one)));
    }

    /// Ends what the session forwards, if it does and `may_go_on` does not hold of it. Says whether it was ended.
    pub fn cut(&self, session: usize, may_go_on: impl FnOnce(&Live) -> bool) -> bool {
        let watches = self.watches.borrow();
        let Some(watch) = watches.get(session) else { return false };
        let goes_on = watch.live.borrow().as_deref().is_none_or(|live| live.is_over || may_go_on(live));
        if goes_on || watch.is_cut.replace(true) {
            return false;
        }
        if let Some(waker) = watch.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
        true
    }

    /// Begins to watch; ends when the guard is dropped.
    #[must_use]
    pub fn watch(self: &Rc<Self>) -> WatchGuard {
        let mut watches = self.watches.borrow_mut();
        let slot = watches.vacant_entry();
        let watch = Rc::new(Watch {
            deadline: Cell::new(None),
            idle: Cell::new(false),
            live: RefCell::new(None),
            is_cut: Cell::new(false),
            waker: RefCell::new(None),
            clock: Rc::clone(self),
            key: slot.key(),
        });
        slot.insert(Rc::clone(&watch));
        WatchGuard(watch)
    }
}

impl Watch {
    /// The wait that begins now may last this long.
    pub fn within(&self, limit: Duration) {
        self.idle.set(false);
        self.deadline.set(self.clock.now().checked_add(limit));
    }

    /// The same for a wait in which nothing would be lost if the gate went away.
    pub fn idle_within(&self, limit: Duration) {
        self.within(limit);
        self.idle.set(true);
    }

    fn tick(&self) {
        if self.expired().is_some()
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// From now on what is forwarded is for this name; `None`: nothing is. Where it is the name of the request
    /// before, the index holds it already.
    pub fn serve(&self, serving: Option<Serving<'_>>) {
        self.is_cut.set(false);
        let mut live = self.live.borrow_mut();
        let Some(Serving { host, whose, is_acme_challenge }) = serving else {
            if let Some(live) = &mut *live {
                live.is_over = true;
            }
            return;
        };
        match &mut *live {
            Some(live) if live.host == *host => {
                (live.whose, live.is_acme_challenge, live.is_over) = (whose, is_acme_challenge, false);
            }
            live => {
                let next = Live { host: host.clone(), whose, is_acme_challenge, is_over: false };
                match live {
                    Some(before) => **before = next,
                    None => *live = Some(Box::new(next)),
                }
                self.clock.sessions.borrow_mut().note(self.key);
            }
        }
    }

    /// Gives back what the last name takes: the next request may come much later.
    pub fn forget(&self) {
        if self.live.take().is_some() {
            self.clock.sessions.borrow_mut().remove(self.key);
        }
    }

    /// No deadline.
    pub fn unbounded(&self) {
        self.idle.set(false);
        self.deadline.set(None);
    }

    /// To be called wherever a wait is polled.
    ///
    /// # Errors
    /// The wait is over.
    pub fn check(&self, cx: &mut Context<'_>) -> Result<(), Expired> {
        if let Some(expired) = self.expired() {
            return Err(expired);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Ok(())
    }

    /// Waits for what `poll` waits for, as long as the deadline allows.
    ///
    /// # Errors
    /// The wait is over.
    pub async fn bound<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, Expired> {
        poll_fn(|cx| match self.check(cx) {
            Ok(()) => poll(cx).map(Ok),
            Err(expired) => Poll::Ready(Err(expired)),
        })
        .await
    }

    /// Whether the name that is being served may no longer be.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    fn expired(&self) -> Option<Expired> {
        if self.is_cut.get() {
            return Some(Expired::Cut);
        }
        if self.idle.get() && self.clock.draining.get().is_some_and(|until| until <= self.clock.now.get()) {
            return Some(Expired::Drained);
        }
        self.deadline.get().filter(|deadline| *deadline <= self.clock.now.get()).map(|_| Expired::Deadline)
    }
}

/// Keeps a `Watch` among those that the tick looks at.
#[derive(Debug)]
pub struct WatchGuard(Rc<Watch>);

impl std::ops::Deref for WatchGuard {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.0
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.0.clock.sessions.borrow_mut().remove(self.0.key);
        self.0.clock.watches.borrow_mut().try_remove(self.0.key);
    }
}
