//! The table of filings: what it takes and what a look-up, a change and a start cost.
//!
//! `cargo bench --bench filings_table [-- --filings N] [--growth] [--exact]` prints one table; `--growth` grows one
//! from nothing instead, `--exact` checks every hit and ten misses for each. Times are the thread's own, medians of rounds in
//! which a chase of pointers through 1 GiB, one load after another, takes turns with the look-ups: compare ratios.

#[allow(dead_code, reason = "hosts are the other bench's")]
mod domains;

use beian_gate::cache::{Batch, Copied, FilingCache, Staleness, Table};
use beian_gate::config::WhenStale;
use beian_gate::feed::{Entry, EpochKey, MAX_BATCH_ENTRIES, Position, Summary};
use beian_gate::filing::PackedRecord;
use domains::Numbers;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 9;
/// Look-ups, or steps of the chase, in a round.
const STEPS: usize = 300_000;
const CHASE_WORDS: usize = 1 << 27;
const WORDS_PER_LINE: usize = 8;
const BATCHES_PER_ROUND: usize = 50;
const MIB: f64 = 1_048_576.0;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let after = |flag: &str| arguments.iter().skip_while(|it| *it != flag).nth(1);
    let filings = after("--filings").map_or(10_000_000, |text| text.parse().expect("a number of filings"));
    row("filings", &filings.to_string());
    if is_asked("--growth") {
        growth(filings);
    } else if is_asked("--exact") {
        exact(filings);
    } else {
        everything(filings);
    }
}

#[allow(clippy::print_stdout, reason = "the table is what it is run for")]
fn row(what: &str, value: &str) {
    let pad = 62_usize.saturating_sub(what.chars().count());
    println!("| {what}{:pad$} | {value:>14} |", "");
}

fn everything(filings: u64) {
    let before = resident_bytes();
    let mut table = filled(filings);
    table.set_position(Position { epoch: 1, seq: 0 });
    let per_filing = |octets: usize| format!("{:.2}", octets as f64 / filings as f64);
    row("octets a filing, counted", &per_filing(table.memory_bytes()));
    row("octets a filing, resident", &per_filing(resident_bytes().saturating_sub(before)));
    one_line(&table, filings);
    let copied = table.copy();
    let mut mirror = from_copy(&copied);
    drop(copied);
    let cache = FilingCache::new(Staleness {
        stale_after: Duration::from_secs(86_400),
        when_stale: WhenStale::Serve,
    });
    cache.publish(table, Instant::now());
    alone(&cache, filings);
    let mut changes = Changes { numbers: Numbers(7), next: filings, filings, seq: 0 };
    changes_alone(&cache, &mut mirror, &mut changes);
    during_changes(&cache, &mut mirror, &mut changes, filings);
    during_swap(&cache, &mirror.copy(), filings);
}

fn key() -> EpochKey {
    EpochKey::from_bytes([7; EpochKey::LEN])
}

fn entry(key: &EpochKey, index: u64, turn: u64) -> Entry {
    let (record, odd) = domains::record(index ^ turn << 40).pack();
    Entry { fingerprint: key.fingerprint(&domains::filed(index)), record, odd }
}

fn filled(filings: u64) -> Table {
    let key = key();
    let mut table = Table::with_room_for(key.clone(), filings);
    (0..filings).for_each(|index| {
        table.set(&entry(&key, index, 0));
    });
    table
}

fn from_copy(copied: &Copied) -> Table {
    let mut table = Table::with_room_for(copied.key().clone(), copied.count);
    let mut taken = Duration::ZERO;
    for run in copied.runs(MAX_BATCH_ENTRIES) {
        let start = thread_time();
        for entry in &run {
            table.set(entry);
        }
        taken += thread_time() - start;
    }
    assert_eq!((table.count(), table.digest()), (copied.count, copied.digest), "a copy is the same");
    table.set_position(copied.position);
    row("entries in their order put into a new table, a second", &rate(copied.count, taken));
    table
}

fn one_line(table: &Table, filings: u64) {
    // From first to last: who comes late is who finds a line full.
    let step = usize::try_from(filings / 1_000_000 + 1).expect("it is small");
    for (what, name) in [("hits", domains::filed as fn(u64) -> String), ("misses", domains::unfiled)] {
        let touched = (0..filings).step_by(step).map(|index| table.lines_touched(&name(index)));
        let (all, one) =
            touched.fold((0_u32, 0_u32), |(all, one), lines| (all + 1, one + u32::from(lines == 1)));
        row(
            &format!("{what} that touch one line, %"),
            &format!("{:.2}", f64::from(one) * 100.0 / f64::from(all)),
        );
    }
}

/// How long this thread has run, waits for others' work left out: a busy machine disturbs it less than a clock.
fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    let nanos = stat.split(' ').next().and_then(|it| it.parse().ok()).expect("the first is a number");
    Duration::from_nanos(nanos)
}

