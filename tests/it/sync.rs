//! A verdict equals what the registry said: how soon, and what when the registry is away.

use crate::world::process::Process;
use crate::world::setup::Setup;
use crate::world::upstream::{Then, Upstream};
use crate::world::wire::Lost;
use crate::world::{self, DEADLINE, F, G, U, World, access, address, certs, connected, put, wait, wire};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const NUMBER: &str = "京ICP备20000001号-1";

/// A registry as a process of its own.
pub struct Registry {
    pub process: Process,
    pub address: SocketAddr,
}

impl Registry {
    /// `port` 0 for the first start; the same port again for a restart.
    pub fn start(directory: &Path, port: u16) -> Self {
        let config = format!(
            "provider = \"example-cloud\"\n[registry.embedded]\naddress = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:registry.db\"\n"
        );
        std::fs::write(directory.join("registry.toml"), config).unwrap();
        let process = Process::start(&["registry", "serve", "-c", "registry.toml"], directory);
        let address = address(&process.banner("registry"));
        Self { process, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A gate that follows that registry, in `dir`.
pub fn follower(dir: TempDir, url: &str, change: impl FnOnce(Setup) -> Setup) -> World {
    let (tls, upstream) = (certs::make(dir.path()), Upstream::start());
    let setup = change(Setup::new(dir.path(), upstream.address).follow(url));
    World::of(&setup, dir, tls, upstream)
}

fn status_of(world: &World, host: &str) -> u16 {
    world.get(host, "/").status
}

#[test]
fn changes_are_in_force_at_once() {
    let world = World::start();
    let mut wire = world.connect();
    let mut ask = |host: &str| match wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response() {
        Ok(response) => response.status,
        // What is under way when its name is cancelled may be cut.
        Err(Lost::Closed(_) | Lost::Broken(_)) => {
            wire = world.connect();
            0
        }
        Err(lost) => panic!("{lost:?}"),
    };
    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        for (document, status) in
            [(connected("京ICP备20000041号-1"), 200), (access("京ICP备20000041号-1", "cancelled"), 451)]
        {
            world.put(U, &document);
            let since = Instant::now();
            wait(&format!("round {round}: {status}"), || (ask(U) == status).then_some(()));
            slowest = slowest.max(since.elapsed());
        }
    }
    assert!(slowest < Duration::from_secs(2), "a change took {slowest:?}");
}

#[test]
fn delete_and_file_again() {
    let world = World::start();
    world.file(U, "京ICP备20000041号-1");
    assert_eq!(status_of(&world, U), 200);
    world.delete(U);
    world.in_force(U, "deregistered");
    assert_eq!(status_of(&world, U), 451);
    world.file(U, "京ICP备20000042号-1");
    assert_eq!(status_of(&world, U), 200);
}

/// Access belongs to the site: all its domains follow.
#[test]
fn many_at_once() {
    let world = World::start();
    let registry = world.registry.unwrap();
    let line = |i: usize| {
        format!(
            "{{\"domain\":\"bulk-{i}.cn\",\"number\":\"京ICP备3{i:07}号-1\",\"access\":{{\"example-cloud\":\"active\"}}}}"
        )
    };
    let lines: Vec<String> = (0..2000).map(line).collect();
    let response = wire::ask(registry, "POST", "/v1/filings:batch", &(lines.join("\n") + "\n"));
    assert!(response.status < 300, "{response:?}");
    world.in_force("bulk-1999.cn", "allow");
    for i in (0..2000).step_by(97) {
        assert_eq!(world.verdict(&format!("bulk-{i}.cn"))["number"], format!("京ICP备3{i:07}号-1"));
    }
    assert_eq!(world.status()["filings"], 2006);
}

/// What blocks very many at once waits for a word; a single cancellation does not wait behind it.
#[test]
fn a_mass_flip_waits_for_an_operator() {
    let world = World::start();
    let registry = world.registry.unwrap();
    let batch = |line: &dyn Fn(usize) -> String, of: std::ops::Range<usize>| {
        let lines: Vec<String> = of.map(line).collect();
        let response =
            wire::ask(registry, "POST", "/v1/filings:batch?atomic=true", &(lines.join("\n") + "\n"));
        assert!(response.status < 300, "{response:?}");
    };
    let filed = |i: usize| {
        format!(
            "{{\"domain\":\"bulk-{i}.cn\",\"number\":\"京ICP备3{i:07}号-1\",\"access\":{{\"example-cloud\":\"active\"}}}}"
        )
    };
    let deleted = |i: usize| format!("{{\"domain\":\"bulk-{i}.cn\",\"delete\":true}}");
    batch(&filed, 0..2000);
    world.in_force("bulk-1999.cn", "allow");
    let old = world.status()["seq"].clone();
    batch(&deleted, 0..1500);
    wait("the hold", || world.status()["held"]["state"].is_string().then_some(()));
    batch(&deleted, 1999..2000);
    world.in_force("bulk-1999.cn", "deregistered");
    assert_eq!(world.verdict("bulk-0.cn")["verdict"], "allow");
    let held = world.status()["held"].clone();
    assert_eq!((&held["state"], &held["newly_blocked"]), (&"waiting".into(), &1500.into()), "{held}");
    assert_eq!(world.status()["seq"], old);
    let word = |word: &str| world::run(world.dir.path(), &["held", word, "-c", "gate.toml"]).0;
    assert_eq!(word("refuse"), 0);
    wait("the refusal", || (world.status()["held"]["state"] == "refused").then_some(()));
    assert_eq!(world.verdict("bulk-0.cn")["verdict"], "allow");
    assert_eq!(word("apply"), 0);
    world.in_force("bulk-0.cn", "deregistered");
    wait("the end of it", || world.status()["held"].is_null().then_some(()));
}

#[test]
fn a_registry_that_comes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), 0);
    put(registry.address, F, &connected(NUMBER));
    let world = follower(tempfile::tempdir().unwrap(), &registry.url(), |setup| setup);
    world.in_force(F, "allow");
    assert_eq!((status_of(&world, F), status_of(&world, U)), (200, 451));
    registry.process.kill();
    assert_eq!((status_of(&world, F), status_of(&world, U)), (200, 451), "the last verdicts serve");
    let registry = Registry::start(dir.path(), registry.address.port());
    put(registry.address, U, &connected("京ICP备20000043号-1"));
    world.in_force(U, "allow");
    assert_eq!(status_of(&world, U), 200);
}

