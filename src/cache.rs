//! The gate's filings: readers look up, one follower writes.
//!
//! A `View` is taken per request; a look-up takes no lock and writes nothing that is shared. Everything that
//! a registry says is verified against what is held before any of it shows. Ages are measured on the monotonic
//! clock; wall-clock times are for people. Knows no socket; files are `saved`'s.

mod aside;
mod assembly;
mod batch;
mod changed;
mod clock;
mod code;
mod line;
mod odd;
mod pending;
mod replacement;
pub mod saved;
mod segment;
mod shown;
mod standing;
mod status;
mod table;
mod update;
mod view;
mod waiting;

pub use assembly::{Assembly, AssemblyError};
pub use changed::{Changed, REMEMBERED_CHANGES, Seen, Since};
pub use clock::Clock;
pub use status::CacheStatus;
pub use table::{Copied, Table};
pub use update::{Batch, Effect, Refusal, Repaired, Taken};
use update::{check_forward, check_next};
pub use view::View;
pub use waiting::{MAX_AHEAD, MAX_SINGLE_CANCELLATIONS, MAX_WAITING, WaitingStatus};

use crate::config::WhenStale;
use crate::feed::{Entry, EpochKey, Position, Summary};
use arc_swap::ArcSwapOption;
use aside::drop_aside;
use pending::Pending;
use replacement::Replacement;
use shown::Shown;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use waiting::Waiting;

/// In place of a time where there is none.
const NEVER_MS: i64 = i64::MIN;

/// Changes that are applied without a rest: whoever brings so few may not be where it can rest.
const MAX_UNRESTED: usize = 1024;

/// How old filings may be, and what then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staleness {
    /// The age after which filings are stale.
    pub stale_after: Duration,
    /// Whether stale filings still decide.
    pub when_stale: WhenStale,
}

/// The filings that this gate relies on. Share it in an `Arc`.
#[derive(Debug)]
pub struct FilingCache {
    shown: ArcSwapOption<Shown>,
    staleness: Staleness,
    /// `synced_ms` counts from its base.
    clock: Clock,
    /// When the held state was last known to be the registry's: milliseconds from `base`, maybe negative.
    synced_ms: AtomicI64,
    /// The same on this machine's wall clock, in Unix milliseconds: `Held`'s, for those that take no lock.
    synced_at_ms: AtomicI64,
    held: Mutex<Held>,
    changed: Changed,
    /// Called every so often while a large batch is applied.
    rest: fn(),
}

/// The writer's side.
#[derive(Debug, Default)]
struct Held {
    table: Option<Table>,
    /// What an operator has to agree to before it is applied to the table.
    waiting: Option<Waiting>,
    /// Or a whole new state that does.
    replacement: Option<Replacement>,
    /// Unix milliseconds of the last sync on this machine's clock.
    synced_at_ms: Option<i64>,
    lag_ms: i64,
    /// Changes that are not saved yet.
    pending: Pending,
}

impl FilingCache {
    /// A cache that was never synced.
    #[must_use]
    pub fn new(staleness: Staleness) -> Self {
        Self::with_clock(staleness, Clock::system())
    }

    /// A cache that was never synced, on these clocks.
    #[must_use]
    pub fn with_clock(staleness: Staleness, clock: Clock) -> Self {
        Self {
            shown: ArcSwapOption::empty(),
            staleness,
            clock,
            synced_ms: AtomicI64::new(0),
            synced_at_ms: AtomicI64::new(NEVER_MS),
            held: Mutex::default(),
            changed: Changed::default(),
            rest: batch::at_once,
        }
    }

    /// The same, whose writer calls `rest` every few tenths of a millisecond while it applies a large batch.
    #[must_use]
    pub fn resting(self, rest: fn()) -> Self {
        Self { rest, ..self }
    }

