//! What an HTTP/2 upstream may do wrong with its frames, row by row, and floods of those that are right: the client is told
//! 502 or gets a clean answer, the connection is ended where it must be, memory is bounded, others are served meanwhile.

use super::h2_upstreams::{Script, ask, host, world};
use crate::world::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::world::scripted::{Peer, Scripted, fields, frame};

use crate::world::wait;
use crate::world::wire::{Lost, Response};

const PRIORITY_FRAME: u8 = 2;
const PUSH_PROMISE: u8 = 5;

/// What the client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// 502 with `upstream_error`.
    Error,
    /// This status, whole.
    Clean(u16),
    /// A head, but never a body that looks whole; or 502.
    Cut,
    /// 504 with `upstream_timeout`.
    Late,
}

use Seen::{Clean, Cut, Error, Late};

fn is(seen: Seen, got: &Result<Response, Lost>) -> bool {
    let told = got.as_ref().map(|got| (got.status, got.verdict())).ok();
    match seen {
        Error => told == Some((502, "upstream_error")),
        Clean(status) => told == Some((status, "")),
        Cut => matches!(got, Err(Lost::Closed(_) | Lost::Broken(_))) || told == Some((502, "upstream_error")),
        Late => told == Some((504, "upstream_timeout")),
    }
}

/// Each row: what it is, the upstream, the request's method, what the client may see.
#[track_caller]
fn check(rows: &[(&str, Scripted, &str, Seen)], lines: &str) {
    let sites: Vec<Vec<&Scripted>> = rows.iter().map(|row| vec![&row.1]).collect();
    let world = world(&sites.iter().map(Vec::as_slice).collect::<Vec<_>>(), lines);
    let mut wrong = Vec::new();
    for (nth, (what, upstream, method, seen)) in rows.iter().enumerate() {
        let got = ask(&world, nth, method, "");
        if !is(*seen, &got) {
            wrong.push(format!("{what}: expected {seen:?}, got {got:?}"));
        }
        if upstream.requests() > 2 {
            wrong.push(format!("{what}: asked {} times", upstream.requests()));
        }
    }
    world.assert_well();
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// An answer with these fields, and this body.
fn answering(pairs: &'static [(&str, &str)], body: &'static [u8]) -> Scripted {
    Scripted::start(move |peer, id| {
        let head = frame(HEADERS, END_HEADERS, id, &fields(pairs));
        peer.send(&[head, frame(DATA, END_STREAM, id, body)].concat());
    })
}

/// An answer that ends with its head.
fn head(pairs: &'static [(&str, &str)]) -> Scripted {
    Scripted::start(move |peer, id| peer.frame(HEADERS, END_HEADERS | END_STREAM, id, &fields(pairs)))
}

/// One that writes a frame instead of an answer; stream 0xff stands for the request's.
fn writing(kind: u8, flags: u8, stream: u32, payload: &'static [u8]) -> Scripted {
    Scripted::start(move |peer, id| {
        let stream = if stream == 0xff { id } else { stream };
        peer.frame(kind, flags, stream, payload);
    })
}

const THIS: u32 = 0xff;

#[test]
fn heads() {
    let s = |status: &'static str| {
        Scripted::start(move |peer, id| {
            peer.frame(HEADERS, END_HEADERS | END_STREAM, id, &fields(&[(":status", status)]));
        })
    };
    check(
        &[
            ("no status", head(&[("a", "b")]), "GET", Error),
            ("an empty status", s(""), "GET", Error),
            ("a status of letters", s("abc"), "GET", Error),
            ("a short status", s("20"), "GET", Error),
            ("a long status", s("2000"), "GET", Error),
            ("status 000", s("000"), "GET", Error),
            ("status 099", s("099"), "GET", Error),
            ("status 101", s("101"), "GET", Error),
            ("an interim answer that ends", s("103"), "GET", Error),
            ("two statuses", head(&[(":status", "200"), (":status", "404")]), "GET", Error),
            // Dropped, as it says nothing.
            ("a request's field", head(&[(":status", "200"), (":path", "/")]), "GET", Clean(200)),
            ("an unknown pseudo-field", head(&[(":status", "200"), (":a", "b")]), "GET", Error),
            ("a status after fields", head(&[("a", "b"), (":status", "200")]), "GET", Error),
            ("connection", head(&[(":status", "200"), ("connection", "close")]), "GET", Error),
            ("keep-alive", head(&[(":status", "200"), ("keep-alive", "timeout=5")]), "GET", Error),
            ("proxy-connection", head(&[(":status", "200"), ("proxy-connection", "close")]), "GET", Error),
            (
                "transfer-encoding",
                head(&[(":status", "200"), ("transfer-encoding", "chunked")]),
                "GET",
                Error,
            ),
            ("upgrade", head(&[(":status", "200"), ("upgrade", "websocket")]), "GET", Error),
            ("an upper-case name", head(&[(":status", "200"), ("X-Upper", "a")]), "GET", Error),
            ("a space in a name", head(&[(":status", "200"), ("x y", "a")]), "GET", Error),
            ("a colon in a name", head(&[(":status", "200"), ("x:y", "a")]), "GET", Error),
            ("a line break in a name", head(&[(":status", "200"), ("x\r\ny", "a")]), "GET", Error),
            ("an empty name", head(&[(":status", "200"), ("", "a")]), "GET", Error),
            ("CR LF in a value", head(&[(":status", "200"), ("x", "a\r\nset-cookie: evil=1")]), "GET", Error),
            ("LF in a value", head(&[(":status", "200"), ("x", "a\nb")]), "GET", Error),
            ("CR in a value", head(&[(":status", "200"), ("x", "a\rb")]), "GET", Error),
            ("NUL in a value", head(&[(":status", "200"), ("x", "a\0b")]), "GET", Error),
            ("a good one", head(&[(":status", "200"), ("beian-verdict", "allow")]), "GET", Clean(200)),
        ],
        "",
    );
}

