//! Filing numbers at the foot of pages, over the wire: looked for, added, and never at the price of a page.

use crate::world::upstream::Then;
use crate::world::wire::{Response, Wire};
use crate::world::{F, World, connected, wait};
use std::io::{Read, Write};

const NUMBER: &str = "京ICP备20000001号-1";

fn world(mode: &str) -> World {
    World::with(|setup| setup.site(&format!("[site.footer]\nmode = \"{mode}\"\n")))
}

fn response(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn link() -> String {
    format!("<a href=\"https://beian.miit.gov.cn/\" target=\"_blank\" rel=\"noopener\">{NUMBER}</a>")
}

/// A page with the footer put in where `</body>` begins.
#[track_caller]
fn assert_added(page: &str, got: &str) {
    assert_eq!(got.matches(&link()).count(), 1, "{got}");
    let (before, after) = page.split_once("</body>").unwrap();
    assert!(got.starts_with(before) && got.ends_with(&format!("</body>{after}")), "{got}");
}

const PAGE: &str = "<!doctype html><html><head><title>标题</title></head><body><p>正文</p></body></html>";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn brotli(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    brotli::CompressorWriter::new(&mut out, 4096, 4, 18).write_all(body).unwrap();
    out
}

fn decoded(response: &Response) -> Vec<u8> {
    let (body, mut out) = (&response.body[..], Vec::new());
    match response.header("content-encoding") {
        Some("gzip") => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut out).unwrap()),
        Some("br") => drop(brotli::Decompressor::new(body, 4096).read_to_end(&mut out).unwrap()),
        Some("zstd") => out = zstd::stream::decode_all(body).unwrap(),
        _ => out = body.to_vec(),
    }
    out
}

#[test]
fn a_footer_is_added_in_every_coding_and_encoding() {
    let world = world("inject");
    let html = "Content-Type: text/html; charset=utf-8\r\n";
    let gbk = encoding_rs::GBK.encode(PAGE).0.into_owned();
    let gb18030 = encoding_rs::GB18030.encode(PAGE).0.into_owned();
    let rows: [(&str, &str, Vec<u8>); 6] = [
        ("/plain", html, PAGE.into()),
        (
            "/gzip",
            "Content-Type: text/html; charset=utf-8\r\nContent-Encoding: gzip\r\n",
            gzip(PAGE.as_bytes()),
        ),
        (
            "/br",
            "Content-Type: text/html; charset=utf-8\r\nContent-Encoding: br\r\n",
            brotli(PAGE.as_bytes()),
        ),
        (
            "/zstd",
            "Content-Type: TEXT/HTML;charset=\"UTF-8\"\r\nContent-Encoding: zstd\r\n",
            zstd::encode_all(PAGE.as_bytes(), 3).unwrap(),
        ),
        ("/gbk", "Content-Type: text/html; charset=GBK\r\n", gbk),
        ("/gb18030", "Content-Type: text/html; charset=gb18030\r\n", gb18030),
    ];
    for (path, fields, body) in rows {
        let validators = "ETag: \"v1\"\r\nContent-MD5: x\r\nDigest: x\r\nAccept-Ranges: bytes\r\n";
        world.upstream.answers(path, response(&format!("{fields}{validators}"), &body), Then::Keep);
        let mut wire = world.connect();
        let got = wire.send(format!("GET {path} HTTP/1.1\r\nHost: {F}\r\n\r\n")).response().unwrap();
        let text = match path {
            "/gbk" => encoding_rs::GBK.decode(&decoded(&got)).0.into_owned(),
            "/gb18030" => encoding_rs::GB18030.decode(&decoded(&got)).0.into_owned(),
            _ => String::from_utf8(decoded(&got)).unwrap(),
        };
        assert_added(PAGE, &text);
        assert_eq!(got.header("etag"), Some("W/\"v1\""), "{path}: {got:?}");
        for gone in ["content-length", "content-md5", "digest", "accept-ranges"] {
            assert_eq!(got.header(gone), None, "{path}: {got:?}");
        }
        // HEAD says the same of a body that it does not bring, and the connection is good for another request.
        world.upstream.answers(
            path,
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}{validators}\r\n", body.len()),
            Then::Keep,
        );
        let head =
            wire.send(format!("HEAD {path} HTTP/1.1\r\nHost: {F}\r\n\r\n")).response_to("HEAD").unwrap();
        assert_eq!(
            (head.header("etag"), head.header("content-length")),
            (Some("W/\"v1\""), None),
            "{head:?}"
        );
    }
}

