//! One registry, several followers, and a network with every fault that there is, on a clock of its own.
//!
//! After each step: what a gate answers is what the registry said at the gate's position, which never goes back,
//! and is fresh only if the registry said so lately. Once faults end, every gate ends where the registry is.
//! All chance comes from one seed; `BEIAN_SEED=N cargo test --lib simulation` replays one, `BEIAN_SEEDS=N` sets
//! how many are tried.

use super::*;
use crate::cache::Clock;
use network::{Network, Seen, World as Shared};
use rng::Rng;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use truth::{Kinds, NAMES, Truth};

mod network;
mod rng;
mod truth;

const SEEDS: u64 = 1_000;
const GATES: usize = 3;
const STEPS: usize = 30;
const STALE_AFTER: Duration = Duration::from_secs(20);
/// How long a word may be on its way: the slowest pieces, and what silence allows.
const ON_ITS_WAY: Duration = Duration::from_secs(6);
/// Of simulated time, from the last fault until all agree.
const PATIENCE: Duration = Duration::from_secs(240);
/// An update that newly blocks this many of the names waits for an operator.
const LEAST_FLIPS: u64 = 8;
const SHARE: f64 = 0.3;
const DAY_MS: i64 = 86_400_000;

type Link = Arc<Mutex<Shared>>;

/// A gate's follower, and what was seen of it.
struct Gate {
    index: usize,
    directory: TempDir,
    wall_offset_ms: Arc<AtomicI64>,
    /// The wall clock jumped: what was saved before may look younger than it is.
    has_jumped: bool,
    /// Its memory was changed once: that may have been saved.
    was_corrupt: bool,
    rng: Rng,
    /// What its wall clock counts from.
    epoch: tokio::time::Instant,
    alive: Option<Alive>,
}

struct Alive {
    cache: Arc<FilingCache>,
    stats: Arc<FollowStats>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
    position: Option<Position>,
    shown: Option<(Position, Kinds)>,
    /// A name whose memory a fault changed, until that is repaired.
    is_corrupt: bool,
    /// The operator's word came, or memory was changed: names may fall by many.
    may_fall: bool,
    /// Not before a word of the registry after a start from a saved state whose age nobody can tell.
    trusts_age: bool,
    started: tokio::time::Instant,
}

impl Gate {
    async fn start(&mut self, world: &Link) {
        let offset = Arc::clone(&self.wall_offset_ms);
        let start = self.epoch;
        let wall = move || {
            let since = tokio::time::Instant::now() - start;
            offset.load(Ordering::Relaxed) + i64::try_from(since.as_millis()).unwrap()
        };
        let staleness = Staleness { stale_after: STALE_AFTER, when_stale: WhenStale::Block };
        let cache = Arc::new(FilingCache::with_clock(staleness, Clock::new(now(), wall)));
        let stats = Arc::new(FollowStats::default());
        let network =
            Network { world: Arc::clone(world), gate: self.index, rng: Mutex::new(Rng(self.rng.next())) };
        let network = Arc::new(network);
        let mut follower = loop {
            let options = FollowOptions {
                urls: Vec::new(),
                token: None,
                trust: Default::default(),
                provider: PROVIDER.into(),
                gate: format!("gate-{}", self.index),
                directory: self.directory.path().into(),
                hold_flips_above: SHARE,
                cache: Arc::clone(&cache),
                stats: Arc::clone(&stats),
            };
            let registry: Arc<dyn Registry> = Arc::<Network>::clone(&network);
            match Follower::over(registry, options) {
                Ok(follower) => break follower,
                // What was killed may still be writing.
                Err(FollowError::Saved(SavedError::Locked { .. })) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        follower.bounds.flips_mut().least = LEAST_FLIPS;
        follower.backoff.fixed_share = Some(self.rng.below(100) as f64 / 100.0);
        follower.pace.held_retry = Duration::from_secs(5);
        follower.load_saved();
        let (shutdown, is_over) = watch::channel(false);
        self.alive = Some(Alive {
            position: cache.position(),
            task: tokio::spawn(follower.run(is_over)),
            cache,
            stats,
            shutdown,
            shown: None,
            is_corrupt: self.was_corrupt,
            may_fall: self.was_corrupt,
            trusts_age: !self.has_jumped,
            started: tokio::time::Instant::now(),
        });
    }

    /// Ends it where it stands, or lets it say goodbye.
    async fn stop(&mut self, is_kill: bool) {
        let Some(alive) = self.alive.take() else { return };
        if is_kill {
            alive.task.abort();
        } else {
            alive.shutdown.send(true).unwrap();
        }
        match alive.task.await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => {}
        }
    }

    /// Damages what is saved.
    fn damage(&mut self) {
        let files = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.file_name().unwrap() != "lock").collect();
        files.sort();
        let Some(path) = (!files.is_empty()).then(|| &files[self.rng.index(files.len())]) else { return };
        let Ok(mut octets) = std::fs::read(path) else { return };
        match self.rng.below(4) {
            0 => octets.clear(),
            1 => octets.truncate(octets.len() / 2),
            2 => octets.extend_from_slice(b"surplus"),
            _ if octets.is_empty() => {}
            _ => {
                let at = self.rng.index(octets.len());
                octets[at] ^= 1 << self.rng.below(8);
            }
        }
        std::fs::write(path, octets).unwrap();
    }
}

