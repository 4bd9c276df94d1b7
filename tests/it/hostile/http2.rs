//! Section 5: HTTP/2 from hand-made frames, by prior knowledge on the plain port and by ALPN over TLS.
//!
//! A row is a field list: `name=value|name=value`, `{}` for an ordinary GET's method, scheme and path.

use super::Expect::{self, Bad, Block, Forward, ForwardOrRefuse, Refuse};
use super::{LANES, Lane, octets};
use crate::world::h2::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, H2, HEADERS, Outcome, PRIORITY};
use crate::world::wire::Lost;
use crate::world::{F, G, World, wait};

const OK: Expect = Forward("filed.cn");
const EITHER: Expect = ForwardOrRefuse("filed.cn");

pub(super) fn open(world: &World, lane: Lane) -> H2 {
    H2::start(match lane {
        Lane::Clear => world.connect(),
        Lane::Tls => world.tls(Some(F), &["h2"]).unwrap(),
    })
}

pub(super) fn fields(text: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let text = text.replace("{}", ":method=GET|:scheme=http|:path=/2");
    let field = |part: &str| {
        let at = part[1..].find('=').map_or(part.len(), |at| at + 1);
        (octets(&part[..at]), octets(part.get(at + 1..).unwrap_or("")))
    };
    text.split('|').map(field).collect()
}

pub(super) fn is_as(expect: Expect, lane: Lane, outcome: &Outcome) -> bool {
    let over = !matches!(outcome, Outcome::Status(_) | Outcome::Lost(crate::world::wire::Lost::Silent(_)));
    let status = if let Outcome::Status(status) = outcome { *status } else { 0 };
    let block = status == 451 || status == 421 && lane == Lane::Tls;
    match expect {
        Forward(_) => status == 200,
        Block => block,
        Bad | Expect::Status(400) => over || status == 400,
        Expect::Ip => over || block || status == 400,
        Refuse => over || block || matches!(status, 400 | 405 | 421 | 431 | 501),
        ForwardOrRefuse(_) => over || matches!(status, 200 | 400 | 405 | 501),
        _ => false,
    }
}

#[track_caller]
fn check(rows: &[(&str, Expect)]) {
    let world = World::start();
    let mut wrong = Vec::new();
    for lane in LANES {
        for (text, expect) in rows {
            let before = world.upstream.heads().len();
            let mut h2 = open(&world, lane);
            h2.request(1, &fields(text));
            let outcome = h2.outcome(1);
            let arrived = world.upstream.heads().len() - before;
            let fits = usize::from(outcome == Outcome::Status(200)) == arrived;
            if !is_as(*expect, lane, &outcome) || !fits {
                wrong.push(format!("{lane:?} {text:?} expected {expect:?}: {outcome:?}, {arrived} arrived"));
            }
        }
    }
    let total = rows.len() * LANES.len();
    assert!(wrong.is_empty(), "{} of {total} wrong:\n{}", wrong.len(), wrong.join("\n"));
    world.assert_well();
    world.upstream.assert_only(&[F]);
}

#[test]
fn authorities() {
    check(&[
        ("{}|:authority=filed.cn", OK),
        ("{}|:authority=FILED.CN.", OK),
        ("{}|:authority=filed.cn:80", OK),
        ("{}|host=filed.cn", OK),
        ("{}|:authority=filed.cn|host=filed.cn", OK),
        ("{}|:authority=filed.cn|host=FILED.CN", EITHER),
        ("{}|:authority=unfiled.cn", Block),
        ("{}|:authority=UNFILED.CN", Block),
        ("{}|:authority=unfiled.cn.:80", Block),
        ("{}|:authority=www.unfiled.cn", Block),
        ("{}|host=unfiled.cn", Block),
        ("{}|:authority=unfiled.cn|host=unfiled.cn", Block),
        ("{}|:authority=filed.cn|host=unfiled.cn", Bad),
        ("{}|:authority=unfiled.cn|host=filed.cn", Bad),
        ("{}|:authority=filed.cn|host=filed.cn|host=unfiled.cn", Bad),
        ("{}|host=filed.cn|host=unfiled.cn", Bad),
        ("{}|host=filed.cn|host=filed.cn", Bad),
        ("{}|:authority=filed.cn|:authority=unfiled.cn", Bad),
        ("{}|:authority=filed.cn|:authority=filed.cn", Bad),
        ("{}", Bad),
        ("{}|:authority=", Bad),
        ("{}|:authority=|host=filed.cn", Bad),
        ("{}|:authority=filed.cn|host=", Bad),
        ("{}|:authority=filed.cn@unfiled.cn", Bad),
        ("{}|:authority=unfiled.cn@filed.cn", Bad),
        ("{}|:authority=filed.cn,unfiled.cn", Bad),
        ("{}|:authority=filed.cn, unfiled.cn", Bad),
        ("{}|:authority=filed.cn unfiled.cn", Bad),
        ("{}|:authority=filed.cn/unfiled.cn", Bad),
        ("{}|:authority=http://filed.cn", Bad),
        ("{}|:authority=filed%2ecn", Bad),
        ("{}|:authority=filed.cn␀", Bad),
        ("{}|:authority=filed.cn⏎x: y", Bad),
        ("{}|:authority=政府.政务", Bad),
        ("{}|:authority=filed.cn..", Bad),
        ("{}|:authority=filed.cn:99999", Bad),
        ("{}|:authority=127.0.0.1", Refuse),
        ("{}|:authority=[::1]", Refuse),
        ("{}|:authority=2130706433", Refuse),
        ("{}|host=127.0.0.1", Refuse),
    ]);
}

