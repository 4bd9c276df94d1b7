//! Counters: each worker adds to its own, whoever asks adds them up.

use super::meters::upstreams::UpstreamTotals;
use super::meters::{self, Apart, ListenerTotals, Meter, Places, SiteTotals};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bounds of the duration histogram's buckets, in milliseconds.
pub const DURATION_BOUNDS_MS: [u64; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000, 10_000];

/// One worker's counters, alone on their cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    apart: Apart,
    durations: [AtomicU64; DURATION_BOUNDS_MS.len() + 1],
    duration_sum_us: AtomicU64,
    /// Octets of request bodies taken from clients.
    pub bytes_in: AtomicU64,
    /// Octets of response bodies given to clients.
    pub bytes_out: AtomicU64,
    /// Connections taken.
    pub connections: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Those of them that wait for a next request and hold next to nothing.
    pub silent: AtomicU64,
    /// Connections closed at once because a limit was reached.
    pub refused: AtomicU64,
    /// Connections closed at once because of their client's address.
    pub denied: AtomicU64,
    /// Connections closed at once because their client makes them too fast.
    pub hurried: AtomicU64,
    /// 1 while this worker refuses new work.
    pub shedding: AtomicU64,
    /// TLS handshakes finished.
    pub handshakes: AtomicU64,
    /// TLS handshakes that failed or were refused.
    pub handshakes_failed: AtomicU64,
    /// Requests that monitor mode let pass although they would have been blocked.
    pub would_block: AtomicU64,
    /// Transfers and tunnels ended because their name, or their client, stopped being allowed.
    pub cut: AtomicU64,
    /// Answers compressed.
    pub compressed: AtomicU64,
    /// Answers that would have been compressed, had fewer been under way.
    pub not_compressed: AtomicU64,
    /// HTTP/2 connections ended because their client sent more frames of a kind than it may.
    pub floods: AtomicU64,
    /// Access log lines lost because the writer was behind or its file failed.
    pub log_dropped: AtomicU64,
}

/// Adds without the cost of a shared write: only the worker that owns the counter writes it.
pub(super) fn add(counter: &AtomicU64, number: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}

impl WorkerCounters {
    /// Where a listener is counted, under the name that it is given the first time.
    pub fn listener_of(&self, meter: &Meter, name: impl FnOnce() -> String) -> u16 {
        self.apart.listener(meter, name)
    }

    /// Where a site is counted, if it is counted apart.
    pub fn meter_of(&self, meter: &Meter) -> Option<u16> {
        self.apart.site(meter)
    }

    /// Counts a connection of that listener.
    pub fn connection(&self, listener: u16) {
        add(&self.connections, 1);
        self.apart.connection(listener);
    }

    /// Counts an answer of an upstream: its status, and how long it took in microseconds.
    pub fn answer(&self, upstream: (&Meter, &str), answered: (u16, u64)) {
        self.apart.answer(upstream, answered);
    }

    /// Counts a finished request of a site that is counted apart: its outcome, status and duration, its octets in and
    /// out.
    pub fn site(&self, site: u16, came_to: (usize, u16, u64), bytes: (u64, u64)) {
        self.apart.request(site, came_to, bytes);
    }

    /// Counts a finished request: of which listener, and what it came to.
    pub fn request(
        &self,
        (listener, outcome): (u16, usize),
        duration_us: u64,
        bytes_in: u64,
        bytes_out: u64,
    ) {
        let counts = self.apart.listeners.get(usize::from(listener));
        if let Some(counter) = counts.and_then(|counts| counts.outcomes.get(outcome)) {
            add(counter, 1);
        }
        let bucket = DURATION_BOUNDS_MS.partition_point(|bound| bound * 1000 < duration_us);
        add(&self.durations[bucket], 1);
        add(&self.duration_sum_us, duration_us);
        add(&self.bytes_in, bytes_in);
        add(&self.bytes_out, bytes_out);
    }

    /// Counts one more on a counter of this worker.
    pub fn one(&self, which: fn(&Self) -> &AtomicU64) {
        add(which(self), 1);
    }

    /// Counts one less.
    pub fn one_less(&self, which: fn(&Self) -> &AtomicU64) {
        add(which(self), u64::MAX);
    }

    /// Counts several more.
    pub fn several(&self, which: fn(&Self) -> &AtomicU64, number: u64) {
        add(which(self), number);
    }
}

