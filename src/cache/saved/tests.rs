//! Saved state: whatever happens to disk and process, what is loaded is a state that the registry had, and not
//! an older one than was reported as saved.

use super::*;
use crate::cache::{Batch, Staleness};
use crate::config::WhenStale;
use crate::feed::{EpochKey, Frame};
use crate::filing::{FilingNumber, FilingRecord, Status};
use power::PowerDisk;
use proptest::prelude::*;
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod power;

const PROVIDER: &str = "example-cloud";
/// Names that filings come and go for.
const NAMES: u64 = 60;

/// A generator of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }
}

type Filings = HashMap<String, FilingRecord>;

/// A registry, the cache that follows it, and everything that it ever said.
struct Registry {
    cache: Arc<FilingCache>,
    random: Random,
    mirror: Table,
    filings: Filings,
    history: Vec<(Position, Filings)>,
}

fn name(seed: u64) -> String {
    format!("n{seed}.cn")
}

fn record(random: &mut Random) -> FilingRecord {
    // One in five is odd.
    let number = match random.below(5) {
        0 => format!("沪ICP证{:06}号", 30_000 + random.below(50)),
        _ => format!("京ICP备{:08}号-1", random.below(1_000_000)),
    };
    let number = Some(FilingNumber::parse(&number).unwrap());
    FilingRecord { status: Status::Connected, connected_elsewhere: false, access_under_review: false, number }
}

impl Registry {
    fn new(seed: u64) -> Self {
        let staleness = Staleness { stale_after: Duration::from_secs(60), when_stale: WhenStale::Serve };
        let cache = FilingCache::new(staleness);
        cache.remember_changes();
        let mut registry = Self {
            cache: Arc::new(cache),
            random: Random(seed),
            mirror: Table::new(EpochKey::from_bytes([0; 32])),
            filings: Filings::new(),
            history: Vec::new(),
        };
        registry.replace();
        registry
    }

    /// A whole new state, of a new epoch.
    fn replace(&mut self) {
        let epoch = self.mirror.position().epoch + 1;
        let key = || EpochKey::from_bytes([u8::try_from(epoch % 251).unwrap(); 32]);
        self.filings.clear();
        let (mut table, mut mirror) = (Table::new(key()), Table::new(key()));
        for seed in 0..NAMES / 2 {
            let record = record(&mut self.random);
            table.put(&name(seed), &record);
            mirror.put(&name(seed), &record);
            self.filings.insert(name(seed), record);
        }
        let position = Position { epoch, seq: 0 };
        table.set_position(position);
        mirror.set_position(position);
        self.mirror = mirror;
        self.cache.publish(table, Instant::now());
        self.history.push((position, self.filings.clone()));
    }

    fn change(&mut self) {
        let mut entries = Vec::new();
        for _ in 0..1 + self.random.below(6) {
            let name = name(u64::try_from(self.random.below(usize::try_from(NAMES).unwrap())).unwrap());
            let fingerprint = self.mirror.key().fingerprint(&name);
            let (packed, odd) = if self.random.below(3) == 0 {
                self.filings.remove(&name);
                (crate::filing::PackedRecord(0), None)
            } else {
                let record = record(&mut self.random);
                self.filings.insert(name, record.clone());
                record.pack()
            };
            entries.push(Entry { fingerprint, record: packed, odd });
        }
        for entry in &entries {
            self.mirror.set(entry);
        }
        let after = self.mirror.position();
        let position = Position { seq: after.seq + u64::try_from(entries.len()).unwrap(), ..after };
        self.mirror.set_position(position);
        let summary =
            Summary { position, count: self.mirror.count(), digest: self.mirror.digest(), at_ms: 0 };
        self.cache.apply(&Batch { after, entries: &entries, summary }, Instant::now(), |_| true).unwrap();
        self.history.push((position, self.filings.clone()));
    }

