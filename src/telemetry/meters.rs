//! What is counted apart: requests by listener, and by site for those that the operator named; answers by upstream.
//!
//! Names are bounded, and each has a place for as long as the process lives: a counter that changed what it counts would
//! lie. Each worker writes its own counters only.

pub(super) mod upstreams;

use super::counters::{DURATION_BOUNDS_MS, add};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use upstreams::{OfUpstreams, STATUS_CLASSES};

/// Listeners that are counted apart; any beyond are counted together, as `other`.
const MAX_LISTENERS: usize = 64;
/// Names of sites that are counted apart; any beyond (a config may have so many, those before a reload count as well)
/// are counted together, as `other`.
pub const MAX_SITES: usize = 512;
/// The most different outcomes; there are fewer names than that in the contract.
pub(super) const MAX_OUTCOMES: usize = 32;
/// What all those are called that found no place.
const OTHER: &str = "other";

/// Where something is counted, found out once: equal to any other, for it says nothing of what is counted.
#[derive(Debug, Default)]
pub struct Meter {
    /// Its name; `None`: it is not counted apart.
    name: Option<Arc<str>>,
    place: OnceLock<u16>,
}

impl Meter {
    /// Counted under this name.
    #[must_use]
    pub fn named(name: Option<Arc<str>>) -> Self {
        Self { name, place: OnceLock::new() }
    }
}

impl Clone for Meter {
    fn clone(&self) -> Self {
        Self::named(self.name.clone())
    }
}

impl PartialEq for Meter {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Meter {}

/// The places that names have, in all workers.
#[derive(Debug, Default)]
pub(super) struct Places {
    listeners: Mutex<Vec<Box<str>>>,
    sites: Mutex<Vec<Box<str>>>,
    upstreams: Mutex<Vec<Box<str>>>,
}

fn place(names: &Mutex<Vec<Box<str>>>, most: usize, name: &str) -> u16 {
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    let found = names.iter().position(|known| **known == *name).unwrap_or_else(|| {
        if names.len() < most {
            names.push(name.into());
            return names.len() - 1;
        }
        most
    });
    u16::try_from(found).unwrap_or(u16::MAX)
}

/// One worker's counts of one listener.
#[derive(Debug, Default)]
pub(super) struct ListenerCounts {
    pub(super) outcomes: [AtomicU64; MAX_OUTCOMES],
    connections: AtomicU64,
}

/// One worker's counts of one site.
#[derive(Debug, Default)]
struct SiteCounts {
    outcomes: [AtomicU64; MAX_OUTCOMES],
    statuses: [AtomicU64; STATUS_CLASSES.len()],
    durations: [AtomicU64; DURATION_BOUNDS_MS.len() + 1],
    duration_sum_us: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// One worker's counts of all that is counted apart.
#[derive(Debug)]
pub(super) struct Apart {
    pub(super) places: Arc<Places>,
    /// One more than there are names.
    pub(super) listeners: Box<[ListenerCounts]>,
    /// The same; taken when the first site is counted.
    sites: OnceLock<Box<[SiteCounts]>>,
    upstreams: Box<OfUpstreams>,
}

impl Default for Apart {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Apart {
    pub(super) fn new(places: Arc<Places>) -> Self {
        let listeners = (0..=MAX_LISTENERS).map(|_| ListenerCounts::default()).collect();
        Self { places, listeners, sites: OnceLock::new(), upstreams: Box::default() }
    }

    pub(super) fn listener(&self, meter: &Meter, name: impl FnOnce() -> String) -> u16 {
        *meter.place.get_or_init(|| place(&self.places.listeners, MAX_LISTENERS, &name()))
    }

    pub(super) fn site(&self, meter: &Meter) -> Option<u16> {
        let name = meter.name.as_ref()?;
        Some(*meter.place.get_or_init(|| place(&self.places.sites, MAX_SITES, name)))
    }

    pub(super) fn connection(&self, listener: u16) {
        if let Some(counts) = self.listeners.get(usize::from(listener)) {
            add(&counts.connections, 1);
        }
    }