/// Names one after another in memory, so that reading them costs what reading a request does: next to nothing.
struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    fn new(count: usize, mut name: impl FnMut() -> String) -> Self {
        let (mut text, mut ends) = (String::new(), vec![0]);
        for _ in 0..count {
            text.push_str(&name());
            ends.push(text.len());
        }
        Self { text, ends }
    }

    fn hits(filings: u64, seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        Self::new(STEPS, || domains::filed(numbers.below(filings)))
    }

    fn misses(seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        Self::new(STEPS, || domains::unfiled(numbers.below(1 << 40)))
    }

    /// Looks all up, each only once the one before is answered; nanoseconds for each.
    fn look_up(&self, cache: &FilingCache, is_filed: bool) -> f64 {
        let (now, zero) = (Instant::now(), black_box(0));
        let (mut found, mut follow) = (0, 0);
        let start = thread_time();
        for ends in self.ends.windows(2) {
            let record = cache.at(now).find(&self.text[ends[0] + follow..ends[1]]);
            let is_found = usize::from(black_box(record).is_some());
            follow = is_found & zero;
            found += is_found;
        }
        let nanos = (thread_time() - start).as_nanos() as f64 / STEPS as f64;
        // Changes delete some of those that were filed.
        assert!(if is_filed { found > STEPS / 4 } else { found == 0 }, "{found} found");
        nanos
    }
}

/// A cycle through every line of 1 GiB in no order.
struct Chase {
    words: Vec<u64>,
    at: usize,
}

impl Chase {
    fn new() -> Self {
        let lines = CHASE_WORDS / WORDS_PER_LINE;
        let mut words = vec![0; CHASE_WORDS];
        let mut numbers = Numbers(1);
        (0..lines).for_each(|line| words[line * WORDS_PER_LINE] = (line * WORDS_PER_LINE) as u64);
        for line in (1..lines).rev() {
            let other = usize::try_from(numbers.below(line as u64)).expect("it is below a length");
            words.swap(line * WORDS_PER_LINE, other * WORDS_PER_LINE);
        }
        Self { words, at: 0 }
    }

    fn step(&mut self) -> f64 {
        let start = thread_time();
        for _ in 0..STEPS {
            self.at = usize::try_from(self.words[self.at]).expect("it is an index");
        }
        black_box(self.at);
        (thread_time() - start).as_nanos() as f64 / STEPS as f64
    }
}

fn alone(cache: &FilingCache, filings: u64) {
    let mut chase = Chase::new();
    let [mut chased, mut hits, mut misses, mut fingerprints] = [const { Vec::new() }; 4];
    let key = key();
    for round in 0..ROUNDS as u64 {
        let (hit, miss) = (Names::hits(filings, round), Names::misses(round));
        chased.push(chase.step());
        hits.push(hit.look_up(cache, true));
        misses.push(miss.look_up(cache, false));
        let start = thread_time();
        for ends in hit.ends.windows(2) {
            black_box(key.fingerprint(&hit.text[ends[0]..ends[1]]));
        }
        fingerprints.push((thread_time() - start).as_nanos() as f64 / STEPS as f64);
    }
    let chased = median(&mut chased);
    row("one dependent load from 1 GiB, ns", &format!("{chased:.1}"));
    for (what, times) in [("hit", &mut hits), ("miss", &mut misses)] {
        let median = median(times);
        row(&format!("{what}, cold, ns"), &format!("{median:.1}"));
        row(&format!("{what}, in loads"), &format!("{:.2}", median / chased));
    }
    row("fingerprint of a name, part of each, ns", &format!("{:.1}", median(&mut fingerprints)));
}

/// Changes: 60 % of records, 20 % new names, 20 % gone.
struct Changes {
    numbers: Numbers,
    next: u64,
    filings: u64,
    seq: u64,
}

impl Changes {
    /// The next batches, applied to `mirror`, with what the state is after each.
    fn batches(&mut self, mirror: &mut Table) -> Vec<(Position, Vec<Entry>, Summary)> {
        let key = key();
        let mut batches = Vec::with_capacity(BATCHES_PER_ROUND);
        for _ in 0..BATCHES_PER_ROUND {
            let after = mirror.position();
            let entries: Vec<_> = (0..MAX_BATCH_ENTRIES).map(|_| self.change(&key)).collect();
            entries.iter().for_each(|entry| {
                mirror.set(entry);
            });
            self.seq += 1;
            let position = Position { epoch: 1, seq: self.seq };
            mirror.set_position(position);
            let summary = Summary { position, count: mirror.count(), digest: mirror.digest(), at_ms: 0 };
            batches.push((after, entries, summary));
        }
        batches
    }

    fn change(&mut self, key: &EpochKey) -> Entry {
        let (kind, index) = (self.numbers.below(10), self.numbers.below(self.filings));
        match kind {
            0..6 => entry(key, index, 1 + self.numbers.below(1000)),
            6..8 => {
                self.next += 1;
                entry(key, self.next - 1, 0)
            }
            _ => Entry { record: PackedRecord(0), odd: None, ..entry(key, index, 0) },
        }
    }
}