    /// Which state of the history this is.
    #[track_caller]
    fn index_of(&self, table: &Table) -> usize {
        let found = self.history.iter().position(|(position, _)| *position == table.position());
        let index = found.unwrap_or_else(|| panic!("{:?} never was", table.position()));
        let filings = &self.history[index].1;
        assert_eq!(table.count(), u64::try_from(filings.len()).unwrap(), "count at {index}");
        for name in (0..NAMES).map(name) {
            assert_eq!(table.find(&name).as_ref(), filings.get(&name), "{name} at {index}");
        }
        index
    }

    fn index_at(&self, position: Position) -> usize {
        self.history.iter().position(|(it, _)| *it == position).unwrap()
    }
}

fn saved_state(directory: &Path, disk: &PowerDisk) -> SavedState {
    let disk = Box::new(disk.clone());
    SavedState { directory: directory.to_owned(), disk, held: Mutex::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    /// Changes, saves, whole new states and restarts in any order, also while the disk is at work, which fails
    /// now and then; then the power goes at any moment of all that.
    #[test]
    fn after_a_crash_a_state_that_was_is_loaded(
        seed in any::<u64>(),
        steps in proptest::collection::vec(0_u8..10, 1..40),
        faults in proptest::collection::vec(1_usize..400, 0..4),
        cuts in proptest::collection::vec(any::<u64>(), 24),
    ) {
        let registry = Arc::new(Mutex::new(Registry::new(seed)));
        let disk = PowerDisk::default();
        faults.into_iter().for_each(|count| disk.fail_at(count));
        let busy = Arc::clone(&registry);
        disk.meanwhile(Box::new(move || {
            let mut registry = busy.lock().unwrap();
            match registry.random.below(40) {
                0..10 => registry.change(),
                10 => registry.replace(),
                _ => {}
            }
        }));
        let directory = tempfile::tempdir().unwrap();
        let mut saved = saved_state(directory.path(), &disk);
        let mut restarts = Vec::new();
        for step in steps {
            match step {
                0..5 => registry.lock().unwrap().change(),
                5 => registry.lock().unwrap().replace(),
                6 => {
                    // The process ends and starts again, and the registry tells it what it missed.
                    let left = tempfile::tempdir().unwrap();
                    disk.cut(disk.asked(), left.path(), |limit| limit - 1);
                    drop(saved);
                    saved = saved_state(left.path(), &disk);
                    let loaded = saved.load(PROVIDER);
                    prop_assert!(loaded.refused.is_empty(), "{:?}", loaded.refused);
                    let mut registry = registry.lock().unwrap();
                    if let Some((table, at_ms)) = loaded.found {
                        let index = registry.index_of(&table);
                        let is_newest = index + 1 == registry.history.len();
                        registry.cache.publish_saved(table, Instant::now(), at_ms);
                        if !is_newest {
                            registry.replace();
                        }
                    }
                    restarts.push(left);
                }
                _ => {
                    let cache = Arc::clone(&registry.lock().unwrap().cache);
                    if let Ok(Some((position, _))) = saved.save(PROVIDER, &cache) {
                        disk.report(registry.lock().unwrap().index_at(position));
                    }
                }
            }
        }
        let registry = registry.lock().unwrap();
        for seed in cuts {
            let mut random = Random(seed);
            let left = tempfile::tempdir().unwrap();
            let at = random.below(disk.asked() + 1);
            let reported = disk.cut(at, left.path(), |limit| random.below(limit));
            let loaded = saved_state(left.path(), &PowerDisk::default()).load(PROVIDER);
            let index = loaded.found.map(|(table, _)| registry.index_of(&table));
            prop_assert!(index >= reported, "{index:?} is older than {reported:?}, cut at {at}: {:?}", loaded.refused);
            let read = read(left.path(), PROVIDER).ok().flatten().map(|(table, _)| registry.index_of(&table));
            prop_assert!(read >= reported, "without a lock: {read:?}");
        }
    }
}

/// Any one call of the disk fails, the process ends and starts again and saves once more, and then the power goes.
#[test]
fn what_is_reported_after_a_restart_outlives_the_power() {
    for fault in 1..120 {
        let mut registry = Registry::new(5);
        let disk = PowerDisk::default();
        disk.fail_at(fault);
        let save = |saved: &SavedState, registry: &Registry| {
            let done = saved.save(PROVIDER, &registry.cache);
            if let Ok(Some((position, _))) = &done {
                disk.report(registry.index_at(*position));
            }
            done.is_ok()
        };
        let [before, between, after] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let saved = saved_state(before.path(), &disk);
        for _ in 0..3 {
            registry.change();
            if !save(&saved, &registry) {
                break;
            }
        }
        disk.cut(disk.asked(), between.path(), |limit| limit - 1);
        drop(saved);
        let saved = saved_state(between.path(), &disk);
        if let Some((table, at_ms)) = saved.load(PROVIDER).found {
            let is_newest = registry.index_of(&table) + 1 == registry.history.len();
            registry.cache.publish_saved(table, Instant::now(), at_ms);
            if !is_newest {
                registry.replace();
            }
        }
        save(&saved, &registry);
        registry.change();
        save(&saved, &registry);
        let reported = disk.cut(disk.asked(), after.path(), |_| 0);
        let loaded = saved_state(after.path(), &PowerDisk::default()).load(PROVIDER);
        let index = loaded.found.map(|(table, _)| registry.index_of(&table));
        assert!(index >= reported, "fault {fault}: {index:?} is older than {reported:?}");
    }
}

/// A directory with two checkpoints and their journals, and what they were made from.
fn busy_directory() -> (tempfile::TempDir, Registry) {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = Registry::new(7);
    for _ in 0..2 {
        // A process that knows nothing of the files begins a checkpoint.
        let saved = SavedState::open(directory.path()).unwrap();
        for _ in 0..3 {
            saved.save(PROVIDER, &registry.cache).unwrap();
            registry.change();
        }
        saved.save(PROVIDER, &registry.cache).unwrap();
    }
    (directory, registry)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_saved_is_what_is_loaded() {
    let (directory, registry) = busy_directory();
    let held = ["filings.journal.1", "filings.journal.2", FILE, FILE_OLD, LOCK];
    assert_eq!(names(directory.path()), held);
    for name in &held {
        let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let loaded = SavedState::open(directory.path()).unwrap().load(PROVIDER);
    assert!(loaded.refused.is_empty());
    let (table, at_ms) = loaded.found.unwrap();
    assert_eq!(registry.index_of(&table) + 1, registry.history.len());
    assert_eq!(table.digest(), registry.mirror.digest());
    assert_eq!(Some((table.position(), at_ms)), registry.cache.synced());
    // The one before leads to the same state, without the newest too.
    fs::remove_file(directory.path().join(FILE)).unwrap();
    let (table, _) = read(directory.path(), PROVIDER).unwrap().unwrap();
    assert_eq!(registry.index_of(&table) + 1, registry.history.len());
}

#[test]
fn a_loaded_state_is_appended_to_and_its_time_moves() {
    let (directory, registry) = busy_directory();
    let saved = SavedState::open(directory.path()).unwrap();
    let (table, at_ms) = saved.load(PROVIDER).found.unwrap();
    let state = Summary {
        position: Position { seq: table.position().seq + 9, ..table.position() },
        count: table.count(),
        digest: table.digest(),
        at_ms: 0,
    };
    let next = Registry::new(7);
    next.cache.publish_saved(table, Instant::now(), at_ms);
    let before = fs::metadata(directory.path().join(FILE)).unwrap().ino();
    next.cache.confirm(&state, Instant::now()).unwrap();
    let (position, synced_at_ms) = saved.save(PROVIDER, &next.cache).unwrap().unwrap();
    assert!(position == state.position && synced_at_ms >= at_ms);
    assert_eq!(fs::metadata(directory.path().join(FILE)).unwrap().ino(), before, "no new checkpoint");
    let (table, read_ms) = read(directory.path(), PROVIDER).unwrap().unwrap();
    assert_eq!(
        (table.position(), read_ms, table.digest()),
        (position, synced_at_ms, registry.mirror.digest())
    );
}

/// Whatever is done to a file: a state that was, or none.
#[track_caller]
fn check_damaged(directory: &Path, registry: &Registry, file: &str, octets: &[u8], what: &str) {
    let copy = tempfile::tempdir().unwrap();
    for name in names(directory) {
        fs::copy(directory.join(&name), copy.path().join(&name)).unwrap();
    }
    fs::write(copy.path().join(file), octets).unwrap();
    let loaded = SavedState::open(copy.path()).unwrap().load(PROVIDER);
    let index = loaded.found.map(|(table, _)| registry.index_of(&table));
    if file == FILE {
        // The older pair, which the newer journal continues.
        assert_eq!(index, Some(registry.history.len() - 1), "{what}");
        let Some(SavedError::Damaged { moved_to: Some(bad), .. }) = loaded.refused.first() else {
            panic!("{what}: {:?}", loaded.refused);
        };
        assert_eq!(fs::read(bad).unwrap(), octets, "{what}: kept");
    } else {
        assert!(index.is_some(), "{what}");
    }
}

#[test]
fn damage_is_found_and_never_deleted() {
    let (directory, registry) = busy_directory();
    for file in [FILE, FILE_OLD, "filings.journal.1", "filings.journal.2"] {
        let good = fs::read(directory.path().join(file)).unwrap();
        let check = |octets: &[u8], what: &str| {
            check_damaged(directory.path(), &registry, file, octets, &format!("{file} {what}"));
        };
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            check(&bad, &format!("flipped in {at}"));
            check(&good[..at], &format!("cut to {at}"));
        }
        check(&[&good[..], &[0]].concat(), "one octet more");
        check(&good.repeat(2), "twice");
    }
}

#[test]
fn a_damaged_journal_is_told_of_and_put_aside_with_the_next_checkpoint() {
    let (directory, registry) = busy_directory();
    let path = directory.path().join("filings.journal.2");
    let mut octets = fs::read(&path).unwrap();
    let last = octets.len() - 1;
    octets[last] ^= 1;
    fs::write(&path, &octets).unwrap();
    let saved = SavedState::open(directory.path()).unwrap();
    let loaded = saved.load(PROVIDER);
    registry.index_of(&loaded.found.unwrap().0);
    let error = loaded.refused[0].to_string();
    assert!(error.contains("filings.journal.2") && error.contains("checksum"), "{error}");
    saved.save(PROVIDER, &registry.cache).unwrap();
    let names = names(directory.path());
    let is_aside = |name: &&String| name.starts_with("filings.journal.2.") && name.ends_with(".bad");
    let bad = names.iter().find(is_aside).unwrap();
    assert_eq!(fs::read(directory.path().join(bad)).unwrap(), octets);
    assert!(names.contains(&"filings.journal.3".to_owned()), "{names:?}");
}

#[test]
fn long_journals_lead_to_checkpoints_and_old_ones_go() {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = Registry::new(3);
    let saved = SavedState::open(directory.path()).unwrap();
    let mut checkpoints = std::collections::HashSet::new();
    while checkpoints.len() < 4 {
        for _ in 0..20 {
            registry.change();
        }
        registry.history.drain(..20);
        saved.save(PROVIDER, &registry.cache).unwrap();
        checkpoints.insert(fs::metadata(directory.path().join(FILE)).unwrap().ino());
        // As though it had been long.
        saved.held.lock().unwrap().writer.lengthen(writer::MIN_JOURNAL_BYTES / 3);
        let (table, _) = read(directory.path(), PROVIDER).unwrap().unwrap();
        assert_eq!(registry.index_of(&table) + 1, registry.history.len());
    }
    assert!(names(directory.path()).len() <= 5, "{:?}", names(directory.path()));
}

#[test]
fn another_provider_s_state_is_put_aside() {
    let (directory, _) = busy_directory();
    let loaded = SavedState::open(directory.path()).unwrap().load("another-cloud");
    assert!(loaded.found.is_none() && loaded.refused.len() == 2, "{loaded:?}");
    let error = loaded.refused[0].to_string();
    assert!(error.contains("for provider `example-cloud`") && error.contains(".bad"), "{error}");
}

#[test]
fn a_state_of_version_1_is_read_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = Registry::new(11);
    let entries = registry.mirror.copy().runs(1000).next().unwrap();
    let (position, count, digest) =
        (registry.mirror.position(), registry.mirror.count(), registry.mirror.digest());
    let summary = Summary { position, count, digest, at_ms: 1234 };
    let head = Frame::Snapshot { provider: PROVIDER.into(), key: registry.mirror.key().clone(), summary };
    let octets: Vec<u8> =
        [head, Frame::Entries(entries), Frame::End].iter().flat_map(|frame| frame.to_bytes()).collect();
    fs::write(directory.path().join(FILE), &octets).unwrap();
    let saved = SavedState::open(directory.path()).unwrap();
    let (table, at_ms) = saved.load(PROVIDER).found.unwrap();
    assert_eq!((registry.index_of(&table), at_ms), (0, 1234));
    registry.change();
    saved.save(PROVIDER, &registry.cache).unwrap();
    let (table, _) = read(directory.path(), PROVIDER).unwrap().unwrap();
    assert_eq!(registry.index_of(&table), 1);
    drop(saved);
    fs::write(directory.path().join(FILE), &octets[..octets.len() - 1]).unwrap();
    let loaded = SavedState::open(directory.path()).unwrap().load(PROVIDER);
    assert!(loaded.refused[0].to_string().contains("incomplete"), "{loaded:?}");
}

#[test]
fn a_directory_belongs_to_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/data");
    let first = SavedState::open(&path).unwrap();
    assert!(first.load(PROVIDER).found.is_none());
    let error = SavedState::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("lock is locked by another process") && error.contains("cache.directory"),
        "{error}"
    );
    drop(first);
    SavedState::open(&path).unwrap();
}