#[test]
fn bodies() {
    let length = |length: &'static str| {
        Scripted::start(move |peer, id| {
            peer.head(id, &[(":status", "200"), ("content-length", length)]);
            peer.frame(DATA, END_STREAM, id, b"hello");
        })
    };
    let twice = |one: &'static str, other: &'static str| {
        Scripted::start(move |peer, id| {
            peer.head(id, &[(":status", "200"), ("content-length", one), ("content-length", other)]);
            peer.frame(DATA, END_STREAM, id, b"hello");
        })
    };
    let trailers = |flags: u8, pairs: &'static [(&str, &str)]| {
        Scripted::start(move |peer, id| {
            peer.head(id, &[(":status", "200")]);
            peer.frame(DATA, 0, id, b"hello");
            peer.frame(HEADERS, END_HEADERS | flags, id, &fields(pairs));
        })
    };
    let late_head = Scripted::start(|peer, id| {
        peer.frame(DATA, 0, id, b"hello");
        peer.answer(id, "200");
    });
    let surplus = Scripted::start(|peer, id| {
        peer.answer(id, "200");
        peer.frame(DATA, END_STREAM, id, b"more");
        peer.answer(id, "500");
    });
    let padded = Scripted::start(|peer, id| {
        peer.head(id, &[(":status", "200")]);
        peer.frame(DATA, END_STREAM | 8, id, &[9, b'x']);
    });
    let on_head = &[(":status", "200"), ("content-length", "5")];
    check(
        &[
            ("as long as it says", length("5"), "GET", Clean(200)),
            ("longer than it says", length("4"), "GET", Cut),
            ("shorter than it says", length("6"), "GET", Cut),
            ("a signed length", length("+5"), "GET", Error),
            ("a negative length", length("-5"), "GET", Error),
            ("a hexadecimal length", length("0x5"), "GET", Error),
            ("a list of lengths", length("5, 5"), "GET", Error),
            ("a length with space", length("5 "), "GET", Error),
            ("an empty length", length(""), "GET", Cut),
            ("a length beyond all", length("99999999999999999999"), "GET", Error),
            ("two lengths", twice("5", "6"), "GET", Error),
            ("one length twice", twice("5", "5"), "GET", Error),
            ("a length and no body", head(on_head), "GET", Error),
            ("a length and no body, as asked", head(on_head), "HEAD", Clean(200)),
            ("a body that nobody asked for", answering(on_head, b"hello"), "HEAD", Clean(200)),
            ("204 with a body", answering(&[(":status", "204")], b"hello"), "GET", Clean(204)),
            ("304 with a body", answering(&[(":status", "304")], b"hello"), "GET", Clean(304)),
            ("204 with a length", head(&[(":status", "204"), ("content-length", "5")]), "GET", Clean(204)),
            ("trailers that end nothing", trailers(0, &[("x", "y")]), "GET", Cut),
            // Dropped, likewise.
            ("a status among trailers", trailers(END_STREAM, &[(":status", "500")]), "GET", Clean(200)),
            ("connection among trailers", trailers(END_STREAM, &[("connection", "close")]), "GET", Cut),
            ("an interim answer after all", trailers(0, &[(":status", "103")]), "GET", Cut),
            ("a line break among trailers", trailers(END_STREAM, &[("x", "a\r\nb")]), "GET", Cut),
            ("good trailers", trailers(END_STREAM, &[("x", "y")]), "GET", Clean(200)),
            ("a body before its head", late_head, "GET", Error),
            ("an answer after the answer", surplus, "GET", Clean(200)),
            ("more padding than there is", padded, "GET", Cut),
        ],
        "",
    );
}