/// What a gate answers for each name; none before the first state.
fn shown(cache: &FilingCache) -> Option<[Option<FilingRecord>; NAMES]> {
    let view = cache.at(now());
    view.is_synced().then(|| std::array::from_fn(|index| view.find(&truth::name(index))))
}

impl Alive {
    /// The invariant.
    fn check(&mut self, gate: usize, world: &Link) {
        let world = world.lock().unwrap();
        assert!(world.violations.is_empty(), "{:?}", world.violations);
        let (Some(shown), Some(position)) = (shown(&self.cache), self.cache.position()) else {
            assert_eq!(self.position, None, "gate {gate} lost its state");
            return;
        };
        let kinds = world.truth.state(position);
        let kinds =
            *kinds.unwrap_or_else(|| panic!("gate {gate} is where the registry never was: {position:?}"));
        if let Some(before) = self.position {
            let is_forward = if before.epoch == position.epoch {
                before.seq <= position.seq
            } else {
                before.epoch < position.epoch
            };
            assert!(is_forward, "gate {gate} went back from {before:?} to {position:?}");
        }
        self.position = Some(position);
        let is_right = self.cache.status().digest == world.truth.summary(position).digest;
        self.is_corrupt &= !is_right;
        assert!(is_right || self.is_corrupt, "gate {gate}: the digest is not that of {position:?}");
        let waiting = self.cache.waiting();
        for (index, shown) in shown.iter().enumerate().filter(|_| !self.is_corrupt) {
            let is_said = |kind: u8| *shown == truth::record(index, kind);
            // A cancellation may be ahead of what waits for an operator.
            let is_ahead = waiting.is_some_and(|waiting| {
                world.truth.between(position, waiting.position, index).into_iter().any(is_said)
            });
            assert!(is_said(kinds[index]) || is_ahead, "gate {gate}: {index} at {position:?}: {shown:?}");
        }
        self.check_falls(gate, position, kinds);
        self.check_age(gate, world.said[gate]);
    }

    /// Without an operator's word names fall by few only.
    fn check_falls(&mut self, gate: usize, position: Position, kinds: Kinds) {
        let before = self.shown.replace((position, kinds));
        let may_fall = self.may_fall;
        let Some((_, before)) = before.filter(|(before, _)| before.epoch == position.epoch && !may_fall)
        else {
            return;
        };
        let falls = (0..NAMES).filter(|&it| truth::standing(kinds[it]) < truth::standing(before[it])).count();
        // What fell just before counts as if it were there still.
        let is_few = (falls as u64) < LEAST_FLIPS || falls as f64 / (NAMES + falls) as f64 <= SHARE;
        assert!(is_few, "gate {gate}: {falls} fell without an operator's word");
    }

