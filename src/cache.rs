//! The gate's filings: readers look up, one follower writes.
//!
//! A `View` is taken per request; a look-up takes no lock and writes nothing that is shared. Everything that
//! a registry says is verified against what is held before any of it shows. Ages are measured on the monotonic
//! clock; wall-clock times are for people. Knows no socket; files are `saved`'s.

mod assembly;
mod odd;
mod pending;
pub mod saved;
mod segment;
mod status;
mod table;

pub use assembly::{Assembly, AssemblyError};
pub use status::CacheStatus;
pub use table::{Copied, Table};

use crate::config::WhenStale;
use crate::domain::DomainName;
use crate::feed::{Entry, Position, Summary};
use crate::filing::{FilingRecord, covering};
use crate::verdict::{Coverage, Filings};
use arc_swap::{ArcSwapOption, Guard};
use pending::Pending;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use table::Shown;

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
    /// What `synced_ms` counts from.
    base: Instant,
    /// When the held state was last known to be the registry's: milliseconds from `base`, maybe negative.
    synced_ms: AtomicI64,
    held: Mutex<Held>,
}

/// The writer's side.
#[derive(Debug, Default)]
struct Held {
    table: Option<Table>,
    /// Unix milliseconds of the last sync on this machine's clock.
    synced_at_ms: Option<i64>,
    lag_ms: i64,
    /// Changes that are not saved yet.
    pending: Pending,
}

/// The filings as one request sees them.
#[derive(Debug)]
pub struct View<'a> {
    shown: Guard<Option<Arc<Shown>>>,
    is_stale: bool,
    cache: PhantomData<&'a FilingCache>,
}

/// Changes, as a registry sends them.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The position that they follow.
    pub after: Position,
    /// The changes, in order.
    pub entries: &'a [Entry],
    /// What the state is then.
    pub summary: Summary,
}

/// What an update would do to traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Filings that it would newly block for some product (or all).
    pub newly_blocked: u64,
    /// Filings held before it.
    pub of: u64,
}

/// Why an update was not taken. Nothing of it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Changes need a state to change.
    #[error("no state is held that changes could apply to")]
    NeverSynced,
    /// Another history.
    #[error("epoch {got} does not match the held epoch {held}")]
    Epoch {
        /** Of the update. */
        got: u64,
        /** Ours. */
        held: u64,
    },
    /// A gap, a duplicate, or a step back.
    #[error("position {got} does not follow the held position {held}")]
    Position {
        /** Of the update. */
        got: u64,
        /** Ours. */
        held: u64,
    },
    /// The state would not be, or is not, what the registry says it is.
    #[error("count or digest differs from the registry's")]
    Digest,
    /// Too much at once: an operator has to agree.
    #[error("{} of {} filings would be newly blocked; held for an operator", .0.newly_blocked, .0.of)]
    Held(Effect),
}

impl FilingCache {
    /// A cache that was never synced.
    #[must_use]
    pub fn new(staleness: Staleness) -> Self {
        Self {
            shown: ArcSwapOption::empty(),
            staleness,
            base: Instant::now(),
            synced_ms: AtomicI64::new(0),
            held: Mutex::default(),
        }
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
        self.replace(table, now, Duration::ZERO, Some(unix_ms()));
    }

    /// Shows a state that was saved when it had last been known to be current.
    pub fn publish_saved(&self, table: Table, now: Instant, synced_at_ms: i64) {
        // A wall clock that went back must not make filings younger than now.
        let age_ms = u64::try_from(unix_ms().saturating_sub(synced_at_ms)).unwrap_or_default();
        self.replace(table, now, Duration::from_millis(age_ms), Some(synced_at_ms));
    }

    /// Shows a whole new state from the registry, unless it is older than the one held or `permit` says no.
    ///
    /// # Errors
    /// `Position` or `Held`: the table is dropped and the held state stays.
    pub fn supersede(
        &self,
        table: Table,
        now: Instant,
        permit: impl FnOnce(Effect) -> bool,
    ) -> Result<(), Refusal> {
        // Comparing takes seconds when there are millions: not under the lock. Nobody else writes.
        let held = self.lock().table.as_ref().map(|held| (held.position(), held.count(), held.shown()));
        if let Some((ours, of, shown)) = held {
            let got = table.position();
            if got.epoch == ours.epoch && got.seq < ours.seq {
                return Err(Refusal::Position { got: got.seq, held: ours.seq });
            }
            let effect = Effect { newly_blocked: shown.newly_blocked_by(&table.shown()), of };
            if !permit(effect) {
                return Err(Refusal::Held(effect));
            }
        }
        self.publish(table, now);
        Ok(())
    }

