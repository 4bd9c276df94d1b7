//! Several registries over one PostgreSQL: one history, whoever writes and whatever breaks; and a gate that moves.

use crate::sync::{NUMBER, follower};
use crate::world::postgres::Postgres;
use crate::world::process::Process;
use crate::world::setup::Setup;
use crate::world::{F, PROVIDER, World, address, connected, put, wait, wire};
use beian_gate::feed::{Frame, FrameReader};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

struct Registry {
    process: Process,
    address: SocketAddr,
}

impl Registry {
    fn start(dir: &Path, name: &str, database: &str) -> Self {
        // Both take the directory of files that the config does not name: the second finds another.
        let config = format!("[registry.embedded]\naddress = \"127.0.0.1:0\"\ndatabase = \"{database}\"\n");
        std::fs::write(dir.join(name), config).unwrap();
        let process = Process::start(&["registry", "serve", "-c", name], dir);
        let address = address(&process.banner("registry"));
        Self { process, address }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// What a follower of one registry was sent, in order: each change's position, fingerprint and record.
#[derive(Default)]
struct Heard {
    changes: Vec<(u64, u64)>,
    at: Option<(u64, u64)>,
    /// What must not be: a batch that does not go on where the last one ended.
    wrong: Vec<String>,
    is_over: bool,
}

impl Heard {
    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Heartbeat(summary) => {
                let position = (summary.position.epoch, summary.position.seq);
                if self.at.is_some_and(|at| at > position) {
                    self.wrong.push(format!("{:?}, then {position:?}", self.at));
                }
                self.at = Some(position);
            }
            Frame::Batch { after, entries, summary } => {
                if self.at.is_none_or(|at| at.0 != after.epoch || at.1 > after.seq) {
                    self.wrong.push(format!("{:?}, then changes after {after:?}", self.at));
                }
                self.changes.extend(entries.iter().map(|it| (it.fingerprint.0, it.record.0)));
                self.at = Some((summary.position.epoch, summary.position.seq));
            }
            other => self.wrong.push(format!("{other:?}")),
        }
    }
}

/// Follows the changes after a position until the stream ends.
fn listen(registry: SocketAddr, (epoch, after): (u64, u64)) -> Arc<Mutex<Heard>> {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let into = Arc::clone(&heard);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url =
                format!("http://{registry}/v1/feed/changes?provider={PROVIDER}&epoch={epoch}&after={after}");
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            // A registry that has just lost its database says so, and is asked again; whoever waits has a deadline.
            let mut response = loop {
                match client.get(&url).send().await {
                    Ok(response) if response.status().is_success() => break response,
                    _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                }
            };
            let mut reader = FrameReader::default();
            while let Ok(Some(octets)) = response.chunk().await {
                reader.push(&octets);
                while let Some(frame) = reader.next_frame().unwrap() {
                    into.lock().unwrap().take(frame);
                }
            }
        });
        into.lock().unwrap().is_over = true;
    });
    wait("the stream's first word", || heard.lock().unwrap().at.map(drop));
    heard
}

/// Where a registry is.
fn position(registry: SocketAddr) -> (u64, u64) {
    let response = wire::ask(registry, "GET", &format!("/v1/filings/{F}/in-force"), "");
    let answer = response.json();
    (answer["epoch"].as_u64().unwrap(), 0)
}

fn lines(of: std::ops::Range<usize>) -> String {
    let line = |i| {
        format!(
            "{{\"domain\":\"n{i}.cn\",\"number\":\"京ICP备3{i:07}号-1\",\"access\":{{\"{PROVIDER}\":\"active\"}}}}\n"
        )
    };
    of.map(line).collect()
}

/// A server, its database, two registries of it.
struct Pair {
    server: Postgres,
    name: String,
    dir: TempDir,
    one: Registry,
    other: Registry,
}

impl Pair {
    fn start() -> Option<Self> {
        let server = Postgres::start()?;
        let url = server.database();
        let name = url.split(['/', '?']).nth(3).unwrap().to_owned();
        let dir = tempfile::tempdir().unwrap();
        let one = Registry::start(dir.path(), "one.toml", &url);
        let other = Registry::start(dir.path(), "other.toml", &url);
        // Positions are given out once a provider is asked for.
        for registry in [&one, &other] {
            wire::ask(registry.address, "GET", &format!("/v1/feed/snapshot?provider={PROVIDER}"), "");
        }
        Some(Self { server, name, dir, one, other })
    }