#[test]
fn pseudo_fields() {
    check(&[
        (":method=GET|:scheme=http|:path=http://unfiled.cn/|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http|:path=|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http|:path=*|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http|:path=unfiled.cn/|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http|:path=@unfiled.cn/|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http|:path=/a b|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http|:path=/ HTTP/1.1⏎Host: unfiled.cn⏎⏎|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http|:path=/␊|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http|:path=/␀|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http|:path=//unfiled.cn/|:authority=filed.cn", OK),
        (":method=GET|:scheme=http|:path=/|:path=/x|:authority=filed.cn", Bad),
        (":method=GET / HTTP/1.1⏎Host: unfiled.cn⏎⏎|:scheme=http|:path=/|:authority=filed.cn", Bad),
        (":method=GET |:scheme=http|:path=/|:authority=filed.cn", Bad),
        (":method=|:scheme=http|:path=/|:authority=filed.cn", Bad),
        (":method=GET|:method=POST|:scheme=http|:path=/|:authority=filed.cn", Bad),
        (":scheme=http|:path=/|:authority=filed.cn", Bad),
        (":method=GET|:path=/|:authority=filed.cn", Bad),
        (":method=GET|:scheme=|:path=/|:authority=filed.cn", EITHER),
        (":method=GET|:scheme=http|:scheme=https|:path=/|:authority=filed.cn", Bad),
        (":method=GET|:scheme=http://unfiled.cn/?|:path=/|:authority=filed.cn", Bad),
        ("{}|x=y|:authority=filed.cn", Bad),
        ("{}|:authority=filed.cn|:host=unfiled.cn", Bad),
        ("{}|:authority=filed.cn|:status=200", Bad),
        ("{}|:authority=filed.cn|:protocol=websocket", Bad),
        (":method=OPTIONS|:scheme=http|:path=*|:authority=filed.cn", EITHER),
        (":method=OPTIONS|:scheme=http|:path=*|:authority=unfiled.cn", Refuse),
        (":method=CONNECT|:authority=filed.cn:443", Refuse),
        (":method=CONNECT|:authority=unfiled.cn:443", Refuse),
        (":method=CONNECT|:scheme=http|:path=/|:authority=filed.cn", Refuse),
        (":method=CONNECT|:protocol=websocket|:scheme=http|:path=/|:authority=unfiled.cn", Refuse),
    ]);
}

