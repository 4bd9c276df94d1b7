//! What warnings came to so far, for metrics, status and console: written by few, read by anybody.

use super::Upcoming;
use crate::config::WarningKind;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

/// An event that a receiver did not take in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stuck {
    /// The event's.
    pub id: String,
    /// Its kind.
    pub event: String,
    /// Who did not take it.
    pub webhook: String,
    /// What the receiver said last.
    pub why: String,
    /// When it was given up.
    pub given_up: String,
}

/// What became of events for one receiver.
#[derive(Debug, Default)]
pub struct HookState {
    /// As in the config.
    pub name: String,
    /// Events that wait.
    pub queued: AtomicU64,
    /// Events that were given up and are kept.
    pub dead: AtomicU64,
    /// Events that were taken.
    pub delivered: AtomicU64,
    /// Tries that failed.
    pub failed: AtomicU64,
    /// Unix seconds of the last one that was taken; 0: none yet.
    pub last_s: AtomicI64,
    error: Mutex<Option<String>>,
}

/// Counters and state of all warnings. Share it in an `Arc`.
#[derive(Debug, Default)]
pub struct WarningState {
    told: [AtomicU64; WarningKind::ALL.len()],
    /// Events that found no room.
    pub dropped: AtomicU64,
    /// Times that the queue could not be written.
    pub write_errors: AtomicU64,
    hooks: RwLock<Vec<HookState>>,
    stuck: Mutex<Vec<Stuck>>,
    upcoming: Mutex<Vec<Upcoming>>,
    error: Mutex<Option<String>>,
    look_error: Mutex<Option<String>>,
}

fn text(of: &Mutex<Option<String>>) -> Option<String> {
    of.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn set(of: &Mutex<Option<String>>, to: Option<String>) {
    *of.lock().unwrap_or_else(PoisonError::into_inner) = to;
}

impl HookState {
    pub(super) fn set_error(&self, error: Option<String>) {
        set(&self.error, error);
    }

    fn shown(&self) -> Value {
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let last = Some(self.last_s.load(Ordering::Relaxed)).filter(|it| *it != 0);
        json!({
            "name": self.name,
            "queued": read(&self.queued),
            "dead": read(&self.dead),
            "delivered": read(&self.delivered),
            "failed_tries": read(&self.failed),
            "last_delivered": last.and_then(|it| jiff::Timestamp::from_second(it).ok()).map(|it| it.to_string()),
            "error": text(&self.error),
        })
    }
}

impl WarningState {
    /// Events of a kind so far.
    #[must_use]
    pub fn told(&self, kind: WarningKind) -> u64 {
        self.told[kind.index()].load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, kind: WarningKind) {
        self.told[kind.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_hooks<'n>(&self, names: impl Iterator<Item = &'n str>) {
        let hooks = names.map(|name| HookState { name: name.to_owned(), ..HookState::default() });
        *self.hooks.write().unwrap_or_else(PoisonError::into_inner) = hooks.collect();
    }

    /// Does something with each receiver's state, in the order of the config.
    pub fn each_hook(&self, mut with: impl FnMut(&HookState)) {
        self.hooks.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(&mut with);
    }

    pub(super) fn hook(&self, nth: usize, with: impl FnOnce(&HookState)) {
        if let Some(hook) = self.hooks.read().unwrap_or_else(PoisonError::into_inner).get(nth) {
            with(hook);
        }
    }

    pub(super) fn set_stuck(&self, stuck: Vec<Stuck>) {
        *self.stuck.lock().unwrap_or_else(PoisonError::into_inner) = stuck;
    }

    pub(super) fn set_error(&self, error: Option<String>) {
        set(&self.error, error);
    }

    pub(super) fn set_upcoming(&self, upcoming: Vec<Upcoming>) {
        *self.upcoming.lock().unwrap_or_else(PoisonError::into_inner) = upcoming;
    }

    pub(super) fn set_look_error(&self, error: Option<String>) {
        set(&self.look_error, error);
    }

    /// What comes up, the nearest first.
    #[must_use]
    pub fn upcoming(&self) -> Vec<Upcoming> {
        self.upcoming.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much of a kind comes up.
    #[must_use]
    pub fn upcoming_of(&self, kind: WarningKind) -> usize {
        let upcoming = self.upcoming.lock().unwrap_or_else(PoisonError::into_inner);
        upcoming.iter().filter(|it| it.kind == kind).count()
    }

    /// Receivers and what ails them, as `/v1/status` shows it.
    #[must_use]
    pub fn shown(&self) -> Value {
        let mut hooks = Vec::new();
        self.each_hook(|hook| hooks.push(hook.shown()));
        json!({
            "webhooks": hooks,
            "dropped": self.dropped.load(Ordering::Relaxed),
            "queue_error": text(&self.error),
            "registry_error": text(&self.look_error),
        })
    }

    /// Everything: what comes up, and what nobody took.
    #[must_use]
    pub fn shown_whole(&self) -> Value {
        let mut shown = self.shown();
        shown["upcoming"] = json!(self.upcoming());
        shown["dead"] = json!(*self.stuck.lock().unwrap_or_else(PoisonError::into_inner));
        shown
    }
}
