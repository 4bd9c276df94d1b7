//! Clients that make the gate wait: every wait ends, and no answer is lost over it.

use super::http2::{fields, open};
use super::{LANES, Lane};
use crate::world::h2::{H2, Outcome, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use crate::world::upstream::Then;
use crate::world::wire::{Lost, Response, Wire};
use crate::world::{DEADLINE, F, U, World, wait};
use serde_json::Value;
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Instant;

const NUMBER: &str = "京ICP备20000001号-1";
/// `SETTINGS_INITIAL_WINDOW_SIZE` = 0.
pub(super) const NO_WINDOW: &[u8] = &[0, 4, 0, 0, 0, 0];

fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n")
}

fn ask(h2: &mut H2, stream: u32, path: &str) {
    h2.request(stream, &fields(&format!(":method=GET|:scheme=http|:path={path}|:authority={F}")));
}

/// The log's lines with that path, once there are any.
#[track_caller]
fn logged(world: &World, path: &str) -> Vec<Value> {
    wait(&format!("a line for {path}"), || {
        let lines: Vec<_> = world.log().into_iter().filter(|line| line["target"] == path).collect();
        (!lines.is_empty()).then_some(lines)
    })
}

/// The one connection that answers without end is let go by the gate.
#[track_caller]
fn assert_let_go(world: &World, still_open: usize) {
    wait("the upstream to be let go", || (world.upstream.open() == still_open).then_some(()));
}

pub(super) fn endless(world: &World) {
    world.upstream.on("/endless", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n");
        while exchange.send([b'x'; 64 * 1024]) {}
        Then::Close
    });
}

/// The same in chunks: what comes behind a small one waits with it.
fn endless_chunks(world: &World) {
    world.upstream.on("/chunks", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while exchange.send(b"5\r\nhello\r\n".repeat(8 * 1024)) {}
        Then::Close
    });
}

fn is_over(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Status(_) | Outcome::Lost(Lost::Silent(_)))
}

fn is_closed(end: &Lost) -> bool {
    matches!(end, Lost::Closed(_) | Lost::Broken(_))
}

/// A stream that hangs for want of a window, its head read.
#[track_caller]
fn without_window(world: &World, lane: Lane) -> H2 {
    let mut h2 = open(world, lane);
    h2.frame(SETTINGS, 0, 0, NO_WINDOW);
    ask(&mut h2, 1, "/endless");
    assert_eq!(h2.outcome(1), Outcome::Status(200));
    h2
}

#[test]
fn no_window() {
    let world = World::with(|setup| setup.site("[site.timeouts]\nidle = \"1s\""));
    endless(&world);
    for lane in LANES {
        let mut h2 = without_window(&world, lane);
        let since = Instant::now();
        ask(&mut h2, 3, "/other");
        h2.frame(WINDOW_UPDATE, 0, 3, &1_000_000_u32.to_be_bytes());
        assert_eq!(h2.end(3), Outcome::Status(200), "{lane:?}: a stream with a window");
        let end = h2.end(1);
        assert!(is_over(&end) && since.elapsed() < DEADLINE / 2, "{lane:?}: {end:?}");
        assert_let_go(&world, 1);
        let lines = logged(&world, "/endless");
        assert!(lines.iter().all(|line| line["verdict"] == "client_gone"), "{lines:?}");
        if matches!(end, Outcome::Reset(_)) {
            ask(&mut h2, 5, "/after");
            h2.frame(WINDOW_UPDATE, 0, 5, &1_000_000_u32.to_be_bytes());
            assert_eq!(h2.end(5), Outcome::Status(200), "{lane:?}: the connection goes on");
        }
    }
    world.assert_well();
}

#[test]
fn cancelled_without_window() {
    for lane in LANES {
        let world = World::start();
        endless(&world);
        let mut h2 = without_window(&world, lane);
        world.cancel(F, NUMBER);
        let end = h2.end(1);
        assert!(is_over(&end), "{lane:?}: {end:?}");
        assert_let_go(&world, 0);
        assert_eq!(logged(&world, "/endless")[0]["verdict"], "unavailable", "{lane:?}");
        world.process.assert_running();
    }
}

#[test]
fn reset_while_the_upstream_thinks() {
    let world = World::start();
    world.upstream.hangs("/never");
    for (lane, path) in LANES.into_iter().zip(["/never-1", "/never-2"]) {
        let mut h2 = open(&world, lane);
        ask(&mut h2, 1, path);
        world.upstream.arrived(path);
        h2.frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
        assert_let_go(&world, 0);
        let lines = logged(&world, path);
        assert_eq!((lines.len(), &lines[0]["verdict"]), (1, &"client_gone".into()), "{lane:?}: {lines:?}");
        ask(&mut h2, 3, "/after");
        assert_eq!(h2.end(3), Outcome::Status(200), "{lane:?}");
    }
    world.assert_well();
}

