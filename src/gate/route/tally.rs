//! Numbers that every worker changes and few read. Each worker has a table of its own, so that counting a request writes
//! no line that another worker's does; whoever reads adds the tables up.
//!
//! Pure: threads are told apart, nothing else of them is known.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Tables. More threads than that share them: what is read for each choice stays bounded.
const TABLES: usize = 16;
/// Numbers in a table's first part; each further part has twice as many.
const FIRST_PART: usize = 64;
/// Parts of a table: more than there can be servers.
const PARTS: usize = 24;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's table; `usize::MAX`: none yet.
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn mine() -> usize {
    let mine = MINE.get();
    if mine != usize::MAX {
        return mine;
    }
    let next = THREADS.fetch_add(1, Ordering::Relaxed) % TABLES;
    MINE.set(next);
    next
}

/// One thread's numbers, in parts that are made when they are first written.
#[derive(Debug, Default)]
struct Table([OnceLock<Box<[AtomicU64]>>; PARTS]);

impl Table {
    /// The part that holds a place, and where in it.
    fn split(place: usize) -> (usize, usize) {
        let part = (place / FIRST_PART + 1).ilog2() as usize;
        (part.min(PARTS - 1), place - FIRST_PART * ((1 << part) - 1))
    }

    fn number(&self, place: usize) -> Option<&AtomicU64> {
        let (part, at) = Self::split(place);
        self.0[part].get()?.get(at)
    }

    fn number_to_change(&self, place: usize) -> Option<&AtomicU64> {
        let (part, at) = Self::split(place);
        let made = self.0[part].get_or_init(|| (0..FIRST_PART << part).map(|_| AtomicU64::new(0)).collect());
        made.get(at)
    }
}

/// The tables of all threads.
#[derive(Debug, Default)]
pub struct Tallies {
    tables: [OnceLock<Box<Table>>; TABLES],
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: usize,
    free: Vec<usize>,
}

impl Tallies {
    /// One more number, of 0.
    #[must_use]
    pub fn tally(self: &Arc<Self>) -> Tally {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.free.pop().unwrap_or_else(|| {
            places.next += 1;
            places.next - 1
        });
        drop(places);
        let mut tally = Tally { all: Arc::clone(self), place, base: 0 };
        tally.base = tally.sum();
        tally
    }
}

/// A number that all threads change.
#[derive(Debug)]
pub struct Tally {
    all: Arc<Tallies>,
    place: usize,
    /// What its place held before: nothing is set to 0 that others may be writing.
    base: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Arc::<Tallies>::default().tally()
    }
}

impl Tally {
    /// Adds to it, and wraps around: what one thread has added another may take away.
    pub fn add(&self, amount: u64) {
        let table = self.all.tables[mine()].get_or_init(Box::default);
        if let Some(number) = table.number_to_change(self.place) {
            number.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Takes away from it.
    pub fn sub(&self, amount: u64) {
        self.add(amount.wrapping_neg());
    }

    /// What it comes to.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let numbers = self.all.tables.iter().filter_map(|table| table.get()?.number(self.place));
        let sum = numbers.fold(0, |sum: u64, number| sum.wrapping_add(number.load(Ordering::Relaxed)));
        sum.wrapping_sub(self.base)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let mut places = self.all.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.free.push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_one_after_the_other() {
        let mut expected = (0, 0);
        for place in 0..100_000 {
            assert_eq!(Table::split(place), expected, "{place}");
            expected.1 += 1;
            if expected.1 == FIRST_PART << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn threads_add_up_and_places_begin_anew() {
        let all = Arc::<Tallies>::default();
        let tallies: Vec<Tally> = (0..200).map(|_| all.tally()).collect();
        std::thread::scope(|scope| {
            for _ in 0..TABLES + 4 {
                scope.spawn(|| tallies.iter().zip(1..).for_each(|(tally, times)| tally.add(times)));
            }
        });
        tallies.iter().for_each(|tally| tally.sub(1));
        let threads = TABLES as u64 + 4;
        assert!(tallies.iter().zip(1..).all(|(tally, times)| tally.sum() == threads * times - 1));
        let places = |tallies: &[Tally]| tallies.iter().map(|tally| tally.place).collect::<Vec<_>>();
        let mut before = places(&tallies);
        drop(tallies);
        let again: Vec<Tally> = (0..200).map(|_| all.tally()).collect();
        let mut after = places(&again);
        before.sort_unstable();
        after.sort_unstable();
        assert_eq!(before, after, "places are used again");
        assert!(again.iter().all(|tally| tally.sum() == 0));
    }
}