fn apply(cache: &FilingCache, batches: &[(Position, Vec<Entry>, Summary)]) -> Vec<Duration> {
    let batch = |(after, entries, summary): &(Position, Vec<Entry>, Summary)| {
        let start = Instant::now();
        let batch = Batch { after: *after, entries, summary: *summary };
        cache.apply(&batch, start, |_| true).expect("it is what the mirror did");
        start.elapsed()
    };
    batches.iter().map(batch).collect()
}

fn changes_alone(cache: &FilingCache, mirror: &mut Table, changes: &mut Changes) {
    let mut rates = Vec::new();
    let mut longest = Duration::ZERO;
    for _ in 0..ROUNDS {
        let batches = changes.batches(mirror);
        let start = thread_time();
        let times = apply(cache, &batches);
        let taken = (thread_time() - start).as_secs_f64();
        rates.push((BATCHES_PER_ROUND * MAX_BATCH_ENTRIES) as f64 / taken);
        longest = longest.max(times.into_iter().max().unwrap_or_default());
    }
    row("changes applied, verified, a second", &format!("{:.0}", median(&mut rates)));
    row("longest batch of 10,000, ms", &format!("{:.2}", longest.as_secs_f64() * 1000.0));
}

fn during_changes(cache: &FilingCache, mirror: &mut Table, changes: &mut Changes, filings: u64) {
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS as u64 {
        let batches = changes.batches(mirror);
        let names = Names::hits(filings, 100 + round);
        quiet.push(names.look_up(cache, true));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                apply(cache, &batches);
                is_over.store(true, Ordering::Release);
            });
            while !is_over.load(Ordering::Acquire) {
                busy.push(names.look_up(cache, true));
            }
        });
    }
    compared("changes at full rate", &mut quiet, &mut busy);
}

fn during_swap(cache: &FilingCache, copied: &Copied, filings: u64) {
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    let names = Names::hits(filings, 1000);
    (0..ROUNDS).for_each(|_| quiet.push(names.look_up(cache, true)));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            cache.publish(from_copy(copied), Instant::now());
            is_over.store(true, Ordering::Release);
        });
        while !is_over.load(Ordering::Acquire) {
            busy.push(names.look_up(cache, true));
        }
    });
    compared("a new state built and swapped", &mut quiet, &mut busy);
}

fn compared(what: &str, quiet: &mut [f64], busy: &mut [f64]) {
    let (quiet, busy) = (median(quiet), median(busy));
    row(&format!("hit beside {what}, ns"), &format!("{busy:.1}"));
    row(&format!("hit beside {what}, in those without"), &format!("{:.2}", busy / quiet));
}

/// Grows a table from nothing in no order, and says how large it is at most on the way.
fn growth(filings: u64) {
    let key = key();
    let mut table = Table::new(key.clone());
    let (mut worst, mut longest, mut taken) = ((0.0_f64, 0), Duration::ZERO, Duration::ZERO);
    for index in 0..filings {
        let entry = entry(&key, index, 0);
        let start = Instant::now();
        table.set(&entry);
        let time = start.elapsed();
        taken += time;
        longest = longest.max(time);
        let count = index + 1;
        if count >= 1000 && count % (count / 100) == 0 {
            let per_filing = table.memory_bytes() as f64 / count as f64;
            worst = if per_filing > worst.0 { (per_filing, count) } else { worst };
        }
        if [1_000, 10_000, 100_000, 1_000_000, 3_000_000, 5_000_000, filings].contains(&count) {
            let per_filing = format!("{:.2}", table.memory_bytes() as f64 / count as f64);
            row(&format!("octets a filing at {count}"), &per_filing);
            one_line(&table, count);
        }
    }
    row(&format!("octets a filing at most, at {}", worst.1), &format!("{:.2}", worst.0));
    row("new names put, a second", &rate(filings, taken));
    row("longest put, ms", &format!("{:.2}", longest.as_secs_f64() * 1000.0));
    row("resident MiB in all", &format!("{:.1}", resident_bytes() as f64 / MIB));
}

/// Checks every filed name, and ten others for each.
fn exact(filings: u64) {
    let table = filled(filings);
    let wrong_hits = (0..filings).filter(|&index| {
        let expected = domains::record(index);
        table.find(&domains::filed(index)) != Some(expected)
    });
    row("hits with a wrong record", &wrong_hits.count().to_string());
    let wrong_misses = (0..filings * 10).filter(|&index| table.find(&domains::unfiled(index)).is_some());
    row("misses that found one, of ten times as many", &wrong_misses.count().to_string());
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn rate(count: u64, taken: Duration) -> String {
    format!("{:.0}", count as f64 / taken.as_secs_f64())
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: usize =
        statm.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("the second is a number");
    pages * 4096
}