#[test]
fn fields_that_split() {
    check(&[
        ("{}|:authority=filed.cn|x=a⏎Host: unfiled.cn", Bad),
        ("{}|:authority=filed.cn|x=a␊b", Bad),
        ("{}|:authority=filed.cn|x=a␍b", Bad),
        ("{}|:authority=filed.cn|x=a␀b", Bad),
        ("{}|:authority=filed.cn|x: y⏎Host=unfiled.cn", Bad),
        ("{}|:authority=filed.cn|x y=z", Bad),
        ("{}|:authority=filed.cn|x␊=z", Bad),
        ("{}|:authority=filed.cn|host: unfiled.cn", Bad),
        ("{}|:authority=filed.cn|X-Upper=y", Bad),
        ("{}|:authority=filed.cn|Host=unfiled.cn", Bad),
        ("{}|:authority=filed.cn|transfer-encoding=chunked", Bad),
        ("{}|:authority=filed.cn|connection=close", Bad),
        ("{}|:authority=filed.cn|connection=host", Bad),
        ("{}|:authority=filed.cn|keep-alive=1", Bad),
        ("{}|:authority=filed.cn|proxy-connection=close", Bad),
        ("{}|:authority=filed.cn|upgrade=h2c", Bad),
        ("{}|:authority=filed.cn|te=gzip", Bad),
        ("{}|:authority=filed.cn|te=trailers", OK),
        ("{}|:authority=filed.cn|content-length=5", Bad),
        ("{}|:authority=filed.cn|content-length=0", OK),
        ("{}|:authority=filed.cn|content-length=0|content-length=5", Bad),
        ("{}|:authority=filed.cn|content-length=+0", Bad),
        ("{}|:authority=filed.cn|content-length=", Bad),
        ("{}|:authority=filed.cn|x-forwarded-host=unfiled.cn", OK),
        ("{}|:authority=filed.cn|forwarded=host=unfiled.cn", OK),
        ("{}|:authority=unfiled.cn|x-forwarded-host=filed.cn", Block),
        ("{}|:authority=filed.cn|x_host=unfiled.cn", OK),
        ("{}|:authority=filed.cn|cookie=a=b|cookie=c=d", OK),
    ]);
}

/// A POST on stream 1: head, then DATA frames.
fn post(h2: &mut H2, extra: &str, data: &[&str]) -> Outcome {
    let head = fields(&format!(":method=POST|:scheme=http|:path=/post|:authority=filed.cn{extra}"));
    h2.frame(HEADERS, END_HEADERS, 1, &h2::block(&head));
    for (index, part) in data.iter().enumerate() {
        let flags = if index + 1 == data.len() { END_STREAM } else { 0 };
        h2.frame(DATA, flags, 1, &super::expand(part));
    }
    h2.outcome(1)
}

#[test]
fn bodies() {
    let world = World::start();
    let rows: &[(&str, &[&str], Expect)] = &[
        ("", &["hello"], OK),
        ("", &["{U}"], OK),
        ("|content-length=5", &["he", "llo"], OK),
        ("|content-length=0", &["{U}"], Bad),
        ("|content-length=0", &[""], OK),
        ("|content-length=5", &["hello", ""], OK),
        ("|content-length=5", &["hello", "!"], Bad),
        ("|content-length=4", &["hello"], Bad),
        ("|content-length=6", &["hello"], Bad),
        ("|content-length=5", &["hello", "{U}"], Bad),
        ("|content-length=5|content-length=47", &["hello", "{U}"], Bad),
        ("|transfer-encoding=chunked", &["0⏎⏎{U}"], Bad),
        ("|expect=100-continue", &["{U}"], OK),
    ];
    for lane in LANES {
        for (extra, data, expect) in rows {
            let outcome = post(&mut open(&world, lane), extra, data);
            assert!(is_as(*expect, lane, &outcome), "{lane:?} {extra:?} {data:?}: {outcome:?}");
        }
    }
    world.assert_well();
    world.upstream.assert_only(&[F]);
}

/// A POST on stream 1 whose trailers are this field block; in pieces, if there are more than one.
fn post_with_trailers(h2: &mut H2, head: &[u8], trailers: &[&[u8]]) -> Outcome {
    h2.frame(HEADERS, END_HEADERS, 1, head);
    h2.frame(DATA, 0, 1, b"hello");
    for (index, piece) in trailers.iter().enumerate() {
        let flags = if index + 1 == trailers.len() { END_HEADERS } else { 0 };
        let (kind, flags) = if index == 0 { (HEADERS, flags | END_STREAM) } else { (CONTINUATION, flags) };
        h2.frame(kind, flags, 1, piece);
    }
    h2.outcome(1)
}

const POST: &str = ":method=POST|:scheme=http|:path=/t|:authority=filed.cn";

