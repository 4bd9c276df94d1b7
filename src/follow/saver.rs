//! Saves what is held, off the control path: soon after a snapshot, not too often after changes.

use super::pace::Pace;
use super::stats::{FollowStats, count};
use crate::cache::FilingCache;
use crate::cache::saved::{SavedError, SavedState};
use crate::feed::Position;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Saves may take one part in this many of the time: a checkpoint of millions of filings is work.
const SAVE_SHARE: u32 = 10;

/// Saves on demand.
#[derive(Debug, Clone)]
pub(super) struct Saver {
    shared: Arc<Shared>,
    pace: Pace,
}

#[derive(Debug)]
struct Shared {
    saved: SavedState,
    provider: Box<str>,
    cache: Arc<FilingCache>,
    stats: Arc<FollowStats>,
    wanted: Notify,
    is_urgent: AtomicBool,
    /// The directory is another process's by now.
    is_released: AtomicBool,
    /// What the files hold: position and time of the last sync.
    last: Mutex<Option<(Position, i64)>>,
}

impl Saver {
    pub(super) fn new(
        saved: SavedState,
        provider: &str,
        cache: &Arc<FilingCache>,
        stats: &Arc<FollowStats>,
    ) -> Self {
        cache.remember_changes();
        let shared = Shared {
            saved,
            provider: provider.into(),
            cache: Arc::clone(cache),
            stats: Arc::clone(stats),
            wanted: Notify::new(),
            is_urgent: AtomicBool::new(false),
            is_released: AtomicBool::new(false),
            last: Mutex::default(),
        };
        Self { shared: Arc::new(shared), pace: Pace::default() }
    }

    #[cfg(test)]
    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Shows what was saved, if it can be used. Says whether there is a state now.
    pub(super) fn load(&self, now: std::time::Instant) -> bool {
        let shared = &self.shared;
        let loaded = shared.saved.load(&shared.provider);
        for error in &loaded.refused {
            tracing::error!(error = error as &dyn Error, "a part of the saved filings can't be used");
            count(&shared.stats.load_errors);
            shared.stats.set_save_error(Some(error.to_string()));
        }
        let Some((table, synced_at_ms)) = loaded.found else {
            tracing::info!("starting without saved filings");
            return false;
        };
        let position = table.position();
        tracing::info!(
            filings = table.count(),
            epoch = position.epoch,
            seq = position.seq,
            "loaded the saved filings"
        );
        shared.cache.publish_saved(table, now, synced_at_ms);
        shared.stats.set_saved(position);
        *shared.last() = Some((position, synced_at_ms));
        true
    }

    /// Asks for a save: at once where a snapshot came, soon where changes did.
    pub(super) fn want(&self, is_urgent: bool) {
        if is_urgent {
            self.shared.is_urgent.store(true, Ordering::Relaxed);
        }
        self.shared.wanted.notify_one();
    }

    /// Saves as asked, forever.
    pub(super) async fn run(&self) -> std::convert::Infallible {
        let mut not_before = Instant::now();
        loop {
            // Running out is an answer too: the state is the same, and known to be for longer.
            let _ = tokio::time::timeout(self.pace.save_unchanged, self.shared.wanted.notified()).await;
            self.wait_until(not_before).await;
            let began = Instant::now();
            let is_saved = self.save().await;
            let pause = self.pace.save.max(began.elapsed().saturating_mul(SAVE_SHARE));
            not_before = Instant::now() + pause;
            if !is_saved {
                self.want(false);
            }
        }
    }

    /// Saves unless the files already hold this. Says whether it does now.
    pub(super) async fn save(&self) -> bool {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.save()).await.unwrap_or(false)
    }

    /// Saves once more, and leaves the directory to another process: nothing is saved until `retake`.
    pub(super) async fn release(&self) {
        let shared = Arc::clone(&self.shared);
        let released = tokio::task::spawn_blocking(move || {
            shared.save();
            // With what is being saved out of the way.
            let _last = shared.last();
            shared.is_released.store(true, Ordering::Relaxed);
            shared.saved.release();
        });
        if let Err(error) = released.await {
            tracing::error!(%error, "the saved filings were not released");
        }
    }

    /// Takes the directory back, and saves all anew.
    pub(super) fn retake(&self) -> Result<(), SavedError> {
        self.shared.saved.retake()?;
        *self.shared.last() = None;
        self.shared.is_released.store(false, Ordering::Relaxed);
        self.want(true);
        Ok(())
    }

    async fn wait_until(&self, not_before: Instant) {
        loop {
            if self.shared.is_urgent.swap(false, Ordering::Relaxed) {
                return;
            }
            let now = Instant::now();
            if now >= not_before {
                return;
            }
            let left: Duration = not_before - now;
            // Woken early by every further wish; only an urgent one counts.
            let _ = tokio::time::timeout(left, self.shared.wanted.notified()).await;
        }
    }
}

impl Shared {
    fn save(&self) -> bool {
        let mut last = self.last();
        if self.is_released.load(Ordering::Relaxed) {
            return true;
        }
        let Some(synced) = self.cache.synced() else {
            return true;
        };
        if *last == Some(synced) {
            return true;
        }
        match self.saved.save(&self.provider, &self.cache) {
            Ok(saved) => {
                *last = saved;
                if let Some((position, _)) = saved {
                    self.stats.set_saved(position);
                }
                count(&self.stats.saves);
                self.stats.set_save_error(None);
                true
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn Error,
                    "filings could not be saved; serving from memory"
                );
                count(&self.stats.save_errors);
                self.stats.set_save_error(Some(error.to_string()));
                false
            }
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<(Position, i64)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
