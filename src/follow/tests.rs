//! The follower against a scripted registry: each fault of storage and network.

use super::*;
use crate::cache::{Staleness, Table};
use crate::config::WhenStale;
use crate::feed::{Digest, EpochKey, MAX_SNAPSHOT_FRAME_ENTRIES};
use crate::filing::{FilingNumber, FilingRecord, PackedRecord, Status};
use registry::{Answer, FakeRegistry, Then};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;

mod registry;

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
            url,
            token: Some("s3cret".into()),
            ca_file: None,
            provider: PROVIDER.into(),
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
async fn check(what: &str, faults: Vec<Answer>, refused: Option<Refused>, resyncs: u64) {
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
    assert_eq!(world.stats.resyncs.load(Ordering::Relaxed), resyncs, "{what}");
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
    check("epoch", changes(&[batch(at(2, 5), place(2, 7))]), Some(Epoch), 1).await;
    check("into an epoch", changes(&[batch(at(1, 5), place(2, 7))]), Some(Epoch), 1).await;
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
    check("epoch", beat(Summary { position: at(2, 5), ..good }), Some(Epoch), 1).await;
}

#[tokio::test]
async fn snapshots_that_do_not_add_up_are_refused() {
    use Refused::{Digest as Sum, Frame as Broken, Order, Position as Place, Provider, Truncated};
    let gone = || Answer::status("changes", 410);
    check("history is gone", vec![gone()], None, 1).await;
    // A failed snapshot is followed by a look whether changes will do.
    let snapshot = |octets| vec![gone(), Answer::octets("snapshot", octets, Then::End)];
    let frames = snapshot_frames(&state(7, &["old.cn", "kept.cn", "new.cn", "evil.cn"]));
    let whole = octets(&frames);
    let head = |summary, provider: &str| Frame::Snapshot { provider: provider.into(), key: key(), summary };
    let with_head = |head| octets(&[head, frames[1].clone(), Frame::End]);
    let good = summary(&new_state());
    check("cut", snapshot(whole[..whole.len() - 1].to_vec()), Some(Truncated), 1).await;
    check("no end", snapshot(octets(&frames[..2])), Some(Truncated), 1).await;
    check("empty", snapshot(Vec::new()), Some(Truncated), 1).await;
    check("garbage", snapshot(vec![b'x'; 500]), Some(Broken), 1).await;
    check("digest", snapshot(with_head(head(good, PROVIDER))), Some(Sum), 1).await;
    check("provider", snapshot(with_head(head(good, "another-cloud"))), Some(Provider), 1).await;
    check("order", snapshot(octets(&frames[1..])), Some(Order), 1).await;
    let older = octets(&snapshot_frames(&state(4, &["evil.cn"])));
    check("older", snapshot(older), Some(Place), 1).await;
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
    assert_eq!(world.stats.held(), Some(Effect { newly_blocked: 1_500, of: 3_000 }));
    assert!(names.iter().all(|name| world.has(name)));
    assert_eq!(world.stats.refused(Refused::Held), 1);
    assert!(world.stats.release());
    until("the release", || world.cache.position() == Some(at(1, 2_000))).await;
    until("catching up", || world.stats.is_connected() && !world.stats.is_released()).await;
    assert!(!world.has(names[2_000]) && world.stats.held().is_none() && !world.stats.release());
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
            url: url.into(),
            token: None,
            ca_file: ca_file.map(Into::into),
            provider: PROVIDER.into(),
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
    let first = make("https://registry:7443/base/", None).ok().unwrap();
    assert_eq!(first.feed.base.as_str(), "https://registry:7443/base/v1/feed/");
    assert!(matches!(make("http://registry", None), Err(FollowError::Saved(SavedError::Locked { .. }))));
}
