//! WebSocket and its like: a tunnel once the upstream has switched, and not before.

use crate::world::upstream::Then;
use crate::world::wire::Wire;
use crate::world::{F, World, wait};

fn with_echo() -> World {
    let world = World::start();
    world.upstream.on("/ws", |exchange| {
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n",
        );
        while let Some(bytes) = exchange.raw() {
            exchange.send(bytes);
        }
        Then::Close
    });
    world
}

fn ask(wire: &mut Wire, path: &str) -> u16 {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {F}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    wire.send(request).response().unwrap().status
}

#[test]
fn both_ways_in_clear_and_tls() {
    let world = with_echo();
    for mut wire in [world.connect(), world.tls(Some(F), &["http/1.1"]).unwrap()] {
        assert_eq!(ask(&mut wire, "/ws"), 101);
        for size in [1, 100, 50_000] {
            assert_eq!(wire.send(vec![b'x'; size]).exactly(size).unwrap(), vec![b'x'; size]);
        }
    }
    let seen = world.upstream.heads().remove(0);
    assert_eq!(seen.header("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    assert!(seen.header("connection").is_some_and(|value| value.to_lowercase().contains("upgrade")));
    assert_eq!(seen.header("sec-websocket-key"), Some("x"));
}

/// What looks like a request inside a tunnel is payload.
#[test]
fn requests_inside_are_payload() {
    let world = with_echo();
    let mut wire = world.connect();
    assert_eq!(ask(&mut wire, "/ws"), 101);
    let payload = "GET /hidden HTTP/1.1\r\nHost: unfiled.cn\r\n\r\n";
    assert_eq!(wire.send(payload).exactly(payload.len()).unwrap(), payload.as_bytes());
    assert_eq!(world.upstream.heads().len(), 1);
}

#[test]
fn refused_switches_are_ordinary_answers() {
    let world = World::start();
    let mut wire = world.connect();
    assert_eq!(ask(&mut wire, "/plain"), 200);
    assert_eq!(world.upstream.requests().len(), 1);
}

#[test]
fn ends_travel() {
    let world = with_echo();
    let mut wire = world.connect();
    assert_eq!(ask(&mut wire, "/ws"), 101);
    drop(wire);
    wait("the upstream to be let go", || (world.upstream.open() == 0).then_some(()));
    world.upstream.answers(
        "/ws-short",
        "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbye",
        Then::Close,
    );
    let mut wire = world.connect();
    assert_eq!(ask(&mut wire, "/ws-short"), 101);
    assert_eq!(wire.rest().0, b"bye");
}
