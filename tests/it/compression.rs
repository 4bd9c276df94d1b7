//! Answers compressed for those who take that, and nothing else changed: over both protocols.

use crate::treatment::{h2, h2_get};
use crate::world::upstream::Then;
use crate::world::wire::{Response, Wire};
use crate::world::{F, World, wait};
use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc;

const ALL: &str = "[compression]\n";

fn page() -> String {
    (0..2000).map(|number| format!("<p>paragraph {number}</p>\n")).collect()
}

fn answers(world: &World, path: &str, fields: &str, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    world.upstream.answers(path, format!("{head}{body}"), Then::Keep);
}

fn ask(world: &World, method: &str, path: &str, fields: &str) -> Response {
    let mut wire = world.connect();
    wire.send(format!("{method} {path} HTTP/1.1\r\nHost: {F}\r\n{fields}\r\n"));
    wire.response_to(method).unwrap()
}

fn get(world: &World, path: &str, accepted: &str) -> Response {
    ask(world, "GET", path, &format!("Accept-Encoding: {accepted}\r\n"))
}

/// The next chunk of an answer; empty: the last.
fn chunk(wire: &mut Wire) -> Vec<u8> {
    let size = usize::from_str_radix(&wire.line().unwrap(), 16).unwrap();
    let octets = wire.exactly(size).unwrap();
    wire.line().unwrap();
    octets
}

/// By other means than the gate's.
fn decoded(coding: &str, body: &[u8]) -> String {
    let mut text = String::new();
    match coding {
        "gzip" => drop(flate2::read::MultiGzDecoder::new(body).read_to_string(&mut text).unwrap()),
        "br" => drop(brotli::Decompressor::new(body, 4096).read_to_string(&mut text).unwrap()),
        "zstd" => text = String::from_utf8(zstd::stream::decode_all(body).unwrap()).unwrap(),
        other => panic!("{other}"),
    }
    text
}

const HTML: &str = "Content-Type: Text/HTML; charset=utf-8\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n\
                    Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nVary: Cookie\r\n";

#[tokio::test]
async fn answers_are_compressed() {
    let world = World::with(|setup| setup.toml(ALL));
    let page = page();
    answers(&world, "/", HTML, &page);
    let mut client = h2(&world).await;
    for coding in ["gzip", "br", "zstd"] {
        let got = get(&world, "/", coding);
        assert_eq!((got.status, got.header("content-encoding")), (200, Some(coding)), "{got:?}");
        assert_eq!(decoded(coding, &got.body), page);
        assert!(got.body.len() < page.len() / 4, "{} of {}", got.body.len(), page.len());
        assert_eq!((got.header("etag"), got.header("content-length")), (Some("W/\"v1\""), None), "{got:?}");
        assert_eq!((got.header("accept-ranges"), got.header("last-modified").is_some()), (None, true));
        let varies: Vec<_> = got.headers.iter().filter(|(name, _)| name == "vary").collect();
        assert!(got.headers.iter().any(|(name, on)| name == "vary" && on == "accept-encoding"), "{varies:?}");
        let (status, fields, body) = h2_get(&mut client, F, "/", &[("accept-encoding", coding)]).await;
        assert_eq!((status, fields["content-encoding"].to_str().unwrap()), (200, coding));
        assert_eq!((decoded(coding, &body), fields["etag"].to_str().unwrap()), (page.clone(), "W/\"v1\""));
        // A HEAD is told what a GET would be.
        let head = ask(&world, "HEAD", "/", &format!("Accept-Encoding: {coding}\r\n"));
        for name in ["content-encoding", "etag", "content-length", "last-modified", "accept-ranges"] {
            assert_eq!(head.header(name), got.header(name), "{name} of {head:?}");
        }
        assert_eq!(head.body, b"");
    }
    assert_eq!(get(&world, "/", "gzip;q=0.5, br;q=0.7, zstd;q=0.1").header("content-encoding"), Some("br"));
    assert_eq!(get(&world, "/", "*").header("content-encoding"), Some("zstd"));
    wait("the count", || (world.metric("beian_gate_compressed_total") >= 11).then_some(()));
    // The connection to the upstream is kept, and the client's too.
    let mut wire = world.connect();
    for _ in 0..3 {
        wire.send(format!("GET / HTTP/1.1\r\nHost: {F}\r\nAccept-Encoding: gzip\r\n\r\n"));
        assert_eq!(decoded("gzip", &wire.response().unwrap().body), page);
    }
}