    pub(super) fn request(
        &self,
        site: u16,
        (outcome, status, duration_us): (usize, u16, u64),
        (bytes_in, bytes_out): (u64, u64),
    ) {
        let sites = self.sites.get_or_init(|| (0..=MAX_SITES).map(|_| SiteCounts::default()).collect());
        let Some(counts) = sites.get(usize::from(site)) else { return };
        if let Some(counter) = counts.outcomes.get(outcome) {
            add(counter, 1);
        }
        if let Some(class) = upstreams::class(status) {
            add(&counts.statuses[class], 1);
        }
        let bucket = DURATION_BOUNDS_MS.partition_point(|bound| bound * 1000 < duration_us);
        add(&counts.durations[bucket], 1);
        add(&counts.duration_sum_us, duration_us);
        add(&counts.bytes_in, bytes_in);
        add(&counts.bytes_out, bytes_out);
    }
}

/// What one listener has done.
#[derive(Debug, Default, Clone)]
#[allow(missing_docs, reason = "named as what is counted")]
pub struct ListenerTotals {
    pub name: String,
    pub connections: u64,
    /// By the number of the outcome.
    pub outcomes: [u64; MAX_OUTCOMES],
}

/// What one site has done.
#[derive(Debug, Default, Clone)]
#[allow(missing_docs, reason = "named as what is counted")]
pub struct SiteTotals {
    pub name: String,
    /// By the number of the outcome.
    pub outcomes: [u64; MAX_OUTCOMES],
    /// By class, as `STATUS_CLASSES` has them.
    pub statuses: [u64; STATUS_CLASSES.len()],
    pub durations: [u64; DURATION_BOUNDS_MS.len() + 1],
    pub duration_sum_us: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// Names with a place, and `other` behind them where they fill all places.
fn shown(names: &Mutex<Vec<Box<str>>>, most: usize) -> Vec<String> {
    let names = names.lock().unwrap_or_else(PoisonError::into_inner);
    let other = (names.len() >= most).then(|| OTHER.to_owned());
    names.iter().map(ToString::to_string).chain(other).collect()
}

fn sum<const N: usize>(sums: &mut [u64; N], counters: &[AtomicU64; N]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum += counter.load(Ordering::Relaxed);
    }
}

pub(super) fn listeners<'a>(
    places: &Places,
    workers: &(impl Iterator<Item = &'a Apart> + Clone),
) -> Vec<ListenerTotals> {
    let totals = |(place, name): (usize, String)| {
        let mut totals = ListenerTotals { name, ..Default::default() };
        for counts in workers.clone().filter_map(|worker| worker.listeners.get(place)) {
            sum(&mut totals.outcomes, &counts.outcomes);
            totals.connections += counts.connections.load(Ordering::Relaxed);
        }
        totals
    };
    shown(&places.listeners, MAX_LISTENERS).into_iter().enumerate().map(totals).collect()
}

pub(super) fn sites<'a>(
    places: &Places,
    workers: &(impl Iterator<Item = &'a Apart> + Clone),
) -> Vec<SiteTotals> {
    let totals = |(place, name): (usize, String)| {
        let mut totals = SiteTotals { name, ..Default::default() };
        for counts in workers.clone().filter_map(|worker| worker.sites.get()?.get(place)) {
            sum(&mut totals.outcomes, &counts.outcomes);
            sum(&mut totals.statuses, &counts.statuses);
            sum(&mut totals.durations, &counts.durations);
            totals.duration_sum_us += counts.duration_sum_us.load(Ordering::Relaxed);
            totals.bytes_in += counts.bytes_in.load(Ordering::Relaxed);
            totals.bytes_out += counts.bytes_out.load(Ordering::Relaxed);
        }
        totals
    };
    shown(&places.sites, MAX_SITES).into_iter().enumerate().map(totals).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_are_counted_together() {
        let apart = Apart::default();
        for number in 0..MAX_SITES + 10 {
            let meter = Meter::named(Some(format!("site-{number}").into()));
            let place = apart.site(&meter).unwrap();
            assert_eq!(usize::from(place), number.min(MAX_SITES));
            assert_eq!(apart.site(&meter.clone()), Some(place), "once it has a place it keeps it");
            apart.request(place, (0, 451, 1_000), (1, 2));
        }
        let totals = sites(&apart.places, &std::iter::once(&apart));
        assert_eq!(totals.len(), MAX_SITES + 1);
        assert_eq!((totals[0].name.as_str(), totals[0].outcomes[0], totals[0].bytes_out), ("site-0", 1, 2));
        assert_eq!(totals[0].statuses, [0, 0, 0, 1, 0]);
        assert_eq!((totals[MAX_SITES].name.as_str(), totals[MAX_SITES].outcomes[0]), ("other", 10));
        assert_eq!(apart.site(&Meter::default()), None);
    }
}