#[test]
fn what_can_t_be_written_leaves_the_old_state_and_is_tried_again() {
    let (directory, mut registry) = busy_directory();
    let before = registry.history.len();
    registry.replace();
    let saved = SavedState::open(directory.path()).unwrap();
    // Whoever runs the test, a directory can't be replaced by a file.
    let obstacle = directory.path().join(FILE_ASIDE);
    fs::create_dir(&obstacle).unwrap();
    for _ in 0..3 {
        assert!(matches!(saved.save(PROVIDER, &registry.cache), Err(SavedError::Io { .. })));
    }
    let (table, _) = read(directory.path(), PROVIDER).unwrap().unwrap();
    assert_eq!(registry.index_of(&table) + 1, before);
    assert_eq!(names(directory.path()).len(), 6, "no journals pile up");
    fs::remove_dir(obstacle).unwrap();
    // A half-written file of a process that was killed is in nobody's way.
    fs::write(directory.path().join(FILE_ASIDE), b"half").unwrap();
    saved.save(PROVIDER, &registry.cache).unwrap();
    let (table, _) = read(directory.path(), PROVIDER).unwrap().unwrap();
    assert_eq!(registry.index_of(&table), before);
}

#[test]
fn without_a_directory_memory_keeps_serving() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    fs::write(&path, b"a file in the way").unwrap();
    let state = SavedState::open(&path).unwrap();
    let registry = Registry::new(1);
    assert!(state.save(PROVIDER, &registry.cache).is_err());
    fs::remove_file(&path).unwrap();
    state.save(PROVIDER, &registry.cache).unwrap();
    assert!(matches!(SavedState::open(&path), Err(SavedError::Locked { .. })));
}

/// A reader without a lock beside a writer that makes checkpoint after checkpoint.
#[test]
fn a_reader_beside_the_writer_sees_states_that_were() {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = Registry::new(5);
    let saved = SavedState::open(directory.path()).unwrap();
    saved.save(PROVIDER, &registry.cache).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            while !is_over.load(order) || seen.is_empty() {
                seen.push(read(directory.path(), PROVIDER).unwrap().unwrap().0);
            }
            seen
        });
        for _ in 0..60 {
            registry.change();
            saved.save(PROVIDER, &registry.cache).unwrap();
            saved.held.lock().unwrap().writer.lengthen(writer::MIN_JOURNAL_BYTES);
        }
        is_over.store(true, order);
        reader.join().unwrap()
    });
    let indexes: Vec<_> = seen.iter().map(|table| registry.index_of(table)).collect();
    assert!(indexes.is_sorted(), "{indexes:?}");
}