    fn check_age(&mut self, gate: usize, said: Option<tokio::time::Instant>) {
        self.trusts_age |= said.is_some_and(|said| said > self.started) && self.stats.is_connected();
        if self.trusts_age && !self.cache.at(now()).is_stale() {
            let age = said.map(|said| said.elapsed());
            assert!(
                age.is_some_and(|age| age <= STALE_AFTER + ON_ITS_WAY),
                "gate {gate} is fresh after {age:?}"
            );
        }
    }
}

fn commit(truth: &mut Truth, rng: &mut Rng) {
    let mut kinds = truth.kinds();
    match rng.below(10) {
        // Nothing that this provider sees.
        0 => {}
        // Most of all are blocked at once, and maybe taken back.
        1 => kinds.iter_mut().for_each(|kind| *kind = if rng.chance(70) { 4 } else { *kind }),
        2 => kinds.iter_mut().for_each(|kind| *kind = if rng.chance(90) { 1 } else { *kind }),
        _ => (0..1 + rng.below(4)).for_each(|_| kinds[rng.index(NAMES)] = rng.kind()),
    }
    truth.commit(kinds, rng);
}

/// Something happens to the registry.
fn disturb_registry(world: &Link, rng: &mut Rng) {
    let truth = &mut world.lock().unwrap().truth;
    match rng.below(12) {
        0 => truth.compact(),
        1 => {
            truth.life += 1;
            truth.forget();
        }
        2 => truth.life += 1,
        3 => truth.is_up = !truth.is_up,
        4 => {
            let kinds = truth.kinds();
            truth.begin_epoch(kinds, rng);
            commit(truth, rng);
        }
        _ => (0..=rng.below(3)).for_each(|_| commit(truth, rng)),
    }
}

/// Something happens to a gate.
async fn disturb_gate(gate: &mut Gate, world: &Link, rng: &mut Rng) {
    match rng.below(14) {
        0 | 1 => {
            gate.stop(rng.chance(70)).await;
            if rng.chance(20) {
                gate.damage();
            }
            gate.start(world).await;
        }
        2 => {
            let jump = if rng.chance(50) { DAY_MS } else { -DAY_MS };
            gate.wall_offset_ms.fetch_add(jump, Ordering::Relaxed);
            gate.has_jumped = true;
        }
        3 => {
            gate.was_corrupt = true;
            let alive = gate.alive.as_mut().unwrap();
            let (index, kind) = (rng.index(NAMES), rng.kind());
            if let Some(key) = alive.cache.key() {
                let (record, odd) =
                    truth::record(index, kind).map_or((PackedRecord(0), None), |it| it.pack());
                alive.cache.corrupt(&Entry {
                    fingerprint: key.fingerprint(&truth::name(index)),
                    record,
                    odd,
                });
                (alive.is_corrupt, alive.may_fall) = (true, true);
            }
        }
        4 | 5 => {
            let alive = gate.alive.as_mut().unwrap();
            if alive.stats.held().is_some() {
                world.lock().unwrap().seen.held += 1;
                alive.stats.say(if rng.chance(50) { Word::Apply } else { Word::Refuse });
                alive.may_fall = true;
            }
        }
        _ => {}
    }
}

