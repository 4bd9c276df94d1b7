//! The follower against a scripted registry: each fault of storage and network.

use super::*;
use crate::cache::{Effect, Staleness, Table};
use crate::config::WhenStale;
use crate::feed::{Digest, Entry, EpochKey, Frame, MAX_SNAPSHOT_FRAME_ENTRIES, Position, Summary, range_of};
use crate::filing::{FilingNumber, FilingRecord, PackedRecord, Status};
use registry::{Answer, FakeRegistry, Then};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

mod registry;
mod simulation;

const PROVIDER: &str = "example-cloud";
const DEADLINE: Duration = Duration::from_secs(20);

fn key() -> EpochKey {
    EpochKey::from_bytes([5; 32])
}

fn connected() -> FilingRecord {
    let number = Some(FilingNumber::parse("京ICP备12345678号-1").unwrap());
    FilingRecord { status: Status::Connected, connected_elsewhere: false, access_under_review: false, number }
}

fn at(epoch: u64, seq: u64) -> Position {
    Position { epoch, seq }
}

/// A state of epoch 1.
fn state(seq: u64, names: &[&str]) -> Table {
    let mut table = Table::new(key());
    names.iter().for_each(|name| table.put(name, &connected()));
    table.set_position(at(1, seq));
    table
}

fn summary(table: &Table) -> Summary {
    Summary { position: table.position(), count: table.count(), digest: table.digest(), at_ms: 0 }
}

fn octets(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.to_bytes()).collect()
}

fn snapshot_frames(table: &Table) -> Vec<Frame> {
    let head =
        Frame::Snapshot { provider: PROVIDER.into(), key: table.key().clone(), summary: summary(table) };
    let copied = table.copy();
    let runs = copied.runs(MAX_SNAPSHOT_FRAME_ENTRIES).map(Frame::Entries);
    std::iter::once(head).chain(runs).chain([Frame::End]).collect()
}

fn filed(name: &str) -> Entry {
    let (record, odd) = connected().pack();
    Entry { fingerprint: key().fingerprint(name), record, odd }
}

fn deleted(name: &str) -> Entry {
    Entry { fingerprint: key().fingerprint(name), record: PackedRecord(0), odd: None }
}

/// The batch that leads from `old` at seq 5 to `new` at seq 7.
fn good_batch() -> Frame {
    Frame::Batch { after: at(1, 5), entries: vec![filed("new.cn")], summary: summary(&new_state()) }
}

fn old_state() -> Table {
    state(5, &["old.cn", "kept.cn"])
}

fn new_state() -> Table {
    state(7, &["old.cn", "kept.cn", "new.cn"])
}

fn quick() -> Pace {
    let ms = Duration::from_millis;
    Pace {
        first_retry: ms(5),
        longest_retry: ms(40),
        silence: ms(400),
        response: ms(800),
        snapshot_frame: ms(800),
        stable_after: ms(0),
        held_retry: DEADLINE,
        save: ms(20),
        ..Pace::default()
    }
}

