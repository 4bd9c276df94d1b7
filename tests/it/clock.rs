//! The wall clock jumps a day, forwards and back, under the running binary: ages and deadlines go by the monotonic
//! clock and notice nothing; what is a date follows.
//!
//! libfaketime stands between the process and its wall clock. Where it is missing, the tests are skipped aloud, and in
//! continuous integration they fail.

use crate::sync::{NUMBER, Registry};
use crate::world::process::{Process, command};
use crate::world::setup::Setup;
use crate::world::upstream::Upstream;
use crate::world::wire::{Lost, Wire};
use crate::world::{F, G, U, UC, World, access, certs, connected, put, run, wait, wire};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use rustls::HandshakeKind;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Further than a day: what is good for an hour from now ends before that, whatever the hour.
const DAY: i64 = 25;
const OTHER: &str = "京ICP备20000012号-1";

/// The library, or a word on its absence.
fn library() -> Option<PathBuf> {
    let of = |arch: std::fs::DirEntry| arch.path().join("faketime/libfaketimeMT.so.1");
    let mut found = std::fs::read_dir("/usr/lib").unwrap().flatten().map(of).filter(|path| path.exists());
    let library = found.next();
    if library.is_none() {
        eprintln!("SKIPPED: no libfaketime (Debian: apt-get install faketime), the clock can't be moved");
        assert!(std::env::var_os("CI").is_none(), "continuous integration moves the clock");
    }
    library
}