    /// What the database says: changes, positions from first to last, and different ones.
    fn log(&self) -> (u64, u64, u64) {
        let sql = "SELECT count(*), coalesce(max(seq) - min(seq) + 1, 0), count(DISTINCT seq) FROM beian_gate.changes";
        let row = self.server.run(&self.name, sql);
        let mut numbers = row.split('|').map(|it| it.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        (next(), next(), next())
    }

    /// A gate that follows both, `one` first.
    fn gate(&self) -> World {
        let urls = format!("\"{}\", \"{}\"", self.one.url(), self.other.url());
        follower(tempfile::tempdir().unwrap(), "", |setup: Setup| setup.follow_each(&urls))
    }
}

#[track_caller]
fn check_alike(heard: &[&Arc<Mutex<Heard>>], changes: u64) {
    for (which, heard) in heard.iter().enumerate() {
        wait(&format!("{changes} changes at {which}"), || {
            (heard.lock().unwrap().changes.len() as u64 >= changes).then_some(())
        });
        let heard = heard.lock().unwrap();
        assert_eq!((&heard.wrong, heard.changes.len() as u64), (&Vec::new(), changes), "{which}");
    }
    let first = heard[0].lock().unwrap().changes.clone();
    assert!(heard.iter().all(|it| it.lock().unwrap().changes == first), "not in one order");
}

#[test]
fn what_is_written_at_either_is_heard_at_both_in_one_order() {
    let Some(pair) = Pair::start() else { return };
    let (one, other) = (pair.one.address, pair.other.address);
    let from = position(one);
    let heard = [listen(one, from), listen(other, from)];
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let to = if writer % 2 == 0 { one } else { other };
            scope.spawn(move || {
                for round in 0..12 {
                    let first = writer * 1000 + round * 10;
                    let response = wire::ask(to, "POST", "/v1/filings:batch", &lines(first..first + 10));
                    assert_eq!(response.status, 200, "{response:?}");
                }
            });
        }
    });
    let count = 4 * 12 * 10;
    check_alike(&[&heard[0], &heard[1]], count);
    assert_eq!(pair.log(), (count, count, count));
    assert_eq!(position_of(&heard[0]), position_of(&heard[1]));
}

fn position_of(heard: &Arc<Mutex<Heard>>) -> (u64, u64) {
    heard.lock().unwrap().at.unwrap()
}

#[test]
fn a_process_that_dies_in_the_middle_leaves_nothing_and_its_gate_moves_on() {
    let Some(pair) = Pair::start() else { return };
    put(pair.one.address, F, &connected(NUMBER));
    let gate = pair.gate();
    gate.in_force(F, "allow");
    let (epoch, _) = position(pair.other.address);
    let heard = listen(pair.other.address, (epoch, 0));
    // A batch that takes a while, and its registry's end while it is written.
    let address = pair.one.address;
    let batch = std::thread::spawn(move || {
        wire::try_ask(address, "POST", "/v1/filings:batch?atomic=true", &lines(0..20_000))
    });
    let is_writing = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'beian-gate' \
                      AND state <> 'idle' AND query LIKE 'INSERT INTO%'";
    wait("the batch to be written", || {
        (pair.server.run(&pair.name, is_writing) != "0" || batch.is_finished()).then_some(())
    });
    assert!(!batch.is_finished(), "it is to be killed before it ends");
    pair.one.process.kill();
    assert!(batch.join().unwrap().is_none_or(|it| it.status != 200));
    put(pair.other.address, "after.cn", &connected("京ICP备20000044号-1"));
    gate.in_force("after.cn", "allow");
    check_alike(&[&heard], 2);
    assert_eq!(pair.log(), (2, 2, 2));
    assert_eq!(gate.metric("beian_gate_feed_snapshots_total"), 1, "it kept its position");
    drop(pair.dir);
}

#[test]
fn connections_that_drop_and_a_server_that_restarts_lose_nothing() {
    let Some(mut pair) = Pair::start() else { return };
    let (one, other) = (pair.one.address, pair.other.address);
    let heard = [listen(one, position(one)), listen(other, position(other))];
    put(one, F, &connected(NUMBER));
    let gate = pair.gate();
    gate.in_force(F, "allow");
    let cut =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'beian-gate'";
    assert_ne!(pair.server.run(&pair.name, cut), "0");
    wait("a write after the cut", || {
        let response = wire::ask(one, "POST", "/v1/filings:batch", &lines(0..10));
        (response.status == 200).then_some(())
    });
    put(other, "cut.cn", &connected("京ICP备20000045号-1"));
    gate.in_force("cut.cn", "allow");
    check_alike(&[&heard[0], &heard[1]], 12);

    pair.server.pause();
    let refused = wire::ask(one, "POST", "/v1/filings:batch", &lines(10..20));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(gate.get(F, "/").status, 200, "the gate goes on");
    wait("streams that say nothing they don't know", || {
        heard.iter().all(|it| it.lock().unwrap().is_over).then_some(())
    });
    let from = position_of(&heard[0]);
    assert_eq!(from, position_of(&heard[1]));
    pair.server.resume();
    wait("a write after the restart", || {
        let response = wire::ask(other, "POST", "/v1/filings:batch", &lines(10..20));
        (response.status == 200).then_some(())
    });
    let again = wait("streams again", || {
        let heard = [one, other].map(|it| wire::try_ask(it, "GET", &format!("/v1/filings/{F}"), ""));
        heard.iter().all(|it| it.as_ref().is_some_and(|it| it.status == 200)).then_some(())?;
        Some([listen(one, from), listen(other, from)])
    });
    check_alike(&[&again[0], &again[1]], 10);
    assert_eq!(pair.log(), (22, 22, 22));
    gate.in_force("n19.cn", "allow");
    assert_eq!(gate.metric("beian_gate_feed_snapshots_total"), 1, "it kept its position");
}