#[test]
fn answers_that_pass_as_they_came() {
    let world = World::with(|setup| {
        let upstream = setup.upstream;
        setup.toml(&format!(
            "[compression]\nmin_length = 100\n[[site]]\nhosts = [\"off.filed.cn\"]\nupstreams = [\"http://{upstream}\"]\n\
             [site.compression]\nenabled = false\n"
        ))
    });
    let page = page();
    answers(&world, "/html", HTML, &page);
    answers(&world, "/small", "Content-Type: text/html\r\n", "small");
    answers(&world, "/image", "Content-Type: image/png\r\n", &page);
    answers(&world, "/untyped", "", &page);
    answers(&world, "/coded", "Content-Type: text/html\r\nContent-Encoding: gzip\r\n", &page);
    answers(&world, "/kept", "Content-Type: text/html\r\nCache-Control: public, no-transform\r\n", &page);
    let part = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\nContent-Range: bytes 0-9/99\r\n\
         Content-Length: {}\r\n\r\n{page}",
        page.len()
    );
    world.upstream.answers("/part", part, Then::Keep);
    world.upstream.answers(
        "/nothing",
        "HTTP/1.1 204 No Content\r\nContent-Type: text/html\r\n\r\n",
        Then::Keep,
    );
    world.upstream.answers("/known", "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n", Then::Keep);
    for (path, varies) in [
        ("/small", false),
        ("/image", false),
        ("/untyped", false),
        ("/coded", false),
        ("/kept", false),
        ("/part", false),
        ("/nothing", false),
        ("/known", false),
    ] {
        let got = get(&world, path, "gzip, br");
        let coding = if path == "/coded" { Some("gzip") } else { None };
        assert_eq!(got.header("content-encoding"), coding, "{path}: {got:?}");
        assert_eq!(got.header("vary").is_some(), varies, "{path}: {got:?}");
    }
    // The validator of what was compressed was weakened: here it is the same.
    assert_eq!(get(&world, "/known", "gzip").header("etag"), Some("W/\"v1\""));
    let refused = get(&world, "/html", "gzip;q=0");
    assert_eq!((refused.header("content-encoding"), refused.header("etag")), (None, Some("\"v1\"")));
    assert_eq!(refused.text(), page);
    let says =
        |got: &Response| got.headers.iter().any(|(name, on)| name == "vary" && on == "accept-encoding");
    assert!(says(&refused), "what another client gets is another answer: {refused:?}");
    let old = world.send(&format!("GET /html HTTP/1.0\r\nHost: {F}\r\nAccept-Encoding: gzip\r\n\r\n"));
    assert_eq!((old.header("content-encoding"), old.text()), (None, page.clone()));
    let off = world.send("GET /html HTTP/1.1\r\nHost: off.filed.cn\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(off.header("content-encoding").is_none() && !says(&off) && off.text() == page, "{off:?}");
}

/// Sends what comes over the channel, chunk by chunk.
fn streams(world: &World, path: &str, kind: &str) -> mpsc::Sender<String> {
    let (tell, told) = mpsc::channel::<String>();
    let told = Mutex::new(told);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
    world.upstream.on(path, move |exchange| {
        exchange.send(&head);
        while let Ok(event) = told.lock().unwrap().recv() {
            exchange.send(format!("{:x}\r\n{event}\r\n", event.len()));
        }
        exchange.send("0\r\n\r\n");
        Then::Keep
    });
    tell
}

/// An event is readable as soon as it was sent, and not when the next one comes.
#[test]
fn events_are_not_held_back() {
    let world =
        World::with(|setup| setup.toml("[compression]\ntypes = [\"text/*\"]\nalgorithms = [\"gzip\"]\n"));
    let tell = streams(&world, "/events", "text/event-stream");
    let mut wire = world.connect();
    wire.send(format!("GET /events HTTP/1.1\r\nHost: {F}\r\nAccept-Encoding: gzip\r\n\r\n"));
    assert_eq!(wire.head().unwrap().header("content-encoding"), Some("gzip"));
    let mut decoder = flate2::write::MultiGzDecoder::new(Vec::new());
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        tell.send(event.clone()).unwrap();
        let before = decoder.get_ref().len();
        while decoder.get_ref().len() < before + event.len() {
            std::io::Write::write_all(&mut decoder, &chunk(&mut wire)).unwrap();
            std::io::Write::flush(&mut decoder).unwrap();
        }
        assert!(decoder.get_ref().ends_with(event.as_bytes()));
    }
}

#[test]
fn so_many_at_once() {
    let world = World::with(|setup| setup.toml("[compression]\nstreams = 1\nalgorithms = [\"gzip\"]\n"));
    answers(&world, "/html", HTML, &page());
    let tell = streams(&world, "/stream", "text/plain");
    let mut wire = world.connect();
    wire.send(format!("GET /stream HTTP/1.1\r\nHost: {F}\r\nAccept-Encoding: gzip\r\n\r\n"));
    assert_eq!(wire.head().unwrap().header("content-encoding"), Some("gzip"));
    assert_eq!(get(&world, "/html", "gzip").header("content-encoding"), None);
    wait("the count", || (world.metric("beian_gate_not_compressed_total") == 1).then_some(()));
    drop(tell);
    while !chunk(&mut wire).is_empty() {}
    wait("room again", || get(&world, "/html", "gzip").header("content-encoding").map(drop));
}

/// A page gets its footer first.
#[test]
fn footers_in_what_is_compressed() {
    let world = World::with(|setup| setup.site("[site.footer]\nmode = \"inject\"").toml(ALL));
    let page = format!("<html><body>{}</body></html>", page());
    answers(&world, "/", "Content-Type: text/html; charset=utf-8\r\nETag: \"v1\"\r\n", &page);
    for coding in ["gzip", "br", "zstd"] {
        let got = get(&world, "/", coding);
        let text = decoded(got.header("content-encoding").unwrap(), &got.body);
        assert!(text.contains("京ICP备20000001号-1") && text.len() > page.len(), "{got:?}");
        assert_eq!(got.headers.iter().filter(|(name, _)| name == "content-encoding").count(), 1);
    }
}
