//! What waits for an operator's word: changes that are verified and kept aside, the table untouched by them.
//!
//! A later batch is verified against the state that they would lead to, and waits with them. Of what waits
//! readers see nothing but single cancellations: filings that are *ahead*, shown as the newest batch has them,
//! outside of the table, so that its count and digests stay those of the held position. All of it is lost with
//! the process; the registry then sends it again.

use super::shown::Ahead;
use super::standing::standing;
use super::table::{Table, travelling};
use super::{Batch, Effect, FilingCache, Held, Refusal, Repaired, Taken, check_forward};
use crate::feed::{Digest, Entry, EpochKey, Fingerprint, Position, Summary};
use crate::filing::PackedRecord;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// Filings that may wait; an update beyond is not taken at all.
pub const MAX_WAITING: usize = 1_000_000;
/// Filings that may be shown ahead.
pub const MAX_AHEAD: usize = 10_000;
/// A batch that newly blocks no more than this many is enforced although an earlier one waits.
pub const MAX_SINGLE_CANCELLATIONS: usize = 10;

/// Changes that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Each changed filing as the newest change leaves it.
    newest: HashMap<Fingerprint, Entry>,
    /// What the state is once they are applied.
    summary: Summary,
    /// Filings whose standing would fall from what the table holds.
    newly_blocked: u64,
    /// Filings that are shown as `newest` has them.
    ahead: HashSet<Fingerprint>,
    /// When the registry last said that `summary` is its state.
    verified_at: Instant,
}

/// What waits, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingStatus {
    /// What applying it would do, beyond what is shown ahead.
    pub effect: Effect,
    /// Where it leads.
    pub position: Position,
    /// Filings that it would change.
    pub changes: usize,
    /// Of these, how many are in force already: single cancellations.
    pub ahead: usize,
}

/// A state after changes that are not applied.
struct Outcome {
    count: u64,
    digest: Digest,
    newly_blocked: u64,
}

impl Held {
    /// The position that the registry's next change follows.
    pub(super) fn followed(&self) -> Option<Position> {
        let table = self.table.as_ref()?;
        if let Some(replacement) = &self.replacement {
            return Some(replacement.position());
        }
        Some(self.waiting.as_ref().map_or(table.position(), |waiting| waiting.summary.position))
    }

    /// Compares the registry's word with what is held and waits, and moves to its position.
    pub(super) fn agree(&mut self, summary: &Summary, now: Option<Instant>) -> Result<(), Refusal> {
        let table = self.table.as_mut().ok_or(Refusal::NeverSynced)?;
        if let Some(replacement) = &mut self.replacement {
            return replacement.agree(summary, now);
        }
        let (position, count, digest) = match &self.waiting {
            Some(Waiting { summary, .. }) => (summary.position, summary.count, summary.digest),
            None => (table.position(), table.count(), table.digest()),
        };
        check_forward(position, summary.position)?;
        if (count, digest) != (summary.count, summary.digest) {
            return Err(Refusal::Digest);
        }
        // Changes that this provider does not see move the position all the same.
        match &mut self.waiting {
            Some(waiting) => {
                waiting.summary = *summary;
                waiting.verified_at = now.unwrap_or(waiting.verified_at);
            }
            None => table.set_position(summary.position),
        }
        Ok(())
    }
}

impl Waiting {
    fn new(table: &Table, now: Instant) -> Self {
        let (position, count, digest) = (table.position(), table.count(), table.digest());
        Self {
            newest: HashMap::new(),
            summary: Summary { position, count, digest, at_ms: 0 },
            newly_blocked: 0,
            ahead: HashSet::new(),
            verified_at: now,
        }
    }

