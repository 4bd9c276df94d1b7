//! The cache against a model, and its readers beside its writer.

use super::*;
use crate::domain::DomainName;
use crate::feed::{Digest, EpochKey, Fingerprint, RANGES, range_of};
use crate::filing::{FilingNumber, FilingRecord, PackedRecord, Status};
use crate::verdict::{Coverage, Filings};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize};

const PROVIDER: &str = "example-cloud";

fn key() -> EpochKey {
    EpochKey::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

fn record(status: Status, number: &str) -> FilingRecord {
    let number = FilingNumber::parse(number).ok();
    FilingRecord { status, connected_elsewhere: false, access_under_review: false, number }
}

fn common(seed: u32) -> FilingRecord {
    let status = Status::ALL[usize::try_from(seed).unwrap() % 3];
    record(status, &format!("京ICP备{:08}号-{}", seed % 100_000_000, seed % 9 + 1))
}

/// A record whose number doesn't pack.
fn odd(seed: u32) -> FilingRecord {
    let odd = record(Status::Connected, &format!("京ICP证{:06}号", seed % 1000 + 30_000));
    assert!(odd.pack().0.is_odd(), "{odd:?}");
    odd
}

fn name(seed: u32) -> String {
    format!("n{seed}.example.cn")
}

fn entry(key: &EpochKey, name: &str, record: Option<&FilingRecord>) -> Entry {
    let (packed, odd) = record.map_or((PackedRecord(0), None), FilingRecord::pack);
    Entry { fingerprint: key.fingerprint(name), record: packed, odd }
}

fn model_digest(model: &HashMap<String, FilingRecord>) -> Digest {
    let mut digest = Digest::default();
    for (name, record) in model {
        digest.add(key().entry_element(&entry(&key(), name, Some(record))));
    }
    digest
}

#[track_caller]
fn check_against(table: &Table, model: &HashMap<String, FilingRecord>, names: u32) {
    assert_eq!(table.count(), u64::try_from(model.len()).unwrap());
    assert_eq!(table.digest(), model_digest(model));
    for seed in 0..names {
        assert_eq!(table.find(&name(seed)).as_ref(), model.get(&name(seed)), "{seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_table_is_a_map(
        room in 0_u64..5_000,
        steps in proptest::collection::vec((0_u32..3_000, 0_u8..8, any::<u32>()), 0..6_000),
    ) {
        let (mut table, mut model) = (Table::with_room_for(key(), room), HashMap::new());
        for (seed, action, value) in steps {
            let value = match action {
                0..=1 => None,
                2 => Some(odd(value)),
                _ => Some(common(value)),
            };
            let was_there = table.set(&entry(&key(), &name(seed), value.as_ref()));
            let before = match value {
                Some(value) => model.insert(name(seed), value),
                None => model.remove(&name(seed)),
            };
            prop_assert_eq!(was_there, before.is_some());
        }
        check_against(&table, &model, 3_000);
        let mut ranges = vec![Digest::default(); RANGES];
        for entry in table.copy().runs(model.len()).flatten() {
            ranges[range_of(entry.fingerprint)].add(key().entry_element(&entry));
        }
        prop_assert_eq!(table.range_digests(), &ranges);
        for range in [0, 7, RANGES - 1] {
            let mut digest = Digest::default();
            table.entries_in(range).iter().for_each(|entry| digest.add(key().entry_element(entry)));
            prop_assert_eq!(digest, ranges[range]);
        }
        let copied: usize = table.copy().runs(7).map(|run| run.len()).sum();
        prop_assert_eq!(copied, model.len());
    }

    #[test]
    fn fingerprints_that_share_all_but_a_bit_are_told_apart(
        base in any::<u64>(),
        bits in proptest::collection::hash_set(0_u32..64, 1..64),
    ) {
        let (mut table, value) = (Table::new(key()), common(1).pack().0);
        let fingerprints: Vec<_> = bits.iter().map(|bit| (base ^ 1 << bit).max(1)).collect();
        let held = |table: &mut Table, fingerprint, record| {
            table.set(&Entry { fingerprint: Fingerprint(fingerprint), record, odd: None })
        };
        for &fingerprint in &fingerprints {
            prop_assert!(!held(&mut table, fingerprint, value));
        }
        for &fingerprint in &fingerprints {
            prop_assert!(held(&mut table, fingerprint, PackedRecord(0)));
        }
        prop_assert_eq!((table.count(), table.digest()), (0, Digest::default()));
    }

    #[test]
    fn ranges_that_differ_are_repaired_in_place(
        ours in proptest::collection::vec((0_u32..400, any::<u32>()), 0..200),
        theirs in proptest::collection::vec((0_u32..400, proptest::option::of(any::<u32>())), 0..200),
    ) {
        let (mut table, mut registry) = (Table::new(key()), Table::new(key()));
        for (seed, value) in ours {
            table.put(&name(seed), &common(value));
            registry.put(&name(seed), &common(value));
        }
        for (seed, value) in theirs {
            let value = value.map(|value| if value % 7 == 0 { odd(value) } else { common(value) });
            registry.set(&entry(&key(), &name(seed), value.as_ref()));
        }
        let (cache, now) = (cache(WhenStale::Serve), Instant::now());
        cache.publish(table, now);
        let (_, held) = cache.ranges().unwrap();
        let ranges: Vec<_> =
            (0..RANGES).filter(|&range| held[range] != registry.range_digests()[range]).collect();
        let entries: Vec<_> = ranges.iter().flat_map(|&range| registry.entries_in(range)).collect();
        let summary = Summary { position: Position::default(), ..summary(&registry, 0) };
        let repaired = Repaired { ranges: &ranges, entries: &entries, summary };
        cache.repair(&repaired, now, |_| true).unwrap();
        prop_assert_eq!(cache.ranges(), Some((summary, registry.range_digests().to_vec())));
        for seed in 0..400 {
            prop_assert_eq!(cache.at(now).find(&name(seed)), registry.find(&name(seed)));
        }
    }

    #[test]
    fn a_batch_s_outcome_is_what_applying_it_does(
        before in proptest::collection::vec((0_u32..50, any::<u32>()), 0..60),
        batch in proptest::collection::vec((0_u32..50, proptest::option::of(any::<u32>())), 0..60),
    ) {
        let mut table = Table::new(key());
        for (seed, value) in before {
            table.put(&name(seed), &common(value));
        }
        let entries: Vec<_> = batch
            .into_iter()
            .map(|(seed, value)| entry(&key(), &name(seed), value.map(common).as_ref()))
            .collect();
        let (count, digest) = {
            let outcome = table.outcome(&entries, batch::at_once);
            (outcome.count, outcome.digest)
        };
        for entry in &entries {
            table.set(entry);
        }
        prop_assert_eq!((count, digest), (table.count(), table.digest()));
    }
}

#[test]
fn it_stays_small_and_exact_and_mostly_one_line() {
    let mut table = Table::with_room_for(key(), 300_000);
    for seed in 0..300_000 {
        table.put(&name(seed), &common(seed));
    }
    let per_filing = table.memory_bytes() as f64 / 300_000.0;
    assert!(per_filing < 20.0, "{per_filing} octets a filing");
    let lines = |names: std::ops::Range<u32>| {
        let touched = names.clone().map(|seed| table.lines_touched(&name(seed)));
        touched.filter(|&lines| lines == 1).count() as f64 / names.len() as f64
    };
    let (hits, misses) = (lines(0..300_000), lines(300_000..600_000));
    // A line has five slots: chance overfills some. The filter keeps misses from following.
    assert!(hits > 0.88 && misses > 0.97, "hits {hits}, misses {misses}");
    let wrong = (0..300_000).filter(|&seed| table.find(&name(seed)) != Some(common(seed))).count();
    let false_hits = (300_000..1_300_000).filter(|&seed| table.find(&name(seed)).is_some()).count();
    assert_eq!((wrong, false_hits), (0, 0));
}

#[test]
fn growing_and_shrinking_without_a_hint_wastes_little() {
    let mut table = Table::new(key());
    let check = |table: &Table, most: f64| {
        let per_filing = table.memory_bytes() as f64 / table.count() as f64;
        assert!(per_filing < most, "{per_filing} octets a filing at {}", table.count());
    };
    for seed in 0..100_000 {
        table.put(&name(seed), &common(seed));
        if seed > 1_000 && seed % 500 == 0 {
            check(&table, 21.0);
        }
    }
    for seed in 0..75_000 {
        table.set(&entry(&key(), &name(seed), None));
    }
    check(&table, 21.0);
    assert!((75_000..100_000).all(|seed| table.find(&name(seed)) == Some(common(seed))));
}

fn cache(when_stale: WhenStale) -> FilingCache {
    FilingCache::new(Staleness { stale_after: Duration::from_secs(60), when_stale })
}

fn summary(table: &Table, seq: u64) -> Summary {
    let position = Position { epoch: 1, seq };
    Summary { position, count: table.count(), digest: table.digest(), at_ms: 0 }
}

fn table_at(seq: u64, filings: u32) -> Table {
    let mut table = Table::new(key());
    for seed in 0..filings {
        table.put(&name(seed), &record(Status::Connected, "京ICP备12345678号-1"));
    }
    table.set_position(Position { epoch: 1, seq });
    table
}

fn covered(cache: &FilingCache, name: &str, now: Instant) -> Coverage {
    cache.at(now).coverage(&DomainName::from_user(name).unwrap())
}

#[test]
fn coverage_says_what_is_known() {
    let now = Instant::now();
    let later = now + Duration::from_secs(61);
    for when_stale in [WhenStale::Serve, WhenStale::Block] {
        let cache = cache(when_stale);
        assert_eq!(covered(&cache, "example.com", now), Coverage::NeverSynced);
        let mut table = Table::new(key());
        table.put("example.com", &common(0));
        cache.publish(table, now);
        let found = covered(&cache, "www.example.com", now);
        assert!(matches!(&found, Coverage::Filed(it) if it.filed_len == 11), "{found:?}");
        assert_eq!(covered(&cache, "example.org", now), Coverage::Unfiled);
        let old = covered(&cache, "www.example.com", later);
        assert_eq!(old, if when_stale == WhenStale::Block { Coverage::Stale } else { found });
    }
}

#[test]
fn only_a_verified_word_makes_filings_fresh() {
    let (cache, now) = (cache(WhenStale::Block), Instant::now());
    let later = now + Duration::from_secs(61);
    let table = table_at(5, 3);
    let good = summary(&table, 5);
    cache.publish(table, now);
    let forward = Position { epoch: 1, seq: 9 };
    let refused = [
        Summary { count: 4, ..good },
        Summary { digest: Digest(1), ..good },
        Summary { position: Position { epoch: 1, seq: 4 }, ..good },
        Summary { position: Position { epoch: 2, seq: 5 }, ..good },
    ];
    for bad in refused {
        assert!(cache.confirm(&bad, later).is_err(), "{bad:?}");
        assert_eq!(covered(&cache, "example.org", later), Coverage::Stale);
    }
    cache.confirm(&Summary { position: forward, ..good }, later).unwrap();
    assert_eq!(covered(&cache, "example.org", later), Coverage::Unfiled);
    assert_eq!(cache.status().position, forward);
}

#[test]
fn a_saved_state_is_as_old_as_it_was_and_never_younger_than_now() {
    let now = Instant::now();
    for (age_s, is_stale) in [(0, false), (50, false), (3_600, true), (-86_400, false)] {
        let cache = cache(WhenStale::Block);
        cache.publish_saved(table_at(1, 1), now, Clock::system().wall_ms() - age_s * 1000);
        let found = covered(&cache, "example.org", now);
        assert_eq!(found == Coverage::Stale, is_stale, "{age_s}");
        let later = now + Duration::from_secs(61);
        assert_eq!(covered(&cache, "example.org", later), Coverage::Stale, "{age_s}");
    }
}

/// What a request asks is answered while a writer has the lock, for it may have it for as long as a batch takes.
#[test]
fn requests_wait_for_no_writer() {
    let cache = cache(WhenStale::Block);
    let now = Instant::now();
    cache.publish(table_at(1, 10), now);
    let synced_at = cache.lock().synced_at_ms.map(|ms| ms.div_euclid(1000));
    let held = cache.lock();
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut seen, mut list) = (Seen::default(), Vec::new());
            cache.changed().read(&mut seen, &mut list);
            answer.send((covered(&cache, &name(1), now), cache.synced_at())).unwrap();
        });
        let got = answered.recv_timeout(Duration::from_secs(20));
        drop(held);
        let (coverage, at) = got.expect("it was answered with the lock held");
        assert_eq!((coverage, at), (Coverage::Unfiled, synced_at));
    });
}

