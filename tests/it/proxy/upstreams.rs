//! The other side: connections kept, faults told, nothing done twice.

use crate::world::upstream::{Then, Upstream};
use crate::world::{F, G, World, wait};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

#[test]
fn connections_are_kept() {
    let world = World::start();
    for i in 0..50 {
        assert_eq!(world.get(if i % 2 == 0 { F } else { G }, "/").status, 200);
    }
    let mut wire = world.connect();
    for _ in 0..50 {
        wire.send(format!("GET / HTTP/1.1\r\nHost: {F}\r\n\r\n")).response().unwrap();
    }
    assert_eq!(world.upstream.requests().len(), 100);
    assert!(
        world.upstream.connections() <= 3,
        "{} connections for 100 requests",
        world.upstream.connections()
    );
}

#[test]
fn close_is_obeyed() {
    let world = World::start();
    let mut wire = world.connect();
    let response =
        wire.send(format!("GET / HTTP/1.1\r\nHost: {F}\r\nConnection: close\r\n\r\n")).response().unwrap();
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(wire.rest().0, b"");
    let mut wire = world.connect();
    wire.send(format!("GET / HTTP/1.0\r\nHost: {F}\r\n\r\n")).response().unwrap();
    assert_eq!(wire.rest().0, b"");
}

/// A port that nobody listens on.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("\"http://{}\"", listener.local_addr().unwrap())
}

#[test]
fn refuses() {
    let refusing = format!("[[site]]\nhosts = [\"down.filed.cn\"]\nupstreams = [{}]", nobody());
    let world = World::with(|setup| setup.toml(&refusing));
    let response = world.get("down.filed.cn", "/");
    assert_eq!((response.status, response.verdict()), (502, "upstream_error"));
    assert!(response.header("beian-verdict-id").is_some());
    let refused = world.send("POST / HTTP/1.1\r\nHost: down.filed.cn\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(refused.status, 502);
    world.assert_well();
}

/// One of two is down: clients don't notice.
#[test]
fn one_of_two_refuses() {
    let world = World::with(|setup| {
        let both = format!(
            "[[site]]\nhosts = [\"two.filed.cn\"]\nupstreams = [{}, \"http://{}\"]",
            nobody(),
            setup.upstream
        );
        setup.toml(&both)
    });
    for _ in 0..20 {
        assert_eq!(world.get("two.filed.cn", "/").status, 200);
    }
}

#[test]
fn hangs() {
    let world = World::with(|setup| setup.site("[site.timeouts]\nresponse = \"300ms\""));
    world.upstream.hangs("/hang");
    let since = Instant::now();
    let response = world.get(F, "/hang");
    assert_eq!((response.status, response.verdict()), (504, "upstream_timeout"));
    assert!(since.elapsed().as_secs() < 5, "{:?}", since.elapsed());
    world.assert_well();
}

/// A kept connection that the upstream closes meanwhile: a GET is sent again, a POST is not sent twice.
#[test]
fn stale_connections() {
    let world = World::start();
    let count = Arc::new(AtomicUsize::new(0));
    let of_script = Arc::clone(&count);
    world.upstream.on("/count", move |exchange| {
        exchange.body();
        of_script.fetch_add(1, Ordering::SeqCst);
        Then::Close
    });
    world.upstream.on("/last", |exchange| {
        exchange.answer("200 OK", "last");
        Then::Close
    });
    for _ in 0..20 {
        assert_eq!(world.get(F, "/last").status, 200, "a new request after the upstream has closed");
    }
    let post = format!("POST /count HTTP/1.1\r\nHost: {F}\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(world.send(&post).status, 502);
    // Not at all where it went to a kept connection that was ending.
    assert!(count.load(Ordering::SeqCst) <= 1, "nothing non-idempotent is retried");
}

#[test]
fn resets_in_the_middle() {
    let world = World::start();
    world.upstream.on("/reset", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf");
        Then::Close
    });
    let lost = world.connect().send(format!("GET /reset HTTP/1.1\r\nHost: {F}\r\n\r\n")).response();
    assert!(lost.is_err(), "never a body that looks whole: {lost:?}");
    world.assert_well();
}

/// Kinds of the timers that the system keeps for connections to that port (`/proc/net/tcp`): 02 asks silent peers.
fn timers(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let to_port = rows.filter(|row| row[2].ends_with(&format!(":{port:04X}")) && row[3] == "01");
    to_port.map(|row| row[5][..2].to_owned()).collect()
}

#[test]
fn silent_servers_are_asked_after_where_the_operator_says() {
    let (asked, other) = (Upstream::start(), Upstream::start());
    let world = World::with(|setup| {
        let site = |name: &str, upstream: &Upstream, more: &str| {
            let address = upstream.address;
            format!("[[site]]\nhosts = [\"{name}.filed.cn\"]\nupstreams = [\"http://{address}\"]\n{more}\n")
        };
        setup
            .toml(&site("asked", &asked, "tcp_keepalive = \"60s\"\ntcp_user_timeout = \"20s\""))
            .toml(&site("other", &other, ""))
    });
    for name in ["asked", "other"] {
        assert_eq!(world.get(&format!("{name}.filed.cn"), "/").status, 200);
    }
    // While what was sent waits for its acknowledgement the timer is another one.
    wait("the timer", || (timers(asked.address.port()) == ["02"]).then_some(()));
    wait("none", || (timers(other.address.port()) == ["00"]).then_some(()));
}