/// Pseudo-fields in trailers, however they are written: the stream is reset, the connection lives on, and no
/// upstream takes the request for whole.
#[test]
fn pseudo_fields_in_trailers() {
    let world = World::start();
    let literal = |text: &str| h2::block(&fields(text));
    // The head leaves `:authority: filed.cn` and, after it, `x: y` in the table.
    let head =
        [&literal(":method=POST|:scheme=http|:path=/t")[..], b"\x41\x08filed.cn\x40\x01x\x01y"].concat();
    let rows: &[(&str, &[&[u8]])] = &[
        (":authority", &[&literal(":authority=unfiled.cn")]),
        (":path", &[&literal(":path=/hidden")]),
        (":method", &[&literal(":method=GET")]),
        (":scheme", &[&literal(":scheme=https")]),
        (":status", &[&literal(":status=200")]),
        (":protocol", &[&literal(":protocol=websocket")]),
        (":host", &[&literal(":host=unfiled.cn")]),
        ("after a field", &[&literal("x=y|:authority=unfiled.cn")]),
        ("static, whole", &[b"\x82"]),
        ("static name", &[b"\x01\x0aunfiled.cn"]),
        ("static name, inserted", &[b"\x41\x0aunfiled.cn"]),
        ("static name, never indexed", &[b"\x11\x0aunfiled.cn"]),
        ("Huffman", &[b"\x00\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x0aunfiled.cn"]),
        ("from the table", &[b"\xbf"]),
        ("name from the table", &[b"\x0f\x30\x0aunfiled.cn"]),
        ("inserted again from the table", &[b"\x7f\x00\x0aunfiled.cn"]),
        ("in pieces", &[b"\xbe\x00\x0a:auth", b"ority\x0aunfiled.cn"]),
        ("in pieces of one octet", &[b"\x00", b"\x05", b":", b"p", b"ath", b"\x01", b"/"]),
    ];
    for lane in LANES {
        for (name, trailers) in rows {
            let mut h2 = open(&world, lane);
            let outcome = post_with_trailers(&mut h2, &head, trailers);
            assert!(is_as(Bad, lane, &outcome), "{lane:?} {name}: {outcome:?}");
            if matches!(outcome, Outcome::Reset(_)) && *name != ":host" {
                h2.request(3, &fields("{}|:authority=filed.cn"));
                assert_eq!(h2.outcome(3), Outcome::Status(200), "{lane:?} {name}: another stream");
            }
        }
    }
    world.assert_well();
    assert!(world.upstream.requests().iter().all(|one| one.target != "/t"), "nothing of it is whole");
    let bytes = String::from_utf8_lossy(&world.upstream.bytes()).to_lowercase();
    assert!(!bytes.contains("unfiled") && !bytes.contains("/hidden"), "{bytes}");
}

/// Trailers that are plain fields end the request, and go nowhere.
#[test]
fn trailers() {
    let world = World::start();
    for trailer in [
        "x-ok=1",
        "host=unfiled.cn",
        "content-length=9",
        "cookie=a=b",
        "authorization=Basic eDp5",
        "x-forwarded-for=1.2.3.4",
        "x-forwarded-host=unfiled.cn",
        "forwarded=host=unfiled.cn",
        "beian-verdict=allow",
        "expect=100-continue",
        "trailer=x",
    ] {
        let mut h2 = open(&world, Lane::Clear);
        let outcome = post_with_trailers(&mut h2, &h2::block(&fields(POST)), &[&h2::block(&fields(trailer))]);
        assert!(is_as(EITHER, Lane::Clear, &outcome), "{trailer}: {outcome:?}");
    }
    for trailer in ["transfer-encoding=chunked", "connection=close", "X-Upper=y", "te=gzip"] {
        let mut h2 = open(&world, Lane::Clear);
        let outcome = post_with_trailers(&mut h2, &h2::block(&fields(POST)), &[&h2::block(&fields(trailer))]);
        assert!(is_as(Bad, Lane::Clear, &outcome), "{trailer}: {outcome:?}");
    }
    let bytes = String::from_utf8_lossy(&world.upstream.bytes()).to_lowercase();
    for name in ["unfiled", "cookie", "authorization", "1.2.3.4", "beian-verdict", "content-length: 9"] {
        assert!(!bytes.contains(name), "{name} reached the upstream");
    }
    world.assert_well();
}

