//! Section 4: time. One connection, many requests; each is decided alone, by what is in force when it comes.

use crate::world::upstream::Then;
use crate::world::wire::{Lost, Wire, tcp};
use crate::world::{F, G, U, World, access, wait};
use std::io::Write;

const NUMBER: &str = "京ICP备20000001号-1";

fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n")
}

/// What each of these hosts gets, in order, sent whole or one by one.
#[track_caller]
fn check(hosts: &[&str], statuses: &[u16]) {
    let world = World::start();
    let mut in_pieces = world.connect();
    let mut whole = world.connect();
    whole.send(hosts.iter().map(|host| request(host, "/k")).collect::<String>());
    for (host, status) in hosts.iter().zip(statuses) {
        assert_eq!(
            in_pieces.send(request(host, "/k")).response().unwrap().status,
            *status,
            "{host}, in pieces"
        );
        assert_eq!(whole.response().unwrap().status, *status, "{host}, whole");
    }
    world.upstream.assert_only(&[F, G]);
    let allowed = statuses.iter().filter(|status| **status == 200).count() * 2;
    assert_eq!(world.upstream.requests().len(), allowed);
}

#[test]
fn filed_and_unfiled_in_turn() {
    check(&[F, U], &[200, 451]);
    check(&[U, F], &[451, 200]);
    check(&[F, U, F, G, "127.0.0.1", F, U, U, F], &[200, 451, 200, 200, 451, 200, 451, 451, 200]);
}

/// Octet by octet, the same as at once.
#[test]
fn drip_fed() {
    let world = World::start();
    let mut wire = world.connect();
    for byte in (request(F, "/a") + &request(U, "/b") + &request(F, "/c")).bytes() {
        wire.send([byte]);
    }
    let statuses: Vec<u16> = (0..3).map(|_| wire.response().unwrap().status).collect();
    assert_eq!(statuses, [200, 451, 200]);
}

#[test]
fn thousands_pipelined() {
    let world = World::start();
    let hosts: Vec<&str> = (0..3000).map(|i| if i * i % 7 < 3 { F } else { U }).collect();
    let requests: String =
        hosts.iter().enumerate().map(|(i, host)| request(host, &format!("/{i}"))).collect();
    let stream = tcp(world.http());
    let mut sending = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || sending.write_all(requests.as_bytes()));
    let mut wire = Wire::over(Box::new(stream));
    for (i, host) in hosts.iter().enumerate() {
        let response = wire.response().unwrap();
        assert_eq!(response.status, if *host == F { 200 } else { 451 }, "request {i}");
        assert!(*host == U || response.text() == format!("GET /{i}"), "in order");
    }
    sender.join().unwrap().unwrap();
    world.upstream.assert_only(&[F]);
    assert_eq!(world.upstream.requests().len(), hosts.iter().filter(|host| **host == F).count());
}

#[test]
fn cancelled_between_two_requests() {
    let world = World::start();
    let mut clear = world.connect();
    let mut tls = world.tls(Some(F), &["http/1.1"]).unwrap();
    for wire in [&mut clear, &mut tls] {
        assert_eq!(wire.send(request(F, "/before")).response().unwrap().status, 200);
    }
    world.cancel(F, NUMBER);
    for wire in [&mut clear, &mut tls] {
        // Blocked, or ended: an idle connection of a cancelled name may be closed.
        match wire.send(request(F, "/after")).response() {
            Ok(response) => assert_eq!(response.verdict(), "access_cancelled"),
            Err(lost) => assert!(matches!(lost, Lost::Closed(_) | Lost::Broken(_)), "{lost:?}"),
        }
    }
    assert!(world.upstream.heads().iter().all(|one| one.target != "/after"));
}

#[test]
fn filed_between_two_requests() {
    let world = World::start();
    let mut wire = world.connect();
    assert_eq!(wire.send(request(U, "/before")).response().unwrap().status, 451);
    world.file(U, "京ICP备20000009号-1");
    assert_eq!(wire.send(request(U, "/after")).response().unwrap().status, 200);
    world.upstream.request("/after");
}

