//! The feed, as a naive follower sees it.

use super::*;
use crate::feed::{Digest, EpochKey, Fingerprint, Frame, FrameReader, MAX_BATCH_ENTRIES, Position, Summary};
use crate::filing::PackedRecord;
use std::collections::HashMap;
use std::time::Duration;

/// Holds what it is sent, and panics where that is not what it is told it must be.
pub(super) struct NaiveFollower {
    provider: &'static str,
    pub(super) key: EpochKey,
    pub(super) entries: HashMap<Fingerprint, (PackedRecord, Option<Box<str>>)>,
    pub(super) position: Position,
}

impl NaiveFollower {
    pub(super) async fn start(world: &World, provider: &'static str) -> Self {
        let path = format!("/v1/feed/snapshot?provider={provider}");
        let response = world.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], crate::feed::MEDIA_TYPE);
        Self::read(provider, &response.bytes().await.unwrap())
    }

    /// What a snapshot's octets say.
    pub(super) fn read(provider: &'static str, octets: &[u8]) -> Self {
        let mut reader = FrameReader::default();
        reader.push(octets);
        let Some(Frame::Snapshot { provider: named, key, summary }) = reader.next_frame().unwrap() else {
            panic!("a snapshot begins with its head")
        };
        assert_eq!(&*named, provider);
        let mut follower = Self { provider, key, entries: HashMap::new(), position: summary.position };
        let mut last = Fingerprint(0);
        loop {
            match reader.next_frame().unwrap().unwrap() {
                Frame::Entries(entries) => {
                    for entry in entries {
                        assert!(entry.fingerprint > last, "sorted");
                        last = entry.fingerprint;
                        follower.entries.insert(entry.fingerprint, (entry.record, entry.odd));
                    }
                }
                Frame::End => break,
                other => panic!("{other:?}"),
            }
        }
        reader.finish().unwrap();
        follower.check(summary);
        follower
    }

    pub(super) fn check(&self, summary: Summary) {
        let mut digest = Digest::default();
        for (fingerprint, (record, odd)) in &self.entries {
            digest.add(self.key.element(*fingerprint, *record, odd.as_deref()));
        }
        assert_eq!((summary.count, summary.digest), (self.entries.len() as u64, digest), "{summary:?}");
    }

    /// A new one, once it has all there is.
    pub(super) async fn current(world: &World, provider: &'static str) -> Self {
        let mut follower = Self::start(world, provider).await;
        let mut stream = follower.follow(world).await;
        follower.reach(&mut stream, u64::try_from(world.change_count().await).unwrap()).await;
        follower
    }

    pub(super) async fn follow(&self, world: &World) -> Stream {
        Stream::open(world, self.provider, self.position).await.unwrap()
    }

    pub(super) fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Heartbeat(summary) => {
                self.check(summary);
                assert!(summary.position >= self.position);
                self.position = summary.position;
            }
            Frame::Batch { after, entries, summary } => {
                assert_eq!(after, self.position);
                assert!(!entries.is_empty() && entries.len() <= MAX_BATCH_ENTRIES);
                for entry in entries {
                    if entry.is_delete() {
                        self.entries.remove(&entry.fingerprint).expect("a deleted entry was there");
                    } else {
                        self.entries.insert(entry.fingerprint, (entry.record, entry.odd));
                    }
                }
                self.check(summary);
                self.position = summary.position;
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn reach(&mut self, stream: &mut Stream, seq: u64) {
        while self.position.seq < seq {
            let frame = stream.next().await.expect("the stream is open");
            self.take(frame);
        }
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    response: Response,
    reader: FrameReader,
}

impl Stream {
    pub(super) async fn open(world: &World, provider: &str, at: Position) -> Result<Self, StatusCode> {
        let path = format!("/v1/feed/changes?provider={provider}&epoch={}&after={}", at.epoch, at.seq);
        let response = world.request(Method::GET, &path).send().await.unwrap();
        let status = response.status();
        if status == StatusCode::OK {
            Ok(Self { response, reader: FrameReader::default() })
        } else {
            Err(status)
        }
    }

    /// `None` once the stream has ended.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                return Some(frame);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.response.chunk()).await.unwrap();
            match chunk.unwrap() {
                Some(octets) => self.reader.push(&octets),
                None => {
                    self.reader.finish().unwrap();
                    return None;
                }
            }
        }
    }
}

