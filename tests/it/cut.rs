//! A name stops being allowed: everything of it that is under way ends, whatever it is and whyever; its neighbours
//! go on. Each row of the table opens one of everything for a subject and for a neighbour, and gives a reason.

mod by_reload;

use crate::proxy::streams::{GUID, switch};
use crate::sync::{NUMBER, Registry, follower};
use crate::world::certs::handshake;
use crate::world::h2::{DATA, END_HEADERS, H2, HEADERS, Outcome, block};
use crate::world::hello::Hello;
use crate::world::setup::Setup;
use crate::world::upstream::Then;
use crate::world::wire::{Lost, Wire, tcp};
use crate::world::{DEADLINE, F, G, UC, UNIT, World, access, connected, put, wait, wire};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// A filed name under a government suffix, and one below it without a filing of its own.
const TOWN: &str = "town.gov.cn";
const TOWN_UNFILED: &str = "new.town.gov.cn";
const TOWN_NUMBER: &str = "京ICP备20000004号-1";

/// Answers every octet with itself: the server behind `tls_passthrough`.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut chunk) {
                    if stream.write_all(&chunk[..read]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn with_passthrough(setup: Setup) -> Setup {
    setup.listener("tls_passthrough", &format!("upstreams = [\"tcp://{}\"]", echo()))
}

/// An entry of `exceptions` or `block_list`.
fn entry(host: &str) -> String {
    format!("{{ host = \"{host}\", until = \"2099-01-01\", reason = \"r\", owner = \"o\" }}")
}

/// Replaces `[enforcement]`, the config's last table, and waits for the reload to be in force.
fn reload(world: &World, enforcement: &str, (host, verdict): (&str, &str)) {
    let path = world.path("gate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let kept = text.split("[enforcement]").next().unwrap();
    std::fs::write(&path, format!("{kept}[enforcement]\n{enforcement}\n")).unwrap();
    world.process.hang_up();
    world.in_force(host, verdict);
}

fn script(world: &World) {
    world.upstream.echoes("/ws");
    world.upstream.drips("/endless");
    world.upstream.hangs("/hang");
    world.upstream.on("/by-key", |exchange| {
        switch(exchange, GUID);
        while let Some(bytes) = exchange.raw() {
            exchange.send(bytes);
        }
        Then::Close
    });
}

/// Where a client's connections come from.
#[derive(Clone, Copy, Default)]
struct From {
    /// An address of this machine's, else any.
    source: Option<Ipv4Addr>,
    /// Whom a PROXY header names.
    named: Option<Ipv4Addr>,
}

impl From {
    fn connect(self, to: SocketAddr) -> TcpStream {
        let mut stream = match self.source {
            None => tcp(to),
            Some(source) => {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
                socket.connect(&to.into()).unwrap();
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
                socket.into()
            }
        };
        if let Some(named) = self.named {
            stream.write_all(format!("PROXY TCP4 {named} 192.0.2.250 1000 80\r\n").as_bytes()).unwrap();
        }
        stream
    }

    fn clear(self, world: &World) -> Wire {
        Wire::over(Box::new(self.connect(world.http())))
    }

    fn tls(self, world: &World, host: &str) -> Wire {
        let mut stream = self.connect(world.https());
        let connection = handshake(world.tls.config(&["http/1.1"]), &mut stream, Some(host)).unwrap();
        Wire::over(Box::new(rustls::StreamOwned::new(connection, stream)))
    }

    fn passed_through(self, world: &World, host: &str) -> Wire {
        let hello = Hello::of(world.tls.config(&[]), Some(host)).records(16384);
        let mut wire = Wire::over(Box::new(self.connect(world.listener("tls_passthrough", 0))));
        assert_eq!(wire.send(&hello).exactly(hello.len()).unwrap(), hello);
        wire
    }
}

/// One of everything, open for one name.
struct Open {
    host: &'static str,
    tunnels: Vec<Wire>,
    downloads: Vec<Wire>,
    upload: Wire,
    waiting: Wire,
    idle: Wire,
}

impl Open {
    fn new(world: &World, host: &'static str) -> Self {
        Self::of(From::default(), world, host)
    }

    fn of(from: From, world: &World, host: &'static str) -> Self {
        let lanes = || [from.clear(world), from.tls(world, host)];
        let get = |mut wire: Wire, path: &str| {
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n"));
            wire
        };
        let mut tunnels: Vec<Wire> = lanes().into_iter().map(|wire| switched(wire, host)).collect();
        tunnels.push(from.passed_through(world, host));
        let downloads = lanes().into_iter().map(|wire| {
            let mut wire = get(wire, "/endless");
            assert_eq!(wire.head().unwrap().status, 200, "{host}");
            wire
        });
        let downloads = downloads.collect();
        let mut upload = from.clear(world);
        upload.send(format!("POST /up-{host} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 8\r\n\r\nhalf"));
        world.upstream.arrived(&format!("/up-{host}"));
        let waiting = get(from.clear(world), &format!("/hang-{host}"));
        world.upstream.arrived(&format!("/hang-{host}"));
        let mut idle = get(from.clear(world), "/idle");
        assert_eq!(idle.response().unwrap().status, 200);
        Self { host, tunnels, downloads, upload, waiting, idle }
    }

    /// All of it has ended; what had no answer yet got this one.
    #[track_caller]
    fn assert_cut(&mut self, verdict: &str) {
        for (nth, wire) in self.tunnels.iter_mut().chain(&mut self.downloads).enumerate() {
            let (_, end) = wire.rest();
            assert!(matches!(end, Lost::Closed(_) | Lost::Broken(_)), "{nth}: {end:?}");
        }
        for (what, wire) in [("upload", &mut self.upload), ("waiting", &mut self.waiting)] {
            assert_eq!(wire.response().unwrap().verdict(), verdict, "{what}");
        }
        // That request was whole and is answered: its connection serves the next.
        for wire in [&mut self.waiting, &mut self.idle] {
            wire.send(format!("GET /next HTTP/1.1\r\nHost: {}\r\n\r\n", self.host));
            assert_eq!(wire.response().unwrap().verdict(), verdict, "the next request");
        }
    }

    /// All of it goes on.
    #[track_caller]
    fn assert_well(&mut self, world: &World) {
        for (nth, wire) in self.tunnels.iter_mut().enumerate() {
            assert_eq!(wire.send("still").exactly(5), Ok(b"still".to_vec()), "{nth}");
        }
        for wire in &mut self.downloads {
            assert!(wire.exactly(2_000).is_ok());
        }
        assert_eq!(self.upload.send("rest").response().unwrap().status, 200);
        let path = format!("/up-{}", self.host);
        assert_eq!(world.upstream.request(&path).body, b"halfrest");
        self.idle.send(format!("GET /next HTTP/1.1\r\nHost: {}\r\n\r\n", self.host));
        assert_eq!(self.idle.response().unwrap().status, 200);
    }
}

fn switched(mut wire: Wire, host: &str) -> Wire {
    wire.send(format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    ));
    assert_eq!(wire.response().unwrap().status, 101, "{host}");
    assert_eq!(wire.send("ping").exactly(4).unwrap(), b"ping");
    wire
}

/// Streams of both names on one connection: 1, 3 and 9 are the subject's, 5, 7 and 11 the neighbour's.
struct Streams(H2);

impl Streams {
    fn new(world: &World, subject: &str, neighbour: &str) -> Self {
        Self::over(world.connect(), world, subject, neighbour)
    }

    fn over(wire: Wire, world: &World, subject: &str, neighbour: &str) -> Self {
        let mut h2 = H2::start(wire);
        for (stream, host, path) in [
            (1, subject, "/endless"),
            (3, subject, "/hang-h2"),
            (5, neighbour, "/endless"),
            (7, neighbour, "/up-h2"),
        ] {
            let upload = path == "/up-h2";
            let fields = [
                (":method", if upload { "POST" } else { "GET" }),
                (":scheme", "http"),
                (":path", path),
                (":authority", host),
            ];
            let fields = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            let ends = if upload { 0 } else { crate::world::h2::END_STREAM };
            h2.frame(HEADERS, END_HEADERS | ends, stream, &block(&fields));
        }
        h2.frame(DATA, 0, 7, b"half");
        for (stream, host) in [(9, subject), (11, neighbour)] {
            let fields = [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":path", "/by-key"),
                (":authority", host),
                ("sec-websocket-version", "13"),
            ];
            let fields = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            h2.frame(HEADERS, END_HEADERS, stream, &block(&fields));
            assert_eq!(h2.outcome(stream), Outcome::Status(200));
            h2.frame(DATA, 0, stream, b"ping");
            assert!(h2.more(stream));
        }
        world.upstream.arrived("/hang-h2");
        world.upstream.arrived("/up-h2");
        for stream in [1, 5] {
            assert_eq!(h2.outcome(stream), Outcome::Status(200));
        }
        Self(h2)
    }

    /// Its client is the reason: all of both names has ended.
    #[track_caller]
    fn assert_all_cut(&mut self, status: u16) {
        let Self(h2) = self;
        for stream in [1, 5, 9, 11] {
            assert!(matches!(h2.end(stream), Outcome::Reset(_)), "{stream}: {:?}", h2.end(stream));
        }
        for stream in [3, 7] {
            assert_eq!(h2.end(stream), Outcome::Status(status), "{stream}");
        }
    }

    #[track_caller]
    fn assert_cut(&mut self, status: u16) {
        let Self(h2) = self;
        assert!(matches!(h2.end(1), Outcome::Reset(_)), "the download: {:?}", h2.end(1));
        assert_eq!(h2.end(3), Outcome::Status(status), "without an answer so far");
        assert!(matches!(h2.end(9), Outcome::Reset(_)), "the tunnel: {:?}", h2.end(9));
        assert!(h2.more(5), "the neighbour's download goes on");
        h2.frame(DATA, 0, 11, b"still");
        assert!(h2.more(11), "so does its tunnel");
        h2.frame(DATA, crate::world::h2::END_STREAM, 7, b"rest");
        assert_eq!(h2.end(7), Outcome::Status(200), "and so does its upload");
    }
}