/// Streams for U beside streams for F: each alone, and F's unharmed.
#[test]
fn coalesced_streams() {
    let world = World::start();
    for lane in LANES {
        let mut h2 = open(&world, lane);
        for stream in (1..100).step_by(2) {
            let host = if stream % 4 == 1 { "filed.cn" } else { "unfiled.cn" };
            h2.request(stream, &fields(&format!("{{}}|:authority={host}")));
        }
        for stream in (1..100).step_by(2) {
            let (outcome, expect) = (h2.outcome(stream), if stream % 4 == 1 { OK } else { Block });
            assert!(is_as(expect, lane, &outcome), "{lane:?} {stream}: {outcome:?}");
        }
    }
    world.upstream.assert_only(&[F]);
    assert_eq!(world.upstream.requests().len(), 50);
}

/// On F's connection: other names of F's certificate are other filings.
#[test]
fn coalescing_over_tls() {
    let world = World::start();
    let mut h2 = open(&world, Lane::Tls);
    let rows = [("www.filed.cn", 200), ("also-filed.cn", 421), ("own-cert.cn", 421), ("filed.cn", 200)];
    for (index, (host, status)) in rows.into_iter().enumerate() {
        let stream = u32::try_from(index).unwrap() * 2 + 1;
        h2.request(stream, &fields(&format!("{{}}|:authority={host}")));
        assert_eq!(h2.outcome(stream), Outcome::Status(status), "{host}");
    }
    world.upstream.assert_only(&[F, "www.filed.cn"]);
}

/// A field block in pieces says the same as a whole one.
#[test]
fn blocks_in_pieces() {
    let world = World::start();
    for (host, status) in [("filed.cn", 200), ("unfiled.cn", 451)] {
        let mut h2 = open(&world, Lane::Clear);
        let block = h2::block(&fields(&format!("{{}}|:authority={host}")));
        let (first, rest) = block.split_at(1);
        h2.frame(HEADERS, END_STREAM | PRIORITY, 1, &[&[0, 0, 0, 0, 9], first].concat());
        let mut pieces = rest.chunks(block.len() / 3).peekable();
        while let Some(piece) = pieces.next() {
            h2.frame(CONTINUATION, if pieces.peek().is_none() { END_HEADERS } else { 0 }, 1, piece);
        }
        assert_eq!(h2.outcome(1), Outcome::Status(status), "{host}");
    }
}