/// A seeded generator (xorshift), so that a failure can be had again.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(end)).unwrap()
    }

    fn document(&mut self) -> Value {
        let states = ["active", "cancelled", "under_review"];
        let mut access = Vec::new();
        for provider in [HERE, ELSEWHERE] {
            if self.below(2) == 0 {
                access.push((provider, states[self.below(3) as usize]));
            }
        }
        match self.below(10) {
            0 => json!({ "state": "pending" }),
            1 => json!({ "state": "restricted", "number": number(self.below(4), 1) }),
            2 => json!({ "number": format!("京ICP证{:06}号-{}", self.below(3), 1), "access": {} }),
            _ => filed(self.below(12), &access),
        }
    }

    pub(super) async fn act(&mut self, world: &World) {
        let domain = |dice: &mut Self| format!("d{}.com", dice.below(12));
        match self.below(6) {
            0 => {
                let query = if self.below(2) == 0 { "?purge=true" } else { "" };
                world.delete(&domain(self), query).await;
            }
            1 => {
                let mut lines = String::new();
                for _ in 0..self.below(20) {
                    let mut line = self.document();
                    line["domain"] = json!(domain(self));
                    lines += &format!("{line}\n");
                }
                let query = ["", "?atomic=true", "?atomic=true&replace=true"][self.below(3) as usize];
                world
                    .request(Method::POST, &format!("/v1/filings:batch{query}"))
                    .body(lines)
                    .send()
                    .await
                    .unwrap();
            }
            _ => {
                let document = self.document();
                world.put_ok(&domain(self), &document).await;
            }
        }
    }
}

#[tokio::test]
async fn followers_hold_what_the_registry_holds() {
    for seed in [1, 0xbeef, 0x1234_5678_9abc] {
        let world = World::start().await;
        let mut dice = Dice(seed);
        let mut followers =
            [NaiveFollower::start(&world, HERE).await, NaiveFollower::start(&world, ELSEWHERE).await];
        let mut streams = [followers[0].follow(&world).await, followers[1].follow(&world).await];
        for _ in 0..60 {
            dice.act(&world).await;
        }
        let fresh = NaiveFollower::current(&world, HERE).await;
        for (follower, stream) in followers.iter_mut().zip(&mut streams) {
            follower.reach(stream, fresh.position.seq).await;
        }
        assert_eq!(followers[0].entries, fresh.entries);
        assert_eq!(fresh.position.seq, u64::try_from(world.change_count().await).unwrap());
    }
}

#[tokio::test]
async fn a_follower_who_comes_back_is_told_the_rest() {
    let world = World::start().await;
    let mut follower = NaiveFollower::start(&world, HERE).await;
    world.put_ok("a.com", &connected(1)).await;
    world.put_ok("b.com", &connected(2)).await;
    let mut stream = follower.follow(&world).await;
    // At once, and about the position that was asked for.
    let Some(Frame::Heartbeat(first)) = stream.next().await else { panic!("a heartbeat comes first") };
    assert_eq!((first.position, first.count), (follower.position, 0));
    follower.reach(&mut stream, 2).await;
    drop(stream);
    // A commit that this provider sees nothing of still moves it on.
    world
        .put_ok("a.com", &json!({ "number": number(1, 1), "access": { HERE: "active" }, "subject": "甲" }))
        .await;
    world.put_ok("b.com", &filed(2, &[])).await;
    let mut stream = follower.follow(&world).await;
    follower.reach(&mut stream, 4).await;
    assert_eq!(follower.entries, NaiveFollower::current(&world, HERE).await.entries);
}