    /// Verifies the batch against what is held, then applies it whole; names change one by one for readers.
    ///
    /// # Errors
    /// `Refusal`: nothing was applied.
    pub fn apply(
        &self,
        batch: &Batch<'_>,
        now: Instant,
        permit: impl FnOnce(Effect) -> bool,
    ) -> Result<(), Refusal> {
        let mut held = self.lock();
        let table = held.table.as_mut().ok_or(Refusal::NeverSynced)?;
        let (summary, ours) = (&batch.summary, table.position());
        for position in [batch.after, summary.position] {
            if position.epoch != ours.epoch {
                return Err(Refusal::Epoch { got: position.epoch, held: ours.epoch });
            }
        }
        if batch.after.seq != ours.seq {
            return Err(Refusal::Position { got: batch.after.seq, held: ours.seq });
        }
        if summary.position.seq <= ours.seq {
            return Err(Refusal::Position { got: summary.position.seq, held: ours.seq });
        }
        let outcome = table.outcome(batch.entries);
        if (outcome.count, outcome.digest) != (summary.count, summary.digest) {
            return Err(Refusal::Digest);
        }
        let effect = Effect { newly_blocked: outcome.newly_blocked, of: table.count() };
        if !permit(effect) {
            return Err(Refusal::Held(effect));
        }
        for entry in batch.entries {
            table.set(entry);
        }
        table.set_position(summary.position);
        let shown = table.shown();
        self.shown.store(Some(shown));
        self.mark_synced(&mut held, summary, now);
        held.remember(batch.entries);
        Ok(())
    }

    /// Takes the registry's word that the state is still this: it is fresh as of `now`.
    ///
    /// # Errors
    /// `Refusal`: what is held is something else, and no fresher than it was.
    pub fn confirm(&self, summary: &Summary, now: Instant) -> Result<(), Refusal> {
        let mut held = self.lock();
        let table = held.table.as_mut().ok_or(Refusal::NeverSynced)?;
        let (got, ours) = (summary.position, table.position());
        if got.epoch != ours.epoch {
            return Err(Refusal::Epoch { got: got.epoch, held: ours.epoch });
        }
        if got.seq < ours.seq {
            return Err(Refusal::Position { got: got.seq, held: ours.seq });
        }
        if (table.count(), table.digest()) != (summary.count, summary.digest) {
            return Err(Refusal::Digest);
        }
        // Changes that this provider does not see move the position all the same.
        table.set_position(got);
        self.mark_synced(&mut held, summary, now);
        Ok(())
    }

    /// What is held.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        let held = self.lock();
        let Some(table) = &held.table else {
            return CacheStatus::default();
        };
        let age = self.age(Instant::now());
        CacheStatus {
            position: table.position(),
            filings: table.count(),
            digest: table.digest(),
            synced_at: held.synced_at_ms.map(|ms| ms.div_euclid(1000)),
            age,
            is_stale: age > self.staleness.stale_after,
            lag_ms: held.lag_ms,
            memory_bytes: table.memory_bytes().try_into().unwrap_or(u64::MAX),
        }
    }

    /// When the state was last known to be the registry's: Unix seconds.
    #[must_use]
    pub fn synced_at(&self) -> Option<i64> {
        self.lock().synced_at_ms.map(|ms| ms.div_euclid(1000))
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

    fn replace(&self, table: Table, now: Instant, age: Duration, synced_at_ms: Option<i64>) {
        let mut held = self.lock();
        let shown = table.shown();
        let old_table = held.table.replace(table);
        let old_shown = self.shown.swap(Some(shown));
        held.synced_at_ms = synced_at_ms;
        held.remember_anew();
        self.set_synced(now, age);
        drop(held);
        if let (Some(table), Some(shown)) = (old_table, old_shown) {
            drop_aside(table, shown);
        }
    }

    fn mark_synced(&self, held: &mut Held, summary: &Summary, now: Instant) {
        let wall_ms = unix_ms();
        held.synced_at_ms = Some(wall_ms);
        held.lag_ms = wall_ms.saturating_sub(summary.at_ms).max(0);
        self.set_synced(now, Duration::ZERO);
    }

    fn set_synced(&self, now: Instant, age: Duration) {
        let since_base = millis(now.saturating_duration_since(self.base));
        self.synced_ms.store(since_base.saturating_sub(millis(age)), Ordering::Release);
    }

    fn age(&self, now: Instant) -> Duration {
        let since_base = millis(now.saturating_duration_since(self.base));
        let age_ms = since_base.saturating_sub(self.synced_ms.load(Ordering::Acquire));
        Duration::from_millis(u64::try_from(age_ms).unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View<'_> {
    /// Whether it is older than the operator allows, and is not to be served then.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The record of exactly this name (canonical form), whatever its age. Allocates only for odd numbers.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<FilingRecord> {
        self.shown.as_ref()?.find(name)
    }

    /// Whether there is a state at all.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.shown.is_some()
    }
}

impl Filings for View<'_> {
    fn coverage(&self, name: &DomainName) -> Coverage {
        let Some(shown) = self.shown.as_ref() else {
            return Coverage::NeverSynced;
        };
        if self.is_stale {
            return Coverage::Stale;
        }
        covering(name, |name| shown.find(name)).map_or(Coverage::Unfiled, Coverage::Filed)
    }
}

/// Drops a table away from whoever replaced it, once no reader has it: giving back gigabytes takes long.
fn drop_aside(table: Table, shown: Arc<Shown>) {
    const PATIENCE: u32 = 1000;
    let drop_it = move || {
        drop(table);
        // The last to let go pays; it should not be a request.
        for _ in 0..PATIENCE {
            if Arc::strong_count(&shown) == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    // Where no thread can be had, what was captured is dropped right here.
    let _ = std::thread::Builder::new().name("cache-drop".into()).spawn(drop_it);
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)
}

#[cfg(test)]
mod tests;
