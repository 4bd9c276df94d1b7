//! What needs an operator's word, and what becomes of it.

use super::flips::Flips;
use super::stats::{HeldUpdate, Word, count};
use super::{Follower, now};
use crate::cache::Effect;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

/// Whether an update may be applied.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    flips: Flips,
    /// An operator agreed to the next whole state, and to what follows until the registry is caught up with.
    is_released: bool,
    /// It has come.
    is_release_used: bool,
    /// How many an update would newly have blocked that an operator refused.
    refused: Option<u64>,
}

impl Bounds {
    pub(super) fn new(flips: Flips) -> Self {
        Self { flips, is_released: false, is_release_used: false, refused: None }
    }

    #[cfg(test)]
    pub(super) fn flips_mut(&mut self) -> &mut Flips {
        &mut self.flips
    }

    pub(super) fn permits(&self, effect: Effect, now: Instant) -> bool {
        let is_less = self.refused.is_none_or(|refused| effect.newly_blocked < refused);
        self.is_released || is_less && self.flips.permits(effect, now)
    }
}

impl Follower {
    /// Remembers what an update did, and that an operator's word was used for it.
    pub(super) fn applied(&mut self, effect: Effect, now: Instant) {
        self.bounds.flips.add(effect, now);
        self.bounds.refused = None;
        self.bounds.is_release_used |= self.bounds.is_released;
        self.stats.set_held(None);
    }

    /// The registry is caught up with: what an operator agreed to is over.
    pub(super) fn caught_up(&mut self, now: Instant) {
        if std::mem::take(&mut self.bounds.is_release_used) {
            self.bounds.is_released = false;
            self.bounds.flips.forget();
        }
        let bounds = &self.bounds;
        if let Some(effect) = self.cache.apply_waiting(now, |effect| bounds.permits(effect, now)) {
            tracing::warn!(
                newly_blocked = effect.newly_blocked,
                "the held update is within bounds now: applied"
            );
            self.applied(effect, now);
            self.saver.want(false);
        } else if let Some(waiting) = self.cache.waiting() {
            self.tell_held(waiting.effect);
        } else {
            self.stats.set_held(None);
        }
    }

    /// Says, to operators and once in the log, that an update waits.
    pub(super) fn tell_held(&mut self, effect: Effect) {
        let before = self.stats.held();
        if before.is_none() {
            tracing::error!(
                newly_blocked = effect.newly_blocked,
                filings = effect.of,
                "an update would newly block very many filings: it waits for an operator's word"
            );
        }
        let waiting = self.cache.waiting();
        self.stats.set_held(Some(HeldUpdate {
            effect: waiting.map_or(effect, |waiting| waiting.effect),
            position: waiting.map(|waiting| waiting.position),
            changes: waiting.map_or(0, |waiting| waiting.changes),
            ahead: waiting.map_or(0, |waiting| waiting.ahead),
            since: before.map_or_else(SystemTime::now, |before| before.since),
            is_refused: self.bounds.refused.is_some(),
        }));
    }

    /// Single cancellations are in force while what came before them waits.
    pub(super) fn enforced_ahead(&mut self, single: Effect, now: Instant) {
        self.bounds.flips.add(single, now);
        self.stats.enforced_ahead.fetch_add(single.newly_blocked, Ordering::Relaxed);
    }

    /// Does what the operator says of the held update.
    pub(super) fn obey(&mut self, word: Word) {
        match word {
            Word::Apply => {
                tracing::warn!("an operator agreed to the held update");
                self.bounds.refused = None;
                match self.cache.apply_waiting(now(), |_| true) {
                    Some(_) => {
                        self.bounds.flips.forget();
                        self.stats.set_held(None);
                        count(&self.stats.batches);
                        self.saver.want(false);
                        self.in_force.notify_one();
                    }
                    // It is a whole state that is fetched again.
                    None => self.bounds.is_released = true,
                }
            }
            Word::Refuse => {
                tracing::warn!("an operator refused the held update: the old filings keep serving");
                let Some(held) = self.stats.held() else { return };
                self.bounds.refused = Some(held.effect.newly_blocked);
                self.tell_held(held.effect);
            }
        }
    }
}
