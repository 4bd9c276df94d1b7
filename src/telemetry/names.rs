//! Hosts that are served here: each worker notes those that it has not noted lately, for whoever watches over them.
//!
//! A worker remembers some thousands; a host that it has forgotten is noted again, which does no harm.

use crate::verdict::{Region, Scenario};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Hosts that a worker remembers.
const REMEMBERED: usize = 4096;
/// Hosts that may wait for the watcher; further ones are noted when they come again.
const MAX_WAITING: usize = 4096;
/// After so long all are noted again, so that the watcher knows which still come.
const AGAIN: Duration = Duration::from_secs(3600);

/// A host that was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedName {
    /// The canonical name.
    pub host: Box<str>,
    /// As which product, where its site does not say.
    pub scenario: Scenario,
    /// Where, likewise.
    pub region: Region,
}

/// Where workers hand hosts over.
pub type ServedNamesSink = Sender<ServedName>;

/// Both ends.
#[must_use]
pub fn served_names() -> (ServedNamesSink, Receiver<ServedName>) {
    channel(MAX_WAITING)
}

/// How many hosts are watched over.
#[derive(Debug, Default)]
pub struct ServedState {
    /// Hosts that are known.
    pub hosts: AtomicU64,
    /// Times that one found no room.
    pub unwatched: AtomicU64,
}

/// One worker's memory.
#[derive(Debug)]
pub struct NameNotes {
    sink: ServedNamesSink,
    hasher: RandomState,
    slots: Box<[u64]>,
    since: Instant,
}

impl NameNotes {
    /// Notes nothing so far.
    #[must_use]
    pub fn new(sink: ServedNamesSink) -> Self {
        Self { sink, hasher: RandomState::new(), slots: vec![0; REMEMBERED].into(), since: Instant::now() }
    }

    /// A host was served.
    pub fn note(&mut self, host: &str, scenario: Scenario, region: Region) {
        let hash = self.hasher.hash_one((host, scenario, region)).max(1);
        let place = usize::try_from(hash >> 32).unwrap_or_default() % REMEMBERED;
        if self.slots[place] != hash
            && self.sink.try_send(ServedName { host: host.into(), scenario, region }).is_ok()
        {
            self.slots[place] = hash;
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= AGAIN {
            self.since = now;
            self.slots.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_noted_once_and_again_after_an_hour() {
        let (sink, mut from) = served_names();
        let mut notes = NameNotes::new(sink);
        (0..3).for_each(|_| notes.note("a.cn", Scenario::Web, Region::Mainland));
        notes.note("a.cn", Scenario::Cdn, Region::Mainland);
        let mut noted = || std::iter::from_fn(|| from.try_recv().ok()).count();
        assert_eq!(noted(), 2);
        notes.tick(Instant::now());
        notes.note("a.cn", Scenario::Web, Region::Mainland);
        notes.tick(Instant::now() + AGAIN);
        notes.note("a.cn", Scenario::Web, Region::Mainland);
        assert_eq!(noted(), 1);
        (0..3 * MAX_WAITING)
            .for_each(|nth| notes.note(&format!("{nth}.cn"), Scenario::Web, Region::Mainland));
        assert_eq!(noted(), MAX_WAITING, "what finds no room is dropped");
    }
}
