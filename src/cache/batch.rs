//! A batch of changes against a table: first what it would lead to, then the doing, with nothing computed twice.
//!
//! Entries are taken in the order of their fingerprints, and so of the table's memory, the last of each name only.
//! A few lines at a time are asked for before the first of them is needed: memory is what takes the time. Who applies
//! a large batch rests now and then, so that requests on the same processor wait for a piece of it and not for all.

use super::code;
use super::line::FITS_EVERYWHERE;
use super::odd::MOST_TEXT_OCTETS;
use super::standing::standing;
use super::table::{Table, travelling};
use crate::feed::{Digest, Entry};
use std::hint::black_box;

/// Lines that are asked for at once: about as many as a core can wait for.
const AHEAD: usize = 16;

/// What is done between two rests, in names looked up or moved: some tenths of a millisecond.
const PIECE: usize = 8192;
/// What applying a change costs, or finding out what it leads to, in names moved.
const CHANGE: usize = 8;

/// The work of a batch, and the rests in it.
struct Effort {
    done: usize,
    rest: fn(),
}

impl Effort {
    fn new(rest: fn()) -> Self {
        Self { done: 0, rest }
    }

    fn add(&mut self, names: usize) {
        self.done += names;
        if self.done >= PIECE {
            self.done = 0;
            (self.rest)();
        }
    }
}

/// Without rests.
pub(super) fn at_once() {}

/// What a batch would lead to.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) count: u64,
    pub(super) digest: Digest,
    pub(super) newly_blocked: u64,
    /// Whether the table has room for all of it.
    pub(super) has_room: bool,
    /// The last entry of each name, and what it adds to the digests.
    writes: Vec<(&'a Entry, Digest)>,
}

impl Table {
    /// What applying these entries would lead to. Changes nothing.
    pub(super) fn outcome<'a>(&self, entries: &'a [Entry], rest: fn()) -> Outcome<'a> {
        let (shown, key) = (self.peek(), self.key());
        let mut outcome = Outcome {
            count: self.count(),
            digest: self.digest(),
            newly_blocked: 0,
            has_room: true,
            writes: last_of_each(entries).into_iter().map(|entry| (entry, Digest::default())).collect(),
        };
        let (mut odd_records, mut effort) = (0, Effort::new(rest));
        for group in outcome.writes.chunks_mut(AHEAD) {
            effort.add(group.len() * CHANGE);
            black_box(group.iter().fold(0, |sum, (entry, _)| sum ^ shown.touch(entry.fingerprint)));
            for (entry, delta) in group {
                let before = shown.code_of(entry.fingerprint);
                if before != code::FREE {
                    let element =
                        shown.with_record(before, |record, odd| key.element(entry.fingerprint, record, odd));
                    delta.remove(element);
                    outcome.count -= 1;
                }
                let after = travelling(entry);
                if let Some((record, odd)) = after {
                    delta.add(key.element(entry.fingerprint, record, odd));
                    outcome.count += 1;
                    odd_records +=
                        usize::from(code::compact(record).is_none_or(|code| code >= FITS_EVERYWHERE));
                    outcome.has_room &= odd.is_none_or(|text| text.len() <= MOST_TEXT_OCTETS);
                }
                outcome.digest.add(delta.0);
                outcome.newly_blocked += u64::from(shown.standing_of(before) > standing(after));
            }
        }
        outcome.has_room &= self.has_room_for_odd(odd_records);
        outcome
    }

    /// As `set` of one entry after the other.
    pub(super) fn set_all(&mut self, entries: &[Entry]) {
        let outcome = self.outcome(entries, at_once);
        if outcome.has_room {
            self.apply(&outcome, at_once);
        } else {
            entries.iter().for_each(|entry| {
                self.set(entry);
            });
        }
    }

    /// Does what `outcome` said; nothing may have changed since.
    pub(super) fn apply(&mut self, outcome: &Outcome<'_>, rest: fn()) {
        let mut effort = Effort::new(rest);
        for group in outcome.writes.chunks(AHEAD) {
            let shown = self.peek();
            black_box(group.iter().fold(0, |sum, (entry, _)| sum ^ shown.touch(entry.fingerprint)));
            for (entry, delta) in group {
                let written = self.write(entry);
                debug_assert!(written.is_some(), "there is room");
                self.add_to_digests(entry.fingerprint, *delta);
            }
            effort.add(group.len() * CHANGE + self.take_moved());
        }
        self.set_count(outcome.count);
    }
}

/// The last entry of each fingerprint, in the fingerprints' order.
fn last_of_each(entries: &[Entry]) -> Vec<&Entry> {
    let mut order: Vec<_> = entries.iter().enumerate().map(|(at, entry)| (entry.fingerprint, at)).collect();
    order.sort_unstable();
    let is_last = |at: usize| order.get(at + 1).is_none_or(|next| next.0 != order[at].0);
    (0..order.len()).filter(|&at| is_last(at)).map(|at| &entries[order[at].1]).collect()
}
