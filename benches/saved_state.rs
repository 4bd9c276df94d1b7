//! What saving and loading cost: `cargo bench --bench saved_state [-- FILINGS…]`, 1 and 10 million unless it says.
//!
//! Writes to a directory of its own under the current one's `target` (or `TMPDIR`), which is removed. The files
//! are in the page cache when they are loaded. Change times are those of batches of one, with nothing else done.

#![expect(clippy::print_stdout, reason = "figures are for whoever runs it")]

#[expect(dead_code, reason = "look-ups are another bench's")]
mod domains;

use beian_gate::cache::saved::SavedState;
use beian_gate::cache::{Batch, FilingCache, Staleness, Table};
use beian_gate::config::WhenStale;
use beian_gate::feed::{Digest, Entry, EpochKey, Position, Summary};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PROVIDER: &str = "example-cloud";
const LOADS: usize = 5;
/// Journal appends that are timed, of each size.
const APPENDS: usize = 50;
const LARGE_BATCH: u64 = 10_000;

fn main() {
    let asked: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    for filings in if asked.is_empty() { vec![1_000_000, 10_000_000] } else { asked } {
        measure(filings);
    }
}

/// Feeds a cache with batches that add new names.
struct Feed<'a> {
    cache: &'a FilingCache,
    key: EpochKey,
    summary: Summary,
    next: u64,
}

impl Feed<'_> {
    /// How long the change took, and nothing before it.
    fn add(&mut self, filings: u64) -> Duration {
        let after = self.summary.position;
        let entries: Vec<_> = (self.next..self.next + filings).map(|index| entry(&self.key, index)).collect();
        self.next += filings;
        for entry in &entries {
            self.summary.digest.add(self.key.entry_element(entry));
        }
        self.summary.count += filings;
        self.summary.position.seq += filings;
        let batch = Batch { after, entries: &entries, summary: self.summary };
        let since = Instant::now();
        self.cache.apply(&batch, since, |_| true).expect("it follows");
        since.elapsed()
    }
}

fn entry(key: &EpochKey, index: u64) -> Entry {
    let (record, odd) = domains::record(index).pack();
    Entry { fingerprint: key.fingerprint(&domains::filed(index)), record, odd }
}

fn new_cache() -> FilingCache {
    let stale_after = Duration::from_secs(86_400);
    let cache = FilingCache::new(Staleness { stale_after, when_stale: WhenStale::Serve });
    cache.remember_changes();
    cache
}

fn measure(filings: u64) {
    let key = EpochKey::from_bytes([7; EpochKey::LEN]);
    let mut table = Table::with_room_for(key.clone(), filings);
    for index in 0..filings {
        table.set(&entry(&key, index));
    }
    let position = Position { epoch: 1, seq: 0 };
    table.set_position(position);
    let summary = Summary { position, count: table.count(), digest: Digest(table.digest().0), at_ms: 0 };
    let cache = new_cache();
    cache.publish(table, Instant::now());
    let directory = tempfile::tempdir().expect("a directory");
    println!("{filings} filings");

    let mut feed = Feed { cache: &cache, key, summary, next: filings };
    let quiet = busy_until(&mut feed, || std::thread::park_timeout(Duration::from_secs(1)));
    println!("  a change, nothing being saved   longest {:?}, mean {:?}", quiet.0, quiet.1);
    let saved = SavedState::open(directory.path()).expect("the directory is ours");
    let (resident, mut took) = (memory("VmRSS:"), Duration::ZERO);
    // Forgets the highest so far.
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
    let busy = busy_until(&mut feed, || {
        let since = Instant::now();
        saved.save(PROVIDER, &cache).expect("there is room");
        took = since.elapsed();
    });
    println!("  checkpoint, while changing      {took:?}");
    println!("  a change meanwhile              longest {:?}, mean {:?}", busy.0, busy.1);
    println!("  memory above the table          {} KiB", memory("VmHWM:").saturating_sub(resident));
    for batch in [1, LARGE_BATCH] {
        let mut all = Duration::ZERO;
        for _ in 0..APPENDS {
            feed.add(batch);
            let since = Instant::now();
            saved.save(PROVIDER, &cache).expect("there is room");
            all += since.elapsed();
        }
        println!("  append, batches of {batch:<12} {:?}", all / u32::try_from(APPENDS).expect("it is small"));
    }
    drop(saved);
    load(directory.path());
}

/// Makes changes of one until `work` is done; gives the longest and the mean that one took.
fn busy_until(feed: &mut Feed<'_>, work: impl FnOnce() + Send) -> (Duration, Duration) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_over = &is_over;
        scope.spawn(move || {
            work();
            is_over.store(true, Ordering::Relaxed);
        });
        let (mut longest, mut all, mut changes) = (Duration::ZERO, Duration::ZERO, 0_u32);
        while !is_over.load(Ordering::Relaxed) {
            let took = feed.add(1);
            longest = longest.max(took);
            all += took;
            changes += 1;
        }
        (longest, all / changes.max(1))
    })
}

fn load(directory: &std::path::Path) {
    let ticks = cpu_ticks();
    let mut times: Vec<_> = (0..LOADS)
        .map(|_| {
            let saved = SavedState::open(directory).expect("the directory is ours");
            let cache = new_cache();
            let since = Instant::now();
            let (table, at_ms) = saved.load(PROVIDER).found.expect("it was saved");
            cache.publish_saved(table, Instant::now(), at_ms);
            since.elapsed()
        })
        .collect();
    times.sort();
    let ticks = cpu_ticks() - ticks;
    println!("  load, verified and published    {:?} (median of {LOADS}: {times:?})", times[LOADS / 2]);
    println!(
        "  processor time of a load        {} ms, giving the memory back included",
        ticks * 10 / LOADS as u64
    );
}

/// Processor time of this process so far, in hundredths of a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().expect("the name is in brackets").split_whitespace();
    fields.skip(11).take(2).map(|it| it.parse::<u64>().expect("ticks")).sum()
}

fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(what)).expect("every Linux says so");
    line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("KiB")
}