/// Clients that read nothing, each with as many streams as it may have, whether the gate may send or not, and whether
/// it is an upstream that answers or the gate itself.
#[test]
fn a_client_that_reads_nothing_costs_little() {
    const MORE: usize = 5;
    // Promised to clients that send no bodies.
    const MOST_BYTES: usize = 1 << 20;
    for (host, path, window) in [
        (F, "/endless", 0),
        (F, "/chunks", 0),
        (F, "/endless", u32::MAX >> 1),
        (F, "/chunks", u32::MAX >> 1),
        (U, "/endless", 0),
    ] {
        let world = World::with(|setup| setup.toml("[limits]\nheader_timeout = \"60s\""));
        endless(&world);
        endless_chunks(&world);
        let mut clients = Vec::new();
        let mut begin = || {
            let mut h2 = open(&world, Lane::Clear);
            h2.frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat());
            let streams = (0..100).map(|stream| stream * 2 + 1);
            for stream in streams.clone() {
                let text = format!(":method=GET|:scheme=http|:path={path}|:authority={host}");
                h2.request(stream, &fields(&text));
            }
            if host == U {
                let is_blocked = |stream| h2.outcome(stream) == Outcome::Status(451);
                assert!(streams.clone().all(is_blocked), "each has its head");
            }
            clients.push(h2);
            let upstreams = if host == U { 0 } else { clients.len() * 100 };
            wait("it to be under way", || (world.upstream.open() == upstreams).then_some(()));
            settled(|| world.process.memory())
        };
        // The first is for what a worker keeps from then on.
        let before = begin();
        let after = (0..MORE).map(|_| begin()).max().unwrap();
        let each = after.saturating_sub(before) / MORE;
        let what = format!("{host}{path}, window {window}: {each} octets for one connection");
        eprintln!("{what}");
        assert!(each < MOST_BYTES, "{what}");
        drop(clients);
        assert_let_go(&world, 0);
        world.assert_well();
    }
}