/// A follower at work.
struct World {
    cache: Arc<FilingCache>,
    stats: Arc<FollowStats>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl World {
    fn start(url: String, directory: &Path) -> Self {
        Self::start_with(url, directory, |_| {})
    }

    fn start_with(url: String, directory: &Path, prepare: impl FnOnce(&mut Follower)) -> Self {
        let staleness = Staleness { stale_after: Duration::from_secs(60), when_stale: WhenStale::Serve };
        let cache = Arc::new(FilingCache::new(staleness));
        let stats = Arc::new(FollowStats::default());
        let mut follower = Follower::new(FollowOptions {
            urls: vec![url],
            token: Some("s3cret".into()),
            trust: Default::default(),
            provider: PROVIDER.into(),
            gate: "gate-1".into(),
            directory: directory.into(),
            hold_flips_above: 0.05,
            cache: Arc::clone(&cache),
            stats: Arc::clone(&stats),
        })
        .unwrap();
        follower.pace = quick();
        follower.saver.set_pace(quick());
        prepare(&mut follower);
        let (shutdown, is_over) = watch::channel(false);
        let task = tokio::spawn(follower.run(is_over));
        Self { cache, stats, shutdown, task }
    }

    fn has(&self, name: &str) -> bool {
        self.cache.at(Instant::now()).find(name).is_some()
    }

    async fn stop(self) {
        self.shutdown.send(true).unwrap();
        self.task.await.unwrap();
    }
}

/// Waits for a condition, checking an invariant meanwhile.
async fn until(what: &str, mut is_met: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_met() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Holds `old`, meets the faults, then an honest registry at `new`: `old` serves all along, nothing of the
/// faults ever shows, the follower ends where the registry is, and the counter tells.
async fn check(what: &str, faults: Vec<Answer>, refused: Option<Refused>, is_repaired: u64) {
    let directory = tempfile::tempdir().unwrap();
    let first = Answer::octets("snapshot", octets(&snapshot_frames(&old_state())), Then::End);
    let script = std::iter::once(first).chain(faults).collect();
    let registry = FakeRegistry::start(script, new_state()).await;
    registry.keep(at(1, 5), good_batch());
    let world = World::start(registry.url(), directory.path());
    until("the first snapshot", || world.cache.position().is_some()).await;
    until(what, || {
        assert!(world.has("old.cn") && world.has("kept.cn") && !world.has("evil.cn"), "{what}");
        world.cache.position() == Some(at(1, 7)) && world.stats.is_connected()
    })
    .await;
    assert_eq!(world.cache.status().digest, new_state().digest(), "{what}");
    assert_eq!(registry.faults_left(), 0, "{what}");
    if let Some(kind) = refused {
        assert_eq!(world.stats.refused(kind), 1, "{what}");
    }
    let all: u64 = Refused::ALL.iter().map(|&kind| world.stats.refused(kind)).sum();
    assert_eq!(all, u64::from(refused.is_some()), "{what}");
    assert_eq!(world.stats.repairs.load(Ordering::Relaxed), is_repaired, "{what}");
    assert!(world.stats.reconnects.load(Ordering::Relaxed) >= 1, "{what}");
    assert_eq!(world.stats.last_error(), None, "{what}");
    world.stop().await;
}

fn changes(frames: &[Frame]) -> Vec<Answer> {
    vec![Answer::octets("changes", octets(frames), Then::Hold)]
}

#[tokio::test]
async fn broken_streams_are_refused_and_taken_up_again() {
    use Refused::{Frame as Broken, Order, Truncated};
    let batch = good_batch().to_bytes().to_vec();
    let answer = |octets: Vec<u8>, then| vec![Answer::octets("changes", octets, then)];
    check("garbage", answer(b"<html>not a feed, at any length</html>".to_vec(), Then::Hold), Some(Broken), 0)
        .await;
    check("cut", answer(batch[..batch.len() - 3].to_vec(), Then::End), Some(Truncated), 0).await;
    let mut flipped = batch.clone();
    flipped[40] ^= 4;
    check("checksum", answer(flipped, Then::Hold), Some(Broken), 0).await;
    check("half-open", answer(batch[..9].to_vec(), Then::Hold), None, 0).await;
    check("trickle", answer(batch.clone(), Then::Trickle), None, 0).await;
    check("silent", answer(Vec::new(), Then::Hold), None, 0).await;
    check("ended", answer(Vec::new(), Then::End), None, 0).await;
    check("no answer", vec![Answer::silence("changes")], None, 0).await;
    check("500", vec![Answer::status("changes", 500)], None, 0).await;
    check("a redirect", vec![Answer::status("changes", 302)], None, 0).await;
    check("a snapshot's frame", changes(&[Frame::End]), Some(Order), 0).await;
}

#[tokio::test]
async fn changes_that_do_not_fit_are_refused_whole() {
    use Refused::{Digest as Sum, Epoch, Position as Place};
    let evil = || vec![filed("new.cn"), filed("evil.cn"), deleted("old.cn")];
    let good = summary(&new_state());
    let batch = |after, summary| Frame::Batch { after, entries: evil(), summary };
    let place = |epoch, seq| Summary { position: at(epoch, seq), ..good };
    check("digest", changes(&[batch(at(1, 5), good)]), Some(Sum), 1).await;
    check("count", changes(&[batch(at(1, 5), Summary { count: 9, ..good })]), Some(Sum), 1).await;
    check("back", changes(&[batch(at(1, 3), good)]), Some(Place), 1).await;
    check("gap", changes(&[batch(at(1, 6), good)]), Some(Place), 1).await;
    check("no way forward", changes(&[batch(at(1, 5), place(1, 5))]), Some(Place), 1).await;
    check("epoch", changes(&[batch(at(2, 5), place(2, 7))]), Some(Epoch), 0).await;
    check("into an epoch", changes(&[batch(at(1, 5), place(2, 7))]), Some(Epoch), 0).await;
    let once = || Frame::Batch {
        after: at(1, 5),
        entries: vec![filed("new.cn")],
        summary: summary(&state(6, &["old.cn", "kept.cn", "new.cn"])),
    };
    check("duplicate", changes(&[once(), once()]), Some(Place), 1).await;
}

#[tokio::test]
async fn heartbeats_must_say_what_is_held() {
    use Refused::{Digest as Sum, Epoch, Position as Place};
    let good = summary(&old_state());
    let beat = |summary| changes(&[Frame::Heartbeat(good), Frame::Heartbeat(summary)]);
    check("digest", beat(Summary { digest: Digest(4), ..good }), Some(Sum), 1).await;
    check("count", beat(Summary { count: 4, ..good }), Some(Sum), 1).await;
    check("back", beat(Summary { position: at(1, 4), ..good }), Some(Place), 1).await;
    check("epoch", beat(Summary { position: at(2, 5), ..good }), Some(Epoch), 0).await;
}

#[tokio::test]
async fn snapshots_that_do_not_add_up_are_refused() {
    use Refused::{Digest as Sum, Frame as Broken, Order, Position as Place, Provider, Truncated};
    let gone = || Answer::status("changes", 410);
    check("history is gone", vec![gone()], None, 1).await;
    // A failed snapshot is followed by a look whether changes will do.
    let snapshot =
        |octets| vec![gone(), Answer::status("repair", 410), Answer::octets("snapshot", octets, Then::End)];
    let frames = snapshot_frames(&state(7, &["old.cn", "kept.cn", "new.cn", "evil.cn"]));
    let whole = octets(&frames);
    let head = |summary, provider: &str| Frame::Snapshot { provider: provider.into(), key: key(), summary };
    let with_head = |head| octets(&[head, frames[1].clone(), Frame::End]);
    let good = summary(&new_state());
    check("cut", snapshot(whole[..whole.len() - 1].to_vec()), Some(Truncated), 0).await;
    check("no end", snapshot(octets(&frames[..2])), Some(Truncated), 0).await;
    check("empty", snapshot(Vec::new()), Some(Truncated), 0).await;
    check("garbage", snapshot(vec![b'x'; 500]), Some(Broken), 0).await;
    check("digest", snapshot(with_head(head(good, PROVIDER))), Some(Sum), 0).await;
    check("provider", snapshot(with_head(head(good, "another-cloud"))), Some(Provider), 0).await;
    check("order", snapshot(octets(&frames[1..])), Some(Order), 0).await;
    let older = octets(&snapshot_frames(&state(4, &["evil.cn"])));
    check("older", snapshot(older), Some(Place), 0).await;
}

#[tokio::test]
async fn a_saved_state_serves_while_the_registry_is_down() {
    let directory = tempfile::tempdir().unwrap();
    let registry = FakeRegistry::start(Vec::new(), new_state()).await;
    let url = registry.url();
    let world = World::start(url.clone(), directory.path());
    until("saving", || world.stats.saves.load(Ordering::Relaxed) > 0).await;
    assert_eq!(registry.authorization().as_deref(), Some("Bearer s3cret"));
    registry.file("later.cn");
    until("the change", || world.has("later.cn")).await;
    world.stop().await;
    registry.stop().await;
    let world = World::start_with(url, directory.path(), |it| assert!(it.load_saved()));
    until("trying", || world.stats.reconnects.load(Ordering::Relaxed) > 2).await;
    assert!(world.has("new.cn") && world.has("later.cn") && !world.stats.is_connected());
    let error = world.stats.last_error().unwrap();
    assert!(error.contains("can't be reached") && !error.contains("s3cret"), "{error}");
    registry.start_again().await;
    until("the registry's return", || world.stats.is_connected()).await;
    assert_eq!(world.stats.snapshots.load(Ordering::Relaxed), 0, "changes were enough");
    world.stop().await;
}

#[tokio::test]
async fn another_epoch_is_taken_by_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let registry = FakeRegistry::start(Vec::new(), new_state()).await;
    let world = World::start(registry.url(), directory.path());
    until("following", || world.stats.is_connected()).await;
    let mut next = Table::new(EpochKey::from_bytes([8; 32]));
    ["old.cn", "kept.cn", "new.cn"].iter().for_each(|name| next.put(name, &connected()));
    next.set_position(at(2, 0));
    registry.replace(next);
    until("the new epoch", || {
        assert!(world.has("old.cn"));
        world.cache.position() == Some(at(2, 0)) && world.stats.is_connected()
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn what_blocks_very_many_waits_for_an_operator() {
    let directory = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..3_000).map(|seed| format!("n{seed}.cn")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let registry = FakeRegistry::start(Vec::new(), state(5, &names)).await;
    let world = World::start(registry.url(), directory.path());
    until("following", || world.stats.is_connected()).await;
    registry.replace(state(2_000, &names[..1_500]));
    until("holding", || world.stats.held().is_some()).await;
    let effect = world.stats.held().map(|held| (held.effect, held.is_refused));
    assert_eq!(effect, Some((Effect { newly_blocked: 1_500, of: 3_000 }, false)));
    assert!(names.iter().all(|name| world.has(name)));
    assert_eq!(world.stats.refused(Refused::Held), 1);
    assert!(world.stats.say(Word::Apply));
    until("the word", || world.cache.position() == Some(at(1, 2_000))).await;
    until("catching up", || world.stats.is_connected()).await;
    assert!(!world.has(names[2_000]) && world.stats.held().is_none() && !world.stats.say(Word::Apply));
    world.stop().await;
}

fn many() -> (Vec<String>, Table) {
    let names: Vec<_> = (0..3_000).map(|seed| format!("n{seed}.cn")).collect();
    let table = state(5, &names.iter().map(String::as_str).collect::<Vec<_>>());
    (names, table)
}

/// A mass flip waits; a single cancellation behind it does not, other changes do; a filing that comes back does.
#[tokio::test]
async fn single_cancellations_do_not_wait_behind_what_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let (names, table) = many();
    let registry = FakeRegistry::start(Vec::new(), table).await;
    let world = World::start(registry.url(), directory.path());
    until("following", || world.stats.is_connected()).await;
    registry.change(names[..1_500].iter().map(|name| deleted(name)).collect());
    until("holding", || world.stats.held().is_some()).await;
    registry.change(vec![deleted("n2000.cn"), filed("new.cn")]);
    until("the cancellation", || !world.has("n2000.cn")).await;
    registry.change(vec![filed("n2001.cn"), filed("n2000.cn")]);
    until("its return", || world.has("n2000.cn")).await;
    registry.change(names[2_100..2_111].iter().map(|name| deleted(name)).collect());
    let seq = |position: Option<Position>| position.map(|it| it.seq);
    until("all of it", || seq(world.stats.held().and_then(|held| held.position)) == Some(9)).await;
    assert!(world.has("n0.cn") && world.has("n2100.cn") && !world.has("new.cn"), "all else waits");
    assert_eq!(world.cache.position(), Some(at(1, 5)));
    let held = world.stats.held().unwrap();
    assert_eq!((held.effect.newly_blocked, held.ahead, held.is_refused), (1_511, 1, false));
    assert!(world.stats.say(Word::Apply));
    until("the word", || world.cache.position() == Some(at(1, 9))).await;
    assert!(!world.has("n0.cn") && !world.has("n2100.cn") && world.has("new.cn") && world.has("n2000.cn"));
    until("agreement", || world.cache.status().age < Duration::from_secs(2)).await;
    assert!(world.stats.held().is_none() && world.stats.is_connected());
    world.stop().await;
}

/// A whole state that would block very many waits, under its own key; a single cancellation after it does not.
#[tokio::test]
async fn single_cancellations_do_not_wait_behind_a_held_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let (names, table) = many();
    let registry = FakeRegistry::start(Vec::new(), table).await;
    let world = World::start(registry.url(), directory.path());
    until("following", || world.stats.is_connected()).await;
    let other = EpochKey::from_bytes([8; 32]);
    let mut next = Table::new(other.clone());
    names[..1_500].iter().for_each(|name| next.put(name, &connected()));
    next.set_position(at(2, 0));
    let under = |entry: Entry, name| Entry { fingerprint: other.fingerprint(name), ..entry };
    registry.replace(next);
    until("holding", || world.stats.held().is_some()).await;
    let position = world.cache.position();
    registry.change(vec![under(deleted("n7.cn"), "n7.cn"), under(filed("new.cn"), "new.cn")]);
    until("the cancellation", || !world.has("n7.cn")).await;
    assert!(world.has("n2000.cn") && !world.has("new.cn"), "all else waits");
    registry.change(vec![under(filed("n7.cn"), "n7.cn")]);
    until("its return", || world.has("n7.cn")).await;
    registry.change(vec![under(deleted("n8.cn"), "n8.cn")]);
    until("another", || !world.has("n8.cn")).await;
    assert_eq!((world.cache.position(), world.stats.refused(Refused::Held)), (position, 1));
    let held = world.stats.held().unwrap();
    assert_eq!((held.effect.newly_blocked, held.effect.of, held.ahead), (1_500, 3_000, 2));
    assert_eq!(held.position.map(|it| it.epoch), Some(2));
    assert!(world.stats.say(Word::Apply));
    until("the word", || world.cache.position().is_some_and(|it| it.epoch == 2)).await;
    assert!(!world.has("n2000.cn") && !world.has("n8.cn") && world.has("new.cn") && world.has("n7.cn"));
    until("agreement", || world.cache.status().age < Duration::from_secs(2)).await;
    assert!(world.stats.held().is_none() && world.stats.is_connected());
    world.stop().await;
}

#[tokio::test]
async fn what_an_operator_refuses_waits_until_the_registry_takes_it_back() {
    let directory = tempfile::tempdir().unwrap();
    let (names, table) = many();
    let registry = FakeRegistry::start(Vec::new(), table).await;
    let world = World::start(registry.url(), directory.path());
    until("following", || world.stats.is_connected()).await;
    assert!(!world.stats.say(Word::Refuse), "nothing is held");
    registry.change(names[..1_500].iter().map(|name| deleted(name)).collect());
    until("holding", || world.stats.held().is_some()).await;
    assert!(world.stats.say(Word::Refuse));
    until("the word", || world.stats.held().is_some_and(|held| held.is_refused)).await;
    let heard = world.stats.heartbeats.load(Ordering::Relaxed);
    until("more words", || world.stats.heartbeats.load(Ordering::Relaxed) > heard + 5).await;
    assert!(world.has("n0.cn") && world.stats.held().unwrap().is_refused);
    registry.change(names[..1_490].iter().map(|name| filed(name)).collect());
    until("the registry's change of mind", || {
        world.cache.position() == Some(at(1, 7)) && world.stats.held().is_none()
    })
    .await;
    assert!(world.has("n0.cn") && !world.has("n1495.cn"));
    world.stop().await;
}

/// What a fault of memory changed is put right range by range, without a snapshot.
#[tokio::test]
async fn what_differs_is_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let registry = FakeRegistry::start(Vec::new(), new_state()).await;
    let world = World::start(registry.url(), directory.path());
    until("following", || world.stats.is_connected()).await;
    for wrong in [deleted("new.cn"), filed("evil.cn")] {
        let before = world.stats.repairs.load(Ordering::Relaxed);
        world.cache.corrupt(&wrong);
        until("a repair", || world.stats.repairs.load(Ordering::Relaxed) > before).await;
        assert!(world.has("new.cn") && !world.has("evil.cn"));
        assert_eq!(world.cache.status().digest, new_state().digest());
    }
    assert_eq!(world.stats.repaired_ranges.load(Ordering::Relaxed), 2);
    assert_eq!(world.stats.snapshots.load(Ordering::Relaxed), 1);
    world.stop().await;
}

/// Refused, broken, lying twice: then a snapshot does.
#[tokio::test]
async fn repairs_that_do_not_add_up_lead_to_a_snapshot() {
    let answer = |frames: &[Frame]| Answer::octets("repair", octets(frames), Then::End);
    let head = |summary, ranges| Frame::Ranges { summary, ranges };
    let (good, range) =
        (summary(&new_state()), u16::try_from(range_of(filed("new.cn").fingerprint)).unwrap());
    let element = key().entry_element(&filed("new.cn"));
    let entries = |name: &str| Frame::Entries(vec![filed(name)]);
    let lies: Vec<Vec<Frame>> = vec![
        vec![head(good, vec![(range, Digest(1))]), entries("new.cn"), Frame::End],
        vec![head(good, Vec::new()), entries("new.cn"), Frame::End],
        vec![
            head(Summary { digest: Digest(1), ..good }, vec![(range, Digest(element))]),
            entries("new.cn"),
            Frame::End,
        ],
        vec![head(good, vec![(range, Digest(element))]), entries("new.cn")],
        vec![entries("new.cn"), Frame::End],
        vec![head(Summary { position: at(1, 4), ..good }, Vec::new()), Frame::End],
    ];
    let mut ways = vec![vec![Answer::status("repair", 410)], vec![Answer::status("repair", 404)]];
    ways.extend(lies.iter().map(|lie| vec![answer(lie), answer(lie)]));
    for (number, way) in ways.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let first = Answer::octets("snapshot", octets(&snapshot_frames(&old_state())), Then::End);
        let script = [first, Answer::status("changes", 410)].into_iter().chain(way).collect();
        let registry = FakeRegistry::start(script, new_state()).await;
        let world = World::start(registry.url(), directory.path());
        until("the new state", || {
            assert!(!world.has("evil.cn"));
            world.cache.position() == Some(at(1, 7)) && world.stats.is_connected()
        })
        .await;
        let counts = [&world.stats.repairs, &world.stats.snapshots, &world.stats.resyncs];
        assert_eq!(counts.map(|it| it.load(Ordering::Relaxed)), [0, 2, 1], "way {number}");
        assert_eq!(registry.faults_left(), 0, "way {number}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_snapshot_that_is_cut_goes_on_where_its_last_whole_frame_ended() {
    let directory = tempfile::tempdir().unwrap();
    let frames = snapshot_frames(&new_state());
    let (whole, head) = (octets(&frames), frames[0].to_bytes().len());
    let cut = |at: usize| Answer::octets("snapshot", whole[..at].to_vec(), Then::End);
    let registry = FakeRegistry::start(vec![cut(head + 5)], new_state()).await;
    let world = World::start(registry.url(), directory.path());
    // It is counted once it shows.
    until("the state", || world.stats.snapshots.load(Ordering::Relaxed) == 1).await;
    assert_eq!(world.cache.position(), Some(at(1, 7)));
    assert_eq!(registry.ranges(), [None, Some(format!("bytes={head}-"))]);
    assert_eq!(world.stats.resumed_snapshots.load(Ordering::Relaxed), 1);
    world.stop().await;
}

#[tokio::test]
async fn what_is_in_force_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let registry = FakeRegistry::start(Vec::new(), new_state()).await;
    let world = World::start(registry.url(), directory.path());
    let said = |seq: u64| registry.acknowledged().iter().any(|it| it["seq"] == seq);
    until("the first", || said(7)).await;
    registry.file("later.cn");
    until("the next", || said(8)).await;
    let last = registry.acknowledged().pop().unwrap();
    let digest = state(8, &["old.cn", "kept.cn", "new.cn", "later.cn"]).digest().to_string();
    assert_eq!((&last["provider"], &last["gate"]), (&PROVIDER.into(), &"gate-1".into()));
    assert_eq!((&last["epoch"], &last["digest"]), (&1.into(), &digest.into()));
    assert!(last["lag_ms"].is_number(), "{last}");
    world.stop().await;
}

/// Where a stream begins is not news: a registry whose changes can't be taken keeps nothing fresh.
#[tokio::test]
async fn first_words_alone_make_nothing_fresh() {
    let directory = tempfile::tempdir().unwrap();
    let good = summary(&old_state());
    let bad =
        Frame::Batch { after: at(1, 5), entries: vec![filed("evil.cn")], summary: summary(&new_state()) };
    let first = Answer::octets("snapshot", octets(&snapshot_frames(&old_state())), Then::End);
    let stuck = || {
        let words = octets(&[Frame::Heartbeat(good), bad.clone()]);
        [
            Answer::octets("changes", words, Then::Hold),
            Answer::status("repair", 500),
            Answer::status("repair", 500),
        ]
    };
    let stuck_twice = stuck().into_iter().chain([Answer::status("snapshot", 500)]).chain(stuck());
    let script = std::iter::once(first).chain(stuck_twice).chain([Answer::silence("snapshot")]).collect();
    let registry = FakeRegistry::start(script, new_state()).await;
    let world = World::start(registry.url(), directory.path());
    until("the first word", || world.stats.heartbeats.load(Ordering::Relaxed) == 1).await;
    until("the last fault", || registry.faults_left() == 0).await;
    assert_eq!(world.stats.heartbeats.load(Ordering::Relaxed), 1, "the second stream's was not believed");
    world.stop().await;
}

#[tokio::test]
async fn a_save_that_fails_is_told_and_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let obstacle = directory.path().join("filings.state.new");
    std::fs::create_dir(&obstacle).unwrap();
    let registry = FakeRegistry::start(Vec::new(), new_state()).await;
    let world = World::start(registry.url(), directory.path());
    until("errors", || world.stats.save_errors.load(Ordering::Relaxed) > 1).await;
    assert!(world.has("new.cn"));
    std::fs::remove_dir(obstacle).unwrap();
    until("a save", || world.stats.saves.load(Ordering::Relaxed) > 0).await;
    world.stop().await;
}

#[tokio::test]
async fn what_can_t_be_followed_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let make = |url: &str, ca_file: Option<&str>| {
        let staleness = Staleness { stale_after: Duration::from_secs(60), when_stale: WhenStale::Serve };
        let options = FollowOptions {
            urls: vec![url.into()],
            token: None,
            trust: crate::config::Trust { ca_file: ca_file.map(Into::into), ..Default::default() },
            provider: PROVIDER.into(),
            gate: "gate-1".into(),
            directory: directory.path().into(),
            hold_flips_above: 1.0,
            cache: Arc::new(FilingCache::new(staleness)),
            stats: Arc::default(),
        };
        Follower::new(options)
    };
    for url in ["", "registry", "ftp://registry", "/v1"] {
        assert!(matches!(make(url, None), Err(FollowError::Url(_))), "{url}");
    }
    let missing = make("https://registry", Some("missing.pem")).err().unwrap().to_string();
    assert!(missing.contains("missing.pem"), "{missing}");
    let _first = make("https://registry:7443/base/", None).ok().unwrap();
    assert!(matches!(make("http://registry", None), Err(FollowError::Saved(SavedError::Locked { .. }))));
}