/// Frames that are wrong by themselves end the connection, nothing reaches the upstream.
#[test]
fn broken_frames() {
    let world = World::start();
    let block = h2::block(&fields("{}|:authority=filed.cn"));
    let rows: &[(&str, u8, u8, u32, &[u8])] = &[
        ("CONTINUATION alone", CONTINUATION, END_HEADERS, 1, &block),
        ("HEADERS on stream 0", HEADERS, END_HEADERS | END_STREAM, 0, &block),
        ("HEADERS on an even stream", HEADERS, END_HEADERS | END_STREAM, 2, &block),
        ("DATA on an idle stream", DATA, END_STREAM, 1, b"GET / HTTP/1.1\r\n\r\n"),
        ("a field block cut short", HEADERS, END_HEADERS | END_STREAM, 1, &block[..block.len() - 1]),
        ("an index that is nothing", HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("padding longer than the frame", HEADERS, END_HEADERS | END_STREAM | 8, 1, &[255, 0x82]),
    ];
    for lane in LANES {
        for (name, kind, flags, stream, payload) in rows {
            let mut h2 = open(&world, lane);
            h2.frame(*kind, *flags, *stream, payload);
            let outcome = h2.outcome(1);
            assert!(is_as(Bad, lane, &outcome), "{lane:?} {name}: {outcome:?}");
        }
    }
    assert_eq!(world.upstream.heads().len(), 0);
    world.assert_well();
}

/// `ENHANCE_YOUR_CALM`.
const CALM: u32 = 11;

/// Frames that cost their sender nothing: the connection ends, with a word, and the others don't notice.
#[test]
fn floods() {
    let world = World::start();
    let rows: &[(&str, u8, u8, u32, &[u8])] = &[
        ("SETTINGS", h2::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
        ("PING", h2::PING, 0, 0, &[7; 8]),
        ("PING that acknowledges nothing", h2::PING, 1, 0, &[7; 8]),
        ("PRIORITY", 2, 0, 3, &[0, 0, 0, 0, 9]),
        ("WINDOW_UPDATE", h2::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        ("RST_STREAM of a stream that is over", h2::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        ("GOAWAY", h2::GOAWAY, 0, 0, &[0; 8]),
        ("empty DATA", DATA, 0, 3, b""),
        ("a kind that nobody knows", 0xfa, 0, 0, b""),
    ];
    for lane in LANES {
        for (name, kind, flags, stream, payload) in rows {
            let mut h2 = open(&world, lane);
            h2.request(1, &fields("{}|:authority=filed.cn"));
            assert_eq!(h2.end(1), Outcome::Status(200), "{lane:?} {name}");
            let post = h2::block(&fields(":method=POST|:scheme=http|:path=/3|:authority=filed.cn"));
            h2.frame(HEADERS, END_HEADERS, 3, &post);
            for _ in 0..20 {
                h2.frames(*kind, *flags, *stream, payload, 1_000);
            }
            let outcome = h2.outcome(3);
            let lost = matches!(outcome, Outcome::Lost(Lost::Broken(_) | Lost::Closed(_)));
            // An end over octets that nobody reads may outrun the word.
            assert!(outcome == Outcome::GoAway(CALM) || lost, "{lane:?} {name}: {outcome:?}");
        }
    }
    let said = world.process.output();
    assert!(!said.contains("h2::"), "what clients send fills no log: {said:.2000}");
    world.assert_well();
    let ended = world.metric("beian_gate_http2_floods_total");
    assert!(ended >= 14, "{ended} of 18 by count; empty DATA and resets may be h2's");
}

/// A field block in pieces without end, and one that stops in its middle.
#[test]
fn blocks_without_end() {
    let world = World::with(|setup| setup.toml("[limits]\nheader_timeout = \"1s\""));
    let block = h2::block(&fields("{}|:authority=filed.cn"));
    for lane in LANES {
        for piece in [&b""[..], &[0x82], &[0x82; 1_000]] {
            let mut h2 = open(&world, lane);
            h2.frame(HEADERS, END_STREAM, 1, &block);
            for _ in 0..20 {
                h2.frames(CONTINUATION, 0, 1, piece, 100);
            }
            let outcome = h2.outcome(1);
            assert!(is_as(Bad, lane, &outcome), "{lane:?} pieces of {}: {outcome:?}", piece.len());
        }
        for begin in [9, 12, 9 + block.len()] {
            let mut h2 = open(&world, lane);
            h2.request(1, &fields("{}|:authority=filed.cn"));
            assert_eq!(h2.outcome(1), Outcome::Status(200));
            h2.begin(HEADERS, END_STREAM, 3, &block, begin);
            let outcome = h2.outcome(3);
            let is_over = matches!(outcome, Outcome::Lost(Lost::Broken(_) | Lost::Closed(_)));
            assert!(is_over, "{lane:?} {begin} octets: {outcome:?}");
        }
    }
    world.upstream.assert_only(&[F]);
    world.assert_well();
}

/// Streams of a cancelled name are cut, those of another name on the same connection go on.
#[test]
fn cancelled_with_open_streams() {
    let world = World::start();
    world.upstream.hangs("/hang");
    let mut h2 = open(&world, Lane::Clear);
    for (stream, host) in [(1, F), (3, G)] {
        h2.request(
            stream,
            &fields(&format!(":method=GET|:scheme=http|:path=/hang-{host}|:authority={host}")),
        );
        world.upstream.arrived(&format!("/hang-{host}"));
    }
    world.cancel(F, "京ICP备20000001号-1");
    let cut = h2.outcome(1);
    assert!(matches!(cut, Outcome::Reset(_) | Outcome::Status(451 | 503)), "{cut:?}");
    wait("the upstream of F to be let go", || (world.upstream.open() == 1).then_some(()));
    h2.request(5, &fields(&format!("{{}}|:authority={G}")));
    assert_eq!(h2.outcome(5), Outcome::Status(200), "the connection lives on");
    h2.request(7, &fields("{}|:authority=filed.cn"));
    assert_eq!(h2.outcome(7), Outcome::Status(451));
}

/// A connection is of one protocol from its first octet on.
#[test]
fn no_preface_behind_a_request() {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let world = World::start();
    for is_at_once in [true, false] {
        let mut wire = world.connect();
        let first = format!("GET /first HTTP/1.1\r\nHost: {F}\r\n\r\n");
        wire.send(if is_at_once { first.clone() + preface } else { first });
        assert_eq!(wire.response().unwrap().status, 200);
        if !is_at_once {
            wire.send(preface);
        }
        let refused = wire.response().unwrap();
        assert_eq!((refused.status, refused.header("connection")), (400, Some("close")), "{refused:?}");
    }
    world.assert_well();
}