async fn simulate(seed: u64) -> Seen {
    let mut rng = Rng(seed);
    let shared = Shared {
        truth: Truth::new(&mut rng),
        is_faulty: true,
        said: [None; GATES],
        acknowledged: [None; GATES],
        violations: Vec::new(),
        seen: Seen::default(),
    };
    let world: Link = Arc::new(Mutex::new(shared));
    world.lock().unwrap().truth.is_up = rng.chance(70);
    let mut gates: Vec<_> = (0..GATES)
        .map(|index| Gate {
            index,
            directory: directory(),
            wall_offset_ms: Arc::new(AtomicI64::new(1_700_000_000_000)),
            has_jumped: false,
            was_corrupt: false,
            rng: Rng(rng.next()),
            epoch: tokio::time::Instant::now(),
            alive: None,
        })
        .collect();
    for gate in &mut gates {
        gate.start(&world).await;
    }
    for _ in 0..STEPS {
        let limit = [100, 1_000, 8_000][rng.index(3)];
        tokio::time::sleep(Duration::from_micros(rng.below(limit * 1_000))).await;
        gates.iter_mut().for_each(|gate| gate.alive.as_mut().unwrap().check(gate.index, &world));
        if rng.chance(60) {
            disturb_registry(&world, &mut rng);
        }
        for gate in &mut gates {
            let mut chance = Rng(rng.next());
            disturb_gate(gate, &world, &mut chance).await;
        }
    }
    converge(&mut gates, &world).await;
    for gate in &mut gates {
        gate.stop(false).await;
    }
    let world = world.lock().unwrap();
    world.seen
}

/// Faults end: all gates come to where the registry is, are fresh, and say so.
async fn converge(gates: &mut [Gate], world: &Link) {
    {
        let mut world = world.lock().unwrap();
        (world.is_faulty, world.truth.is_up) = (false, true);
    }
    let since = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let mut is_over = true;
        for gate in gates.iter_mut() {
            let alive = gate.alive.as_mut().unwrap();
            if alive.stats.held().is_some() {
                alive.stats.say(Word::Apply);
                alive.may_fall = true;
            }
            alive.check(gate.index, world);
            let world = world.lock().unwrap();
            let (status, wanted) = (alive.cache.status(), world.truth.summary(world.truth.position));
            is_over &= (status.position, status.filings, status.digest)
                == (wanted.position, wanted.count, wanted.digest)
                && world.acknowledged[gate.index] == Some(wanted.position)
                && !alive.cache.at(now()).is_stale();
        }
        if is_over {
            return;
        }
        let states: Vec<_> = gates
            .iter()
            .map(|gate| {
                let alive = gate.alive.as_ref().unwrap();
                (alive.cache.status(), alive.stats.last_error(), alive.stats.held())
            })
            .collect();
        assert!(since.elapsed() < PATIENCE, "they never agree: {states:?}");
    }
}

/// In memory where there is such a place: a thousand seeds sync many files.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Says how to replay a seed that failed, and ends the search.
struct Replay<'a> {
    seed: u64,
    next: &'a AtomicU64,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay it: BEIAN_SEED={} cargo test --lib simulation", self.seed);
            self.next.store(u64::MAX / 2, Ordering::Relaxed);
        }
    }
}

fn run(seed: u64, next: &AtomicU64) -> Seen {
    let _replay = Replay { seed, next };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(seed))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_verdict_is_the_registry_s_whatever_happens() {
    if let Some(seed) = number("BEIAN_SEED") {
        let next = AtomicU64::default();
        let seen = run(seed, &next);
        assert_eq!(format!("{seen:?}"), format!("{:?}", run(seed, &next)), "the same seed, the same run");
        return;
    }
    let (next, most) = (AtomicU64::new(1), number("BEIAN_SEEDS").unwrap_or(SEEDS));
    let totals = Mutex::new(Seen::default());
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > most {
                        break;
                    }
                    let seen = run(seed, &next);
                    let mut totals = totals.lock().unwrap();
                    totals.resumed += seen.resumed;
                    totals.repairs += seen.repairs;
                    totals.held += seen.held;
                }
            });
        }
    });
    let Seen { resumed, repairs, held } = *totals.lock().unwrap();
    if most >= SEEDS {
        assert!(resumed > 0 && repairs > 0 && held > 0, "{resumed} resumed, {repairs} repaired, {held} held");
    }
}