    /// What the state would be after these entries as well.
    fn outcome(&self, table: &Table, entries: &[Entry]) -> Outcome {
        let (key, shown) = (table.key(), table.shown());
        let Summary { mut count, mut digest, .. } = self.summary;
        let mut last: HashMap<Fingerprint, &Entry> = HashMap::with_capacity(entries.len());
        for entry in entries {
            let earlier = last.insert(entry.fingerprint, entry);
            let mut take_away = |before: Option<(PackedRecord, Option<&str>)>| {
                if let Some((record, odd)) = before {
                    digest.remove(key.element(entry.fingerprint, record, odd));
                    count = count.saturating_sub(1);
                }
            };
            match earlier.or_else(|| self.newest.get(&entry.fingerprint)) {
                Some(earlier) => take_away(travelling(earlier)),
                None => shown.with_found(entry.fingerprint, take_away),
            }
            if let Some((record, odd)) = travelling(entry) {
                digest.add(key.element(entry.fingerprint, record, odd));
                count += 1;
            }
        }
        let mut newly_blocked = self.newly_blocked;
        for (&fingerprint, entry) in &last {
            let held = shown.standing_of(shown.code_of(fingerprint));
            let fell = self.newest.get(&fingerprint).is_some_and(|it| standing(travelling(it)) < held);
            newly_blocked = newly_blocked.saturating_sub(fell.into());
            newly_blocked += u64::from(standing(travelling(entry)) < held);
        }
        Outcome { count, digest, newly_blocked }
    }

    /// Adds changes whose outcome is known to be right.
    fn add(&mut self, entries: &[Entry], summary: Summary, newly_blocked: u64, now: Instant) {
        self.newest.extend(entries.iter().map(|entry| (entry.fingerprint, entry.clone())));
        (self.summary, self.newly_blocked, self.verified_at) = (summary, newly_blocked, now);
    }

    /// What of these entries would fall below what is shown now.
    fn falls(&self, table: &Table, entries: &[Entry]) -> Vec<Fingerprint> {
        let last: HashMap<_, _> = entries.iter().map(|entry| (entry.fingerprint, entry)).collect();
        let shown = table.shown();
        let falls = last.iter().filter(|(fingerprint, entry)| {
            let ahead = self.ahead.get(fingerprint).and_then(|it| self.newest.get(it));
            let shown = match ahead {
                Some(entry) => standing(travelling(entry)),
                None => shown.standing_of(shown.code_of(**fingerprint)),
            };
            standing(travelling(entry)) < shown
        });
        falls.map(|(fingerprint, _)| *fingerprint).collect()
    }

    /// What is shown in place of what the table holds.
    fn shown_ahead(&self, key: &EpochKey) -> Ahead {
        let entries = self.ahead.iter().filter_map(|it| self.newest.get(it));
        let entries = entries.map(|entry| (entry.fingerprint, entry.clone())).collect();
        Ahead { key: key.clone(), entries, before: None }
    }

    /// What applying it would do beyond what is shown ahead.
    fn effect(&self, table: &Table) -> Effect {
        let shown = table.shown();
        let ahead = self.ahead.iter().filter_map(|it| self.newest.get(it));
        let done = ahead.filter(|entry| {
            standing(travelling(entry)) < shown.standing_of(shown.code_of(entry.fingerprint))
        });
        let done = u64::try_from(done.count()).unwrap_or_default();
        Effect { newly_blocked: self.newly_blocked.saturating_sub(done), of: table.count() }
    }
}

impl FilingCache {
    /// Keeps a batch aside that was refused as `Held`; what follows it is verified against it and waits as well.
    ///
    /// # Errors
    /// `Refusal`: nothing was kept. `Held` where it is too much to keep.
    pub fn hold(&self, batch: &Batch<'_>, now: Instant) -> Result<(), Refusal> {
        let mut held = self.lock();
        let ours = held.followed().ok_or(Refusal::NeverSynced)?;
        super::check_next(ours, batch)?;
        self.keep(&mut held, batch.entries, batch.summary, now)
    }

    /// Keeps a repair aside that was refused as `Held`, in place of what waited before.
    ///
    /// # Errors
    /// As for `hold`.
    pub fn hold_repair(&self, repaired: &Repaired<'_>, now: Instant) -> Result<(), Refusal> {
        let mut held = self.lock();
        let table = held.table.as_ref().ok_or(Refusal::NeverSynced)?;
        check_forward(table.position(), repaired.summary.position)?;
        let differences = table.differences(repaired.ranges, repaired.entries).ok_or(Refusal::Digest)?;
        self.keep(&mut held, &differences, repaired.summary, now)
    }

    /// What waits.
    #[must_use]
    pub fn waiting(&self) -> Option<WaitingStatus> {
        let held = self.lock();
        let table = held.table.as_ref()?;
        if let Some(replacement) = &held.replacement {
            return Some(replacement.status(table));
        }
        let waiting = held.waiting.as_ref()?;
        Some(WaitingStatus {
            effect: waiting.effect(table),
            position: waiting.summary.position,
            changes: waiting.newest.len(),
            ahead: waiting.ahead.len(),
        })
    }