/// Who applies a large batch rests in between, and who applies a small one, maybe where nobody may rest, does not.
#[test]
fn large_batches_are_taken_with_rests() {
    static RESTS: AtomicUsize = AtomicUsize::new(0);
    let staleness = Staleness { stale_after: Duration::from_secs(60), when_stale: WhenStale::Serve };
    let rest = || {
        RESTS.fetch_add(1, Ordering::Relaxed);
    };
    let cache = FilingCache::new(staleness).resting(rest);
    let mut model = table_at(1, 0);
    cache.publish(table_at(1, 0), Instant::now());
    for (seq, seeds, most) in [(2, 0..1024, 0), (3, 1024..9216, 100)] {
        RESTS.store(0, Ordering::Relaxed);
        let entries: Vec<_> = seeds.map(|seed| entry(&key(), &name(seed), Some(&common(seed)))).collect();
        for entry in &entries {
            model.set(entry);
        }
        let after = Position { epoch: 1, seq: seq - 1 };
        let batch = Batch { after, entries: &entries, summary: summary(&model, seq) };
        cache.apply(&batch, Instant::now(), |_| true).unwrap();
        // One for each 1,024 changes at least, when verified and when applied; more where segments were rebuilt.
        let least = if most == 0 { 0 } else { 2 * entries.len() / 1024 };
        assert!((least..=most).contains(&RESTS.load(Ordering::Relaxed)), "{RESTS:?}");
    }
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let (cache, now) = (cache(WhenStale::Serve), Instant::now());
    let changed = entry(&key(), &name(1), Some(&common(7)));
    let entries = [changed.clone(), entry(&key(), &name(0), None)];
    let mut expected = table_at(5, 3);
    for entry in &entries {
        expected.set(entry);
    }
    let good =
        Batch { after: Position { epoch: 1, seq: 5 }, entries: &entries, summary: summary(&expected, 7) };
    assert_eq!(cache.apply(&good, now, |_| true), Err(Refusal::NeverSynced));
    cache.publish(table_at(5, 3), now);
    let at = |epoch, seq| Position { epoch, seq };
    let summary_at = |position| Summary { position, ..good.summary };
    let refused = [
        (Batch { after: at(1, 4), ..good }, Refusal::Position { got: 4, held: 5 }),
        (Batch { after: at(1, 6), ..good }, Refusal::Position { got: 6, held: 5 }),
        (Batch { after: at(2, 5), ..good }, Refusal::Epoch { got: 2, held: 1 }),
        (Batch { summary: summary_at(at(2, 7)), ..good }, Refusal::Epoch { got: 2, held: 1 }),
        (Batch { summary: summary_at(at(1, 5)), ..good }, Refusal::Position { got: 5, held: 5 }),
        (Batch { summary: Summary { count: 3, ..good.summary }, ..good }, Refusal::Digest),
        (Batch { summary: Summary { digest: Digest(9), ..good.summary }, ..good }, Refusal::Digest),
        (Batch { entries: &entries[..1], ..good }, Refusal::Digest),
    ];
    for (batch, refusal) in refused {
        assert_eq!(cache.apply(&batch, now, |_| true), Err(refusal));
        assert_eq!(cache.status().position, at(1, 5));
        assert!(cache.at(now).find(&name(0)).is_some());
    }
    let effect = Effect { newly_blocked: 2, of: 3 };
    assert_eq!(cache.apply(&good, now, |it| it != effect), Err(Refusal::Held(effect)));
    cache.apply(&good, now, |_| true).unwrap();
    assert_eq!((cache.status().position, cache.status().filings), (at(1, 7), 2));
    assert_eq!((cache.at(now).find(&name(0)), cache.at(now).find(&name(1))), (None, Some(common(7))));
    let held = Refusal::Position { got: 5, held: 7 };
    assert_eq!(cache.apply(&good, now, |_| true), Err(held), "the same batch again");
}

