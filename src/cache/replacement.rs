//! A whole new state that waits for an operator's word, kept beside the one that is shown.
//!
//! Changes that follow it are verified against it and applied to it, so that it is up to date when the word comes.
//! Of all that readers see nothing but single cancellations among those changes: filings that are *ahead*, under the
//! new state's key. It costs a second table for as long as it waits, and is lost with the process.

use super::batch::at_once;
use super::shown::{Ahead, Shown};
use super::standing::{Standing, standing};
use super::table::{Table, travelling};
use super::waiting::{MAX_AHEAD, MAX_SINGLE_CANCELLATIONS, WaitingStatus};
use super::{Batch, Effect, FilingCache, Held, Refusal, Taken, check_forward, check_next};
use crate::feed::{Entry, Fingerprint, Position, Summary};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

/// Held states in a row, under different keys, whose single cancellations are all in force.
const MAX_LAYERS: usize = 4;

/// The state that waits.
#[derive(Debug)]
pub(super) struct Replacement {
    table: Table,
    blocking: Blocking,
    /// Filings that are shown as `table` has them.
    ahead: HashSet<Fingerprint>,
    /// When the registry last said that this is its state; none where it only came out of a file.
    verified: Option<(Instant, Summary)>,
}

/// What showing the new state would newly block.
#[derive(Debug)]
enum Blocking {
    /// Filings that fall: both states have one key.
    Filings(u64),
    /// Names can't be matched: filings of at least each standing above the lowest, now and then.
    Totals { now: [u64; 2], then: [u64; 2] },
}

impl Blocking {
    fn filings(&self) -> u64 {
        match self {
            Self::Filings(filings) => *filings,
            Self::Totals { now, then } => {
                now.iter().zip(then).map(|(now, then)| now.saturating_sub(*then)).max().unwrap_or_default()
            }
        }
    }

    /// A filing of the new state goes from one standing to another; `held` is what it is in the state that is shown.
    fn follow(&mut self, before: Standing, after: Standing, held: impl FnOnce() -> Standing) {
        match self {
            Self::Filings(filings) => {
                let held = held();
                *filings = (*filings + u64::from(after < held)).saturating_sub(u64::from(before < held));
            }
            Self::Totals { then, .. } => {
                for (total, least) in then.iter_mut().zip([Standing::Number, Standing::Access]) {
                    *total = (*total + u64::from(after >= least)).saturating_sub(u64::from(before >= least));
                }
            }
        }
    }
}

impl Replacement {
    pub(super) fn position(&self) -> Position {
        self.table.position()
    }

    /// Compares the registry's word with this state, and moves to its position.
    pub(super) fn agree(&mut self, summary: &Summary, now: Option<Instant>) -> Result<(), Refusal> {
        check_forward(self.table.position(), summary.position)?;
        if (self.table.count(), self.table.digest()) != (summary.count, summary.digest) {
            return Err(Refusal::Digest);
        }
        self.table.set_position(summary.position);
        self.verified = now.map(|now| (now, *summary)).or(self.verified);
        Ok(())
    }

    fn effect(&self, held: &Table) -> Effect {
        Effect { newly_blocked: self.blocking.filings(), of: held.count() }
    }

    pub(super) fn status(&self, held: &Table) -> WaitingStatus {
        WaitingStatus {
            effect: self.effect(held),
            position: self.table.position(),
            changes: usize::try_from(self.table.count()).unwrap_or(usize::MAX),
            ahead: self.ahead.len(),
        }
    }

    /// Verifies and applies a batch that follows; gives what of it fell.
    fn follow(&mut self, batch: &Batch<'_>, held: &Shown) -> Result<Vec<Fingerprint>, Refusal> {
        check_next(self.table.position(), batch)?;
        let outcome = self.table.outcome(batch.entries, at_once);
        let is_right = (outcome.count, outcome.digest) == (batch.summary.count, batch.summary.digest);
        if !is_right || !outcome.has_room {
            return Err(Refusal::Digest);
        }
        let last: HashMap<_, _> = batch.entries.iter().map(|entry| (entry.fingerprint, entry)).collect();
        let (shown, mut falls) = (self.table.shown(), Vec::new());
        for (&fingerprint, entry) in &last {
            let before = shown.standing_of(shown.code_of(fingerprint));
            let after = standing(travelling(entry));
            self.blocking.follow(before, after, || held.standing_of(held.code_of(fingerprint)));
            if after < before {
                falls.push(fingerprint);
            }
        }
        self.table.apply(&outcome, at_once);
        self.table.set_position(batch.summary.position);
        Ok(falls)
    }