#[test]
fn frames_out_of_place() {
    let huge = Scripted::start(|peer, id| peer.frame(DATA, 0, id, &[0; 1 << 20]));
    check(
        &[
            ("a head on stream 0", writing(HEADERS, 5, 0, b"\x88"), "GET", Error),
            ("a head on a stream never opened", writing(HEADERS, 5, 99, b"\x88"), "GET", Error),
            ("a head on a stream of its own", writing(HEADERS, 5, 2, b"\x88"), "GET", Error),
            ("a body on stream 0", writing(DATA, 0, 0, b"x"), "GET", Error),
            ("a body on a stream never opened", writing(DATA, 0, 99, b"x"), "GET", Error),
            ("a reset of stream 0", writing(RST_STREAM, 0, 0, &[0; 4]), "GET", Error),
            ("a reset of a stream never opened", writing(RST_STREAM, 0, 99, &[0; 4]), "GET", Error),
            ("a window of a stream never opened", writing(WINDOW_UPDATE, 0, 99, &[0, 0, 0, 1]), "GET", Error),
            ("a promise", writing(PUSH_PROMISE, END_HEADERS, THIS, &[0, 0, 0, 2, 0x82]), "GET", Error),
            (
                "a promise on stream 0",
                writing(PUSH_PROMISE, END_HEADERS, 0, &[0, 0, 0, 2, 0x82]),
                "GET",
                Error,
            ),
            ("a head that goes on without a begin", writing(CONTINUATION, 4, THIS, b"\x88"), "GET", Error),
            ("a field that there is none of", writing(HEADERS, 5, THIS, b"\xff\xff\x01"), "GET", Error),
            ("field 0", writing(HEADERS, 5, THIS, b"\x80"), "GET", Error),
            (
                "a number without end",
                writing(HEADERS, 5, THIS, b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
                "GET",
                Error,
            ),
            (
                "a larger table than was allowed",
                writing(HEADERS, 5, THIS, b"\x3f\xe1\xff\x03\x88"),
                "GET",
                Error,
            ),
            ("a frame of a megabyte", huge, "GET", Error),
        ],
        "",
    );
}

#[test]
fn frames_of_control() {
    let settings = |payload: &'static [u8]| {
        Scripted::greeting(frame(SETTINGS, 0, 0, payload), |peer, id| peer.answer(id, "204"))
    };
    let then_answer = |kind: u8, stream: u32, payload: &'static [u8]| {
        Scripted::start(move |peer, id| {
            peer.frame(kind, 0, stream, payload);
            peer.answer(id, "204");
        })
    };
    let window = [0x7f, 0xff, 0xff, 0xff];
    let windows = move |on: u32| {
        Scripted::start(move |peer, id| {
            let stream = if on == THIS { id } else { on };
            peer.frame(WINDOW_UPDATE, 0, stream, &window);
            peer.frame(WINDOW_UPDATE, 0, stream, &window);
            peer.answer(id, "204");
        })
    };
    check(
        &[
            ("settings of five octets", settings(&[0; 5]), "GET", Error),
            ("settings on a stream", writing(SETTINGS, 0, THIS, &[]), "GET", Error),
            ("an answer to settings never sent", writing(SETTINGS, 1, 0, &[]), "GET", Error),
            ("a ping of seven octets", writing(PING, 0, 0, &[0; 7]), "GET", Error),
            ("a ping on a stream", writing(PING, 0, THIS, &[0; 8]), "GET", Error),
            ("a window of three octets", writing(WINDOW_UPDATE, 0, 0, &[0; 3]), "GET", Error),
            ("a window that grows by nothing", writing(WINDOW_UPDATE, 0, 0, &[0; 4]), "GET", Error),
            (
                "a stream's window that grows by nothing",
                writing(WINDOW_UPDATE, 0, THIS, &[0; 4]),
                "GET",
                Error,
            ),
            ("a window beyond all", windows(0), "GET", Error),
            // Nothing more is sent there.
            ("a stream's window beyond all", windows(THIS), "GET", Clean(204)),
            ("a reset of three octets", writing(RST_STREAM, 0, THIS, &[0; 3]), "GET", Error),
            ("going away on a stream", writing(GOAWAY, 0, THIS, &[0; 8]), "GET", Error),
            ("going away in four octets", writing(GOAWAY, 0, 0, &[0; 4]), "GET", Error),
            ("a window beyond all, set", settings(&[0, 4, 0x80, 0, 0, 0]), "GET", Error),
            ("frames of one octet, set", settings(&[0, 5, 0, 0, 0, 1]), "GET", Error),
            ("a table of 4 GiB, set", settings(&[0, 1, 0xff, 0xff, 0xff, 0xff]), "GET", Clean(204)),
            ("no table, set", settings(&[0, 1, 0, 0, 0, 0]), "GET", Clean(204)),
            ("settings that nobody knows", settings(&[0xba, 0xbe, 1, 2, 3, 4]), "GET", Clean(204)),
            ("a frame that nobody knows", then_answer(0xee, 0, b"?"), "GET", Clean(204)),
            ("a ping", then_answer(PING, 0, &[1; 8]), "GET", Clean(204)),
            (
                "an answer to a ping never sent",
                Scripted::start(|peer, id| {
                    peer.frame(PING, 1, 0, &[1; 8]);
                    peer.answer(id, "204");
                }),
                "GET",
                Clean(204),
            ),
        ],
        "",
    );
}

