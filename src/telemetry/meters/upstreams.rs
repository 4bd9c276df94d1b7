//! What upstreams answered: by the class of the status, and how long they took. Each worker counts for itself, in parts
//! that are made when they are first needed: an upstream that nobody asks costs nothing.

use super::{Apart, Meter, Places, place};
use crate::telemetry::counters::{DURATION_BOUNDS_MS, add};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError};

/// Upstreams that are counted apart; of any beyond nothing is counted here.
const MAX_UPSTREAMS: usize = 5_000;
/// Upstreams in a part.
const PART: usize = 64;
const PARTS: usize = MAX_UPSTREAMS.div_ceil(PART);
/// Classes of statuses, 1xx to 5xx.
pub const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Which class a status is of; none of what is no status.
pub(in crate::telemetry) fn class(status: u16) -> Option<usize> {
    usize::from(status / 100).checked_sub(1).filter(|class| *class < STATUS_CLASSES.len())
}

/// One worker's counts of one upstream.
#[derive(Debug, Default)]
struct UpstreamCounts {
    answers: [AtomicU64; STATUS_CLASSES.len()],
    durations: [AtomicU64; DURATION_BOUNDS_MS.len() + 1],
    duration_sum_us: AtomicU64,
}

/// One worker's counts of all.
#[derive(Debug)]
pub(super) struct OfUpstreams([OnceLock<Box<[UpstreamCounts]>>; PARTS]);

impl Default for OfUpstreams {
    fn default() -> Self {
        Self([const { OnceLock::new() }; PARTS])
    }
}

impl OfUpstreams {
    fn at(&self, place: usize) -> Option<&UpstreamCounts> {
        self.0.get(place / PART)?.get()?.get(place % PART)
    }

    fn at_to_count(&self, place: usize) -> Option<&UpstreamCounts> {
        let part = self.0.get(place / PART)?;
        part.get_or_init(|| (0..PART).map(|_| UpstreamCounts::default()).collect()).get(place % PART)
    }
}

impl Apart {
    /// Counts an answer of an upstream.
    pub(in crate::telemetry) fn answer(
        &self,
        (meter, name): (&Meter, &str),
        (status, duration_us): (u16, u64),
    ) {
        let found = meter.place.get_or_init(|| place(&self.places.upstreams, MAX_UPSTREAMS, name));
        let Some(counts) = self.upstreams.at_to_count(usize::from(*found)) else { return };
        if let Some(class) = class(status) {
            add(&counts.answers[class], 1);
        }
        let bucket = DURATION_BOUNDS_MS.partition_point(|bound| bound * 1000 < duration_us);
        add(&counts.durations[bucket], 1);
        add(&counts.duration_sum_us, duration_us);
    }
}

/// What one upstream has answered.
#[derive(Debug, Default, Clone)]
#[allow(missing_docs, reason = "named as what is counted")]
pub struct UpstreamTotals {
    /// By class, as `STATUS_CLASSES` has them.
    pub answers: [u64; STATUS_CLASSES.len()],
    pub durations: [u64; DURATION_BOUNDS_MS.len() + 1],
    pub duration_sum_us: u64,
}

/// By the upstreams' names.
pub(in crate::telemetry) fn totals<'a>(
    places: &Places,
    workers: &(impl Iterator<Item = &'a Apart> + Clone),
) -> BTreeMap<String, UpstreamTotals> {
    let names = places.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
    let totals = |(place, name): (usize, &str)| {
        let mut totals = UpstreamTotals::default();
        for counts in workers.clone().filter_map(|worker| worker.upstreams.at(place)) {
            super::sum(&mut totals.answers, &counts.answers);
            super::sum(&mut totals.durations, &counts.durations);
            totals.duration_sum_us += counts.duration_sum_us.load(Ordering::Relaxed);
        }
        (name.to_string(), totals)
    };
    names.iter().map(|name| &**name).enumerate().map(totals).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_by_class_and_beyond_the_limit_not_at_all() {
        let apart = Apart::default();
        let meters: Vec<Meter> = (0..MAX_UPSTREAMS + 2).map(|_| Meter::default()).collect();
        for (number, meter) in meters.iter().enumerate() {
            apart.answer((meter, &format!("u{number}")), (200, 1_500));
        }
        for status in [101, 404, 503, 599, 0, 999] {
            apart.answer((&meters[70], "u70"), (status, 0));
        }
        let all = totals(&apart.places, &std::iter::once(&apart));
        assert_eq!(all.len(), MAX_UPSTREAMS);
        assert_eq!(all["u70"].answers, [1, 1, 0, 1, 2]);
        assert_eq!(
            (all["u70"].durations[0], all["u70"].durations[1], all["u70"].duration_sum_us),
            (6, 1, 1_500)
        );
        assert_eq!(all["u4999"].answers, [0, 1, 0, 0, 0]);
    }
}