/// What the look-up page was asked.
#[derive(Debug, Default)]
pub struct LookupCounts {
    /// Look-ups that were answered.
    pub answered: AtomicU64,
    /// Look-ups refused because their client asked too often.
    pub refused: AtomicU64,
}

/// Every worker's counters.
#[derive(Debug, Default)]
pub struct Counters {
    places: Arc<Places>,
    workers: Mutex<Vec<Arc<WorkerCounters>>>,
}

/// All workers added up.
#[derive(Debug, Default, Clone)]
#[allow(missing_docs, reason = "named and documented as in `WorkerCounters`")]
pub struct Totals {
    pub outcomes: BTreeMap<usize, u64>,
    pub durations: [u64; DURATION_BOUNDS_MS.len() + 1],
    pub duration_sum_us: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub connections: u64,
    pub open: u64,
    /// Of `WorkerCounters::silent`.
    pub silent: u64,
    pub refused: u64,
    pub denied: u64,
    pub hurried: u64,
    pub shedding: u64,
    pub handshakes: u64,
    pub handshakes_failed: u64,
    pub would_block: u64,
    pub cut: u64,
    pub compressed: u64,
    pub not_compressed: u64,
    pub floods: u64,
    pub log_dropped: u64,
}

impl Counters {
    /// Counters for one more worker.
    #[must_use]
    pub fn worker(&self) -> Arc<WorkerCounters> {
        let apart = Apart::new(Arc::clone(&self.places));
        let counters = Arc::new(WorkerCounters { apart, ..Default::default() });
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counters));
        counters
    }

    /// What each listener has done.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerTotals> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        meters::listeners(&self.places, &workers.iter().map(|worker| &worker.apart))
    }

    /// What each site has done that is counted apart.
    #[must_use]
    pub fn sites(&self) -> Vec<SiteTotals> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        meters::sites(&self.places, &workers.iter().map(|worker| &worker.apart))
    }

    /// What each upstream has answered, by name.
    #[must_use]
    pub fn upstreams(&self) -> BTreeMap<String, UpstreamTotals> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        meters::upstreams::totals(&self.places, &workers.iter().map(|worker| &worker.apart))
    }

    /// Adds all workers up.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            for listener in &worker.apart.listeners {
                for (outcome, counter) in listener.outcomes.iter().enumerate() {
                    *totals.outcomes.entry(outcome).or_default() += read(counter);
                }
            }
            for (sum, counter) in totals.durations.iter_mut().zip(&worker.durations) {
                *sum += read(counter);
            }
            totals.duration_sum_us += read(&worker.duration_sum_us);
            totals.bytes_in += read(&worker.bytes_in);
            totals.bytes_out += read(&worker.bytes_out);
            totals.connections += read(&worker.connections);
            totals.open = totals.open.wrapping_add(read(&worker.open));
            totals.silent = totals.silent.wrapping_add(read(&worker.silent));
            totals.refused += read(&worker.refused);
            totals.denied += read(&worker.denied);
            totals.hurried += read(&worker.hurried);
            totals.shedding = totals.shedding.wrapping_add(read(&worker.shedding));
            totals.handshakes += read(&worker.handshakes);
            totals.handshakes_failed += read(&worker.handshakes_failed);
            totals.would_block += read(&worker.would_block);
            totals.cut += read(&worker.cut);
            totals.compressed += read(&worker.compressed);
            totals.not_compressed += read(&worker.not_compressed);
            totals.floods += read(&worker.floods);
            totals.log_dropped += read(&worker.log_dropped);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up() {
        let counters = Counters::default();
        let (one, two) = (counters.worker(), counters.worker());
        let (meter, other) = (Meter::default(), Meter::default());
        let place = |worker: &WorkerCounters| worker.listener_of(&meter, || "one".to_owned());
        one.request((place(&one), 3), 1_000, 10, 20);
        two.request((two.listener_of(&other, || "two".to_owned()), 3), 1_001, 1, 2);
        two.connection(place(&two));
        two.one(|c| &c.open);
        one.one_less(|c| &c.open);
        let totals = counters.totals();
        assert_eq!((totals.outcomes[&3], totals.bytes_in, totals.bytes_out, totals.open), (2, 11, 22, 0));
        assert_eq!(totals.durations[..2], [1, 1], "a bound belongs to its bucket");
        let listeners = counters.listeners();
        let told: Vec<_> =
            listeners.iter().map(|it| (it.name.as_str(), it.outcomes[3], it.connections)).collect();
        assert_eq!(told, [("one", 1, 1), ("two", 1, 0)]);
    }
}