/// A wall clock that stands where a file in the directory says; the monotonic one is let be.
fn moved(library: &Path, mut command: Command, directory: &Path) -> Command {
    turn(directory, 0);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", directory.join("clock"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// Turns it, by so many hours from the true time. A half-written file would be no time at all.
fn turn(directory: &Path, hours: i64) {
    std::fs::write(directory.join("clock.new"), format!("{hours:+}h\n")).unwrap();
    std::fs::rename(directory.join("clock.new"), directory.join("clock")).unwrap();
}

/// A gate whose clock can be moved, with its registry.
fn world(library: &Path, change: impl FnOnce(Setup) -> Setup) -> World {
    let dir = tempfile::tempdir().unwrap();
    let tls = certs::make(dir.path());
    let upstream = Upstream::start();
    let setup = change(Setup::new(dir.path(), upstream.address));
    let path = setup.write();
    let command = command(&["run", "-c", path.to_str().unwrap()], dir.path());
    let command = moved(library, command, dir.path());
    World::by(command, &setup, dir, tls, upstream)
}

/// The day in UTC+8, so many hours from now.
fn day(hours: i64) -> Date {
    beian_gate::verdict::day(Timestamp::now() + hours.hours())
}

/// How far a time of the gate's is from the true one, to the nearest hour.
fn hours_off(time: &str) -> i64 {
    let time: Timestamp = time.parse().unwrap_or_else(|error| panic!("{time}: {error}"));
    (time.as_second() - Timestamp::now().as_second() + 1800).div_euclid(3600)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// What is under way while the clock moves.
struct Open {
    tunnel: Wire,
    excepted: Wire,
    download: Wire,
    upload: Wire,
    half: Wire,
    idle: Wire,
}

impl Open {
    fn new(world: &World, turn: usize) -> Self {
        let get = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let tunnel = |host: &str| {
            let mut wire = world.connect();
            wire.send(format!(
                "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            ));
            assert_eq!(wire.response().unwrap().status, 101, "{host}");
            wire
        };
        let (tunnel, excepted) = (tunnel(F), tunnel(UC));
        let mut download = world.connect();
        assert_eq!(download.send(get(F, "/endless")).head().unwrap().status, 200);
        let (mut upload, path) = (world.connect(), format!("/up-{turn}"));
        upload.send(format!("POST {path} HTTP/1.1\r\nHost: {F}\r\nContent-Length: 8\r\n\r\nhalf"));
        world.upstream.arrived(&path);
        let mut half = world.connect();
        half.send(format!("GET /half-{turn} HTTP/1.1\r\nHo"));
        let mut idle = world.tls(Some(F), &["http/1.1"]).unwrap();
        assert_eq!(idle.send(get(F, "/idle")).response().unwrap().status, 200);
        Self { tunnel, excepted, download, upload, half, idle }
    }

    /// No deadline has passed, and none hangs.
    #[track_caller]
    fn assert_well(&mut self) {
        let Self { tunnel, download, upload, half, idle, .. } = self;
        assert_eq!(tunnel.send("still").exactly(5), Ok(b"still".to_vec()));
        assert!(download.exactly(2_000).is_ok());
        assert_eq!(upload.send("rest").response().unwrap().status, 200);
        assert_eq!(half.send(format!("st: {F}\r\n\r\n")).response().unwrap().status, 200);
        let next = format!("GET /next HTTP/1.1\r\nHost: {F}\r\n\r\n");
        assert_eq!(idle.send(next).response().unwrap().status, 200);
    }
}

/// How a handshake of a client that holds a ticket goes, and that it goes.
fn shakes(world: &World, config: &rustls::ClientConfig) -> Option<HandshakeKind> {
    let mut stream = wire::tcp(world.https());
    let connection = certs::handshake(config.clone(), &mut stream, Some(F)).unwrap();
    let kind = connection.handshake_kind();
    let mut wire = Wire::over(Box::new(rustls::StreamOwned::new(connection, stream)));
    assert_eq!(wire.send(format!("GET /tls HTTP/1.1\r\nHost: {F}\r\n\r\n")).response().unwrap().status, 200);
    kind
}

/// Limits by time are short beside a day: any that went by the wall clock would fire, or never.
const LIMITS: &str = "[limits]\nheader_timeout = \"9m\"\nidle_timeout = \"9m\"\nbody_timeout = \"9m\"\n";

#[test]
fn a_day_forwards_and_back() {
    let Some(library) = library() else { return };
    // Good now, and no longer when a day has passed; a day back it is good as well.
    let until = day(1);
    let world = world(&library, |setup| {
        setup.toml(&format!(
            "{LIMITS}[audit]\nfile = \"audit.log\"\n[enforcement]\nstale_after = \"2h\"\nwhen_stale = \"block\"\n\
             exceptions = [{{ host = \"{UC}\", until = \"{until}\", reason = \"r\", owner = \"o\" }}]"
        ))
    });
    world.upstream.echoes("/ws");
    world.upstream.drips("/endless");
    world.in_force(UC, "exempt");
    let resumes = world.tls.resuming(&["http/1.1"]);
    shakes(&world, &resumes);
    for (nth, hours) in [DAY, 0, -DAY, DAY, -DAY, 0].into_iter().enumerate() {
        let has_ended = day(hours) > until;
        let is_open = world.verdict(UC)["verdict"] == "exempt";
        let mut open = is_open.then(|| Open::new(&world, nth));
        turn(world.dir.path(), hours);
        let verdict = if has_ended { "unfiled" } else { "exempt" };
        world.in_force(UC, verdict);
        wait("the day of requests", || {
            let response = world.get(UC, "/of-the-day");
            (response.verdict() == if has_ended { verdict } else { "" }).then_some(())
        });
        if let Some(open) = &mut open {
            open.assert_well();
            if has_ended {
                let (_, end) = open.excepted.rest();
                assert!(matches!(end, Lost::Closed(_) | Lost::Broken(_)), "{end:?}");
            } else {
                assert_eq!(open.excepted.send("still").exactly(5), Ok(b"still".to_vec()));
            }
        }
        check_sync(&world, hours);
        check_times(&world, nth, hours);
        // Tickets are sealed by keys whose age nobody reads off a wall; what counts is that no handshake breaks.
        shakes(&world, &resumes);
        assert_eq!(shakes(&world, &resumes), Some(HandshakeKind::Resumed), "{hours}");
        world.process.assert_running();
    }
    let head = wait("the audit log's head", || world.status()["audit"]["head"].as_str().map(str::to_owned));
    let (code, out, err) = run(world.dir.path(), &["audit", "verify", "audit.log"]);
    assert_eq!(code, 0, "{head}: {out}{err}");
}

/// Filings are in force and current, and changes go on coming.
#[track_caller]
fn check_sync(world: &World, hours: i64) {
    assert_eq!(world.ask("/readyz").status, 200, "{hours}");
    for state in ["cancelled", "active"] {
        world.put(G, &access(OTHER, state));
        world.in_force(G, if state == "active" { "allow" } else { "access_cancelled" });
    }
    assert_eq!(world.get(G, "/synced").status, 200);
    assert_eq!(world.get(U, "/").verdict(), "unfiled");
    let age = |text: String| {
        let line =
            text.lines().find_map(|line| line.strip_prefix("beian_gate_feed_age_seconds ")?.parse().ok());
        let age: f64 = line.unwrap_or_else(|| panic!("{text}"));
        (age < 60.0).then_some(())
    };
    wait("filings that are current", || age(world.ask("/metrics").text()));
    let status = wait("a sync after the jump", || {
        let status = world.status();
        (hours_off(text(&status["synced_at"])) == hours).then_some(status)
    });
    assert!(status["lag_ms"].as_i64().unwrap() < 60_000, "{status}");
}

/// What is written for people has the new time.
#[track_caller]
fn check_times(world: &World, nth: usize, hours: i64) {
    let path = format!("/of-{nth}");
    let page = world.get(U, &path);
    let date = jiff::fmt::rfc2822::parse(page.header("date").unwrap()).unwrap().timestamp();
    assert_eq!(hours_off(&date.to_string()), hours, "{page:?}");
    let line = wait("its line", || world.log().into_iter().find(|line| line["target"] == path.as_str()));
    assert_eq!(hours_off(text(&line["time"])), hours, "{line}");
    assert!(line["duration_us"].as_u64().unwrap() < 60_000_000, "{line}");
}

/// A gate begins with what it had saved, at another time than it was saved at, and with no registry there: how old
/// that is, is all that the wall clock can say.
#[test]
fn a_start_a_day_later_and_a_day_earlier() {
    let Some(library) = library() else { return };
    let of_registry = tempfile::tempdir().unwrap();
    let registry = Registry::start(of_registry.path(), 0);
    put(registry.address, F, &connected(NUMBER));
    let dir = tempfile::tempdir().unwrap();
    let tls = certs::make(dir.path());
    let upstream = Upstream::start();
    let stale = "[enforcement]\nstale_after = \"2h\"\nwhen_stale = \"block\"\n";
    let setup = Setup::new(dir.path(), upstream.address).follow(&registry.url()).toml(stale);
    let path = setup.write();
    let start = |dir: &Path, hours: i64| {
        let command = moved(&library, command(&["run", "-c", path.to_str().unwrap()], dir), dir);
        turn(dir, hours);
        Process::of(command)
    };
    let mut world = World::around(start(dir.path(), 0), dir, tls, upstream);
    world.in_force(F, "allow");
    wait("what is saved", || (world.metric("beian_gate_saves_total") > 0).then_some(()));
    let address = registry.address;
    registry.process.kill();
    for (hours, verdict) in [(0, "allow"), (DAY, "unavailable"), (-DAY, "allow")] {
        world.process.terminate();
        assert_eq!(world.process.ended().code(), Some(0));
        let World { dir, tls, upstream, .. } = world;
        world = World::around(start(dir.path(), hours), dir, tls, upstream);
        world.in_force(F, verdict);
    }
    // With the registry it is current, whatever the clock says.
    let registry = Registry::start(of_registry.path(), address.port());
    wait("the registry", || (world.ask("/readyz").status == 200).then_some(()));
    put(registry.address, G, &connected(OTHER));
    world.in_force(G, "allow");
}
