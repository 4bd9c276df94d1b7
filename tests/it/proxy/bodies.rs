//! Bodies in both directions: every framing, large, slow, and given up.

use crate::world::upstream::Then;
use crate::world::wire::{Response, Wire, tcp};
use crate::world::{F, World, wait};
use std::io::Write;

const MIB: usize = 1024 * 1024;

/// Octets whose order shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i * 31 + i / 251) % 251).unwrap()).collect()
}

#[track_caller]
fn check(request: &str, body: &[u8]) -> Response {
    let world = World::start();
    let mut wire = world.connect();
    let method = request.split(' ').next().unwrap();
    let response = wire.send(request).response_to(method).unwrap();
    assert_eq!(response.status, 200, "{response:?}");
    let seen = world.upstream.request("/b");
    assert_eq!((seen.method.as_str(), seen.body.as_slice()), (method, body));
    // The connection is good for another one.
    assert_eq!(
        wire.send(format!("GET /n HTTP/1.1\r\nHost: {F}\r\n\r\n")).response().unwrap().text(),
        "GET /n"
    );
    response
}

#[test]
fn methods_and_framings() {
    check("GET /b HTTP/1.1\r\nHost: filed.cn\r\n\r\n", b"");
    check("POST /b HTTP/1.1\r\nHost: filed.cn\r\nContent-Length: 5\r\n\r\nhello", b"hello");
    check(
        "PUT /b HTTP/1.1\r\nHost: filed.cn\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        b"hello",
    );
    check("DELETE /b HTTP/1.1\r\nHost: filed.cn\r\n\r\n", b"");
    check("POST /b HTTP/1.1\r\nHost: filed.cn\r\nContent-Length: 0\r\n\r\n", b"");
    check("PATCH /b HTTP/1.1\r\nHost: filed.cn\r\nContent-Length: 1\r\n\r\nx", b"x");
    let head = check("HEAD /b HTTP/1.1\r\nHost: filed.cn\r\n\r\n", b"");
    assert_eq!(head.header("content-length"), Some("7"), "{head:?}");
}