/// A page that its client takes in pieces is the page that it began as, whatever is in force by then.
#[test]
fn a_page_in_pieces() {
    let world = World::with(|setup| {
        setup.first("reload_on_change = true").toml("[block_page]\nname = \"the one before\"")
    });
    let mut h2 = open(&world, Lane::Clear);
    let blocked = fields(&format!(":method=GET|:scheme=http|:path=/|:authority={U}|accept=text/html"));
    h2.request(1, &blocked);
    assert_eq!(h2.end(1), Outcome::Status(451));
    h2.frame(SETTINGS, 0, 0, NO_WINDOW);
    h2.request(3, &blocked);
    assert_eq!(h2.outcome(3), Outcome::Status(451));
    let path = world.path("gate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("the one before", "another, with a longer name")).unwrap();
    wait("the page to be another", || world.get(U, "/").text().contains("another, with").then_some(()));
    for octets in [1, 2, 1000, 100] {
        h2.frame(WINDOW_UPDATE, 0, 3, &u32::to_be_bytes(octets));
        assert!(h2.more(3), "{octets} more");
    }
    assert_eq!(h2.body(3).len(), 1103);
    h2.frame(WINDOW_UPDATE, 0, 3, &100_000_u32.to_be_bytes());
    assert_eq!(h2.end(3), Outcome::Status(451));
    let (whole, pieces) = (h2.body(1), h2.body(3));
    assert_eq!(whole.len(), pieces.len());
    assert!(String::from_utf8_lossy(whole).contains("the one before"));
    // Each has an id of its own, in hexadecimal.
    let is_alike =
        |(one, other): (&u8, &u8)| one == other || [one, other].iter().all(|it| it.is_ascii_hexdigit());
    assert!(whole.iter().zip(pieces).all(is_alike), "{}", String::from_utf8_lossy(pieces));
    world.assert_well();
}

/// A number once it has stopped growing for a while.
fn settled(number: impl Fn() -> usize) -> usize {
    let mut last = (number(), 0);
    wait("memory to settle", || {
        let now = number();
        last = if now > last.0 { (now, 0) } else { (last.0, last.1 + 1) };
        (last.1 >= 200).then_some(now)
    })
}

/// What is no request has nothing of the request before it.
#[test]
fn garbage_after_head() {
    let world = World::start();
    let head = format!("HEAD /x HTTP/1.1\r\nHost: {F}\r\n\r\n");
    for is_at_once in [false, true] {
        let mut wire = world.connect();
        wire.send(if is_at_once { head.clone() + "\0garbage\r\n\r\n" } else { head.clone() });
        assert_eq!(wire.response_to("HEAD").unwrap().status, 200);
        if !is_at_once {
            wire.send("\0garbage\r\n\r\n");
        }
        let refused = wire.response().unwrap();
        assert!(refused.status == 400 && !refused.body.is_empty(), "{refused:?}");
        let (surplus, end) = wire.rest();
        assert!(surplus.is_empty() && is_closed(&end), "{surplus:?} {end:?}");
    }
    let lines = wait("four lines", || Some(world.log()).filter(|lines| lines.len() == 4));
    for line in lines.iter().filter(|line| line["status"] == 400) {
        assert!(!line.to_string().contains("/x") && !line.to_string().contains(F), "{line}");
    }
    assert_eq!(logged(&world, "/x").len(), 2);
    world.assert_well();
}

#[test]
fn blocked_by_the_thousand_and_read_late() {
    let world = World::start();
    let mut wire = world.connect();
    wire.send((0..2000).map(|i| request(U, &format!("/{i}"))).collect::<String>());
    for i in 0..2000 {
        let response = wire.response().unwrap_or_else(|lost| panic!("answer {i}: {lost:?}"));
        assert_eq!(response.status, 451, "answer {i}");
    }
    let lines = wait("their lines", || Some(world.log()).filter(|lines| lines.len() == 2000));
    let in_order = lines.iter().enumerate().all(|(i, line)| line["target"] == format!("/{i}"));
    assert!(in_order, "each once, in order");
    world.upstream.assert_only(&[]);
    world.assert_well();
}

/// A client that takes little at once: what it was not given yet stays with the gate.
pub(super) fn narrow(world: &World) -> Wire {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.connect(&world.http().into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    Wire::over(Box::new(stream))
}

/// Octets that nobody reads make the system reset a connection that is closed over them.
#[test]
fn a_last_answer_read_slowly() {
    const LENGTH: usize = 2 << 20;
    let world = World::start();
    world.upstream.on("/last", |exchange| exchange.answer("200 OK", vec![b'x'; LENGTH]));
    let mut wire = narrow(&world);
    wire.send(format!("GET /last HTTP/1.1\r\nHost: {F}\r\nConnection: close\r\n\r\n\r\n"));
    let head = wire.head().unwrap();
    assert_eq!((head.status, head.header("connection")), (200, Some("close")));
    let mut taken = 0;
    // `wait` pauses between two looks: a slow reader.
    wait("the whole answer", || {
        taken += wire.exactly(32 * 1024).unwrap_or_else(|lost| panic!("{lost:?} after {taken}")).len();
        (taken == LENGTH).then_some(())
    });
    let (surplus, end) = wire.rest();
    assert!(surplus.is_empty() && is_closed(&end), "{end:?}");
    world.assert_well();
}

/// The same where a connection carries no more: its client goes on sending what it has to say about the last answer.
#[test]
fn a_last_answer_over_http2_read_slowly() {
    let world = World::with(|setup| setup.toml("[limits]\nrequests_per_connection = 1"));
    world.upstream.on("/last", |exchange| exchange.answer("200 OK", vec![b'x'; 2 << 20]));
    let mut h2 = H2::start(narrow(&world));
    h2.frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    ask(&mut h2, 1, "/last");
    h2.told_to_go();
    wait("the whole answer", || {
        h2.frame(PING, 0, 0, b"and more");
        (!h2.more(1)).then_some(())
    });
    assert_eq!(h2.end(1), Outcome::Status(200));
    world.assert_well();
}

const BEHIND_A_BALANCER: &str = "proxy_protocol = \"required\"\ntrusted_peers = [\"127.0.0.0/8\"]";

fn named(world: &World, client: &str) -> Wire {
    let mut wire = world.connect();
    wire.send(format!("PROXY TCP4 {client} 192.0.2.250 1000 80\r\n"));
    wire
}

#[test]
fn a_balancer_s_clients_are_counted_one_by_one() {
    let limits = "[limits]\nconnections_per_client = 2";
    let world = World::with(|setup| setup.http(BEHIND_A_BALANCER).toml(limits));
    let ask = |wire: &mut Wire| wire.send(request(F, "/counted")).response();
    let mut held = Vec::new();
    for client in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        for _ in 0..2 {
            let mut wire = named(&world, client);
            assert_eq!(ask(&mut wire).unwrap().status, 200, "{client}");
            held.push(wire);
        }
    }
    let third = ask(&mut named(&world, "203.0.113.2"));
    assert!(third.as_ref().is_err_and(is_closed), "{third:?}");
    drop(held.remove(2));
    wait("a place given back", || ask(&mut named(&world, "203.0.113.2")).ok());
    assert!(held.iter_mut().all(|wire| ask(wire).is_ok_and(|one| one.status == 200)), "the others go on");
}

/// The balancer is believed, not who comes through it.
#[test]
fn a_balancer_s_client_forges_nothing() {
    let world = World::with(|setup| setup.http(BEHIND_A_BALANCER));
    let forged = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: unfiled.cn\r\n\
                  Forwarded: for=127.0.0.1;proto=https;host=unfiled.cn\r\n";
    let mut wire = named(&world, "203.0.113.9");
    wire.send(format!("GET /forged HTTP/1.1\r\nHost: {F}\r\n{forged}\r\n"));
    assert_eq!(wire.response().unwrap().status, 200);
    let seen = world.upstream.request("/forged");
    assert_eq!(seen.all("x-forwarded-for"), ["203.0.113.9"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), [F]);
    assert_eq!(seen.all("forwarded"), ["for=203.0.113.9;host=filed.cn;proto=http"]);
}

/// A head that has begun is under `header_timeout`, whichever request of its connection it is.
#[test]
fn heads_that_never_end() {
    let world = World::with(|setup| setup.toml("[limits]\nheader_timeout = \"1s\""));
    let begun = ["\r\nG", "P", "PRI * HT", "G", "\r", "GET / HTTP/1.1\r\nHost: filed.cn\r\n"];
    let mut wires = begun.map(|bytes| {
        let mut wire = world.connect();
        assert_eq!(wire.send(request(F, "/good")).response().unwrap().status, 200);
        wire.send(bytes);
        wire
    });
    for (wire, bytes) in wires.iter_mut().zip(begun) {
        let response = wire.response();
        let is_right = |one: &Response| one.status == 408 && one.header("connection") == Some("close");
        assert!(
            response.as_ref().map_or_else(is_closed, is_right) && is_closed(&wire.rest().1),
            "{bytes:?}: {response:?}"
        );
    }
    world.assert_well();
}

#[test]
fn half_closed() {
    let world = World::start();
    let barrier = std::sync::Arc::new(Barrier::new(2));
    let of_upstream = std::sync::Arc::clone(&barrier);
    world.upstream.on("/slow", move |exchange| {
        of_upstream.wait();
        exchange.answer("200 OK", "late")
    });
    for lane in LANES {
        let path = format!("/slow-{lane:?}");
        let mut wire = match lane {
            Lane::Clear => world.connect(),
            Lane::Tls => world.tls(Some(F), &["http/1.1"]).unwrap(),
        };
        wire.send(request(F, &path)).half_close();
        world.upstream.arrived(&path);
        barrier.wait();
        assert_eq!(wire.response().unwrap().text(), "late", "{lane:?}");
        assert!(is_closed(&wire.rest().1), "{lane:?}");
    }
    world.assert_well();
}

/// Gone while the upstream thinks, and in the middle of its answer.
#[test]
fn gone() {
    let world = World::start();
    endless(&world);
    world.upstream.hangs("/never");
    let mut wire = world.connect();
    wire.send(request(F, "/never"));
    world.upstream.arrived("/never");
    drop(wire);
    assert_let_go(&world, 0);
    assert_eq!(logged(&world, "/never")[0]["verdict"], "client_gone");
    let mut wire = world.connect();
    assert_eq!(wire.send(request(F, "/endless")).head().unwrap().status, 200);
    drop(wire);
    assert_let_go(&world, 0);
    assert_eq!(logged(&world, "/endless").len(), 1);
    world.assert_well();
}

/// An upstream that has heard enough, and keeps its connection.
#[test]
fn answered_before_the_body_came() {
    let world = World::start();
    for (path, body) in [("/early-empty", ""), ("/early-page", "too large")] {
        world.upstream.on(path, move |exchange| {
            exchange.some_body();
            exchange.send(format!(
                "HTTP/1.1 413 Content Too Large\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            Then::Keep
        });
        let mut wire = world.connect();
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: {F}\r\nContent-Length: 50000000\r\n\r\nsome"));
        let early = wire.response().unwrap_or_else(|lost| panic!("{path}: {lost:?}"));
        assert_eq!((early.status, early.text().as_str()), (413, body), "{path}");
        assert_eq!(early.header("connection"), Some("close"), "{path}");
        assert_let_go(&world, 0);
        wire.half_close();
        let (surplus, end) = wire.rest();
        assert!(surplus.is_empty() && is_closed(&end), "{path}: {end:?}");
    }
    world.assert_well();
}
