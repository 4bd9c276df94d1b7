//! The feed's state: a view per provider that is followed, kept in step with what is committed.
//!
//! Whoever commits holds the store's writer from BEGIN until `publish` has returned: so views follow in
//! commit order, and a view that is caught up under the writer misses nothing. Knows no SQL and no HTTP.

use super::acknowledged::Gates;
use super::base::{Base, Directory, Head};
use super::model::Change;
use super::store::Meta;
use super::view::{Collision, Layers, NotKept, Repair, Step, TooDifferent, View};
use crate::feed::{Digest, Fingerprint, Position, Summary};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// The most providers whose views are held at once.
pub(super) const MAX_VIEWS: usize = 16;
/// The most open streams of changes.
pub(super) const MAX_STREAMS: usize = 4096;

/// How long a look at a shared database is good for: without one no follower is told that it is current.
const VOUCHED_FOR: Duration = Duration::from_secs(3);

/// How long after a new epoch that a follower's position called for another one may.
const RENEWED_FOR: Duration = Duration::from_secs(60);

/// All views, and the bell that wakes streams.
#[derive(Debug)]
pub(super) struct Feed {
    /// Where bases are; none where the database was opened to be read.
    pub(super) directory: Option<Directory>,
    views: Mutex<HashMap<Box<str>, Held>>,
    bell: watch::Sender<()>,
    pub(super) streams: Arc<Semaphore>,
    /// Bases are written one at a time.
    pub(super) building: Arc<tokio::sync::Mutex<()>>,
    /// When the database was last asked how far it is, where others write to it too; else that is always known.
    vouched: Mutex<Option<Instant>>,
    gates: Mutex<Gates>,
    /// When a follower's position last called for a new epoch.
    renewed: Mutex<Option<Instant>>,
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
    pub(super) fn new(directory: Option<Directory>) -> Self {
        Self {
            directory,
            views: Mutex::default(),
            bell: watch::Sender::new(()),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            building: Arc::default(),
            vouched: Mutex::default(),
            gates: Mutex::default(),
            renewed: Mutex::default(),
        }
    }

    fn views(&self) -> MutexGuard<'_, HashMap<Box<str>, Held>> {
        // A view that a panic left half-way has a digest that followers refuse; they then ask anew.
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What gates said.
    pub(super) fn gates(&self) -> MutexGuard<'_, Gates> {
        // Whole after every call: nothing in there panics half-way.
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a follower's position may call for a new epoch now; not again for a while then.
    pub(super) fn may_renew(&self) -> bool {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let may = renewed.is_none_or(|at| at.elapsed() >= RENEWED_FOR);
        if may {
            *renewed = Some(Instant::now());
        }
        may
    }

    /// Views are as far as the database was a moment ago.
    pub(super) fn vouch(&self) {
        *self.vouched.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether views can be said to be current.
    pub(super) fn is_vouched(&self) -> bool {
        let vouched = *self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
        vouched.is_none_or(|at| at.elapsed() < VOUCHED_FOR)
    }

    /// Whether the provider's view is held.
    pub(super) fn has(&self, provider: &str) -> bool {
        self.views().contains_key(provider)
    }

    /// Fingerprints of new names that may be taken already, and the base to look them up in.
    pub(super) fn new_names(&self, changes: &[Change]) -> Option<(Arc<Base>, Vec<Fingerprint>)> {
        // All views are of the same names under the same key: one stands for all.
        self.views().values().next().map(|it| it.view.new_names(changes))
    }

    /// Follows a commit, whose new names were looked up. On a collision every view is dropped: the caller begins
    /// a new epoch.
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
        views.retain(|_, held| !held.view.is_overgrown());
        drop(views);
        if has_changed {
            self.bell.send_replace(());
        }
        Ok(())
    }

    /// Drops every view: their streams end, and followers begin anew.
    pub(super) fn reset(&self) {
        let old = std::mem::take(&mut *self.views());
        self.bell.send_replace(());
        drop(old);
    }

    /// Whether there is room for another view, or an idle one to take the place of.
    pub(super) fn has_room(&self) -> bool {
        let views = self.views();
        views.len() < MAX_VIEWS || views.values().any(|it| Arc::strong_count(&it.users) == 1)
    }