/// Who is slow, or has no room for requests, is not waited for without end.
#[test]
fn slow_ones() {
    let nothing: Script = |_, _| {};
    let answers: Script = |peer, id| peer.answer(id, "204");
    let drips: Script = |peer, id| {
        let long = [("x-long", &*"x".repeat(4000))];
        peer.drip(&frame(HEADERS, END_HEADERS, id, &fields(&[&[(":status", "200")], &long[..]].concat())));
    };
    let silent = Scripted::greeting(Vec::new(), answers);
    let none = Scripted::greeting(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 0]), answers);
    check(
        &[
            ("no settings", silent, "GET", Late),
            ("no streams", none, "GET", Late),
            ("no answer", Scripted::start(nothing), "GET", Late),
            ("a head that drips", Scripted::start(drips), "GET", Late),
        ],
        "[site.timeouts]\nconnect = \"1s\"\nresponse = \"1s\"",
    );
    // A body that may not be sent, and one that comes to an end in the middle.
    let closed = Scripted::greeting(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), nothing);
    let half: Script = |peer, id| {
        peer.head(id, &[(":status", "200")]);
        peer.frame(DATA, 0, id, b"half");
    };
    let half = Scripted::start(half);
    let lines = "[site.timeouts]\nresponse = \"1s\"\nidle = \"1s\"";
    let world = world(&[&[&closed], &[&half]], lines);
    let late = ask(&world, 0, "POST", "Content-Length: 5\r\n\r\nhello");
    assert!(is(Late, &late), "{late:?}");
    let cut = ask(&world, 1, "GET", "");
    assert!(matches!(cut, Err(Lost::Closed(_) | Lost::Broken(_))), "{cut:?}");
}

/// The same frame again and again.
fn repeating(kind: u8, flags: u8, stream: u32, payload: &'static [u8]) -> Scripted {
    Scripted::start(move |peer, id| {
        peer.flood(&frame(kind, flags, if stream == THIS { id } else { stream }, payload));
    })
}

/// An answer that begins, and then a frame again and again.
fn answering_and(what: fn(u32) -> Vec<u8>) -> Scripted {
    Scripted::start(move |peer, id| {
        peer.head(id, &[(":status", "200")]);
        peer.frame(DATA, 0, id, b"hello");
        peer.flood(&what(id));
    })
}

/// A head or trailers that begin like this and go on for ever.
fn endless(begin: fn(&Peer, u32), more: fn(u32) -> Vec<u8>) -> Scripted {
    Scripted::start(move |peer, id| {
        begin(peer, id);
        peer.flood(&more(id));
    })
}

#[test]
fn floods_of_control() {
    let old = Scripted::start(|peer, id| match id {
        1 => peer.answer(id, "204"),
        _ => peer.flood(&frame(RST_STREAM, 0, 1, &[0; 4])),
    });
    flood(&[
        ("pings", repeating(PING, 0, 0, &[0; 8]), Error),
        ("answers to pings", repeating(PING, 1, 0, &[0; 8]), Error),
        ("settings", repeating(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]), Error),
        ("empty settings", repeating(SETTINGS, 0, 0, &[]), Error),
        ("windows", repeating(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), Error),
        ("windows of the stream", repeating(WINDOW_UPDATE, 0, THIS, &[0, 0, 0, 1]), Error),
        ("priorities", repeating(PRIORITY_FRAME, 0, THIS, &[0, 0, 0, 0, 1]), Error),
        ("frames that nobody knows", repeating(0xee, 0, 0, b"?"), Error),
        ("large frames that nobody knows", repeating(0xee, 0, 0, &[0; 8000]), Error),
        ("going away for ever", repeating(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]), Error),
        ("resets of an old stream", old, Error),
    ]);
}

