//! Section 3, from the other side: an upstream that breaks the rules. The client gets 502 or a clean response,
//! the connection to the upstream is dropped, the next client notices nothing.

use super::octets;
use crate::world::upstream::Then;
use crate::world::wire::{Lost, Response, Wire};
use crate::world::{F, World, wait};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the client may see.
#[derive(Debug, Clone, Copy)]
enum Seen {
    /// 502 with `upstream_error`.
    Error,
    /// This response, whole, and nothing after it.
    Clean(u16, &'static str),
    /// `Clean` or `Error`.
    Either(u16, &'static str),
    /// A head, but never a body that looks whole.
    Cut,
}

use Seen::{Clean, Cut, Either, Error};

/// Each row: the request's method, the upstream's raw answer, what the client may see.
#[track_caller]
fn check(rows: &[(&str, &str, Seen)], then: Then) {
    let world = World::start();
    let mut wrong = Vec::new();
    for (index, (method, raw, seen)) in rows.iter().enumerate() {
        let path = format!("/fault-{index}-");
        world.upstream.answers(&path, octets(raw), then);
        let mut wire = world.connect();
        wire.send(format!("{method} {path} HTTP/1.1\r\nHost: {F}\r\nX-Padding: y\r\n\r\n"));
        let got = wire.response_to(method);
        if let Err(why) = judge(*seen, &got, &mut wire) {
            wrong.push(format!("{method} {raw:?}\n    expected {seen:?}: {why}"));
        }
        // The next client, most likely over the same pool.
        world.assert_well();
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert_dropped(&world);
}

fn judge(seen: Seen, got: &Result<Response, Lost>, wire: &mut Wire) -> Result<(), String> {
    let is_error = got.as_ref().is_ok_and(|one| one.status == 502 && one.verdict() == "upstream_error");
    let is_clean = |status, body| got.as_ref().is_ok_and(|one| one.status == status && one.text() == body);
    let right = match seen {
        Error => is_error,
        Clean(status, body) => is_clean(status, body),
        Either(status, body) => is_error || is_clean(status, body),
        Cut => matches!(got, Err(Lost::Closed(_) | Lost::Broken(_))) || is_error,
    };
    if !right {
        return Err(format!("got {got:?}"));
    }
    if got.is_err() {
        return Ok(());
    }
    wire.half_close();
    let (surplus, end) = wire.rest();
    let silent = matches!(end, Lost::Silent(_));
    if surplus.is_empty() && !silent { Ok(()) } else { Err(format!("surplus {surplus:?}, {end:?}")) }
}

/// No later request came on a connection that had answered wrongly.
#[track_caller]
fn assert_dropped(world: &World) {
    let seen = world.upstream.heads();
    for (index, fault) in seen.iter().enumerate().filter(|(_, one)| one.target.starts_with("/fault-")) {
        let later = seen[index + 1..].iter().find(|one| one.connection == fault.connection);
        assert!(later.is_none(), "{later:?} after {fault:?}");
    }
}

#[test]
fn heads() {
    check(
        &[
            ("GET", "HTTP/1.1 101 Switching Protocols⏎Connection: Upgrade⏎Upgrade: websocket⏎⏎", Error),
            ("GET", "HTTP/1.1 101 Switching Protocols⏎⏎HTTP/1.1 200 OK⏎Content-Length: 4⏎⏎evil", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: 5⏎Transfer-Encoding: chunked⏎⏎0⏎⏎", Error),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎Content-Length: 5⏎⏎5⏎hello⏎0⏎⏎", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: 5⏎Content-Length: 4⏎⏎hello", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: 5, 4⏎⏎hello", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: +5⏎⏎hello", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: -5⏎⏎hello", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: 0x5⏎⏎hello", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: 5 5⏎⏎hello", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length:⏎⏎hello", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: 99999999999999999999⏎⏎hello", Error),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: gzip⏎⏎hello", Error),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: gzip, chunked⏎⏎0⏎⏎", Error),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎Transfer-Encoding: chunked⏎⏎0⏎⏎", Error),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: xchunked⏎⏎0⏎⏎", Error),
            ("GET", "HTTP/1.1 200 OK␊Content-Length: 2␊␊ok", Error),
            ("GET", "HTTP/1.1 200 OK⏎X: a␊Y: b⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 200 OK⏎X: a␍Y: b⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 200 OK⏎X: a␀b⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 200 OK⏎X : a⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 200 OK⏎X: a⏎ folded⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 200 OK⏎no colon⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 200 OK⏎: empty⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 200 O␀K⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 20 OK⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 2000 OK⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 abc OK⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/1.1 000 OK⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "HTTP/2 200 OK⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "ICY 200 OK⏎Content-Length: 2⏎⏎ok", Error),
            ("GET", "<html>no HTTP at all</html>⏎⏎", Error),
            ("GET", "⏎⏎⏎⏎", Error),
        ],
        Then::Keep,
    );
}

#[test]
fn bodies() {
    check(
        &[
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: 2⏎⏎okMORE", Either(200, "ok")),
            (
                "GET",
                "HTTP/1.1 200 OK⏎Content-Length: 2⏎⏎okHTTP/1.1 200 OK⏎Content-Length: 4⏎⏎evil",
                Either(200, "ok"),
            ),
            (
                "GET",
                "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎2⏎ok⏎0⏎⏎HTTP/1.1 200 OK⏎Content-Length: 4⏎⏎evil",
                Either(200, "ok"),
            ),
            ("GET", "HTTP/1.1 204 No Content⏎Content-Length: 5⏎⏎hello", Either(204, "")),
            ("GET", "HTTP/1.1 204 No Content⏎⏎HTTP/1.1 200 OK⏎Content-Length: 4⏎⏎evil", Either(204, "")),
            ("GET", "HTTP/1.1 204 No Content⏎Transfer-Encoding: chunked⏎⏎4⏎evil⏎0⏎⏎", Either(204, "")),
            ("GET", "HTTP/1.1 304 Not Modified⏎Content-Length: 5⏎⏎hello", Either(304, "")),
            ("GET", "HTTP/1.1 304 Not Modified⏎⏎HTTP/1.1 200 OK⏎Content-Length: 4⏎⏎evil", Either(304, "")),
            ("HEAD", "HTTP/1.1 200 OK⏎Content-Length: 5⏎⏎hello", Either(200, "")),
            ("HEAD", "HTTP/1.1 200 OK⏎⏎HTTP/1.1 200 OK⏎Content-Length: 4⏎⏎evil", Either(200, "")),
            ("HEAD", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎4⏎evil⏎0⏎⏎", Either(200, "")),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎5⏎helloX0⏎⏎", Cut),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎+5⏎hello⏎0⏎⏎", Cut),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎0x5⏎hello⏎0⏎⏎", Cut),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎5␊hello⏎0⏎⏎", Cut),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎5;a␊b⏎hello⏎0⏎⏎", Cut),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎fffffffffffffffff⏎hello⏎0⏎⏎", Cut),
        ],
        Then::Keep,
    );
}

