//! Snapshots that are resumed, states that are repaired, restarts that keep followers, gates that acknowledge.

use super::feed::{Dice, NaiveFollower, Stream, many};
use super::*;
use crate::feed::{Digest, Frame, FrameReader, Position, RANGES, Summary, range_of};
use crate::filing::PackedRecord;
use std::collections::BTreeSet;

impl NaiveFollower {
    /// Its state by ranges.
    fn ranges(&self) -> Vec<(u16, Digest)> {
        let mut digests = vec![Digest::default(); RANGES];
        for (fingerprint, (record, odd)) in &self.entries {
            let element = self.key.element(*fingerprint, *record, odd.as_deref());
            digests[range_of(*fingerprint)].add(element);
        }
        (0..).zip(digests).filter(|(_, digest)| *digest != Digest::default()).collect()
    }

    /// Asks for what it lacks, and takes it.
    async fn repair(&mut self, world: &World) -> Result<(), StatusCode> {
        let summary = Summary { position: self.position, ..Summary::default() };
        let body = Frame::Ranges { summary, ranges: self.ranges() }.to_bytes();
        let request = world.request(Method::POST, &format!("/v1/feed/repair?provider={HERE}")).body(body);
        let response = request.send().await.unwrap();
        if response.status() != StatusCode::OK {
            return Err(response.status());
        }
        let mut reader = FrameReader::default();
        reader.push(&response.bytes().await.unwrap());
        let Some(Frame::Ranges { summary, ranges }) = reader.next_frame().unwrap() else {
            panic!("a repair begins with ranges")
        };
        let differing: BTreeSet<_> = ranges.iter().map(|(range, _)| usize::from(*range)).collect();
        self.entries.retain(|it, _| !differing.contains(&range_of(*it)));
        loop {
            match reader.next_frame().unwrap().unwrap() {
                Frame::Entries(entries) => {
                    for entry in entries {
                        assert!(differing.contains(&range_of(entry.fingerprint)));
                        let twice = self.entries.insert(entry.fingerprint, (entry.record, entry.odd));
                        assert_eq!(twice, None);
                    }
                }
                Frame::End => break,
                other => panic!("{other:?}"),
            }
        }
        reader.finish().unwrap();
        let held: Vec<_> =
            self.ranges().into_iter().filter(|(it, _)| differing.contains(&(*it).into())).collect();
        let sent: Vec<_> = ranges.into_iter().filter(|(_, digest)| *digest != Digest::default()).collect();
        assert_eq!(held, sent);
        self.check(summary);
        self.position = summary.position;
        Ok(())
    }

    /// Some entries go, some become others, some are made up.
    fn corrupt(&mut self, dice: &mut Dice) {
        self.entries.retain(|_, _| dice.below(3) > 0);
        for (record, _) in self.entries.values_mut().filter(|_| dice.below(3) == 0) {
            *record = PackedRecord(record.0 ^ 1 << 61);
        }
        for n in 0..dice.below(5) {
            let made_up = self.key.fingerprint(&format!("x{n}.com"));
            self.entries.insert(made_up, (PackedRecord(4 << 58), None));
        }
    }
}

async fn current(world: &World) -> u64 {
    u64::try_from(world.change_count().await).unwrap()
}

#[tokio::test]
async fn whatever_happens_everyone_comes_to_the_true_state() {
    for seed in [3, 0xfeed, 0xabcd_ef01_2345] {
        let (mut world, mut dice) = (World::start().await, Dice(seed));
        let mut follower = NaiveFollower::start(&world, HERE).await;
        let mut stream = follower.follow(&world).await;
        for _ in 0..12 {
            for _ in 0..10 {
                dice.act(&world).await;
            }
            follower.reach(&mut stream, current(&world).await).await;
            if dice.below(3) == 0 {
                let (restarted, ()) =
                    tokio::join!(world.restart(), async { while stream.next().await.is_some() {} });
                world = restarted;
                stream = follower.follow(&world).await;
            }
            dice.act(&world).await;
            follower.reach(&mut stream, current(&world).await).await;
            let mut fresh = NaiveFollower::current(&world, HERE).await;
            assert_eq!(fresh.entries, follower.entries, "seed {seed}");
            fresh.corrupt(&mut dice);
            fresh.repair(&world).await.unwrap();
            assert_eq!(fresh.entries, follower.entries, "seed {seed}");
        }
    }
}

