//! Which fingerprints changed lately: a ring that one writer fills and any number of readers follow.
//!
//! Lets a worker find what a change concerns without looking through all that it serves. A reader takes no
//! lock and writes nothing that is shared; one that falls behind the ring is told so, and so is everybody when
//! the whole state is replaced (fingerprints of another epoch mean nothing to it). Knows no names and no records.

use crate::feed::Fingerprint;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Fingerprints that are remembered: more than one batch holds, and 128 KiB. Whoever is further behind asks of all.
pub const REMEMBERED_CHANGES: usize = 1 << 14;

/// The ring.
#[derive(Debug)]
pub struct Changed {
    slots: Box<[AtomicU64]>,
    /// Fingerprints that are written, or being written: a slot is overwritten only after this says so.
    claimed: AtomicU64,
    /// Fingerprints that are written.
    written: AtomicU64,
    /// How often the whole state was replaced.
    replaced: AtomicU64,
    waiting: Notify,
}

/// How far a reader has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    replaced: u64,
    written: u64,
}

/// What has changed since a reader last looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// What stands in the list, maybe nothing.
    Listed,
    /// The list is of no use: anything may have changed, and under another key.
    Anything,
}

impl Default for Changed {
    fn default() -> Self {
        Self::remembering(REMEMBERED_CHANGES)
    }
}

impl Changed {
    fn remembering(most: usize) -> Self {
        Self {
            slots: (0..most).map(|_| AtomicU64::new(0)).collect(),
            claimed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            waiting: Notify::new(),
        }
    }

    /// Says that these changed: after readers can see it, and by one writer at a time.
    pub(super) fn tell(&self, fingerprints: impl ExactSizeIterator<Item = Fingerprint>) {
        let begin = self.written.load(Ordering::Relaxed);
        let end = begin + fingerprints.len() as u64;
        self.claimed.store(end, Ordering::Relaxed);
        // Whoever reads one of the slots below sees the claim as well (with the fence in `read`).
        fence(Ordering::Release);
        for (at, fingerprint) in (begin..end).zip(fingerprints) {
            self.slots[self.slot(at)].store(fingerprint.0, Ordering::Relaxed);
        }
        self.written.store(end, Ordering::Release);
        self.waiting.notify_waiters();
    }

    /// Says that the whole state is another: after readers can see it.
    pub(super) fn tell_replaced(&self) {
        self.replaced.fetch_add(1, Ordering::Release);
        self.waiting.notify_waiters();
    }

    /// Takes what has changed since `seen` into `list`, and moves `seen`. A look-up made after this sees at least
    /// the changes that it tells of.
    pub fn read(&self, seen: &mut Seen, list: &mut Vec<Fingerprint>) -> Since {
        list.clear();
        let now = Seen {
            replaced: self.replaced.load(Ordering::Acquire),
            written: self.written.load(Ordering::Acquire),
        };
        let before = std::mem::replace(seen, now);
        if before.replaced != now.replaced || self.is_lost(before.written, now.written) {
            return Since::Anything;
        }
        let slots = (before.written..now.written).map(|at| &self.slots[self.slot(at)]);
        list.extend(slots.map(|slot| Fingerprint(slot.load(Ordering::Relaxed))));
        fence(Ordering::Acquire);
        if self.is_lost(before.written, self.claimed.load(Ordering::Relaxed)) {
            list.clear();
            return Since::Anything;
        }
        Since::Listed
    }

    /// Ends at the next change after this was called and enabled.
    pub fn next(&self) -> Notified<'_> {
        self.waiting.notified()
    }

    fn is_lost(&self, from: u64, to: u64) -> bool {
        to.saturating_sub(from) > self.slots.len() as u64
    }

    fn slot(&self, at: u64) -> usize {
        usize::try_from(at % self.slots.len() as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;

    fn tell(changed: &Changed, fingerprints: &[u64]) {
        changed.tell(fingerprints.iter().map(|bits| Fingerprint(*bits)));
    }

    #[track_caller]
    fn check(changed: &Changed, seen: &mut Seen, expected: Option<&[u64]>) {
        let mut list = vec![Fingerprint(u64::MAX)];
        let since = changed.read(seen, &mut list);
        let listed: Vec<u64> = list.iter().map(|one| one.0).collect();
        assert_eq!((since == Since::Listed).then_some(&listed[..]), expected);
    }

    #[test]
    fn told_once_and_in_order() {
        let (changed, mut seen) = (Changed::remembering(4), Seen::default());
        check(&changed, &mut seen, Some(&[]));
        tell(&changed, &[1, 2]);
        tell(&changed, &[3]);
        check(&changed, &mut seen, Some(&[1, 2, 3]));
        check(&changed, &mut seen, Some(&[]));
        tell(&changed, &[4, 5, 6, 7]);
        check(&changed, &mut seen, Some(&[4, 5, 6, 7]));
    }

    #[test]
    fn who_is_behind_learns_that() {
        let (changed, mut seen) = (Changed::remembering(4), Seen::default());
        tell(&changed, &[1, 2, 3, 4, 5]);
        check(&changed, &mut seen, None);
        check(&changed, &mut seen, Some(&[]));
        tell(&changed, &[6]);
        changed.tell_replaced();
        check(&changed, &mut seen, None);
        tell(&changed, &[7]);
        check(&changed, &mut seen, Some(&[7]));
    }

    /// A reader beside a writer is told each change, or that it missed some; never anything else.
    #[test]
    fn nothing_slips_through() {
        const LAST: u64 = 200_000;
        let (changed, is_over) = (Changed::remembering(64), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for from in (1..=LAST).step_by(5) {
                    tell(&changed, &[from, from + 1, from + 2, from + 3, from + 4]);
                }
                is_over.store(true, Ordering::Release);
            });
            let (mut seen, mut list, mut expected) = (Seen::default(), Vec::new(), 1);
            loop {
                let was_over = is_over.load(Ordering::Acquire);
                match changed.read(&mut seen, &mut list) {
                    Since::Anything => expected = seen.written + 1,
                    Since::Listed => {
                        for one in &list {
                            assert_eq!(one.0, expected);
                            expected += 1;
                        }
                    }
                }
                if was_over {
                    break assert_eq!(expected, LAST + 1);
                }
            }
        });
    }

    proptest! {
        /// Against a list of everything: what is told since a look is all that changed, or `Anything`.
        #[test]
        fn as_a_list_would(steps in prop::collection::vec(prop::option::of(prop::collection::vec(1_u64.., 0..6)), 0..60)) {
            let (changed, mut seen, mut model) = (Changed::remembering(8), Seen::default(), Vec::new());
            for step in steps {
                if let Some(fingerprints) = step {
                    tell(&changed, &fingerprints);
                    model.extend(fingerprints);
                    continue;
                }
                let mut list = Vec::new();
                let since = changed.read(&mut seen, &mut list);
                prop_assert_eq!(since == Since::Anything, model.len() > 8);
                if since == Since::Listed {
                    let told: BTreeSet<u64> = list.iter().map(|one| one.0).collect();
                    prop_assert_eq!(told, model.iter().copied().collect());
                }
                model.clear();
            }
        }
    }
}