#[test]
fn a_start_from_the_saved_state() {
    let registry_dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(registry_dir.path(), 0);
    put(registry.address, F, &connected(NUMBER));
    let world = follower(tempfile::tempdir().unwrap(), &registry.url(), |setup| setup);
    world.in_force(F, "allow");
    let World { process, dir, .. } = world;
    process.terminate();
    assert_eq!(process.ended().code(), Some(0));
    registry.process.kill();
    let world = follower(dir, &registry.url(), |setup| setup);
    assert_eq!((status_of(&world, F), status_of(&world, U)), (200, 451));
}

/// As above, but the first gate had no time to say goodbye.
#[test]
fn a_start_after_a_crash() {
    let registry_dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(registry_dir.path(), 0);
    put(registry.address, F, &connected(NUMBER));
    let world = follower(tempfile::tempdir().unwrap(), &registry.url(), |setup| setup);
    world.in_force(F, "allow");
    let saved = world.path("state");
    wait("the saved state", || std::fs::read_dir(&saved).ok()?.next().map(|_| ()));
    let World { process, dir, .. } = world;
    process.kill();
    let world = follower(dir, &registry.url(), |setup| setup);
    world.in_force(F, "allow");
    assert_eq!((status_of(&world, F), status_of(&world, U)), (200, 451));
}

/// A port that nobody listens on.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn never_synced() {
    let world = follower(tempfile::tempdir().unwrap(), &nobody(), Setup::unready);
    for host in [F, U] {
        let response = world.get(host, "/");
        assert_eq!((response.status, response.verdict()), (503, "unavailable"), "{host}");
    }
    assert_eq!(world.get("a@b", "/").status, 400, "malformed comes first");
    let ready = world.ask("/readyz");
    assert!(ready.status == 503 && !ready.body.is_empty(), "{ready:?}");
    assert_eq!(world.ask("/healthz").status, 200);
    let forward = "[enforcement]\nwhen_never_synced = \"forward\"";
    let world = follower(tempfile::tempdir().unwrap(), &nobody(), |setup| setup.unready().toml(forward));
    assert_eq!((status_of(&world, F), status_of(&world, U)), (200, 200));
}

/// A gate that blocks when its filings are 3 s old, and the registry that it follows.
fn blocks_when_stale() -> (tempfile::TempDir, Registry, World) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), 0);
    put(registry.address, F, &connected(NUMBER));
    let block = "[enforcement]\nstale_after = \"3s\"\nwhen_stale = \"block\"";
    let world = follower(tempfile::tempdir().unwrap(), &registry.url(), |setup| setup.toml(block));
    world.in_force(F, "allow");
    (dir, registry, world)
}

#[test]
fn stale() {
    let (dir, registry, world) = blocks_when_stale();
    assert_eq!(status_of(&world, F), 200);
    registry.process.kill();
    // The request that is under way at that moment may be cut instead.
    let get = || world.connect().send(format!("GET / HTTP/1.1\r\nHost: {F}\r\n\r\n")).response().ok();
    let stale = wait("staleness", || get().filter(|response| response.status == 503));
    assert_eq!(stale.verdict(), "unavailable");
    assert_eq!(world.ask("/readyz").status, 503);
    let _back = Registry::start(dir.path(), registry.address.port());
    wait("freshness", || (status_of(&world, F) == 200).then_some(()));
}