    /// What is shown in place of what the held state says; before it, what was so before.
    fn layer(&self, before: Option<Arc<Ahead>>) -> Ahead {
        let shown = self.table.shown();
        let entry = |&fingerprint: &Fingerprint| {
            let gone = Entry { fingerprint, record: crate::filing::PackedRecord(0), odd: None };
            let code = shown.code_of(fingerprint);
            let entry = if code == super::code::FREE { gone } else { shown.entry(fingerprint.0, code) };
            (fingerprint, entry)
        };
        Ahead { key: self.table.key().clone(), entries: self.ahead.iter().map(entry).collect(), before }
    }
}

impl FilingCache {
    /// Keeps a whole state aside that needs an operator's word; what follows is verified against it.
    pub(super) fn keep_aside(&self, table: Table, effect: Effect) {
        let totals = |shown: &Shown| shown.standings();
        let mut held = self.lock();
        let Some(ours) = held.table.as_ref() else { return };
        let shown_now = self.shown.load_full();
        let mut before = shown_now.as_ref().and_then(|shown| shown.ahead.clone());
        let blocking = if ours.key() == table.key() {
            Blocking::Filings(effect.newly_blocked)
        } else {
            Blocking::Totals { now: totals(ours.peek()), then: totals(table.peek()) }
        };
        let mut ahead = HashSet::new();
        if let Some(layer) = before.clone().filter(|layer| layer.key == *table.key()) {
            // What is in force under this key stays so, as this state has it.
            ahead.extend(layer.entries.keys().copied());
            before.clone_from(&layer.before);
        }
        if before.as_ref().is_some_and(|before| before.layers() >= MAX_LAYERS) {
            // As it came: it is asked for again.
            return;
        }
        let replacement = Replacement { table, blocking, ahead, verified: None };
        let layer = replacement.layer(before);
        self.shown.store(Some(ours.peek().ahead(layer).into()));
        self.changed.tell_replaced();
        held.waiting = None;
        let old = held.replacement.replace(replacement);
        drop(held);
        drop(old);
    }

    /// Takes a batch while a whole state waits.
    pub(super) fn follow_aside(
        &self,
        held: &mut Held,
        batch: &Batch<'_>,
        now: Instant,
        mut permit: impl FnMut(Effect) -> bool,
    ) -> Result<Taken, Refusal> {
        let Held { table: Some(table), replacement: Some(replacement), .. } = held else {
            return Err(Refusal::NeverSynced);
        };
        let falls = replacement.follow(batch, table.peek())?;
        replacement.verified = Some((now, batch.summary));
        let touches = batch.entries.iter().any(|entry| replacement.ahead.contains(&entry.fingerprint));
        let mut single = Effect { newly_blocked: 0, of: table.count() };
        if falls.len() <= MAX_SINGLE_CANCELLATIONS && replacement.ahead.len() + falls.len() <= MAX_AHEAD {
            let wanted = Effect { newly_blocked: u64::try_from(falls.len()).unwrap_or(u64::MAX), ..single };
            if wanted.newly_blocked > 0 && permit(wanted) {
                replacement.ahead.extend(falls);
                single = wanted;
            }
        }
        if single.newly_blocked > 0 || touches {
            let before = self.shown.load_full().and_then(|shown| shown.ahead.clone());
            let before = before.and_then(|layer| layer.before.clone());
            self.shown.store(Some(table.peek().ahead(replacement.layer(before)).into()));
            // The fingerprints are another key's.
            self.changed.tell_replaced();
        }
        Ok(Taken::Waits(single))
    }

    /// Shows the whole state that waits, if `permit` agrees to what that would do; says what it did.
    pub(super) fn apply_aside(
        &self,
        mut held: MutexGuard<'_, Held>,
        now: Instant,
        permit: impl FnOnce(Effect) -> bool,
    ) -> Option<Effect> {
        let effect = held.replacement.as_ref()?.effect(held.table.as_ref()?);
        if !permit(effect) {
            return None;
        }
        let Replacement { table, verified, .. } = held.replacement.take()?;
        if let Some((at, summary)) = verified {
            self.mark_synced_at(&mut held, &summary, now, at);
        }
        self.replace(held, table);
        Some(effect)
    }
}
