//! Section 3: framing. The outer request is for F; what hides in its body must never become one.

use super::Expect::{self, Bad, Block, Forward, ForwardOrRefuse, Refuse, Seq, Status};
use super::{Row, check};
use crate::world::World;

const OK: Expect = Forward("filed.cn");
const EITHER: Expect = ForwardOrRefuse("filed.cn");

#[test]
fn length_and_coding() {
    const ROWS: &[Row] = &[
        (
            "POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎Transfer-Encoding: chunked⏎⏎‖0⏎⏎{U}",
            Status(400),
        ),
        (
            "POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎Content-Length: {n}⏎⏎‖0⏎⏎{U}",
            Status(400),
        ),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: 0⏎Transfer-Encoding: chunked⏎⏎0⏎⏎", Status(400)),
        (
            "POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: 4⏎Transfer-Encoding: chunked⏎⏎2a⏎{U}⏎0⏎⏎",
            Status(400),
        ),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎transfer-encoding: identity⏎⏎‖0⏎⏎{U}", Bad),
        (
            "GET /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎Transfer-Encoding: chunked⏎⏎‖0⏎⏎{U}",
            Status(400),
        ),
        ("POST /o HTTP/1.0⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎⏎{U}", Status(400)),
        (
            "POST /o HTTP/1.0⏎Host: filed.cn⏎Content-Length: {n}⏎Transfer-Encoding: chunked⏎⏎‖0⏎⏎{U}",
            Status(400),
        ),
        (
            "POST /o HTTP/1.1⏎Host: unfiled.cn⏎Content-Length: {n}⏎Transfer-Encoding: chunked⏎⏎‖0⏎⏎{F}",
            Status(400),
        ),
    ];
    check(&World::start(), ROWS);
}

#[test]
fn lengths() {
    const ROWS: &[Row] = &[
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎⏎‖hello", OK),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: 0⏎Content-Length: {n}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎Content-Length: 0⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎Content-Length: {n}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}, {n}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: 0, {n}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: +{n}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: -{n}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: 0x{x}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n} 0⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: 3 8⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length:⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}.0⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}e0⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: \"{n}\"⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n};a⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: ０⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}␀⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: 99999999999999999999999⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: 18446744073709551616⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length : {n}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length⇥: {n}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎ Content-Length: {n}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length:⏎ {n}⏎⏎‖{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎X: y⏎⏎{U}", Seq(&[OK, Block])),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content_Length: {n}⏎⏎‖{U}", Seq(&[OK, Block])),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: 00{n}⏎⏎‖{U}", EITHER),
    ];
    check(&World::start(), ROWS);
}

#[test]
fn codings() {
    const ROWS: &[Row] = &[
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5⏎hello⏎0⏎⏎", OK),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎tRANSFER-eNCODING: Chunked⏎⏎5⏎hello⏎0⏎⏎", OK),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: xchunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunkedx⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: x chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: gzip⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: gzip, chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked, gzip⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked, identity⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: identity, chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked, chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: , chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked,⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: \"chunked\"⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked;q=1⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: ␁chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked␀⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding:⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: identity⏎⏎{U}", Bad),
        (
            "POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎Transfer-Encoding: chunked⏎⏎0⏎⏎{U}",
            Bad,
        ),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎Transfer-Encoding: x⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: x⏎Transfer-Encoding: chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding : chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding⇥: chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding␀: chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎ Transfer-Encoding: chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎X: y⏎ Transfer-Encoding: chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding:⏎ chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎X: y␊Transfer-Encoding: chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎X: y␍Transfer-Encoding: chunked⏎⏎0⏎⏎{U}", Bad),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer_Encoding: chunked⏎Content-Length: {n}⏎⏎‖0⏎⏎{U}", EITHER),
    ];
    check(&World::start(), ROWS);
}