/// What the registry has as the site's public-security number is what its pages must show.
#[test]
fn the_registrys_public_security_number_is_the_one_to_show() {
    let ours = "京公网安备11010102000001号";
    let filed = |world: &World| {
        let mut filing = connected(NUMBER);
        filing["public_security_number"] = ours.into();
        world.put(F, &filing);
    };
    let html = "Content-Type: text/html; charset=utf-8\r\n";
    let adding = world("inject");
    filed(&adding);
    adding.upstream.answers("/bare", response(html, PAGE.as_bytes()), Then::Keep);
    wait("the number in the footer", || {
        let page = adding.get(F, "/bare").text();
        assert!(page.contains(NUMBER), "{page}");
        page.contains(ours).then_some(())
    });
    let looking = world("check");
    filed(&looking);
    let other = format!("<html><body>{} 京公网安备11010102000002号</body></html>", link());
    looking.upstream.answers("/other", response(html, other.as_bytes()), Then::Keep);
    wait("a page with another number to be told of", || {
        assert_eq!(looking.get(F, "/other").text(), other);
        let sites = looking.ask("/v1/footers").json();
        (sites["sites"][0]["without_public_security"].as_u64()? > 0).then_some(())
    });
}

/// Nothing of these may change, octet for octet, field for field.
#[test]
fn what_is_no_whole_page_passes_as_it_is() {
    let world = world("inject");
    let shows = format!("<body>{}</body>", link());
    let rows: [(&str, &str, &str, &[u8]); 13] = [
        ("/css", "200 OK", "Content-Type: text/css\r\n", b"</body>"),
        ("/untyped", "200 OK", "", b"<body></body>"),
        ("/404", "404 Not Found", "Content-Type: text/html; charset=utf-8\r\n", b"<body></body>"),
        (
            "/206",
            "206 Partial Content",
            "Content-Type: text/html\r\nContent-Range: bytes 0-12/99\r\n",
            b"<body></body>",
        ),
        (
            "/no",
            "200 OK",
            "Content-Type: text/html\r\nCache-Control: max-age=1, No-Transform\r\n",
            b"<body></body>",
        ),
        (
            "/save",
            "200 OK",
            "Content-Type: text/html\r\nContent-Disposition: attachment\r\n",
            b"<body></body>",
        ),
        ("/two", "200 OK", "Content-Type: text/html\r\nContent-Encoding: gzip, br\r\n", b"<body></body>"),
        ("/odd", "200 OK", "Content-Type: text/html\r\nContent-Encoding: compress\r\n", b"<body></body>"),
        ("/wide", "200 OK", "Content-Type: text/html; charset=utf-16\r\n", b"<\0b\0"),
        ("/charset", "200 OK", "Content-Type: text/html; charset=klingon\r\n", b"<body></body>"),
        ("/signed", "200 OK", "Content-Type: text/html\r\nSignature-Input: x\r\n", b"<body></body>"),
        ("/empty", "200 OK", "Content-Type: text/html\r\n", b""),
        ("/xhtml", "200 OK", "Content-Type: application/xhtml+xml\r\n", shows.as_bytes()),
    ];
    for (path, status, fields, body) in rows {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"v1\"\r\n{fields}\r\n", body.len());
        world.upstream.answers(path, [head.as_bytes(), body].concat(), Then::Keep);
        let got = world.get(F, path);
        assert!(got.body == body, "{path}: {got:?}");
        assert_eq!(got.header("etag"), Some("\"v1\""), "{path}: {got:?}");
        assert_eq!(got.header("content-length"), Some(body.len().to_string().as_str()), "{path}: {got:?}");
    }
    // A client may forbid it too; and what no filing number stands for gets none.
    let html = response("Content-Type: text/html; charset=utf-8\r\n", PAGE.as_bytes());
    world.upstream.answers("/page", html.clone(), Then::Keep);
    let request = format!("GET /page HTTP/1.1\r\nHost: {F}\r\nCache-Control: no-transform\r\n\r\n");
    assert_eq!(world.send(&request).text(), PAGE);
    world.upstream.answers("/post", html, Then::Keep);
    let request = format!("POST /post HTTP/1.1\r\nHost: {F}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(world.send(&request).text(), PAGE);
    // Not the coding that it says: as it came.
    let lie =
        response("Content-Type: text/html; charset=utf-8\r\nContent-Encoding: gzip\r\n", PAGE.as_bytes());
    world.upstream.answers("/lie", lie, Then::Keep);
    assert_eq!(world.get(F, "/lie").text(), PAGE);
}