#[tokio::test]
async fn a_change_is_sent_the_moment_it_is_committed() {
    let world = World::start().await;
    let mut follower = NaiveFollower::start(&world, HERE).await;
    let mut stream = follower.follow(&world).await;
    stream.next().await.unwrap();
    let start = std::time::Instant::now();
    world.put_ok("a.com", &connected(1)).await;
    follower.reach(&mut stream, 1).await;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_is_not_kept_is_gone() {
    let world = World::start().await;
    world.put_ok("a.com", &connected(1)).await;
    let follower = NaiveFollower::start(&world, HERE).await;
    world.put_ok("b.com", &connected(2)).await;
    let Position { epoch, seq } = follower.position;
    let other_epoch = Position { epoch: epoch + 1, seq };
    let rows = [
        (follower.position, Ok(())),
        (Position { epoch, seq: seq + 1 }, Ok(())),
        (other_epoch, Err(StatusCode::GONE)),
        (Position { epoch, seq: seq + 2 }, Err(StatusCode::GONE)),
        (Position { epoch, seq: seq - 1 }, Err(StatusCode::GONE)),
    ];
    for (position, expected) in rows {
        assert_eq!(Stream::open(&world, HERE, position).await.map(|_| ()), expected, "{position:?}");
    }
}

#[tokio::test]
async fn a_restart_keeps_the_position() {
    let world = World::start().await;
    world.put_ok("a.com", &connected(1)).await;
    let mut follower = NaiveFollower::start(&world, HERE).await;
    let old = follower.position;
    let mut stream = follower.follow(&world).await;
    stream.next().await.unwrap();
    let (world, end) = tokio::join!(world.restart(), stream.next());
    assert_eq!(end, None);
    let mut stream = follower.follow(&world).await;
    world.put_ok("b.com", &connected(2)).await;
    follower.reach(&mut stream, 2).await;
    assert_eq!(follower.position.epoch, old.epoch);
    drop(stream);
    // Whoever was away meanwhile is told the rest.
    let world = world.restart().await;
    let mut late = NaiveFollower { position: old, ..NaiveFollower::start(&world, HERE).await };
    late.entries.retain(|it, _| *it == late.key.fingerprint("a.com"));
    let mut stream = late.follow(&world).await;
    late.reach(&mut stream, 2).await;
    assert_eq!(late.entries, follower.entries);
}

pub(super) fn many(count: u32) -> String {
    let line = |n| {
        format!(
            "{{\"domain\":\"m{n}.com\",\"number\":\"{}\",\"access\":{{\"{HERE}\":\"active\"}}}}\n",
            number(n, 1)
        )
    };
    (0..count).map(line).collect()
}

#[tokio::test]
async fn a_large_commit_is_cut_and_a_flood_begins_a_new_epoch() {
    let world = World::start().await;
    let mut follower = NaiveFollower::start(&world, HERE).await;
    let mut stream = follower.follow(&world).await;
    let post = async |body: String| {
        let request = world.request(Method::POST, "/v1/filings:batch?atomic=true").body(body);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    };
    post(many(25_000)).await;
    follower.reach(&mut stream, 25_000).await;
    let before = follower.position;
    post(many(126_000)).await;
    while stream.next().await.is_some() {}
    assert_eq!(Stream::open(&world, HERE, before).await.unwrap_err(), StatusCode::GONE);
    let after = NaiveFollower::start(&world, HERE).await;
    assert!(after.position.epoch > before.epoch);
    assert_ne!(after.key, follower.key);
    assert_eq!(after.entries.len(), 126_000);
}

#[tokio::test]
async fn more_providers_than_there_is_room_for_take_the_place_of_idle_ones() {
    let world = World::start().await;
    let followed = NaiveFollower::start(&world, HERE).await;
    let _stream = followed.follow(&world).await;
    for n in 0..crate::registry::changes::MAX_VIEWS + 2 {
        let (status, _) = world.get(&format!("/v1/feed/changes?provider=p{n}&epoch=0&after=0")).await;
        assert_eq!(status, StatusCode::GONE);
    }
    assert!(world.registry.feed.has(HERE));
}

#[test]
fn two_names_with_one_fingerprint_are_found() {
    use crate::registry::base::{BaseWriter, Directory, Head};
    use crate::registry::model::{Access, Change, Document};
    use crate::registry::view::{Collision, View};
    let document = Document {
        number: Some(number(1, 1).into()),
        state: crate::filing::FilingState::Filed,
        access: std::sync::Arc::new(Access::default()),
        about: crate::registry::About::default(),
    };
    let directory = tempfile::tempdir().unwrap();
    let directory = Directory::open(&directory.path().join("feed"), 0).unwrap();
    let key = EpochKey::from_bytes([1; 32]);
    let head = Head { provider: HERE.into(), key, summary: Summary::default() };
    let mut view =
        View::new(std::sync::Arc::new(BaseWriter::create(&directory, head).unwrap().finish().unwrap()));
    let change = Change { seq: 1, domain: "a.com".into(), before: None, after: Some(document) };
    let end = Position { epoch: 0, seq: 1 };
    assert_eq!(view.apply(std::slice::from_ref(&change), end, 0), Ok(true));
    assert_eq!(view.apply(std::slice::from_ref(&change), end, 0), Err(Collision));
    // Once it is in the base, that is where it is looked up.
    let base = {
        let (head, layers) = view.whole(0);
        let mut writer = BaseWriter::create(&directory, head).unwrap();
        layers.sorted().each(0..crate::feed::RANGES, |entry| writer.push(entry)).unwrap();
        std::sync::Arc::new(writer.finish().unwrap())
    };
    view.rebase(base);
    let (base, new) = view.new_names(&[change]);
    assert_eq!((new.len(), base.has_any(new).unwrap()), (1, true));
    assert!(!base.has_any(vec![Fingerprint(1), Fingerprint(u64::MAX)]).unwrap());
}