/// The subject's verdict once it is not allowed any more.
struct Expected {
    subject: &'static str,
    neighbour: &'static str,
    verdict: &'static str,
    status: u16,
}

impl Expected {
    fn blocked(subject: &'static str, verdict: &'static str) -> Self {
        Self { subject, neighbour: G, verdict, status: 451 }
    }
}

/// Opens one of everything for both, gives the reason, and looks who is cut.
#[track_caller]
fn check(world: &World, expected: &Expected, reason: impl FnOnce(&World)) {
    let Expected { subject, neighbour, verdict, status } = *expected;
    script(world);
    let (mut of_subject, mut of_neighbour) = (Open::new(world, subject), Open::new(world, neighbour));
    let mut streams = Streams::new(world, subject, neighbour);
    reason(world);
    of_subject.assert_cut(verdict);
    streams.assert_cut(status);
    of_neighbour.assert_well(world);
    let hang = format!("/hang-{subject}");
    let line = wait("the log", || world.log().into_iter().find(|line| line["target"] == hang.as_str()));
    assert_eq!((&line["verdict"], &line["status"]), (&verdict.into(), &status.into()), "{line}");
    world.process.assert_running();
}

#[test]
fn filing_cancelled() {
    let world = World::with(with_passthrough);
    check(&world, &Expected::blocked(F, "access_cancelled"), |world| {
        world.put(F, &access(NUMBER, "cancelled"))
    });
}