/// In pieces, over TLS, over HTTP/2 and to an HTTP/1.0 client; before the page's end its beginning is there.
#[test]
fn however_the_page_travels() {
    let world = world("inject");
    world.upstream.on("/slow", |exchange| {
        exchange.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for piece in PAGE.as_bytes().chunks(5) {
            exchange.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
        exchange.send("0\r\n\r\n");
        Then::Keep
    });
    assert_added(PAGE, &world.get(F, "/slow").text());
    assert_added(PAGE, &world.send(&format!("GET /slow HTTP/1.0\r\nHost: {F}\r\n\r\n")).text());
    let mut tls = world.tls(Some(F), &["http/1.1"]).unwrap();
    let request = format!("GET /slow HTTP/1.1\r\nHost: {F}\r\n\r\n");
    assert_added(PAGE, &tls.send(&request).response().unwrap().text());
    assert_added(PAGE, &tls.send(&request).response().unwrap().text());

    world.upstream.on("/waits", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 19\r\n\r\n<body>begun");
        // Goes on when the client has seen what came so far, and says so by another request.
        let _ = exchange.raw();
        Then::Close
    });
    let mut wire: Wire = world.connect();
    wire.send(format!("GET /waits HTTP/1.1\r\nHost: {F}\r\n\r\n")).head().unwrap();
    assert_eq!((wire.line().unwrap(), wire.line().unwrap()), ("b".to_owned(), "<body>begun".to_owned()));
}

#[test]
fn pages_are_looked_at_and_reported() {
    let world = world("check");
    let html = "Content-Type: text/html; charset=utf-8\r\nETag: \"v1\"\r\n";
    let good = format!("<body>{} 京公网安备11010102000001号</body>", link());
    world.upstream.answers("/good", response(html, good.as_bytes()), Then::Keep);
    world.upstream.answers("/bad", response(html, PAGE.as_bytes()), Then::Keep);
    let coded = response(&format!("{html}Content-Encoding: gzip\r\n"), &gzip(PAGE.as_bytes()));
    world.upstream.answers("/coded", coded, Then::Keep);
    assert_eq!(world.get(F, "/good").text(), good);
    let bad = world.get(F, "/bad");
    assert_eq!((bad.text().as_str(), bad.header("etag")), (PAGE, Some("\"v1\"")), "{bad:?}");
    assert!(world.get(F, "/coded").body == gzip(PAGE.as_bytes()), "the very octets");
    let site = wait("the report", || {
        let site = world.ask("/v1/footers").json()["sites"][0].clone();
        (site["pages"]["missing"] == 2).then_some(site)
    });
    assert_eq!((&site["site"], &site["mode"]), (&"filed.cn".into(), &"check".into()), "{site}");
    assert_eq!(site["pages"]["linked"], 1, "{site}");
    assert_eq!(site["without_public_security"], 2, "{site}");
    let lacking = &site["lacking"][F];
    assert_eq!((&lacking["path"], &lacking["number"]), (&"/coded".into(), &NUMBER.into()), "{site}");
    let metrics = world.ask("/metrics").text();
    assert!(metrics.contains("beian_gate_footer_pages_total{state=\"missing\"} 2\n"), "{metrics}");
    assert!(metrics.contains("beian_gate_footer_hosts_lacking 1\n"), "{metrics}");
}

/// The same over HTTP/2: pages in every coding, and a HEAD that says what a GET would.
#[tokio::test]
async fn a_footer_is_added_over_http2() {
    let world = world("inject");
    let html = "Content-Type: text/html; charset=utf-8\r\nETag: \"v1\"\r\n";
    let zstd = zstd::stream::encode_all(PAGE.as_bytes(), 3).unwrap();
    let codings = [
        ("", PAGE.as_bytes().to_vec()),
        ("gzip", gzip(PAGE.as_bytes())),
        ("br", brotli(PAGE.as_bytes())),
        ("zstd", zstd),
    ];
    let mut client = crate::treatment::h2(&world).await;
    for (coding, body) in &codings {
        let path = format!("/page-{coding}");
        let field = if coding.is_empty() { String::new() } else { format!("Content-Encoding: {coding}\r\n") };
        world.upstream.answers(&path, response(&format!("{html}{field}"), body), Then::Keep);
        let (status, fields, body) = crate::treatment::h2_get(&mut client, F, &path, &[]).await;
        let headers = fields
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned()));
        let got = Response { status, headers: headers.collect(), body: body.to_vec() };
        assert_added(PAGE, &String::from_utf8(decoded(&got)).unwrap());
        assert_eq!((got.header("content-length"), got.header("etag")), (None, Some("W/\"v1\"")), "{got:?}");
    }
    // No page passes as it came, and the connection goes on.
    world.upstream.answers("/text", response("Content-Type: text/plain\r\n", PAGE.as_bytes()), Then::Keep);
    let (_, fields, body) = crate::treatment::h2_get(&mut client, F, "/text", &[]).await;
    assert_eq!(
        (&body[..], fields["content-length"].to_str().unwrap()),
        (PAGE.as_bytes(), &*PAGE.len().to_string())
    );
}