#[test]
fn a_repair_is_taken_whole_or_not_at_all() {
    let (cache, now) = (cache(WhenStale::Serve), Instant::now());
    let mut expected = table_at(5, 3);
    expected.set(&entry(&key(), &name(0), None));
    expected.put(&name(1), &common(7));
    let mut ranges: Vec<_> = (0..2).map(|seed| range_of(key().fingerprint(&name(seed)))).collect();
    let entries: Vec<_> = ranges.iter().flat_map(|&range| expected.entries_in(range)).collect();
    let good = Repaired { ranges: &ranges, entries: &entries, summary: summary(&expected, 5) };
    assert_eq!(cache.repair(&good, now, |_| true), Err(Refusal::NeverSynced));
    cache.publish(table_at(5, 3), now);
    let at = |epoch, seq| Summary { position: Position { epoch, seq }, ..good.summary };
    let twice = [entries.clone(), entries.clone()].concat();
    let gone = [entries.clone(), vec![entry(&key(), &name(0), None)]].concat();
    let refused = [
        (Repaired { summary: at(1, 4), ..good }, Refusal::Position { got: 4, held: 5 }),
        (Repaired { summary: at(2, 5), ..good }, Refusal::Epoch { got: 2, held: 1 }),
        (Repaired { summary: Summary { count: 3, ..good.summary }, ..good }, Refusal::Digest),
        (Repaired { summary: Summary { digest: Digest(9), ..good.summary }, ..good }, Refusal::Digest),
        (Repaired { entries: &[], ..good }, Refusal::Digest),
        (Repaired { entries: &twice, ..good }, Refusal::Digest),
        (Repaired { entries: &gone, ..good }, Refusal::Digest),
        (Repaired { ranges: &ranges[..1], ..good }, Refusal::Digest),
        (Repaired { ranges: &[RANGES], ..good }, Refusal::Digest),
    ];
    for (repaired, refusal) in refused {
        assert_eq!(cache.repair(&repaired, now, |_| true), Err(refusal), "{repaired:?}");
        assert_eq!(cache.ranges().unwrap().0, summary(&table_at(5, 3), 5));
    }
    let effect = Effect { newly_blocked: 2, of: 3 };
    assert_eq!(cache.repair(&good, now, |it| it != effect), Err(Refusal::Held(effect)));
    cache.repair(&good, now, |_| true).unwrap();
    assert_eq!(cache.ranges(), Some((good.summary, expected.range_digests().to_vec())));
    ranges.extend_from_within(..);
    let again = Repaired { ranges: &ranges, entries: &entries, summary: at(1, 8) };
    cache.repair(&again, now, |effect| effect.newly_blocked == 0).unwrap();
    assert_eq!(cache.position(), Some(Position { epoch: 1, seq: 8 }));
}