#[test]
fn chunks() {
    const ROWS: &[Row] = &[
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎{x}⏎‖{U}⏎0⏎⏎", Refuse),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎A⏎helloworld⏎0⏎⏎", OK),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5;a=b⏎hello⏎0;c⏎⏎", EITHER),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5;a=\"b;c\"⏎hello⏎0⏎⏎", EITHER),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0x5⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎+5⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎-5⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎ 5⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5_0⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5 x⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎;a⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎g⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎００⏎⏎{U}", Status(400)),
        (
            "POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎ffffffffffffffffff⏎hello⏎0⏎⏎{U}",
            Status(400),
        ),
        (
            "POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎10000000000000005⏎hello⏎0⏎⏎{U}",
            Status(400),
        ),
        (
            "POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎00000000000000000000005⏎hello⏎0⏎⏎{U}",
            Status(400),
        ),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5␊hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5␍hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5;a␊b⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5;a␍b⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5;a␀b⏎hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5;␊␊hello⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5⏎helloX0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5⏎hello world⏎0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5⏎hello␊0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5⏎hello␍0⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎X y⏎⏎", EITHER),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎X : y⏎⏎", EITHER),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎X: y␊⏎⏎{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0␊␊{U}", Status(400)),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎⏎{U}", Seq(&[OK, Block])),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎5⏎hello⏎0⏎⏎{F}", Seq(&[OK, OK])),
    ];
    // The first row is no chunked body at all (its size counts the end as well): refused, never split.
    check(&World::start(), ROWS);
}

#[test]
fn trailers() {
    const ROWS: &[Row] = &[
        ("POST /t HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎Host: unfiled.cn⏎⏎", EITHER),
        (
            "POST /t HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎Content-Length: 40⏎⏎{U}",
            Seq(&[OK, Block]),
        ),
        ("POST /t HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎Transfer-Encoding: x⏎⏎", EITHER),
        (
            "POST /t HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎Trailer: Authorization⏎⏎0⏎Authorization: x⏎⏎",
            EITHER,
        ),
        ("POST /t HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎X-Forwarded-For: 1.2.3.4⏎⏎", EITHER),
        (
            "POST /t HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎X-Forwarded-Host: unfiled.cn⏎⏎",
            EITHER,
        ),
        ("POST /t HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎Cookie: a=b⏎⏎", EITHER),
        ("POST /t HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎Beian-Verdict: allow⏎⏎", EITHER),
        ("POST /t HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎0⏎X-Checksum: 1⏎⏎", EITHER),
    ];
    let world = World::start();
    check(&world, ROWS);
    let bytes = String::from_utf8_lossy(&world.upstream.bytes()).to_lowercase();
    for name in [
        "authorization",
        "x-forwarded-for: 1.2.3.4",
        "cookie",
        "beian-verdict",
        "content-length: 40",
        "unfiled",
    ] {
        assert!(!bytes.contains(name), "trailer {name} reached the upstream");
    }
}

#[test]
fn bodies_that_are_requests() {
    const ROWS: &[Row] = &[
        ("GET /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎⏎‖{U}", EITHER),
        ("HEAD /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎⏎‖{U}", EITHER),
        ("OPTIONS /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎⏎‖{U}", EITHER),
        ("DELETE /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎⏎‖{U}", EITHER),
        (
            "GET /o HTTP/1.1⏎Host: filed.cn⏎Transfer-Encoding: chunked⏎⏎2e⏎GET / HTTP/1.1⏎Host: unfiled.cn⏎X: yyyyy⏎⏎0⏎⏎",
            EITHER,
        ),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎⏎‖{U}", OK),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎Expect: 100-continue⏎⏎‖{U}", OK),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎Expect: 100-Continue⏎⏎‖{U}", EITHER),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Content-Length: {n}⏎Expect: a-miracle⏎⏎‖{U}", EITHER),
        ("POST /o HTTP/1.1⏎Host: filed.cn⏎Expect: 100-continue⏎⏎{U}", Seq(&[OK, Block])),
        ("POST /o HTTP/1.1⏎Host: unfiled.cn⏎Content-Length: {n}⏎⏎‖{F}", Block),
        ("POST /o HTTP/1.1⏎Host: unfiled.cn⏎Content-Length: {n}⏎⏎‖{U}", Block),
        ("POST /o HTTP/1.1⏎Host: unfiled.cn⏎Transfer-Encoding: chunked⏎⏎28⏎{F}⏎0⏎⏎", Block),
        ("POST /o HTTP/1.1⏎Host: unfiled.cn⏎Content-Length: {n}⏎Expect: 100-continue⏎⏎‖{F}", Block),
        ("GET /o HTTP/1.1⏎Host: unfiled.cn⏎Content-Length: {n}⏎⏎‖{F}", Block),
        ("POST /o HTTP/1.1⏎Host: unfiled.cn⏎Content-Length: 100000⏎⏎{F}", Block),
    ];
    check(&World::start(), ROWS);
}

