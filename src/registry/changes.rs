//! The feed's state: a view per provider that is followed, kept in step with what is committed.
//!
//! Whoever commits holds the store's writer from BEGIN until `publish` has returned: so views follow in
//! commit order, and a view that is filled under the writer misses nothing. Knows no SQL and no HTTP.

use super::model::Change;
use super::store::Meta;
use super::view::{Collision, NotKept, Step, View};
use crate::feed::{Entry, Frame, Position, Summary};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, watch};

/// The most providers whose views are held at once.
pub(super) const MAX_VIEWS: usize = 16;
/// The most open streams of changes.
pub(super) const MAX_STREAMS: usize = 4096;

/// All views, and the bell that wakes streams.
#[derive(Debug)]
pub(super) struct Feed {
    views: Mutex<HashMap<Box<str>, Held>>,
    bell: watch::Sender<()>,
    pub(super) streams: Arc<Semaphore>,
}

#[derive(Debug)]
struct Held {
    view: View,
    /// Its other holders are the view's open streams.
    users: Arc<()>,
    used_at_ms: i64,
}

/// Every view that is held is being followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl Feed {
    pub(super) fn new() -> Self {
        Self {
            views: Mutex::default(),
            bell: watch::Sender::new(()),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    fn views(&self) -> MutexGuard<'_, HashMap<Box<str>, Held>> {
        // A view that a panic left half-way has a digest that followers refuse; they then ask anew.
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the provider's view is held.
    pub(super) fn has(&self, provider: &str) -> bool {
        self.views().contains_key(provider)
    }

    /// Follows a commit. On a collision every view is dropped: the caller begins a new epoch.
    pub(super) fn publish(&self, changes: &[Change], meta: &Meta, at_ms: i64) -> Result<(), Collision> {
        if changes.is_empty() {
            return Ok(());
        }
        let end = Position { epoch: meta.epoch, seq: meta.seq };
        let mut has_changed = false;
        let mut views = self.views();
        for held in views.values_mut() {
            match held.view.apply(changes, end, at_ms) {
                Ok(changed) => has_changed |= changed,
                Err(collision) => {
                    views.clear();
                    drop(views);
                    self.bell.send_replace(());
                    return Err(collision);
                }
            }
        }
        drop(views);
        if has_changed {
            self.bell.send_replace(());
        }
        Ok(())
    }

    /// Drops every view: their streams end, and followers begin with a snapshot.
    pub(super) fn reset(&self) {
        let old = std::mem::take(&mut *self.views());
        self.bell.send_replace(());
        drop(old);
    }

    /// Holds a view that was filled under the writer.
    pub(super) fn hold(&self, provider: &str, view: View, at_ms: i64) -> Result<(), TooMany> {
        let mut views = self.views();
        if views.len() >= MAX_VIEWS {
            let idle = views.iter().filter(|(_, it)| Arc::strong_count(&it.users) == 1);
            let oldest = idle.min_by_key(|(_, it)| it.used_at_ms).map(|(provider, _)| provider.clone());
            views.remove(&oldest.ok_or(TooMany)?);
        }
        views.insert(provider.into(), Held { view, users: Arc::new(()), used_at_ms: at_ms });
        Ok(())
    }

    /// A snapshot's first frame and its entries; `None` where the view is not held.
    pub(super) fn snapshot(&self, provider: &str, at_ms: i64) -> Option<(Frame, Vec<Entry>)> {
        let mut views = self.views();
        let held = views.get_mut(provider)?;
        held.used_at_ms = at_ms;
        Some(held.view.snapshot(at_ms))
    }

    /// Opens a follower's stream at `position`; `None` where the view is not held.
    pub(super) fn follow(
        self: &Arc<Self>,
        provider: &str,
        position: Position,
        at_ms: i64,
    ) -> Option<Result<(Follower, Summary), NotKept>> {
        let mut views = self.views();
        let held = views.get_mut(provider)?;
        held.used_at_ms = at_ms;
        let summary = match held.view.summary_at(position, at_ms) {
            Ok(summary) => summary,
            Err(not_kept) => return Some(Err(not_kept)),
        };
        let follower = Follower {
            feed: self.clone(),
            bell: self.bell.subscribe(),
            provider: provider.into(),
            position,
            user: held.users.clone(),
        };
        Some(Ok((follower, summary)))
    }
}

/// One open stream's place in a view.
#[derive(Debug)]
pub(super) struct Follower {
    feed: Arc<Feed>,
    bell: watch::Receiver<()>,
    provider: Box<str>,
    position: Position,
    user: Arc<()>,
}

impl Follower {
    /// What to send now, if anything.
    ///
    /// # Errors
    /// `NotKept` where the stream must end: fallen behind, or another epoch began.
    pub(super) fn step(&mut self, at_ms: i64) -> Result<Option<Step>, NotKept> {
        self.bell.mark_unchanged();
        let step = self.with_view(|view, seq| view.step_after(seq, at_ms))?;
        if let Some(step) = &step {
            self.position.seq = step.seq;
        }
        Ok(step)
    }

    /// The state where the follower is; it may move on over commits that its view saw nothing of.
    pub(super) fn heartbeat(&mut self, at_ms: i64) -> Result<Summary, NotKept> {
        let summary = self.with_view(|view, seq| match view.step_after(seq, at_ms)? {
            Some(_) => view.summary_at(self.position, at_ms),
            None => Ok(view.summary(at_ms)),
        })?;
        self.position = summary.position;
        Ok(summary)
    }

    /// Waits until there may be something to send.
    pub(super) async fn rung(&mut self) {
        if self.bell.changed().await.is_err() {
            // The bell lives in the feed that `self` holds.
            std::future::pending::<()>().await;
        }
    }

    fn with_view<T>(&self, ask: impl FnOnce(&View, u64) -> Result<T, NotKept>) -> Result<T, NotKept> {
        let views = self.feed.views();
        let held = views.get(&self.provider).ok_or(NotKept)?;
        let is_same = Arc::ptr_eq(&held.users, &self.user);
        if is_same { ask(&held.view, self.position.seq) } else { Err(NotKept) }
    }
}
