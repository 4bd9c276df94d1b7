//! What a follower did, for metrics and status: written by it alone, read by anybody.

use crate::cache::Effect;
use crate::feed::Position;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use tokio::sync::Notify;

/// Counters and state of the follower. Share it in an `Arc`.
#[derive(Debug, Default)]
pub struct FollowStats {
    is_connected: AtomicBool,
    /// Batches applied.
    pub batches: AtomicU64,
    /// Changes in them.
    pub changes: AtomicU64,
    /// Heartbeats that confirmed the state.
    pub heartbeats: AtomicU64,
    /// Snapshots published.
    pub snapshots: AtomicU64,
    /// Times that the state could not be followed further and a snapshot was asked for.
    pub resyncs: AtomicU64,
    /// Repairs that put the state right.
    pub repairs: AtomicU64,
    /// Ranges that they replaced.
    pub repaired_ranges: AtomicU64,
    /// Snapshots that went on where a connection had cut them.
    pub resumed_snapshots: AtomicU64,
    /// Cancellations enforced although an earlier update waits.
    pub enforced_ahead: AtomicU64,
    /// Positions that the registry took note of as in force here.
    pub acknowledgements: AtomicU64,
    /// Times that it could not be told.
    pub acknowledgement_errors: AtomicU64,
    /// Connections that ended, or could not be made, and were tried again.
    pub reconnects: AtomicU64,
    /// Saves that failed.
    pub save_errors: AtomicU64,
    /// Saves that succeeded.
    pub saves: AtomicU64,
    /// Saved states that could not be used at start.
    pub load_errors: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
    last_error: Mutex<Option<String>>,
    save_error: Mutex<Option<String>>,
    saved: Mutex<Option<Position>>,
    held: Mutex<Option<HeldUpdate>>,
    word: Mutex<Option<Word>>,
    spoken: Notify,
}

/// An update that waits for an operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldUpdate {
    /// What it would do.
    pub effect: Effect,
    /// Where it leads; none where it is a whole state that is fetched again once it may be shown.
    pub position: Option<Position>,
    /// Filings that it changes.
    pub changes: usize,
    /// Of these, how many are in force already: single cancellations.
    pub ahead: usize,
    /// Since when, on this machine's clock.
    pub since: SystemTime,
    /// An operator refused it: it waits for the registry to take it back.
    pub is_refused: bool,
}

/// What an operator says of a held update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Let it come into force.
    Apply,
    /// Keep the old state until the registry's no longer newly blocks as many.
    Refuse,
}

/// Kinds of refused updates, by what was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// No whole, well-formed frame.
    Frame,
    /// The stream ended within a frame or a snapshot.
    Truncated,
    /// A frame that may not come there.
    Order,
    /// A snapshot for another provider.
    Provider,
    /// A gap, a duplicate, or a position that goes back.
    Position,
    /// Another epoch.
    Epoch,
    /// Count or digest differ.
    Digest,
    /// Held for an operator.
    Held,
}

impl Refused {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Frame,
        Self::Truncated,
        Self::Order,
        Self::Provider,
        Self::Position,
        Self::Epoch,
        Self::Digest,
        Self::Held,
    ];

    /// The label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Truncated => "truncated",
            Self::Order => "order",
            Self::Provider => "provider",
            Self::Position => "position",
            Self::Epoch => "epoch",
            Self::Digest => "digest",
            Self::Held => "held",
        }
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|&it| it == self).unwrap_or_default()
    }
}

impl FollowStats {
    /// Whether the registry is being followed right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Updates refused for this reason.
    #[must_use]
    pub fn refused(&self, kind: Refused) -> u64 {
        self.refused[kind.index()].load(Ordering::Relaxed)
    }

    /// What is wrong: with following, until the next verified word from the registry, else with saving, until
    /// the next save.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        let read = |it: &Mutex<Option<String>>| it.lock().unwrap_or_else(PoisonError::into_inner).clone();
        read(&self.last_error).or_else(|| read(&self.save_error))
    }

    /// The position that a start without the registry would begin with, at least.
    #[must_use]
    pub fn saved(&self) -> Option<Position> {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The update that waits for an operator's word.
    #[must_use]
    pub fn held(&self) -> Option<HeldUpdate> {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operator's word on what is held. Says whether anything was held.
    pub fn say(&self, word: Word) -> bool {
        let was_held = self.held().is_some();
        if was_held {
            *self.word.lock().unwrap_or_else(PoisonError::into_inner) = Some(word);
            self.spoken.notify_one();
        }
        was_held
    }

    /// The operator's next word.
    pub(super) async fn word(&self) -> Word {
        loop {
            if let Some(word) = self.word.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return word;
            }
            self.spoken.notified().await;
        }
    }

    pub(super) fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self, kind: Refused) {
        count(&self.refused[kind.index()]);
    }

    pub(super) fn set_error(&self, error: Option<String>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub(super) fn set_save_error(&self, error: Option<String>) {
        *self.save_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub(super) fn set_saved(&self, position: Position) {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
    }

    pub(super) fn set_held(&self, held: Option<HeldUpdate>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