#[tokio::test]
async fn who_fell_behind_what_is_kept_is_repaired() {
    let world = World::start().await;
    world.put_ok("a.com", &connected(900_000)).await;
    let mut follower = NaiveFollower::start(&world, HERE).await;
    let lines = many(25_000);
    let kept = format!("{{\"domain\":\"b.com\",\"number\":\"{}\",\"access\":{{}}}}\n", number(900_001, 1));
    for (query, body) in [("atomic=true", lines), ("atomic=true", "\n".repeat(3) + &kept)] {
        let request = world.request(Method::POST, &format!("/v1/filings:batch?{query}")).body(body);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
    let gone: String = (0..25_000)
        .map(|n| format!("{{\"domain\":\"m{n}.com\",\"delete\":true,\"purge\":true}}\n"))
        .collect();
    let request = world.request(Method::POST, "/v1/filings:batch").body(gone);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(Stream::open(&world, HERE, follower.position).await.unwrap_err(), StatusCode::GONE);
    follower.repair(&world).await.unwrap();
    assert_eq!(follower.entries.len(), 2);
    follower.follow(&world).await;
    // Another epoch has nothing in common.
    follower.position = Position { epoch: follower.position.epoch + 1, ..follower.position };
    assert_eq!(follower.repair(&world).await, Err(StatusCode::GONE));
}

#[tokio::test]
async fn a_state_with_little_in_common_is_not_repaired() {
    let world = World::start().await;
    let mut follower = NaiveFollower::start(&world, HERE).await;
    let request = world.request(Method::POST, "/v1/filings:batch").body(many(3_000));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(follower.repair(&world).await, Err(StatusCode::GONE));
    for body in [&b"nonsense"[..], &Frame::End.to_bytes(), b""] {
        let request = world.request(Method::POST, &format!("/v1/feed/repair?provider={HERE}"));
        let (status, problem) = answer(request.body(body.to_vec()).send().await.unwrap()).await;
        assert_eq!((status, &problem["rule"]), (StatusCode::BAD_REQUEST, &json!("malformed_frame")));
    }
    let request = world.request(Method::POST, &format!("/v1/feed/repair?provider={HERE}"));
    let response = request.body(vec![0; 100_000]).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_snapshot_is_resumed_from_any_octet() {
    let world = World::start().await;
    let request = world.request(Method::POST, "/v1/filings:batch").body(many(5_000));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    let path = format!("/v1/feed/snapshot?provider={HERE}");
    let whole = world.request(Method::GET, &path).send().await.unwrap();
    let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
    let whole = whole.bytes().await.unwrap();
    let ask = async |from: usize, etag: &str| {
        let range = format!("bytes={from}-");
        let request = world.request(Method::GET, &path).header("range", range).header("if-range", etag);
        let response = request.send().await.unwrap();
        let length = response.content_length().unwrap();
        let answer = (response.status(), response.bytes().await.unwrap());
        assert_eq!(answer.1.len() as u64, length);
        answer
    };
    for from in [1, 4, whole.len() / 3, whole.len() - 1] {
        assert_eq!(ask(from, &etag).await, (StatusCode::PARTIAL_CONTENT, whole.slice(from..)), "{from}");
        assert_eq!(ask(from, "\"other\"").await, (StatusCode::OK, whole.clone()), "{from}");
    }
    assert_eq!(ask(whole.len(), &etag).await.0, StatusCode::RANGE_NOT_SATISFIABLE);
    // It stays the same while things change, and over a restart.
    world.put_ok("a.com", &connected(900_000)).await;
    let world = world.restart().await;
    let again = world.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(again.headers()["etag"].to_str().unwrap(), etag);
    assert_eq!(again.bytes().await.unwrap(), whole);
    let mut follower = NaiveFollower::read(HERE, &whole);
    let mut stream = follower.follow(&world).await;
    follower.reach(&mut stream, 5_001).await;
}

#[tokio::test]
async fn a_damaged_snapshot_is_made_anew() {
    let world = World::start().await;
    world.put_ok("a.com", &connected(1)).await;
    let before = NaiveFollower::start(&world, HERE).await;
    let file = world.home.files().join("registry.db.feed").join(format!("{HERE}.base"));
    for damage in ["flip", "cut", "longer", "empty", "missing"] {
        let mut octets = std::fs::read(&file).unwrap();
        match damage {
            "flip" => *octets.last_mut().unwrap() ^= 1,
            "cut" => octets.truncate(octets.len() - 13),
            "longer" => octets.extend_from_slice(&[0; 9]),
            _ => octets.clear(),
        }
        std::fs::write(&file, octets).unwrap();
        if damage == "missing" {
            std::fs::remove_file(&file).unwrap();
        }
    }
    let world = world.restart().await;
    let after = NaiveFollower::start(&world, HERE).await;
    assert_eq!((after.entries, after.position), (before.entries, before.position));
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
}

#[tokio::test]
async fn gates_say_what_they_enforce() {
    let world = World::start().await;
    world.put_ok("a.com", &connected(1)).await;
    let follower = NaiveFollower::start(&world, HERE).await;
    let in_force = async |domain: &str| {
        let (status, answer) = world.get(&format!("/v1/filings/{domain}/in-force?provider={HERE}")).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        (answer["in_force"].as_bool().unwrap(), answer["missing"].as_array().unwrap().len())
    };
    assert_eq!(in_force("a.com").await, (false, 0), "nobody was heard of");
    let say = async |gate: &str, seq: u64, digest: Digest| {
        let body = json!({
            "provider": HERE, "gate": gate, "epoch": follower.position.epoch, "seq": seq,
            "digest": digest.to_string(), "lag_ms": 7,
        });
        world.send(Method::POST, "/v1/feed/acknowledgements", body.to_string()).await.0
    };
    let digest = |follower: &NaiveFollower| Digest(follower.ranges().iter().fold(0, |sum, it| sum + it.1.0));
    assert_eq!(say("gate-1", 1, digest(&follower)).await, StatusCode::NO_CONTENT);
    assert_eq!(say("gate-2", 1, Digest(5)).await, StatusCode::NO_CONTENT);
    assert_eq!(say("no gate", 1, Digest(5)).await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(in_force("www.a.com").await, (true, 0));
    world.delete("a.com", "?purge=true").await;
    assert_eq!(in_force("a.com").await, (false, 2));
    assert_eq!(say("gate-2", 2, Digest(0)).await, StatusCode::NO_CONTENT);
    assert_eq!(in_force("a.com").await, (false, 1));
    let (_, list) = world.get("/v1/feed/followers").await;
    let shown = |n: usize| {
        let it = &list["followers"][n];
        (it["gate"].clone(), it["seq"].clone(), it["behind"].clone(), it["in_step"].clone())
    };
    assert_eq!(shown(0), (json!("gate-1"), json!(1), json!(1), json!(true)));
    assert_eq!(shown(1), (json!("gate-2"), json!(2), json!(0), json!(true)));
    assert_eq!(world.get("/v1/feed/followers?provider=other").await.1, json!({ "followers": [] }));
}

#[test]
fn a_sorter_gives_what_it_was_given_in_order() {
    use crate::feed::{Entry, EpochKey, Fingerprint};
    use crate::registry::base::{Directory, Sorter};
    let beside = tempfile::tempdir().unwrap();
    let directory = Directory::open(&beside.path().join("feed"), 0).unwrap();
    let mut sorter = Sorter::new(&directory, HERE, EpochKey::from_bytes([1; 32]));
    let entry = |n: u64| {
        let odd = n.is_multiple_of(30).then(|| "京ICP证000001号".into());
        let record = if odd.is_some() { 1 << 63 | 1 << 58 } else { 1 << 58 | n };
        // All in one bucket, which does not fit in memory.
        Entry {
            fingerprint: Fingerprint(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 6 | 1),
            record: PackedRecord(record),
            odd,
        }
    };
    (0..100_000).for_each(|n| sorter.push(&entry(n)).unwrap());
    let mut expected: Vec<_> = (0..100_000).map(entry).collect();
    expected.sort_by_key(|it| it.fingerprint);
    let mut given = Vec::new();
    sorter
        .sorted(|it| {
            given.push(it);
            Ok(())
        })
        .unwrap();
    assert!(given == expected);
    assert_eq!(std::fs::read_dir(beside.path().join("feed")).unwrap().count(), 0);
}

#[test]
fn a_scan_that_breaks_off_leaves_no_snapshot() {
    use crate::feed::EpochKey;
    use crate::registry::base::{Base, BaseError, Directory, Head};
    use crate::registry::hold::write_sorted;
    use crate::registry::store::Run;
    let beside = tempfile::tempdir().unwrap();
    let directory = Directory::open(&beside.path().join("feed"), 0).unwrap();
    let head =
        || Head { provider: HERE.into(), key: EpochKey::from_bytes([1; 32]), summary: Summary::default() };
    let (send, runs) = tokio::sync::mpsc::channel(4);
    send.blocking_send(Run::Documents(Vec::new())).unwrap();
    drop(send);
    assert!(matches!(write_sorted(&directory, head(), runs), Err(BaseError::BrokeOff)));
    assert!(Base::open(&directory, HERE).unwrap().is_none());
    let (send, runs) = tokio::sync::mpsc::channel(4);
    send.blocking_send(Run::End).unwrap();
    write_sorted(&directory, head(), runs).unwrap();
    assert!(Base::open(&directory, HERE).unwrap().is_some());
}

#[tokio::test]
async fn a_database_that_was_put_back_begins_a_new_epoch() {
    let world = World::start().await;
    for site in 1..=3 {
        world.put_ok(&format!("d{site}.com"), &connected(site)).await;
    }
    let put_back = async |world: &World| {
        let mut writer = world.registry.store.writer().await.unwrap();
        let mut session = writer.session();
        for sql in ["DELETE FROM changes WHERE seq = (SELECT seq FROM meta)", "UPDATE meta SET seq = seq - 1"]
        {
            session.run(sql, &[]).await.unwrap();
        }
    };
    // The files that followers are served from say so.
    let follower = NaiveFollower::start(&world, HERE).await;
    put_back(&world).await;
    let world = world.restart().await;
    let other = NaiveFollower::start(&world, HERE).await;
    assert!(other.position.epoch > follower.position.epoch, "{:?}", other.position);
    assert_eq!(other.position.seq, 2);
    // A follower says so; but not as often as it likes.
    let ahead = Position { seq: other.position.seq + 1, ..other.position };
    assert_eq!(Stream::open(&world, HERE, ahead).await.unwrap_err(), StatusCode::GONE);
    let third = NaiveFollower::start(&world, HERE).await;
    assert!(third.position.epoch > other.position.epoch, "{:?}", third.position);
    let ahead = Position { seq: 100, ..third.position };
    assert_eq!(Stream::open(&world, HERE, ahead).await.unwrap_err(), StatusCode::GONE);
    assert_eq!(NaiveFollower::start(&world, HERE).await.position.epoch, third.position.epoch);
}