    /// The position that the registry's next change follows: of what is held and what waits.
    #[must_use]
    pub fn followed(&self) -> Option<Position> {
        self.lock().followed()
    }

    /// Applies what waits if `permit` agrees to what it would do now; says what it did.
    pub fn apply_waiting(&self, now: Instant, permit: impl FnOnce(Effect) -> bool) -> Option<Effect> {
        let mut held = self.lock();
        if held.replacement.is_some() {
            return self.apply_aside(held, now, permit);
        }
        let effect = held.waiting.as_ref()?.effect(held.table.as_ref()?);
        if !permit(effect) {
            return None;
        }
        self.apply_all(&mut held, now);
        Some(effect)
    }

    /// Takes a batch while others wait.
    pub(super) fn wait_behind(
        &self,
        held: &mut Held,
        batch: &Batch<'_>,
        now: Instant,
        mut permit: impl FnMut(Effect) -> bool,
    ) -> Result<Taken, Refusal> {
        let Held { table: Some(table), waiting: Some(waiting), .. } = held else {
            return Err(Refusal::NeverSynced);
        };
        let outcome = waiting.outcome(table, batch.entries);
        if (outcome.count, outcome.digest) != (batch.summary.count, batch.summary.digest) {
            return Err(Refusal::Digest);
        }
        if waiting.newest.len() + batch.entries.len() > MAX_WAITING {
            return Err(Refusal::Held(waiting.effect(table)));
        }
        let falls = waiting.falls(table, batch.entries);
        let touches_ahead = batch.entries.iter().any(|entry| waiting.ahead.contains(&entry.fingerprint));
        waiting.add(batch.entries, batch.summary, outcome.newly_blocked, now);
        let effect = waiting.effect(table);
        if permit(effect) {
            self.apply_all(held, now);
            return Ok(Taken::Applied(effect));
        }
        let mut single = Effect { newly_blocked: 0, of: table.count() };
        if falls.len() <= MAX_SINGLE_CANCELLATIONS && waiting.ahead.len() + falls.len() <= MAX_AHEAD {
            let wanted = Effect { newly_blocked: u64::try_from(falls.len()).unwrap_or(u64::MAX), ..single };
            if wanted.newly_blocked > 0 && permit(wanted) {
                waiting.ahead.extend(falls);
                single = wanted;
            }
        }
        if single.newly_blocked > 0 || touches_ahead {
            self.shown.store(Some(table.shown().ahead(waiting.shown_ahead(table.key())).into()));
            self.changed.tell(batch.entries.iter().map(|entry| entry.fingerprint));
        }
        Ok(Taken::Waits(single))
    }

    fn keep(
        &self,
        held: &mut Held,
        entries: &[Entry],
        summary: Summary,
        now: Instant,
    ) -> Result<(), Refusal> {
        let table = held.table.as_ref().ok_or(Refusal::NeverSynced)?;
        let mut waiting = Waiting::new(table, now);
        let outcome = waiting.outcome(table, entries);
        if (outcome.count, outcome.digest) != (summary.count, summary.digest) {
            return Err(Refusal::Digest);
        }
        if entries.len() > MAX_WAITING {
            let effect = Effect { newly_blocked: outcome.newly_blocked, of: table.count() };
            return Err(Refusal::Held(effect));
        }
        waiting.add(entries, summary, outcome.newly_blocked, now);
        if let Some(before) = held.waiting.take() {
            // What is in force stays so, as far as it differs from what is held.
            waiting.ahead = before.ahead;
            waiting.ahead.retain(|it| waiting.newest.contains_key(it));
            self.shown.store(Some(table.shown().ahead(waiting.shown_ahead(table.key())).into()));
            self.changed.tell_replaced();
        }
        held.waiting = Some(waiting);
        Ok(())
    }

    fn apply_all(&self, held: &mut Held, now: Instant) {
        let (Some(table), Some(waiting)) = (held.table.as_mut(), held.waiting.take()) else {
            return;
        };
        for entry in waiting.newest.values() {
            table.set(entry);
        }
        table.set_position(waiting.summary.position);
        self.shown.store(Some(table.shown()));
        self.changed.tell(waiting.newest.keys().copied());
        self.mark_synced_at(held, &waiting.summary, now, waiting.verified_at);
        let entries: Vec<_> = waiting.newest.into_values().collect();
        held.remember(&entries);
    }
}