#[test]
fn a_snapshot_supersedes_what_is_older() {
    let cache = cache(WhenStale::Serve);
    cache.supersede(table_at(5, 3), |_| false).unwrap();
    let refused = cache.supersede(table_at(4, 9), |_| true);
    assert_eq!(refused, Err(Refusal::Position { got: 4, held: 5 }));
    let effect = Effect { newly_blocked: 2, of: 3 };
    assert_eq!(cache.supersede(table_at(6, 1), |_| false), Err(Refusal::Held(effect)));
    let mut other = Table::new(EpochKey::from_bytes([9; 32]));
    other.set_position(Position { epoch: 2, seq: 0 });
    let mut seen = None;
    cache.supersede(other, |it| seen.replace(it).is_none()).unwrap();
    assert_eq!(seen, Some(Effect { newly_blocked: 3, of: 3 }), "counted without matching names");
    assert_eq!(cache.status().filings, 0);
}

#[test]
fn readers_never_see_what_was_not_written() {
    const STILL: u32 = 200;
    const MOVING: u32 = 2_000;
    let (cache, is_over) = (cache(WhenStale::Serve), AtomicBool::new(false));
    let still = |seed: u32| record(Status::Connected, &format!("沪ICP备{seed:08}号-1"));
    let mut mirror = Table::new(key());
    let mut first = Table::new(key());
    for table in [&mut mirror, &mut first] {
        (0..STILL).for_each(|seed| table.put(&format!("still{seed}.cn"), &still(seed)));
    }
    cache.publish(first, Instant::now());
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (cache, is_over) = (&cache, &is_over);
            scope.spawn(move || {
                let mut at = reader;
                while !is_over.load(Ordering::Relaxed) {
                    at = (at + 7) % MOVING;
                    let view = cache.at(Instant::now());
                    let seed = at % STILL;
                    assert_eq!(view.find(&format!("still{seed}.cn")), Some(still(seed)));
                    // A moving name only ever has a number that ends in its own.
                    if let Some(found) = view.find(&name(at)) {
                        let number = found.number.unwrap().to_string();
                        assert!(number.contains(&format!("{at:04}号")), "{at}: {number}");
                    }
                }
            });
        }
        let mut seed = 1_u32;
        for seq in 1..300 {
            let entries: Vec<_> = (0..100)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let moving = (seed >> 8) % MOVING;
                    let value = match seed >> 28 {
                        0..=4 => None,
                        5..=7 => Some(record(Status::Connected, &format!("京ICP证09{moving:04}号"))),
                        turn => Some(common_ending(moving, turn)),
                    };
                    entry(&key(), &name(moving), value.as_ref())
                })
                .collect();
            for entry in &entries {
                mirror.set(entry);
            }
            let position = |seq| Position { epoch: 0, seq };
            let summary = Summary { position: position(seq), ..summary(&mirror, seq) };
            let batch = Batch { after: position(seq - 1), entries: &entries, summary };
            cache.apply(&batch, Instant::now(), |_| true).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(cache.status().digest, mirror.digest());
}