/// An endless answer under way is cut by name; another name's goes on.
#[test]
fn cancelled_with_an_open_download() {
    let world = World::start();
    world.upstream.on("/endless", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while exchange.send("5\r\nhello\r\n") {
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        Then::Close
    });
    let mut of_f = world.connect();
    let mut of_g = world.connect();
    assert_eq!(of_f.send(request(F, "/endless")).head().unwrap().status, 200);
    assert_eq!(of_g.send(request(G, "/endless")).head().unwrap().status, 200);
    world.cancel(F, NUMBER);
    let (_, end) = of_f.rest();
    assert!(matches!(end, Lost::Closed(_) | Lost::Broken(_)), "{end:?}");
    assert!(of_g.exactly(2_000).is_ok(), "another name's answer goes on");
    wait("the upstream of F to be let go", || (world.upstream.open() == 1).then_some(()));
}

#[test]
fn cancelled_with_an_open_websocket() {
    let world = World::start();
    world.upstream.echoes("/ws");
    let open = |host: &str| {
        let mut wire = world.connect();
        wire.send(format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        ));
        assert_eq!(wire.response().unwrap().status, 101, "{host}");
        assert_eq!(wire.send("ping").exactly(4).unwrap(), b"ping");
        wire
    };
    let (mut of_f, mut of_g) = (open(F), open(G));
    world.put(F, &access(NUMBER, "cancelled"));
    let (_, end) = of_f.rest();
    assert!(matches!(end, Lost::Closed(_) | Lost::Broken(_)), "{end:?}");
    assert_eq!(of_g.send("still").exactly(5).unwrap(), b"still");
}

/// An upload under way is cut too: the rest of it goes nowhere.
#[test]
fn cancelled_with_an_open_upload() {
    let world = World::start();
    let upload = |host: &str| {
        let mut wire = world.connect();
        wire.send(format!("POST /up-{host} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 8\r\n\r\nhalf"));
        world.upstream.arrived(&format!("/up-{host}"));
        wire
    };
    let (mut of_f, mut of_g) = (upload(F), upload(G));
    world.put(F, &access(NUMBER, "cancelled"));
    wait("the upstream of F to be let go", || (world.upstream.open() == 1).then_some(()));
    let answer = of_f.send("rest").response();
    assert!(answer.as_ref().map_or(true, |one| matches!(one.status, 451 | 503)), "{answer:?}");
    assert_eq!(of_g.send("rest").response().unwrap().status, 200);
    assert_eq!(world.upstream.request(&format!("/up-{G}")).body, b"halfrest");
    assert!(world.upstream.requests().iter().all(|one| one.host() == G));
}

/// A connection that is silent for long holds next to nothing, and is served all the same when its next request comes:
/// decided by what is in force then.
#[test]
fn after_a_silence() {
    let world = World::start();
    let silent = || world.metric("beian_gate_connections_silent");
    let mut fresh = world.connect();
    let mut used = [world.connect(), world.tls(Some(F), &["http/1.1"]).unwrap()];
    for wire in &mut used {
        assert_eq!(wire.send(request(F, "/before")).response().unwrap().status, 200);
    }
    wait("all to be silent", || (silent() == 3).then_some(()));
    for wire in used.iter_mut().chain([&mut fresh]) {
        wire.send(request(F, "/after") + &request(F, "/behind"));
        let statuses: Vec<_> = (0..2).map(|_| wire.response().unwrap().status).collect();
        assert_eq!(statuses, [200, 200]);
    }
    wait("all to be silent again", || (silent() == 3).then_some(()));
    world.cancel(F, NUMBER);
    for wire in used.iter_mut().chain([&mut fresh]) {
        assert_eq!(wire.send(request(F, "/cancelled")).response().unwrap().verdict(), "access_cancelled");
    }
    drop((used, fresh));
    wait("none to be left", || (silent() == 0).then_some(()));
    assert_eq!(world.upstream.requests().len(), 2 + 2 * 3);
}