/// What is under way ends as well.
#[test]
fn stale_with_an_open_download() {
    let (_dir, registry, world) = blocks_when_stale();
    world.upstream.on("/endless", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while exchange.send("5\r\nhello\r\n") {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Then::Close
    });
    let mut wire = world.connect();
    wire.send(format!("GET /endless HTTP/1.1\r\nHost: {F}\r\n\r\n"));
    assert_eq!(wire.head().unwrap().status, 200);
    registry.process.kill();
    let (_, end) = wire.rest();
    assert!(matches!(end, Lost::Closed(_) | Lost::Broken(_)), "{end:?}");
    assert_eq!((status_of(&world, F), status_of(&world, U)), (503, 503));
    wait("the upstream to be let go", || (world.upstream.open() == 0).then_some(()));
}

#[test]
fn stale_but_serving() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), 0);
    put(registry.address, F, &connected(NUMBER));
    let serve = "[enforcement]\nstale_after = \"1s\"";
    let world = follower(tempfile::tempdir().unwrap(), &registry.url(), |setup| setup.toml(serve));
    world.in_force(F, "allow");
    registry.process.kill();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        assert_eq!((status_of(&world, F), status_of(&world, U)), (200, 451));
    }
}

/// Registries that lie, stop in the middle or answer something else: the last state serves.
#[test]
fn a_registry_that_talks_nonsense() {
    let rows: [&[u8]; 5] = [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    ];
    for raw in rows {
        let nonsense = Upstream::start();
        nonsense.answers("/", raw, Then::Close);
        let url = format!("http://{}", nonsense.address);
        let world = follower(tempfile::tempdir().unwrap(), &url, Setup::unready);
        wait("the follower to ask", || (!nonsense.heads().is_empty()).then_some(()));
        assert_eq!(world.get(F, "/").verdict(), "unavailable", "{raw:?}");
        assert_eq!(world.ask("/readyz").status, 503);
    }
}

#[test]
fn saved_state_that_is_broken() {
    for damage in ["flip", "cut", "empty"] {
        let registry_dir = tempfile::tempdir().unwrap();
        let registry = Registry::start(registry_dir.path(), 0);
        put(registry.address, F, &connected(NUMBER));
        let world = follower(tempfile::tempdir().unwrap(), &registry.url(), |setup| setup);
        world.in_force(F, "allow");
        let World { process, dir, .. } = world;
        process.terminate();
        process.ended();
        for file in std::fs::read_dir(dir.path().join("state")).unwrap().map(|entry| entry.unwrap().path()) {
            let mut bytes = std::fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            match damage {
                "flip" if middle > 0 => bytes[middle] ^= 0x10,
                "cut" => bytes.truncate(middle),
                _ => bytes.clear(),
            }
            std::fs::write(&file, bytes).unwrap();
        }
        registry.process.kill();
        let world = follower(dir, &registry.url(), Setup::unready);
        let verdicts = [world.get(F, "/"), world.get(U, "/")].map(|response| response.status);
        // Old state or none, never another.
        assert!(verdicts == [503, 503] || verdicts == [200, 451], "{damage}: {verdicts:?}");
    }
}

#[test]
fn terminate_drains() {
    let world = World::start();
    world.upstream.on("/slow", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
        // Ends once the test lets it: `raw` waits for the gate's next bytes or its end.
        std::thread::park_timeout(Duration::from_millis(500));
        exchange.send("lf");
        Then::Keep
    });
    let mut wire = world.connect();
    let mut idle = world.connect();
    assert_eq!(idle.send(format!("GET / HTTP/1.1\r\nHost: {G}\r\n\r\n")).response().unwrap().status, 200);
    wire.send(format!("GET /slow HTTP/1.1\r\nHost: {F}\r\n\r\n"));
    world.upstream.arrived("/slow");
    world.process.terminate();
    assert_eq!(wire.response().unwrap().text(), "half", "a request in flight finishes");
    assert_eq!(idle.rest().0, b"", "an idle connection ends");
    let since = Instant::now();
    assert_eq!(world.process.ended().code(), Some(0), "{}", world.process.output());
    assert!(since.elapsed() < DEADLINE / 2);
    assert!(std::net::TcpStream::connect(world.http()).is_err(), "new connections are refused");
}

#[test]
fn hang_up_reloads() {
    let world = World::start();
    let path = world.path("gate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, "nonsense = true").unwrap();
    world.process.hang_up();
    wait("a complaint", || world.process.output().contains("nonsense").then_some(()));
    world.assert_well();
    std::fs::write(&path, text + "\n[enforcement]\nstatus = 403\n").unwrap();
    world.process.hang_up();
    wait("the new status", || (status_of(&world, U) == 403).then_some(()));
    world.assert_well();
}