fn common_ending(ending: u32, turn: u32) -> FilingRecord {
    record(Status::NotConnected, &format!("粤ICP备{:04}{ending:04}号-{turn}", turn * 7 % 10_000))
}

#[test]
fn an_assembly_gives_only_what_adds_up() {
    use crate::feed::Frame;
    let table = table_at(5, 3);
    let head = |provider: &str, summary| Frame::Snapshot { provider: provider.into(), key: key(), summary };
    let good = summary(&table, 5);
    let entries = || Frame::Entries(table.copy().runs(100).next().unwrap());
    let build = |frames: Vec<Frame>| {
        let mut assembly = Assembly::new(PROVIDER);
        frames.into_iter().try_fold(None, |_, frame| assembly.take(frame)).map(|it| it.is_some())
    };
    let start = || head(PROVIDER, good);
    assert_eq!(build(vec![start(), entries(), Frame::End]), Ok(true));
    assert_eq!(build(vec![start(), entries()]), Ok(false));
    let other = head("another-cloud", good);
    assert_eq!(build(vec![other]), Err(AssemblyError::Provider("another-cloud".into())));
    assert_eq!(build(vec![start(), entries(), entries()]), Err(AssemblyError::Duplicate));
    assert_eq!(build(vec![start(), Frame::End]), Err(AssemblyError::Digest));
    let wrong = head(PROVIDER, Summary { digest: Digest(1), ..good });
    assert_eq!(build(vec![wrong, entries(), Frame::End]), Err(AssemblyError::Digest));
    assert_eq!(build(vec![entries()]), Err(AssemblyError::Order));
    assert_eq!(build(vec![start(), start()]), Err(AssemblyError::Order));
    assert_eq!(build(vec![start(), Frame::Heartbeat(good)]), Err(AssemblyError::Order));
}