#[test]
fn responses_of_every_framing() {
    let world = World::start();
    let rows = [
        (
            "/chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x\r\nlo\r\n0\r\n\r\n",
            Then::Keep,
        ),
        ("/length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Then::Keep),
        ("/close", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", Then::Close),
        ("/old", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", Then::Close),
        ("/204", "HTTP/1.1 204 No Content\r\n\r\n", Then::Keep),
        ("/304", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", Then::Keep),
    ];
    for (path, raw, then) in rows {
        world.upstream.answers(path, raw, then);
        let response = world.get(F, path);
        let body = if response.status == 200 { "hello" } else { "" };
        assert_eq!(response.text(), body, "{path}: {response:?}");
    }
}

/// HTTP/1.0 clients know no chunks.
#[test]
fn an_old_client_gets_no_chunks() {
    let world = World::start();
    world.upstream.answers(
        "/c",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Then::Keep,
    );
    let response = world.send(&format!("GET /c HTTP/1.0\r\nHost: {F}\r\n\r\n"));
    assert_eq!((response.header("transfer-encoding"), response.text().as_str()), (None, "hello"));
}

#[test]
fn ten_mebibytes_up() {
    let world = World::start();
    let body = pattern(10 * MIB);
    for chunked in [false, true] {
        let stream = tcp(world.http());
        let mut sending = stream.try_clone().unwrap();
        let framing = if chunked {
            "Transfer-Encoding: chunked".into()
        } else {
            format!("Content-Length: {}", body.len())
        };
        let of_sender = body.clone();
        let sender = std::thread::spawn(move || {
            write!(sending, "POST /up-{chunked} HTTP/1.1\r\nHost: {F}\r\n{framing}\r\n\r\n").unwrap();
            for chunk in of_sender.chunks(40_000) {
                let head = if chunked { format!("{:x}\r\n", chunk.len()) } else { String::new() };
                let end = if chunked { "\r\n" } else { "" };
                sending.write_all(&[head.as_bytes(), chunk, end.as_bytes()].concat()).unwrap();
            }
            sending.write_all(if chunked { b"0\r\n\r\n" } else { b"" }).unwrap();
        });
        assert_eq!(Wire::over(Box::new(stream)).response().unwrap().status, 200);
        sender.join().unwrap();
        assert!(world.upstream.request(&format!("/up-{chunked}")).body == body, "octet for octet");
    }
}

#[test]
fn ten_mebibytes_down() {
    let world = World::start();
    let body = pattern(10 * MIB);
    let of_script = body.clone();
    world.upstream.on("/down", move |exchange| exchange.answer("200 OK", &of_script));
    let of_script = body.clone();
    world.upstream.on("/chunks", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in of_script.chunks(33_333) {
            exchange.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        exchange.send("0\r\n\r\n");
        Then::Keep
    });
    for path in ["/down", "/chunks"] {
        assert!(world.get(F, path).body == body, "{path}");
        let mut tls = world.tls(Some(F), &["http/1.1"]).unwrap();
        let response = tls.send(format!("GET {path} HTTP/1.1\r\nHost: {F}\r\n\r\n")).response().unwrap();
        assert!(response.body == body, "{path} over TLS");
    }
}

/// Each piece travels on before the next is sent, both ways.
#[test]
fn slow_streams_are_not_collected() {
    let world = World::start();
    world.upstream.on("/echo", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Some(some) = exchange.some_body() {
            exchange.send([format!("{:x}\r\n", some.len()).as_bytes(), &some, b"\r\n"].concat());
        }
        exchange.send("0\r\n\r\n");
        Then::Keep
    });
    let mut wire = world.connect();
    wire.send(format!("POST /echo HTTP/1.1\r\nHost: {F}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n0\r\n"));
    assert_eq!(wire.head().unwrap().status, 200);
    for digit in 0..10 {
        assert_eq!(wire.line().unwrap(), "1");
        assert_eq!(wire.line().unwrap(), digit.to_string(), "came before the next was sent");
        wire.send(if digit < 9 { format!("1\r\n{}\r\n", digit + 1) } else { "0\r\n\r\n".into() });
    }
    assert_eq!(wire.line().unwrap(), "0");
}

#[test]
fn expect_continue() {
    let world = World::start();
    let mut wire = world.connect();
    wire.send(format!("POST /e HTTP/1.1\r\nHost: {F}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
    assert_eq!(wire.head().unwrap().status, 100);
    assert_eq!(wire.send("hello").response().unwrap().status, 200);
    assert_eq!(world.upstream.request("/e").body, b"hello");
}

/// Who is blocked is told before the body was sent.
#[test]
fn expect_continue_blocked() {
    let world = World::start();
    let response = world
        .send("POST /e HTTP/1.1\r\nHost: unfiled.cn\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(response.verdict(), "unfiled");
}

/// An answer that comes before the upload's end reaches the client.
#[test]
fn early_answer() {
    let world = World::start();
    world.upstream.on("/no", |exchange| {
        exchange.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        Then::Close
    });
    let head = format!("POST /no HTTP/1.1\r\nHost: {F}\r\nContent-Length: 1000\r\n\r\n");
    let response = world.connect().send(head).response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (413, "no"));
    world.assert_well();
}

/// A client that leaves takes its request to the upstream with it.
#[test]
fn clients_that_leave() {
    let world = World::start();
    world.upstream.hangs("/hang");
    let upload = format!("POST /up HTTP/1.1\r\nHost: {F}\r\nContent-Length: 1000\r\n\r\nhalf");
    let waiting = format!("GET /hang HTTP/1.1\r\nHost: {F}\r\n\r\n");
    for (request, target) in [(upload, "/up"), (waiting, "/hang")] {
        let mut wire = world.connect();
        wire.send(request);
        world.upstream.arrived(target);
        drop(wire);
        wait(&format!("{target} to be let go"), || (world.upstream.open() == 0).then_some(()));
    }
    world.assert_well();
}
