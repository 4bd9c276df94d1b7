//! The hosts that are known, found by what could decide about them. Bounded: in all, and for each domain.

use crate::cache::View;
use crate::domain::HostForm;
use crate::feed::Fingerprint;
use crate::filing::FilingNumber;
use crate::gate::client::Defaults;
use crate::gate::sessions::Sessions;
use crate::verdict::{Region, Scenario, Verdict};
use slab::Slab;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Hosts of one registrable domain that are told apart: whoever asks for made-up ones finds no more room.
const MAX_OF_DOMAIN: u32 = 64;
/// A host that was not served as long makes room for others. Workers note each again every hour.
const UNSEEN: Duration = Duration::from_secs(3 * 3600);
/// How often room is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// How a host was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) verdict: Verdict,
    pub(super) number: Option<FilingNumber>,
}

/// A host that is known.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) host: HostForm,
    pub(super) defaults: Defaults,
    pub(super) standing: Option<Standing>,
    /// `None`: a site names it.
    seen: Option<Instant>,
    domain: Box<str>,
}

type Key = (Box<str>, Scenario, Region);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Book {
    most: usize,
    known: Slab<Known>,
    places: HashMap<Key, usize>,
    of_domain: HashMap<Box<str>, u32>,
    index: Sessions,
    unwatched: u64,
    swept: Option<Instant>,
}

fn key(host: &HostForm, defaults: Defaults) -> Key {
    (host.to_string().into(), defaults.scenario, defaults.region)
}

impl Book {
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Times that a host found no room.
    pub(super) fn unwatched(&self) -> u64 {
        self.unwatched
    }

    /// A host was served; its place, where it is new.
    pub(super) fn add(&mut self, host: HostForm, defaults: Defaults, now: Instant) -> Option<usize> {
        if let Some(place) = self.places.get(&key(&host, defaults)) {
            let seen = self.known.get_mut(*place).and_then(|known| known.seen.as_mut());
            seen.into_iter().for_each(|seen| *seen = now);
            return None;
        }
        self.insert(host, defaults, Some(now))
    }

    /// A site names a host; its place, where it is new.
    pub(super) fn add_configured(&mut self, host: HostForm, defaults: Defaults) -> Option<usize> {
        if let Some(place) = self.places.get(&key(&host, defaults)) {
            self.known.get_mut(*place).into_iter().for_each(|known| known.seen = None);
            return None;
        }
        self.insert(host, defaults, None)
    }

    fn insert(&mut self, host: HostForm, defaults: Defaults, seen: Option<Instant>) -> Option<usize> {
        let key = key(&host, defaults);
        let domain: Box<str> = match &host {
            HostForm::Name(name) => name.registrable().unwrap_or(name.as_str()).into(),
            HostForm::Ip(_) => key.0.clone(),
        };
        let of_domain = self.of_domain.get(&domain).copied().unwrap_or(0);
        if self.known.len() >= self.most || of_domain >= MAX_OF_DOMAIN {
            self.unwatched += 1;
            return None;
        }
        *self.of_domain.entry(domain.clone()).or_default() += 1;
        let place = self.known.insert(Known { host, defaults, standing: None, seen, domain });
        self.places.insert(key, place);
        Some(place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Known> {
        self.known.get_mut(place)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = usize> + use<> {
        self.known.iter().map(|(place, _)| place).collect::<Vec<_>>().into_iter()
    }

    /// Puts a host under the fingerprints that could decide about it.
    pub(super) fn index(&mut self, place: usize, filings: &View<'_>) {
        let Some(known) = self.known.get(place) else { return };
        let names = known.host.name().into_iter();
        self.index.put(place, names.flat_map(|name| filings.fingerprints(name)));
    }

    /// The hosts that these concern.
    pub(super) fn under(&self, changed: &[Fingerprint]) -> Vec<usize> {
        let mut places: Vec<_> = changed.iter().flat_map(|one| self.index.under(*one)).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Makes room, now and then: hosts that were not served for long go.
    pub(super) fn forget_unseen(&mut self, now: Instant) {
        let is_due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP);
        if !is_due {
            return;
        }
        self.swept = Some(now);
        let is_unseen =
            |known: &Known| known.seen.is_some_and(|seen| now.saturating_duration_since(seen) >= UNSEEN);
        let unseen: Vec<_> =
            self.known.iter().filter(|(_, known)| is_unseen(known)).map(|(place, _)| place).collect();
        for place in unseen {
            let known = self.known.remove(place);
            self.index.remove(place);
            self.places.remove(&key(&known.host, known.defaults));
            if let Some(count) = self.of_domain.get_mut(&known.domain) {
                *count -= 1;
                if *count == 0 {
                    self.of_domain.remove(&known.domain);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults = Defaults { scenario: Scenario::Web, region: Region::Mainland };

    fn host(text: &str) -> HostForm {
        HostForm::from_user(text).unwrap()
    }

    #[test]
    fn room_is_bounded_and_found_again() {
        let now = Instant::now();
        let mut book = Book::new(100);
        assert!(book.add(host("a.cn"), DEFAULTS, now).is_some());
        assert!(book.add(host("a.cn"), DEFAULTS, now).is_none(), "known already");
        let cdn = Defaults { scenario: Scenario::Cdn, ..DEFAULTS };
        assert!(book.add(host("a.cn"), cdn, now).is_some(), "judged as another product");
        (0..200).for_each(|nth| _ = book.add(host(&format!("{nth}.a.cn")), DEFAULTS, now));
        assert_eq!(book.len(), MAX_OF_DOMAIN as usize);
        (0..200).for_each(|nth| _ = book.add(host(&format!("b{nth}.cn")), DEFAULTS, now));
        assert_eq!((book.len(), book.unwatched()), (100, 138 + 164));
        assert!(book.add_configured(host("a.cn"), DEFAULTS).is_none());
        book.forget_unseen(now + UNSEEN);
        assert_eq!(book.len(), 1, "what a site names stays");
        assert!(book.add(host("7.a.cn"), DEFAULTS, now).is_some());
        assert_eq!(book.places().count(), 2);
    }
}