#[test]
fn floods_of_answers() {
    let line = |id| frame(CONTINUATION, 0, id, &fields(&[("x-more", "and more of the same")]));
    let bomb = Scripted::start(|peer, id| {
        // One large field in the table, then its index 16,000 times: 50 MB in 20 KB.
        let value = vec![b'x'; 3000];
        let large = [&[0x40, 1, b'x', 0x7f, 0xb9, 0x16][..], &value].concat();
        peer.frame(HEADERS, 0, id, &[&[0x88][..], &large].concat());
        peer.flood(&frame(CONTINUATION, 0, id, &[0xbe; 16_000]));
    });
    flood(&[
        ("interim answers", repeating(HEADERS, END_HEADERS, THIS, b"\x08\x03103"), Error),
        ("heads", repeating(HEADERS, END_HEADERS, THIS, b"\x88"), Cut),
        ("empty frames of a body", answering_and(|id| frame(DATA, 0, id, b"")), Cut),
        ("padding", answering_and(|id| frame(DATA, 8, id, &[&[200][..], &[0; 200]].concat())), Cut),
        ("a head without end", endless(|peer, id| peer.frame(HEADERS, 0, id, b"\x88"), line), Error),
        (
            "a head of nothing without end",
            endless(|peer, id| peer.frame(HEADERS, 0, id, b"\x88"), |id| frame(CONTINUATION, 0, id, b"")),
            Error,
        ),
        ("a head that grows", bomb, Error),
        (
            "trailers without end",
            endless(
                |peer, id| {
                    peer.head(id, &[(":status", "200")]);
                    peer.frame(DATA, 0, id, b"hello");
                    peer.frame(HEADERS, END_STREAM, id, b"");
                },
                line,
            ),
            Cut,
        ),
    ]);
}

/// Frames without end: the connection is ended before much of them was taken, the client told, nobody else disturbed.
#[track_caller]
fn flood(table: &[(&str, Scripted, Seen)]) {
    let sites: Vec<Vec<&Scripted>> = table.iter().map(|row| vec![&row.1]).collect();
    let world = world(&sites.iter().map(Vec::as_slice).collect::<Vec<_>>(), "");
    if let Some(row) = table.iter().position(|row| row.0.contains("old stream")) {
        assert_eq!(ask(&world, row, "GET", "").unwrap().status, 204);
    }
    let before = world.process.memory();
    let mut wrong = Vec::new();
    for (nth, (what, upstream, seen)) in table.iter().enumerate() {
        let mut wire = world.connect();
        wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(nth)));
        world.assert_well();
        let got = wire.response();
        if !is(*seen, &got) {
            wrong.push(format!("{what}: expected {seen:?}, got {got:?}"));
        }
        wait(&format!("the end of {what}"), || (upstream.open() == 0).then_some(()));
        // With what fits between two sockets.
        if upstream.sent() > 24 << 20 {
            wrong.push(format!("{what}: {} octets were taken", upstream.sent()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), table.len(), wrong.join("\n"));
    let grown = world.process.memory().saturating_sub(before);
    assert!(grown < 24 << 20, "{} MiB more than before", grown >> 20);
}

/// The same where nobody waits for an answer, and where the window is full because its client takes nothing.
#[test]
fn floods_that_nobody_waits_for() {
    let after = Scripted::start(|peer, id| {
        peer.answer(id, "204");
        peer.flood(&frame(PING, 0, 0, &[0; 8]));
    });
    let beyond = Scripted::start(|peer, id| {
        peer.head(id, &[(":status", "200")]);
        peer.flood(&frame(DATA, 0, id, &[b'x'; 16_000]));
    });
    let world = world(&[&[&after], &[&beyond]], "");
    assert_eq!(ask(&world, 0, "GET", "").unwrap().status, 204);
    wait("the end of the pings", || (after.open() == 0).then_some(()));
    assert!(after.sent() < 24 << 20, "{} octets were taken", after.sent());
    let mut wire = world.connect();
    wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(1)));
    wait("the end of who ignores its window", || (beyond.open() == 0).then_some(()));
    assert!(beyond.sent() < 24 << 20, "{} octets were taken", beyond.sent());
    world.assert_well();
}