#[test]
fn early_ends() {
    check(
        &[
            ("GET", "", Error),
            ("GET", "HTTP/1.1 2", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: 2⏎", Error),
            ("GET", "HTTP/1.1 200 OK⏎Content-Length: 10⏎⏎hello", Cut),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎5⏎hel", Cut),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎5⏎hello⏎", Cut),
            ("GET", "HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎5⏎hello⏎0⏎", Cut),
            ("GET", "HTTP/1.1 200 OK⏎⏎until the end", Clean(200, "until the end")),
            ("GET", "HTTP/1.0 200 OK⏎⏎until the end", Clean(200, "until the end")),
            ("GET", "HTTP/1.1 100 Continue⏎⏎", Error),
            (
                "GET",
                "HTTP/1.1 103 Early Hints⏎Link: x⏎⏎HTTP/1.1 200 OK⏎Content-Length: 2⏎⏎ok",
                Clean(200, "ok"),
            ),
            ("GET", "HTTP/1.1 100 Continue⏎⏎HTTP/1.1 200 OK⏎Content-Length: 2⏎⏎ok", Clean(200, "ok")),
        ],
        Then::Close,
    );
}

#[test]
fn endless_heads() {
    let world = World::start();
    let endless = |path: &str, bytes: &'static str| {
        world.upstream.on(path, move |exchange| {
            if !bytes.starts_with("HTTP") {
                exchange.send("HTTP/1.1 200 OK\r\n");
            }
            while exchange.send(bytes) {}
            Then::Close
        });
    };
    endless("/interim", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    endless(
        "/header",
        "X-Endless: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
    );
    endless(
        "/line",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    );
    for path in ["/interim", "/header", "/line"] {
        let response = world.get(F, path);
        assert_eq!((response.status, response.verdict()), (502, "upstream_error"), "{path}");
        world.assert_well();
    }
}

/// Answers that nobody asked for, on a connection that rests in the pool. (One that comes after the next request
/// was sent is that request's answer: nobody could tell.)
#[test]
fn surplus_while_idle() {
    let world = World::start();
    let sent = Arc::new(AtomicUsize::new(0));
    let of_script = Arc::clone(&sent);
    world.upstream.on("/then-more", move |exchange| {
        exchange.answer("200 OK", "ok");
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        of_script.fetch_add(1, Ordering::SeqCst);
        Then::Keep
    });
    for round in 1..=20 {
        assert_eq!(world.get(F, "/then-more").text(), "ok");
        wait("the surplus to be sent", || (sent.load(Ordering::SeqCst) == round).then_some(()));
        assert_eq!(world.get(F, "/next").text(), "GET /next");
    }
    world.assert_well();
}

/// An upgrade is a tunnel only when the upstream switches to what was asked for.
#[test]
fn switches_to_something_else() {
    let world = World::start();
    let switch = "HTTP/1.1 101 Switching Protocols⏎Connection: Upgrade⏎Upgrade: other⏎⏎";
    world.upstream.answers("/other", octets(switch), Then::Keep);
    let asked = "GET /other HTTP/1.1\r\nHost: filed.cn\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(world.send(asked).status, 502);
    world.assert_well();
}