    /// Holds a view that was caught up under the writer.
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

    /// Whether no view is held.
    pub(super) fn is_idle(&self) -> bool {
        self.views().is_empty()
    }

    /// Whose views are held.
    pub(super) fn providers(&self) -> Vec<Box<str>> {
        self.views().keys().cloned().collect()
    }

    /// Whether a view's base has grown old.
    pub(super) fn has_old_base(&self) -> bool {
        self.views().values().any(|it| it.view.is_base_old())
    }

    /// What to make the next new base of.
    pub(super) fn next_old_base(&self, at_ms: i64) -> Option<(Head, Layers)> {
        self.views().values().find(|it| it.view.is_base_old()).map(|it| it.view.whole(at_ms))
    }

    /// Takes a new base of a view.
    pub(super) fn rebase(&self, base: Base) {
        let base = Arc::new(base);
        if let Some(held) = self.views().get_mut(&base.head().provider) {
            held.view.rebase(base.clone());
        }
    }

    /// Asks a provider's view, which counts as a use; `None` where it is not held.
    fn ask<T>(&self, provider: &str, at_ms: i64, ask: impl FnOnce(&View) -> T) -> Option<T> {
        let mut views = self.views();
        let held = views.get_mut(provider)?;
        held.used_at_ms = at_ms;
        Some(ask(&held.view))
    }

    /// The provider's snapshot; `None` where the view is not held, or a newer one is being made.
    pub(super) fn snapshot(&self, provider: &str, at_ms: i64) -> Option<Arc<Base>> {
        self.ask(provider, at_ms, |view| view.base().cloned())?
    }

    /// What a follower lacks that holds these ranges; `None` where the view is not held.
    pub(super) fn repair(
        &self,
        provider: &str,
        epoch: u64,
        theirs: &[(u16, Digest)],
        at_ms: i64,
    ) -> Option<Result<Repair, TooDifferent>> {
        self.ask(provider, at_ms, |view| view.repair(epoch, theirs, at_ms))
    }

    /// The state at a position, if it is known, and now; `None` where the view is not held.
    pub(super) fn compare(&self, provider: &str, position: Position) -> Option<(Option<Summary>, Summary)> {
        let views = self.views();
        let view = &views.get(provider)?.view;
        Some((view.summary_at(position, 0).ok(), view.summary(0)))
    }

    /// The change that made a name without a document what it is, or one that is not older.
    pub(super) fn last_change(&self, name: &str) -> Option<u64> {
        self.views().values().next().map(|it| it.view.last_change(name))
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
    pub(super) fn step(&mut self) -> Result<Option<Step>, NotKept> {
        self.bell.mark_unchanged();
        let step = self.with_view(View::step_after)?;
        if let Some(step) = &step {
            self.position.seq = step.seq;
        }
        Ok(step)
    }

    /// The state where the follower is; it may move on over commits that its view saw nothing of.
    pub(super) fn heartbeat(&mut self, at_ms: i64) -> Result<Summary, NotKept> {
        let position = self.position;
        let summary = self.with_view(|view, seq| {
            if view.is_latest(seq) { Ok(view.summary(at_ms)) } else { view.summary_at(position, at_ms) }
        })?;
        self.position = summary.position;
        Ok(summary)
    }

    /// Whether what the view holds can be said to be current.
    pub(super) fn is_vouched(&self) -> bool {
        self.feed.is_vouched()
    }

    /// Waits until there may be something to send.
    pub(super) async fn rung(&mut self) {
        if self.bell.changed().await.is_err() {
            // The bell lives in the feed that `self` holds.
            std::future::pending::<()>().await;
        }
    }

    fn with_view<T>(&self, ask: impl FnOnce(&mut View, u64) -> Result<T, NotKept>) -> Result<T, NotKept> {
        let mut views = self.feed.views();
        let held = views.get_mut(&self.provider).ok_or(NotKept)?;
        let is_same = Arc::ptr_eq(&held.users, &self.user);
        if is_same { ask(&mut held.view, self.position.seq) } else { Err(NotKept) }
    }
}