    /// The filings as they are at `now`. Keep it for one decision, not longer.
    #[must_use]
    pub fn at(&self, now: Instant) -> View<'_> {
        let is_blocking = self.staleness.when_stale == WhenStale::Block;
        View {
            shown: self.shown.load(),
            is_stale: is_blocking && self.age(now) > self.staleness.stale_after,
            cache: PhantomData,
        }
    }

    /// Shows a whole new state, verified by whoever built it, as known to be current at `now`.
    pub fn publish(&self, table: Table, now: Instant) {
        let mut held = self.lock();
        self.set_synced_at(&mut held, self.clock.wall_ms());
        self.set_synced(now, Duration::ZERO);
        self.replace(held, table);
    }

    /// Shows a state that was saved when it had last been known to be current.
    pub fn publish_saved(&self, table: Table, now: Instant, synced_at_ms: i64) {
        // A wall clock that went back must not make filings younger than now.
        let age_ms = self.clock.wall_ms().saturating_sub(synced_at_ms);
        let mut held = self.lock();
        self.set_synced_at(&mut held, synced_at_ms);
        self.set_synced(now, Duration::from_millis(u64::try_from(age_ms).unwrap_or_default()));
        self.replace(held, table);
    }

    /// Shows a whole new state from the registry, unless it is older than the one held; where `permit` says no, it is
    /// kept aside and followed as what is held would be.
    /// A snapshot may have lain in a file: it is no fresher than what was held, or, without that, not fresh.
    /// What waited for an operator is in it.
    ///
    /// # Errors
    /// `Position` or `Held`: the held state stays.
    pub fn supersede(&self, table: Table, permit: impl FnOnce(Effect) -> bool) -> Result<Effect, Refusal> {
        let mut total = Effect { newly_blocked: 0, of: 0 };
        // Comparing takes seconds when there are millions: not under the lock. Nobody else writes.
        let held = self.lock().shown_and_followed();
        if let Some((ours, of, shown)) = held {
            let got = table.position();
            if got.epoch == ours.epoch && got.seq < ours.seq {
                return Err(Refusal::Position { got: got.seq, held: ours.seq });
            }
            let effect = Effect { newly_blocked: shown.newly_blocked_by(&table.shown()), of };
            if !permit(effect) {
                self.keep_aside(table, effect);
                return Err(Refusal::Held(effect));
            }
            total = effect;
        }
        let held = self.lock();
        if held.table.is_none() {
            self.synced_ms.store(i64::MIN, Ordering::Release);
        }
        self.replace(held, table);
        Ok(total)
    }

    /// Verifies the batch against what is held, then applies it whole; names change one by one for readers.
    /// Behind what waits for an operator it waits too, but for single cancellations; `permit` is then asked for
    /// all that waits, and for those.
    ///
    /// # Errors
    /// `Refusal`: nothing was applied.
    pub fn apply(
        &self,
        batch: &Batch<'_>,
        now: Instant,
        permit: impl FnMut(Effect) -> bool,
    ) -> Result<Taken, Refusal> {
        let mut held = self.lock();
        let ours = held.followed().ok_or(Refusal::NeverSynced)?;
        check_next(ours, batch)?;
        if held.replacement.is_some() {
            return self.follow_aside(&mut held, batch, now, permit);
        }
        if held.waiting.is_some() {
            return self.wait_behind(&mut held, batch, now, permit);
        }
        self.change(&mut held, batch.entries, &batch.summary, now, permit).map(Taken::Applied)
    }

    /// Puts the ranges right whose digests differ: they hold exactly these entries then, all others what they
    /// held. Verified before any of it shows; names change one by one for readers.
    ///
    /// # Errors
    /// `Refusal`: nothing was changed. `Digest` also where the entries aren't what `Repaired` says.
    pub fn repair(
        &self,
        repaired: &Repaired<'_>,
        now: Instant,
        permit: impl FnMut(Effect) -> bool,
    ) -> Result<Effect, Refusal> {
        let mut held = self.lock();
        if held.replacement.is_some() {
            return Err(Refusal::NeverSynced);
        }
        let table = held.table.as_mut().ok_or(Refusal::NeverSynced)?;
        check_forward(table.position(), repaired.summary.position)?;
        let differences = table.differences(repaired.ranges, repaired.entries).ok_or(Refusal::Digest)?;
        self.change(&mut held, &differences, &repaired.summary, now, permit)
    }

    /// Takes the registry's word that the state is still this: it is fresh as of `now`.
    ///
    /// # Errors
    /// `Refusal`: what is held is something else, and no fresher than it was.
    pub fn confirm(&self, summary: &Summary, now: Instant) -> Result<(), Refusal> {
        let mut held = self.lock();
        held.agree(summary, Some(now))?;
        // What is shown while something waits is not what the registry has.
        if held.waiting.is_none() && held.replacement.is_none() {
            self.mark_synced(&mut held, summary, now);
        }
        Ok(())
    }

    /// Takes the registry's word that the state at this position was this, which makes nothing fresher: it may
    /// have gone on since.
    ///
    /// # Errors
    /// `Refusal`: what is held is something else.
    pub fn agree(&self, summary: &Summary) -> Result<(), Refusal> {
        self.lock().agree(summary, None)
    }

    /// The key that fingerprints derive from; none before the first sync.
    #[must_use]
    pub fn key(&self) -> Option<EpochKey> {
        self.lock().table.as_ref().map(|table| table.key().clone())
    }

    /// When the state was last known to be the registry's: Unix seconds. Waits for nobody, so that a request may ask
    /// while a large batch is being applied.
    #[must_use]
    pub fn synced_at(&self) -> Option<i64> {
        let ms = self.synced_at_ms.load(Ordering::Acquire);
        (ms != NEVER_MS).then(|| ms.div_euclid(1000))
    }

    /// Which fingerprints have changed lately.
    #[must_use]
    pub fn changed(&self) -> &Changed {
        &self.changed
    }

    /// The held position; none before the first sync.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.lock().table.as_ref().map(Table::position)
    }

    /// The held position, and the Unix milliseconds at which it was last known to be current.
    #[must_use]
    pub fn synced(&self) -> Option<(Position, i64)> {
        let held = self.lock();
        Some((held.table.as_ref()?.position(), held.synced_at_ms.unwrap_or_default()))
    }

    /// Changes what is held as a fault of memory would.
    #[cfg(test)]
    pub(crate) fn corrupt(&self, entry: &Entry) {
        let mut held = self.lock();
        if let Some(table) = held.table.as_mut() {
            table.set(entry);
            let shown = table.shown();
            if held.waiting.is_none() {
                self.shown.store(Some(shown));
            }
        }
    }

    /// Verifies that these entries lead to `summary`, then applies them.
    fn change(
        &self,
        held: &mut Held,
        entries: &[Entry],
        summary: &Summary,
        now: Instant,
        mut permit: impl FnMut(Effect) -> bool,
    ) -> Result<Effect, Refusal> {
        let table = held.table.as_mut().ok_or(Refusal::NeverSynced)?;
        let rest = if entries.len() > MAX_UNRESTED { self.rest } else { batch::at_once };
        let outcome = table.outcome(entries, rest);
        // Odd records that were replaced stay until the table is; a whole new state makes room.
        if (outcome.count, outcome.digest) != (summary.count, summary.digest) || !outcome.has_room {
            return Err(Refusal::Digest);
        }
        let effect = Effect { newly_blocked: outcome.newly_blocked, of: table.count() };
        if !permit(effect) {
            return Err(Refusal::Held(effect));
        }
        table.apply(&outcome, rest);
        table.set_position(summary.position);
        let shown = table.shown();
        self.shown.store(Some(shown));
        self.changed.tell(entries.iter().map(|entry| entry.fingerprint));
        held.waiting = None;
        self.mark_synced(held, summary, now);
        held.remember(entries);
        Ok(effect)
    }

    fn replace(&self, mut held: MutexGuard<'_, Held>, table: Table) {
        let shown = table.shown();
        let old_table = held.table.replace(table);
        let old_shown = self.shown.swap(Some(shown));
        self.changed.tell_replaced();
        held.waiting = None;
        let unused = held.replacement.take();
        held.remember_anew();
        drop(held);
        drop(unused);
        if let (Some(table), Some(shown)) = (old_table, old_shown) {
            drop_aside(table, shown);
        }
    }

    fn mark_synced(&self, held: &mut Held, summary: &Summary, now: Instant) {
        self.mark_synced_at(held, summary, now, now);
    }

    /// As `mark_synced`, of a word that came at `said_at`.
    fn mark_synced_at(&self, held: &mut Held, summary: &Summary, now: Instant, said_at: Instant) {
        let (age, wall_ms) = (now.saturating_duration_since(said_at), self.clock.wall_ms());
        self.set_synced_at(held, wall_ms.saturating_sub(millis(age)));
        held.lag_ms = wall_ms.saturating_sub(summary.at_ms).max(0);
        self.set_synced(now, age);
    }

    fn set_synced_at(&self, held: &mut Held, ms: i64) {
        held.synced_at_ms = Some(ms);
        self.synced_at_ms.store(ms, Ordering::Release);
    }

    fn set_synced(&self, now: Instant, age: Duration) {
        let since_base = millis(now.saturating_duration_since(self.clock.base()));
        self.synced_ms.store(since_base.saturating_sub(millis(age)), Ordering::Release);
    }

    fn age(&self, now: Instant) -> Duration {
        let since_base = millis(now.saturating_duration_since(self.clock.base()));
        let age_ms = since_base.saturating_sub(self.synced_ms.load(Ordering::Acquire));
        Duration::from_millis(u64::try_from(age_ms).unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Where the state is that changes lead on from; and of the state that is held, its count and what readers see.
    fn shown_and_followed(&self) -> Option<(Position, u64, Arc<Shown>)> {
        let table = self.table.as_ref()?;
        let replaced = self.replacement.as_ref().map(Replacement::position);
        Some((replaced.unwrap_or_else(|| table.position()), table.count(), table.shown()))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