#[test]
fn filing_deleted() {
    let world = World::with(with_passthrough);
    check(&world, &Expected::blocked(F, "deregistered"), |world| world.delete(F));
}

/// What is served is below the name that was filed.
#[test]
fn filing_cancelled_above() {
    let world = World::with(with_passthrough);
    let expected = Expected::blocked("www.filed.cn", "access_cancelled");
    check(&world, &expected, |world| world.put(F, &access(NUMBER, "cancelled")));
}

/// Units have filings of their own; who has none is under the one above.
#[test]
fn government_filing_cancelled_above() {
    let world = World::with(with_passthrough);
    let expected = Expected { neighbour: UNIT, ..Expected::blocked(TOWN_UNFILED, "access_cancelled") };
    check(&world, &expected, |world| world.put(TOWN, &access(TOWN_NUMBER, "cancelled")));
}

/// A filing nearer to the name appears, and it is no good.
#[test]
fn government_filing_appears_below() {
    let world = World::with(with_passthrough);
    let expected = Expected { neighbour: UNIT, ..Expected::blocked(TOWN_UNFILED, "access_cancelled") };
    check(&world, &expected, |world| world.put(TOWN_UNFILED, &access("京ICP备20000007号-1", "cancelled")));
}

#[test]
fn block_list_by_reload() {
    let world = World::with(|setup| with_passthrough(setup).toml("[enforcement]"));
    check(&world, &Expected::blocked(F, "operator_block"), |world| {
        reload(world, &format!("block_list = [{}]", entry(F)), (F, "operator_block"));
    });
}

#[test]
fn exception_removed_by_reload() {
    let exceptions = format!("[enforcement]\nexceptions = [{}]", entry(UC));
    let world = World::with(|setup| with_passthrough(setup).toml(&exceptions));
    check(&world, &Expected::blocked(UC, "unfiled"), |world| reload(world, "", (UC, "unfiled")));
}

#[test]
fn monitor_mode_ended_by_reload() {
    let world = World::with(|setup| with_passthrough(setup).toml("[enforcement]\nmode = \"monitor\""));
    check(&world, &Expected::blocked(UC, "unfiled"), |world| {
        reload(world, "block_list = [ { host = \"reloaded.cn\" } ]", ("reloaded.cn", "operator_block"));
    });
}

