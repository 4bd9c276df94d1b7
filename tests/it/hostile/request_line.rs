//! Section 2: request line and the headers that routing might believe.

use super::Expect::{self, Block, Forward, ForwardOrRefuse, Refuse, Status};
use super::{Row, check, check_made};
use crate::world::{F, World};

const OK: Expect = Forward("filed.cn");
const EITHER: Expect = ForwardOrRefuse("filed.cn");

#[test]
fn host_headers() {
    const ROWS: &[Row] = &[
        ("GET / HTTP/1.1⏎Host: filed.cn⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎Host: unfiled.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: unfiled.cn⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎hOST: unfiled.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎Host:⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host:⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host : filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host⇥: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎Host : unfiled.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎ unfiled.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎⇥unfiled.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host:⏎ unfiled.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎X: y⏎ Host: unfiled.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎ Host: unfiled.cn⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎⇥X: y⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎X: y⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host;filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Hostfiled.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host=filed.cn⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎: filed.cn⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host␀: unfiled.cn⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎X(: y⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎X⍰: y⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎host:filed.cn⏎⏎", OK),
        ("GET / HTTP/1.1⏎X: ⍰⏎Host: filed.cn⏎⏎", EITHER),
    ];
    check(&World::start(), ROWS);
}

#[test]
fn versions() {
    const ROWS: &[Row] = &[
        ("GET / HTTP/1.0⏎Host: filed.cn⏎⏎", OK),
        ("GET / HTTP/1.0⏎Host: unfiled.cn⏎⏎", Block),
        ("GET / HTTP/1.0⏎⏎", Status(400)),
        ("GET / HTTP/1.0⏎Host: filed.cn⏎Host: unfiled.cn⏎⏎", Status(400)),
        ("GET http://unfiled.cn/ HTTP/1.0⏎⏎", Refuse),
        ("GET /⏎⏎", Refuse),
        ("GET /⏎", Refuse),
        ("GET /⏎Host: filed.cn⏎⏎", Refuse),
        ("GET http://unfiled.cn/⏎⏎", Refuse),
        ("GET / HTTP/0.9⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / HTTP/1.2⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / HTTP/2.0⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / HTTP/3⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / HTTP/11⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / HTTP/1.10⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / HTTP/01.1⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / http/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / XTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / HTTP/1.1 ⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / HTTP/1.1 x⏎Host: filed.cn⏎⏎", Refuse),
        ("GET / HTTP/ 1.1⏎Host: filed.cn⏎⏎", Refuse),
    ];
    check(&World::start(), ROWS);
}