#[test]
fn upgrades() {
    const ROWS: &[Row] = &[
        ("GET /o HTTP/1.1⏎Host: filed.cn⏎Connection: Upgrade⏎Upgrade: websocket⏎⏎{U}", Seq(&[OK, Refuse])),
        ("GET /o HTTP/1.1⏎Host: filed.cn⏎Connection: Upgrade⏎Upgrade: unheard-of⏎⏎{U}", Seq(&[OK, Refuse])),
        ("GET /o HTTP/1.1⏎Host: unfiled.cn⏎Connection: Upgrade⏎Upgrade: websocket⏎⏎", Block),
        (
            "GET /h2c HTTP/1.1⏎Host: filed.cn⏎Connection: Upgrade, HTTP2-Settings⏎Upgrade: h2c⏎HTTP2-Settings: AAMAAABk⏎⏎",
            OK,
        ),
        ("GET /h2c HTTP/1.1⏎Host: filed.cn⏎Connection: Upgrade⏎Upgrade: h2c⏎⏎{U}", Seq(&[OK, Refuse])),
        ("GET /h2c HTTP/1.1⏎Host: filed.cn⏎Connection: Upgrade⏎Upgrade: websocket, h2c⏎⏎", OK),
        ("GET /no HTTP/1.1⏎Host: filed.cn⏎Connection: Upgrade⏎Upgrade: TLS/1.0⏎⏎{U}", Seq(&[OK, Refuse])),
        ("GET /no HTTP/1.1⏎Host: filed.cn⏎Connection: Upgrade⏎Upgrade: tls/1.3⏎⏎{U}", Seq(&[OK, Refuse])),
        ("GET /no HTTP/1.1⏎Host: filed.cn⏎Connection: Upgrade⏎Upgrade: HTTP/3⏎⏎{U}", Seq(&[OK, Refuse])),
        ("GET /no HTTP/1.1⏎Host: filed.cn⏎Connection: Upgrade⏎Upgrade: H3⏎⏎{U}", Seq(&[OK, Refuse])),
        ("GET /no HTTP/1.1⏎Host: filed.cn⏎Connection: Upgrade⏎Upgrade: connect-udp⏎⏎{U}", Seq(&[OK, Refuse])),
    ];
    let world = World::start();
    check(&world, ROWS);
    let h2c = world.upstream.heads().into_iter().filter(|one| one.target == "/h2c");
    for one in h2c {
        let upgrade = one.all("upgrade").join(",");
        assert!(!upgrade.contains("h2c") && one.header("http2-settings").is_none(), "{one:?}");
    }
    let no = world.upstream.heads().into_iter().filter(|one| one.target == "/no").collect::<Vec<_>>();
    assert!(no.len() == 10 && no.iter().all(|one| one.all("upgrade").is_empty()), "{no:?}");
}

#[test]
fn line_ends() {
    const ROWS: &[Row] = &[
        ("GET / HTTP/1.1␊Host: filed.cn␊␊", Refuse),
        ("GET / HTTP/1.1␊Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn␊⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn␊X: y⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎␊", Refuse),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎␊{U}", Refuse),
        ("GET / HTTP/1.1⏎X: y␊Host: unfiled.cn⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎X: y␍Host: unfiled.cn⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1␍Host: filed.cn␍␍", Refuse),
        ("GET / HTTP/1.1␍⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn␍⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎␍⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎X: a␀b⏎⏎", Status(400)),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎X: a␁b⏎⏎", Refuse),
        ("GET / HTTP/1.1⏎Host: filed.cn⏎X: ␀⏎⏎", Status(400)),
        ("GET /␊ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
        ("GET /␍ HTTP/1.1⏎Host: filed.cn⏎⏎", Status(400)),
    ];
    check(&World::start(), ROWS);
}
