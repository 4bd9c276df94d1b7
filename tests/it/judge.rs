//! The judge judged: what the suite believes in is asked directly, without a gate between.

use crate::hostile::expand;
use crate::world::upstream::{Then, Upstream};
use crate::world::wire::{Lost, Response, Wire};

/// Sends a row's text straight to a fresh upstream.
fn ask(text: &str) -> (Upstream, Vec<Result<Response, Lost>>) {
    let upstream = Upstream::start();
    let mut wire = Wire::clear(upstream.address);
    wire.send(expand(text)).half_close();
    let mut answers = vec![wire.response()];
    while answers.last().is_some_and(Result::is_ok) {
        answers.push(wire.response());
    }
    (upstream, answers)
}

#[test]
fn requests_are_split_where_they_end() {
    let rows = [
        ("GET /a HTTP/1.1⏎Host: a⏎⏎GET /b HTTP/1.1⏎Host: b⏎⏎", &["/a", "/b"][..]),
        ("POST /a HTTP/1.1⏎Host: a⏎Content-Length: {n}⏎⏎‖{U}", &["/a"]),
        ("POST /a HTTP/1.1⏎Host: a⏎Content-Length: 0⏎⏎{U}", &["/a", "/hidden"]),
        ("POST /a HTTP/1.1⏎Host: a⏎Transfer-Encoding: chunked⏎⏎2a⏎{U}⏎0⏎⏎{F}", &["/a", "/hidden"]),
        ("POST /a HTTP/1.1⏎Host: a⏎Content-Length: 100⏎⏎{U}", &[]),
    ];
    for (text, targets) in rows {
        let (upstream, answers) = ask(text);
        let seen: Vec<String> = upstream.requests().into_iter().map(|one| one.target).collect();
        assert_eq!(seen, targets, "{text}");
        assert_eq!(answers.iter().filter(|one| one.is_ok()).count(), targets.len(), "{text}");
        assert_eq!(upstream.bytes(), expand(text));
    }
}

#[test]
fn doubts_are_noted() {
    let rows = [
        ("GET / HTTP/1.1⏎Host: a⏎⏎", false),
        ("GET / HTTP/1.1⏎Host: a⏎Host: a⏎⏎", true),
        ("GET / HTTP/1.1⏎⏎", true),
        ("GET / HTTP/1.1⏎Host: a⏎X: b␊c⏎⏎", true),
        ("GET / HTTP/1.1⏎Host: a⏎X_Y: b⏎⏎", true),
        ("GET http://a/ HTTP/1.1⏎Host: a⏎⏎", true),
        ("POST / HTTP/1.1⏎Host: a⏎Content-Length: 0⏎Transfer-Encoding: chunked⏎⏎0⏎⏎", true),
        ("POST / HTTP/1.1⏎Host: a⏎Content-Length: +0⏎⏎", true),
        ("POST / HTTP/1.1⏎Host: a⏎Transfer-Encoding: chunked⏎⏎0;x⏎⏎", true),
    ];
    for (text, doubtful) in rows {
        assert_eq!(!ask(text).0.doubts().is_empty(), doubtful, "{text}");
    }
}

#[test]
#[should_panic(expected = "arrived, but must not")]
fn a_request_for_u_is_noticed() {
    ask("GET / HTTP/1.1⏎Host: unfiled.cn⏎⏎").0.assert_only(&["filed.cn"]);
}

/// What the client's side takes for a response, and what not.
#[test]
fn responses_are_read_strictly() {
    let rows = [
        ("HTTP/1.1 200 OK⏎Content-Length: 2⏎⏎ok", Ok("ok")),
        ("HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎2⏎ok⏎0⏎⏎", Ok("ok")),
        ("HTTP/1.1 200 OK⏎⏎ok", Ok("ok")),
        ("HTTP/1.1 100 Continue⏎⏎HTTP/1.1 200 OK⏎Content-Length: 2⏎⏎ok", Ok("ok")),
        ("HTTP/1.1 200 OK⏎Content-Length: 3⏎⏎ok", Err("Closed")),
        ("HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎2⏎ok⏎", Err("Closed")),
        ("HTTP/1.1 200 OK⏎Transfer-Encoding: chunked⏎⏎2⏎okX0⏎⏎", Err("Garbled")),
        ("HTTP/1.0 200 OK⏎⏎", Err("Garbled")),
        ("HTTP/1.1 200 OK⏎X␊Y: z⏎⏎", Err("Garbled")),
    ];
    for (raw, expected) in rows {
        let upstream = Upstream::start();
        upstream.answers("/", expand(raw), Then::Close);
        let got = Wire::clear(upstream.address).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response();
        match expected {
            Ok(body) => assert_eq!(got.unwrap().text(), body, "{raw}"),
            Err(why) => assert!(format!("{got:?}").contains(why), "{raw}: {got:?}"),
        }
    }
}
