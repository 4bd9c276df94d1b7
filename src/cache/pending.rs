//! Changes that were applied and are not saved yet, in order, as the journal's records.
//!
//! Filled under the cache's lock, so it copies and does nothing else: checksums are for whoever takes them.
//! Bounded: when the disk can't follow, the changes are let go, and what is saved next is the whole state.

use super::saved::put_batch;
use super::table::Table;
use super::{FilingCache, Held};
use crate::feed::{Entry, EpochKey, Fingerprint, Summary};
use crate::filing::PackedRecord;

/// The most that is remembered: four million changes.
const MAX_PENDING_BYTES: usize = if cfg!(test) { 8 << 10 } else { 64 << 20 };

/// Nothing is remembered until somebody wants it.
#[derive(Debug, Default)]
pub(super) struct Pending {
    is_wanted: bool,
    /// The state that the records follow; none where some are missing.
    base: Option<Summary>,
    records: Vec<u8>,
}

/// What happened since the last time.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) key: EpochKey,
    /// The state that the records follow; none where they don't lead from any that was saved.
    pub(super) base: Option<Summary>,
    /// Batches, without their checksums.
    pub(super) records: Vec<u8>,
    /// The state that they lead to; its time is when it was last known to be current.
    pub(super) now: Summary,
}

impl Pending {
    /// Another table is held now, whose state this is.
    fn restart(&mut self, state: Summary) {
        self.records = Vec::new();
        self.base = self.is_wanted.then_some(state);
    }

    /// These were applied, and led to `after`.
    fn add(&mut self, entries: &[Entry], after: &Summary) {
        if self.base.is_none() {
            return;
        }
        put_batch(&mut self.records, entries, after);
        if self.records.len() > MAX_PENDING_BYTES {
            self.records = Vec::new();
            self.base = None;
        }
    }

    /// Gives what there is; from now on changes follow `now`.
    fn take(&mut self, key: &EpochKey, now: Summary) -> Taken {
        self.is_wanted = true;
        let records = std::mem::take(&mut self.records);
        Taken { key: key.clone(), base: self.base.replace(now), records, now }
    }
}

impl Held {
    /// Remembers changes that were applied just now.
    pub(super) fn remember(&mut self, entries: &[Entry]) {
        if let Some(state) = self.state() {
            self.pending.add(entries, &state);
        }
    }

    /// Forgets the changes of a table that was replaced just now.
    pub(super) fn remember_anew(&mut self) {
        if let Some(state) = self.state() {
            self.pending.restart(state);
        }
    }

    /// What is held; its time is when it was last known to be current.
    fn state(&self) -> Option<Summary> {
        let at_ms = self.synced_at_ms.unwrap_or_default();
        let state = |table: &Table| Summary {
            position: table.position(),
            count: table.count(),
            digest: table.digest(),
            at_ms,
        };
        self.table.as_ref().map(state)
    }
}

impl FilingCache {
    /// From now on changes are remembered until they are saved. Call it before anything is published.
    pub fn remember_changes(&self) {
        self.lock().pending.is_wanted = true;
    }

    /// What happened since this was last called.
    pub(super) fn take_changes(&self) -> Option<Taken> {
        let mut held = self.lock();
        let now = held.state()?;
        let Held { table, pending, .. } = &mut *held;
        table.as_ref().map(|table| pending.take(table.key(), now))
    }

    /// Gives each filing of a part to `give`, without a lock: those that change meanwhile come as they were or
    /// as they are.
    pub(super) fn each_in_part(
        &self,
        index: usize,
        give: impl FnMut(Fingerprint, PackedRecord, Option<&str>),
    ) {
        if let Some(shown) = self.shown.load().as_ref() {
            shown.each_in_part(index, give);
        }
    }
}