#[test]
fn spacing() {
    const ROWS: &[Row] = &[
        ("GET  / HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("GET /  HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("GET⇥/ HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("GET /⇥HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        (" GET / HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("GET /a b HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("GET HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        (" HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("⏎GET / HTTP/1.1⏎Host: filed.cn⏎⏎", EITHER),
        ("⏎GET / HTTP/1.1⏎Host: unfiled.cn⏎⏎", Refuse),
        ("␀GET / HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("GET /␀ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET /␁ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET /⍰ HTTP/1.1⏎Host: filed.cn⏎⏎", EITHER),
        ("G␀T / HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("G(T / HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET: / HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("\u{feff}GET / HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("get / HTTP/1.1⏎Host: filed.cn⏎⏎", EITHER),
        ("get / HTTP/1.1⏎Host: unfiled.cn⏎⏎", Refuse),
        ("X-ODD / HTTP/1.1⏎Host: unfiled.cn⏎⏎", Refuse),
    ];
    check(&World::start(), ROWS);
}

#[test]
fn targets() {
    const ROWS: &[Row] = &[
        ("GET http://filed.cn/a HTTP/1.1⏎Host: filed.cn⏎⏎", OK),
        ("GET http://filed.cn HTTP/1.1⏎Host: filed.cn⏎⏎", EITHER),
        ("GET http://filed.cn?q HTTP/1.1⏎Host: filed.cn⏎⏎", EITHER),
        ("GET http://unfiled.cn/ HTTP/1.1⏎Host: unfiled.cn⏎⏎", Block),
        ("GET http://unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET http://filed.cn/ HTTP/1.1⏎Host: unfiled.cn⏎⏎", Status(400)),
        ("GET https://unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET HTTP://unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET http://unfiled.cn/ HTTP/1.1⏎⏎", Status(400)),
        ("GET http://filed.cn@unfiled.cn/ HTTP/1.1⏎Host: unfiled.cn⏎⏎", Status(400)),
        ("GET http://filed.cn@unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET http://unfiled.cn@filed.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET http:///filed.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET http:/unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET http:unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET ftp://unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET @unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET unfiled.cn:80 HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET unfiled.cn HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET .unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET :80/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET ?q HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET \\\\unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET * HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET //unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", OK),
        ("GET /http://unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", OK),
        ("GET /@unfiled.cn/ HTTP/1.1⏎Host: filed.cn⏎⏎", OK),
        ("GET /x#unfiled.cn HTTP/1.1⏎Host: filed.cn⏎⏎", EITHER),
        ("GET //filed.cn/ HTTP/1.1⏎Host: unfiled.cn⏎⏎", Block),
        ("OPTIONS * HTTP/1.1⏎Host: filed.cn⏎⏎", OK),
        ("OPTIONS * HTTP/1.1⏎Host: unfiled.cn⏎⏎", Block),
        ("OPTIONS http://unfiled.cn HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("CONNECT filed.cn:443 HTTP/1.1⏎Host: filed.cn:443⏎⏎", Refuse),
        ("CONNECT unfiled.cn:443 HTTP/1.1⏎Host: unfiled.cn:443⏎⏎", Refuse),
        ("CONNECT unfiled.cn:443 HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("CONNECT / HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
        ("CONNECT filed.cn:443 HTTP/1.1⏎Host: filed.cn:443⏎⏎{U}", Refuse),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1000 80⏎GET / HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("PROXY UNKNOWN⏎GET / HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("⏎⏎␀⏎QUIT␊!␀␀␀GET / HTTP/1.1⏎Host: filed.cn⏎⏎", Refuse),
    ];
    check(&World::start(), ROWS);
}

/// No header names a host but Host.
#[test]
fn routing_headers() {
    let names = [
        "X-Forwarded-Host",
        "X-Forwarded-Server",
        "X-Host",
        "X-Original-Host",
        "X-HTTP-Host-Override",
        "X-Real-Host",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Prefix",
        ":authority",
        "Origin",
        "Referer",
    ];
    let value = |name: &str, host: &str| match name {
        "X-Original-URL" | "X-Rewrite-URL" | "Origin" | "Referer" => format!("http://{host}/"),
        _ => host.to_owned(),
    };
    let mut rows = Vec::new();
    for name in names {
        let (for_u, for_f) = (value(name, "unfiled.cn"), value(name, "filed.cn"));
        // A name with a colon is no header name.
        let (ok, block) = if name.starts_with(':') { (Status(400), Status(400)) } else { (OK, Block) };
        rows.push((format!("GET / HTTP/1.1⏎Host: filed.cn⏎{name}: {for_u}⏎⏎"), ok));
        rows.push((format!("GET / HTTP/1.1⏎{name}: {for_f}⏎Host: unfiled.cn⏎⏎"), block));
    }
    rows.push(("GET / HTTP/1.1⏎Host: filed.cn⏎Forwarded: host=unfiled.cn;for=1.2.3.4⏎⏎".into(), OK));
    rows.push(("GET / HTTP/1.1⏎Host: unfiled.cn⏎Forwarded: host=filed.cn⏎⏎".into(), Block));
    rows.push(("GET / HTTP/1.1⏎Host: filed.cn⏎Connection: host, x-forwarded-for, close⏎⏎".into(), OK));
    rows.push((
        "GET / HTTP/1.1⏎Host: unfiled.cn⏎Connection: host⏎X-Forwarded-Host: filed.cn⏎⏎".into(),
        Block,
    ));
    let world = World::start();
    check_made(&world, &rows);
    let forged = world.upstream.heads().into_iter().find(|one| {
        let told = ["x-forwarded-host", "forwarded"].map(|name| one.all(name).concat());
        told.iter().any(|value| value.contains("unfiled") || value.contains("1.2.3.4"))
    });
    assert!(forged.is_none(), "a stranger's word passed: {forged:?}");
}

/// Header names that some servers read as another: dropped.
#[test]
fn underscores() {
    let world = World::start();
    let response = world.send(
        "GET /u HTTP/1.1\r\nHost: filed.cn\r\nX_Forwarded_For: 1.2.3.4\r\nX_Forwarded-Host: u\r\n_Host: u\r\nBeian-Verdict: x\r\n\r\n",
    );
    assert_eq!(response.status, 200);
    let seen = world.upstream.request("/u");
    let odd: Vec<_> = seen
        .headers
        .iter()
        .filter(|(n, _)| n.contains('_') || n.to_lowercase().starts_with("beian"))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}

/// What is routed on is what is sent: the target reaches the upstream as it was written.
#[test]
fn targets_as_written() {
    let world = World::start();
    for target in
        ["/%2e%2e/a", "//a//b", "/a;b=c/../d", "/./x", "/%E4%B8%AD?q=%20&r", "/a?b?c", "/%00", "/?", "/a%"]
    {
        let response = world.get(F, target);
        if response.status == 200 {
            world.upstream.request(target);
        } else {
            assert_eq!(response.status, 400, "{target} {response:?}");
        }
    }
    world.assert_well();
}

#[test]
fn too_much() {
    let world = World::start();
    let long = "a".repeat(40 * 1024);
    let many: String = (0..200).map(|i| format!("X-{i}: y⏎")).collect();
    let rows = [
        (format!("GET / HTTP/1.1⏎Host: filed.cn⏎X: {long}⏎⏎"), Status(431)),
        (format!("GET / HTTP/1.1⏎Host: filed.cn⏎{many}⏎"), Status(431)),
        (format!("GET / HTTP/1.1⏎{many}Host: unfiled.cn⏎⏎"), Refuse),
        (format!("GET /{long} HTTP/1.1⏎Host: filed.cn⏎⏎"), Refuse),
        (format!("{long} / HTTP/1.1⏎Host: filed.cn⏎⏎"), Refuse),
        (format!("GET / HTTP/1.1⏎X: {long}⏎Host: unfiled.cn⏎⏎"), Refuse),
    ];
    check_made(&world, &rows);
}