/// Where stale filings block, only what needs none goes on.
#[test]
fn staleness() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), 0);
    put(registry.address, F, &connected(NUMBER));
    let block =
        format!("[enforcement]\nstale_after = \"3s\"\nwhen_stale = \"block\"\nexceptions = [{}]", entry(UC));
    let world =
        follower(tempfile::tempdir().unwrap(), &registry.url(), |setup| with_passthrough(setup).toml(&block));
    world.in_force(F, "allow");
    let expected = Expected { subject: F, neighbour: UC, verdict: "unavailable", status: 503 };
    check(&world, &expected, |_| registry.process.kill());
}

/// A registry with another history, in which the subject has no filing: a whole snapshot, under another key.
#[test]
fn another_epoch() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let made = Registry::start(other.path(), 0);
    put(made.address, G, &connected("京ICP备20000002号-1"));
    made.process.kill();
    let registry = Registry::start(dir.path(), 0);
    for (domain, number) in [(F, NUMBER), (G, "京ICP备20000002号-1")] {
        put(registry.address, domain, &connected(number));
    }
    let world = follower(tempfile::tempdir().unwrap(), &registry.url(), with_passthrough);
    world.in_force(F, "allow");
    world.in_force(G, "allow");
    let mut started = None;
    check(&world, &Expected::blocked(F, "unfiled"), |_| {
        registry.process.kill();
        started = Some(Registry::start(other.path(), registry.address.port()));
        world.in_force(F, "unfiled");
    });
    // Under the new key the index finds what went on, and what came after.
    let registry = started.unwrap();
    let mut of_g = switched(world.connect(), G);
    put(registry.address, G, &access("京ICP备20000002号-1", "cancelled"));
    let (_, end) = of_g.rest();
    assert!(matches!(end, Lost::Closed(_) | Lost::Broken(_)), "{end:?}");
}

/// More changes at once than are remembered: whoever is behind asks of all.
#[test]
fn one_among_very_many_changes() {
    let world = World::with(with_passthrough);
    let line = |i: usize| format!("{{\"domain\":\"bulk-{i}.cn\",\"number\":\"京ICP备3{i:07}号-1\"}}\n");
    check(&world, &Expected::blocked(F, "access_cancelled"), |world| {
        let mut lines: String = (0..9_000).map(line).collect();
        lines += &format!(
            "{{\"domain\":\"{F}\",\"number\":\"{NUMBER}\",\"access\":{{\"example-cloud\":\"cancelled\"}}}}\n"
        );
        lines.extend((9_000..20_000).map(line));
        for part in lines.lines().collect::<Vec<_>>().chunks(10_000) {
            let response =
                wire::ask(world.registry.unwrap(), "POST", "/v1/filings:batch", &(part.join("\n") + "\n"));
            assert!(response.status < 300, "{response:?}");
        }
    });
}

/// A connection whose requests name one host after the other is found under the one that is under way.
#[test]
fn another_name_on_the_same_connection() {
    let world = World::start();
    script(&world);
    let mut wire = world.connect();
    for host in [F, G, F, G] {
        wire.send(format!("GET /before HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(wire.response().unwrap().status, 200);
    }
    let mut wire = switched(wire, G);
    world.cancel(F, NUMBER);
    assert_eq!(wire.send("still").exactly(5).unwrap(), b"still");
    world.put(G, &access("京ICP备20000002号-1", "cancelled"));
    let (_, end) = wire.rest();
    assert!(matches!(end, Lost::Closed(_) | Lost::Broken(_)), "{end:?}");
}

/// An answer is the block page even where the upstream can't be reached yet.
#[test]
fn cut_while_connecting() {
    // Its queue of one is full: further connections wait.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _fill: Vec<_> = (0..8)
        .map(|_| {
            let one = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            one.set_nonblocking(true).unwrap();
            let _ = one.connect(&address.into());
            one
        })
        .collect();
    let site = format!(
        "[[site]]\nhosts = [\"slow.filed.cn\"]\nupstreams = [\"http://{address}\"]\n[site.timeouts]\nconnect = \"60s\""
    );
    let world = World::with(|setup| setup.toml(&site));
    let mut wire = world.connect();
    wire.send("GET /slow HTTP/1.1\r\nHost: slow.filed.cn\r\nAccept: text/plain\r\n\r\n");
    world.cancel(F, NUMBER);
    assert_eq!(wire.response().unwrap().verdict(), "access_cancelled");
}
