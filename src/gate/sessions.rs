//! Live connections by filed domain: what a cancellation cuts, found without looking through the rest.
//!
//! A worker's own. Each session (a connection or a stream, by its number) stands under the fingerprint of
//! every name whose filing could decide about it. What begins to be served is only noted; it is put into the index
//! at the worker's next look, so a request that is over by then costs no more than the note. Knows neither
//! names nor verdicts: it selects whom to ask, and asking too many is harmless.

pub mod cut;

use crate::feed::Fingerprint;
use slab::Slab;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Sessions by fingerprint.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Each fingerprint's first entry.
    heads: HashMap<u64, usize, BuildHasherDefault<AsIs>>,
    entries: Slab<Entry>,
    /// By session.
    places: Vec<Place>,
    /// Sessions that were noted and are not in the index as they should be.
    noted: Vec<usize>,
}

/// One session under one fingerprint: in the doubly linked list of that fingerprint, and in the session's own.
#[derive(Debug)]
struct Entry {
    fingerprint: u64,
    session: usize,
    before: Option<usize>,
    after: Option<usize>,
    sibling: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The session's first entry.
    first: Option<usize>,
    is_noted: bool,
}

impl Sessions {
    /// Notes that the session serves another name than it did. Allocates only where there were never as many.
    pub fn note(&mut self, session: usize) {
        if self.places.len() <= session {
            self.places.resize(session + 1, Place::default());
        }
        if !std::mem::replace(&mut self.places[session].is_noted, true) {
            self.noted.push(session);
        }
    }

    /// A session that was noted, each once.
    pub fn take_noted(&mut self) -> Option<usize> {
        let session = self.noted.pop()?;
        self.places[session].is_noted = false;
        Some(session)
    }

    /// Puts the session under these fingerprints and no others.
    pub fn put(&mut self, session: usize, fingerprints: impl Iterator<Item = Fingerprint>) {
        self.remove(session);
        if self.places.len() <= session {
            self.places.resize(session + 1, Place::default());
        }
        for Fingerprint(fingerprint) in fingerprints {
            let sibling = self.places[session].first;
            let entry =
                self.entries.insert(Entry { fingerprint, session, before: None, after: None, sibling });
            let after = self.heads.insert(fingerprint, entry);
            self.entries[entry].after = after;
            if let Some(after) = after {
                self.entries[after].before = Some(entry);
            }
            self.places[session].first = Some(entry);
        }
    }

    /// Takes the session out.
    pub fn remove(&mut self, session: usize) {
        let Some(place) = self.places.get_mut(session) else { return };
        let mut next = place.first.take();
        while let Some(at) = next {
            let Entry { fingerprint, before, after, sibling, .. } = self.entries.remove(at);
            match (before, after) {
                (Some(before), _) => self.entries[before].after = after,
                (None, Some(after)) => _ = self.heads.insert(fingerprint, after),
                (None, None) => _ = self.heads.remove(&fingerprint),
            }
            if let Some(after) = after {
                self.entries[after].before = before;
            }
            next = sibling;
        }
    }

    /// The sessions under a fingerprint.
    pub fn under(&self, Fingerprint(fingerprint): Fingerprint) -> impl Iterator<Item = usize> {
        let mut next = self.heads.get(&fingerprint).copied();
        std::iter::from_fn(move || {
            let entry = &self.entries[next?];
            next = entry.after;
            Some(entry.session)
        })
    }
}

/// Fingerprints are keyed hashes already: nobody can choose them, and hashing them again gains nothing.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = self.0.rotate_left(8) ^ u64::from(*octet);
        }
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Debug, Clone)]
    enum Step {
        Note(usize),
        Put(usize, Vec<u64>),
        Remove(usize),
        TakeNoted,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_usize..12).prop_map(Step::Note),
            (0_usize..12, prop::collection::btree_set(1_u64..6, 0..5))
                .prop_map(|(session, under)| Step::Put(session, under.into_iter().collect())),
            (0_usize..12).prop_map(Step::Remove),
            Just(Step::TakeNoted),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a map of sets, after every step.
        #[test]
        fn as_a_map_of_sets(steps in steps()) {
            let mut sessions = Sessions::default();
            let (mut model, mut noted) = (BTreeMap::<usize, Vec<u64>>::new(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Note(session) => {
                        sessions.note(session);
                        noted.insert(session);
                    }
                    Step::Put(session, under) => {
                        sessions.put(session, under.iter().map(|bits| Fingerprint(*bits)));
                        model.insert(session, under);
                    }
                    Step::Remove(session) => {
                        sessions.remove(session);
                        model.remove(&session);
                    }
                    Step::TakeNoted => {
                        let taken = sessions.take_noted();
                        prop_assert_eq!(taken.is_some(), !noted.is_empty());
                        prop_assert!(taken.is_none_or(|session| noted.remove(&session)));
                    }
                }
                for fingerprint in 0..7 {
                    let found: Vec<usize> = sessions.under(Fingerprint(fingerprint)).collect();
                    let expected: BTreeSet<usize> =
                        model.iter().filter(|(_, under)| under.contains(&fingerprint)).map(|(one, _)| *one).collect();
                    prop_assert_eq!(found.len(), expected.len());
                    prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
                }
            }
        }

        /// Nothing is left behind by what has ended.
        #[test]
        fn empty_once_all_are_gone(steps in steps()) {
            let mut sessions = Sessions::default();
            for step in steps {
                match step {
                    Step::Put(session, under) => sessions.put(session, under.into_iter().map(Fingerprint)),
                    Step::Note(session) => sessions.note(session),
                    Step::Remove(session) => sessions.remove(session),
                    Step::TakeNoted => _ = sessions.take_noted(),
                }
            }
            (0..12).for_each(|session| sessions.remove(session));
            prop_assert!(sessions.heads.is_empty() && sessions.entries.is_empty());
        }
    }
}
