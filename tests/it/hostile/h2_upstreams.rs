//! Upstreams that break the rules of HTTP/2, or keep them and mean harm: frames by hand. The client is answered in time,
//! upstreams are asked a few times at most, others notice nothing.

use crate::world::h2::{self, END_HEADERS, HEADERS, SETTINGS};
use crate::world::scripted::{Peer, Scripted, fields};
use crate::world::upstream::Then;
use crate::world::wire::{Lost, Response};
use crate::world::{World, wait};
use std::sync::atomic::{AtomicUsize, Ordering};

const REFUSED: u32 = 7;
const CANCEL: u32 = 8;

pub type Script = fn(&Peer, u32);

pub fn host(nth: usize) -> String {
    format!("row-{nth}.filed.cn")
}

/// A world in which each of these lists of servers has a site, by its number.
pub fn world(sites: &[&[&Scripted]], lines: &str) -> World {
    let site = |(nth, servers): (usize, &&[&Scripted])| {
        let urls: Vec<_> = servers.iter().map(|one| format!("\"h2c://{}\"", one.address)).collect();
        format!("[[site]]\nhosts = [\"{}\"]\nupstreams = [{}]\n{lines}\n", host(nth), urls.join(", "))
    };
    let sites: String = sites.iter().enumerate().map(site).collect();
    World::with(|setup| setup.toml(&sites))
}

pub fn ask(world: &World, nth: usize, method: &str, rest: &str) -> Result<Response, Lost> {
    let request = format!("{method} / HTTP/1.1\r\nHost: {}\r\n{rest}\r\n", host(nth));
    world.connect().send(request).response_to(method)
}

fn refuse(peer: &Peer, stream: u32) {
    peer.reset(stream, REFUSED);
}

fn leave(peer: &Peer, _: u32) {
    peer.go_away(0, 0);
}

/// Who takes no request, however often and over however many connections it is asked, is asked twice; who may have looked
/// at it, once.
#[test]
fn requests_that_nobody_takes() {
    let close = |peer: &Peer, _| peer.close();
    let leave_and_close = |peer: &Peer, _| {
        peer.go_away(0, 0);
        peer.close();
    };
    let answers: Script = |peer, stream| peer.answer(stream, "204");
    let settings = h2::octets(SETTINGS, 0, 0, &[]);
    let gone = h2::octets(h2::GOAWAY, 0, 0, &[0; 8]);
    // What is told, how often it may be asked, the answer.
    let rows: [(&str, Scripted, usize, u16); 11] = [
        ("refused", Scripted::start(refuse), 2, 502),
        ("going away, left open", Scripted::start(leave), 2, 502),
        ("going away, closed", Scripted::start(leave_and_close), 2, 502),
        ("going away for an error", Scripted::start(|peer, _| peer.go_away(0, 11)), 2, 502),
        ("going away from the first", Scripted::greeting([settings, gone].concat(), answers), 2, 502),
        ("cancelled", Scripted::start(|peer, stream| peer.reset(stream, CANCEL)), 1, 502),
        ("reset without an error", Scripted::start(|peer, stream| peer.reset(stream, 0)), 1, 502),
        ("an unknown error", Scripted::start(|peer, stream| peer.reset(stream, 0xffff)), 1, 502),
        (
            "going away after it",
            Scripted::start(|peer, id| {
                peer.go_away(id, 0);
                peer.close()
            }),
            1,
            502,
        ),
        ("closed", Scripted::start(close), 1, 502),
        ("no HTTP/2", Scripted::greeting(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), answers), 2, 502),
    ];
    let sites: Vec<Vec<&Scripted>> = rows.iter().map(|row| vec![&row.1]).collect();
    let world = world(&sites.iter().map(Vec::as_slice).collect::<Vec<_>>(), "");
    for method in ["GET", "DELETE"] {
        for (nth, (what, upstream, most, status)) in rows.iter().enumerate() {
            let before = upstream.requests();
            let got = ask(&world, nth, method, "").unwrap();
            assert_eq!((got.status, got.verdict()), (*status, "upstream_error"), "{method}, {what}");
            let asked = upstream.requests() - before;
            assert!(asked <= *most, "{method}, {what}: asked {asked} times");
        }
    }
    for (what, upstream, ..) in &rows {
        assert!(
            upstream.connections() <= 4,
            "{what}: {} connections for two requests",
            upstream.connections()
        );
    }
    world.assert_well();
}

/// A request goes to another server where one takes none, however often the first is asked.
#[test]
fn another_server_takes_what_one_refuses() {
    for script in [refuse as Script, leave] {
        let good = Scripted::start(|peer, stream| peer.answer(stream, "204"));
        let [bad, worse] = [Scripted::start(script), Scripted::start(script)];
        let world = world(&[&[&bad, &good], &[&bad, &worse]], "balance = \"round_robin\"");
        for _ in 0..4 {
            assert_eq!(ask(&world, 0, "GET", "").unwrap().status, 204);
        }
        let before = bad.requests() + worse.requests();
        assert_eq!(ask(&world, 1, "GET", "").unwrap().status, 502);
        let asked = bad.requests() + worse.requests() - before;
        assert!((2..=4).contains(&asked), "asked {asked} times");
    }
}

/// What the upstream has not looked at is sent again whatever it is, as long as none of its body is gone.
#[test]
fn what_was_not_looked_at_is_sent_again() {
    let refuses_the_first = |script: Script| {
        let count = AtomicUsize::new(0);
        Scripted::start(move |peer, stream| match count.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => script(peer, stream),
            _ => peer.answer(stream, "204"),
        })
    };
    let upstreams = [refuses_the_first(refuse), refuses_the_first(leave)];
    let world = world(&[&[&upstreams[0]], &[&upstreams[1]]], "");
    for (nth, upstream) in upstreams.iter().enumerate() {
        let requests = [
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "Content-Length: 0\r\n"),
            ("POST", "Content-Length: 5\r\n"),
        ];
        for (method, rest) in requests {
            let before = upstream.requests();
            let got = ask(&world, nth, method, rest).unwrap();
            assert_eq!((got.status, upstream.requests() - before), (204, 2), "{method} {rest:?}");
        }
    }
}

/// A body that was begun is not sent a second time.
#[test]
fn a_body_that_was_begun_is_not_sent_again() {
    let (begun, body) = std::sync::mpsc::channel();
    let body = std::sync::Mutex::new(body);
    let upstream = Scripted::start(move |peer, stream| {
        // Until the test says that octets of the body are on their way: the window of the connection shows it.
        body.lock().unwrap().recv().unwrap();
        peer.reset(stream, REFUSED);
    });
    let world = world(&[&[&upstream]], "");
    let mut wire = world.connect();
    wire.send(format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\nhalf", host(0)));
    wait("the body's first octets", || (upstream.octets() >= 4).then_some(()));
    begun.send(()).unwrap();
    assert_eq!(wire.response().unwrap().status, 502);
    assert_eq!(upstream.requests(), 1);
}

/// Clients that leave take along what was held for them, and upstreams are asked no more.
#[test]
fn clients_that_leave() {
    const CLIENTS: usize = 20;
    let silent = Scripted::start(|_, _| {});
    let upstreams = [Scripted::start(refuse), Scripted::start(leave), silent];
    let world = world(&[&[&upstreams[0]], &[&upstreams[1]], &[&upstreams[2]]], "");
    let open = || world.metric("beian_gate_connections_open");
    let before = open();
    for (nth, upstream) in upstreams.iter().enumerate() {
        for _ in 0..CLIENTS {
            let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(nth));
            world.connect().send(request);
        }
        wait("the clients' connections to end", || (open() <= before).then_some(()));
        let asked = upstream.requests();
        assert!(asked <= 2 * CLIENTS, "{nth}: asked {asked} times");
    }
    wait("what goes away to be closed", || (upstreams[1].open() == 0).then_some(()));
    wait("all to be taken back", || (upstreams[2].resets() == upstreams[2].requests()).then_some(()));
}

/// Eight interim answers are dropped; more are no answer, and neither is a switch of protocols.
#[test]
fn interim_answers() {
    let interim = |count: usize| {
        move |peer: &Peer, stream| {
            let hint =
                h2::octets(HEADERS, END_HEADERS, stream, &fields(&[(":status", "103"), ("link", "</a>")]));
            let _ = (0..count).all(|_| peer.send(&hint));
            peer.answer(stream, "204");
        }
    };
    let switch: Script = |peer, stream| peer.head(stream, &[(":status", "101")]);
    let upstreams: [(Scripted, u16); 5] = [
        (Scripted::start(interim(1)), 204),
        (Scripted::start(interim(8)), 204),
        (Scripted::start(interim(9)), 502),
        (Scripted::start(interim(usize::MAX)), 502),
        (Scripted::start(switch), 502),
    ];
    let sites: Vec<Vec<&Scripted>> = upstreams.iter().map(|row| vec![&row.0]).collect();
    let world = world(&sites.iter().map(Vec::as_slice).collect::<Vec<_>>(), "");
    for (nth, (upstream, status)) in upstreams.iter().enumerate() {
        assert_eq!(ask(&world, nth, "GET", "").unwrap().status, *status, "{nth}");
        assert_eq!(upstream.requests(), 1);
    }
    world.assert_well();
}

/// An upstream that no longer says anything at all gets no further requests on that connection.
#[test]
fn a_connection_that_has_gone_dead_is_given_up() {
    let count = AtomicUsize::new(0);
    // The first connection answers once, and then never again.
    let upstream = Scripted::start(move |peer, stream| match count.fetch_add(1, Ordering::SeqCst) {
        1 => {}
        _ => peer.answer(stream, "204"),
    });
    let lines = "[site.timeouts]\nresponse = \"3s\"";
    let world = world(&[&[&upstream]], lines);
    let answers: Vec<_> = (0..3).map(|_| ask(&world, 0, "GET", "").unwrap().status).collect();
    assert_eq!((answers, upstream.connections()), (vec![204, 504, 204], 2));
}

/// An upstream that takes few requests at once is no worse for it: the others wait for connections of their own.
#[test]
fn few_streams_at_once() {
    const CLIENTS: usize = 40;
    let settings = h2::octets(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 4]);
    let open = std::sync::Arc::new(std::sync::Mutex::new(std::collections::HashMap::new()));
    let upstream = Scripted::greeting(settings, move |peer, stream| {
        // All at once would be answered at once: hold each until there are four on its connection, or a while.
        let here = |by: i32| {
            let mut open = open.lock().unwrap();
            let here: &mut i32 = open.entry(peer.name()).or_default();
            *here += by;
            *here
        };
        if here(1) > 4 {
            peer.reset(stream, REFUSED);
        } else {
            std::thread::park_timeout(std::time::Duration::from_millis(20));
            here(-1);
            peer.answer(stream, "204");
            return;
        }
        here(-1);
    });
    let world = world(&[&[&upstream]], "");
    let mut wires: Vec<_> = (0..CLIENTS).map(|_| world.connect()).collect();
    for wire in &mut wires {
        wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(0)));
    }
    for wire in &mut wires {
        assert_eq!(wire.response().unwrap().status, 204);
    }
    assert_eq!(upstream.requests(), CLIENTS, "none was refused");
}

/// A server that takes ten requests on a connection and then says that it goes away is asked for an eleventh on another;
/// no client notices, however many there are.
#[test]
fn ten_requests_on_a_connection() {
    const CLIENTS: usize = 4;
    const EACH: usize = 25;
    const LAST: u32 = 19;
    let upstream = Scripted::start(|peer, stream| {
        if stream <= LAST {
            peer.answer(stream, "204");
        }
        if stream == LAST {
            peer.go_away(LAST, 0);
        }
    });
    let world = world(&[&[&upstream]], "");
    std::thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|_| {
            scope.spawn(|| {
                let mut wire = world.connect();
                for _ in 0..EACH {
                    wire.send(format!("DELETE / HTTP/1.1\r\nHost: {}\r\n\r\n", host(0)));
                    assert_eq!(wire.response().unwrap().status, 204);
                }
            })
        });
        clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    });
    assert!(upstream.connections() >= CLIENTS * EACH / 10, "{} connections", upstream.connections());
    wait("what goes away to be closed", || (upstream.open() <= 4).then_some(()));
}

/// Checks of servers that answer without end come to an end.
#[test]
fn checks_that_are_flooded() {
    let interim = h2::octets(HEADERS, END_HEADERS, 1, &fields(&[(":status", "103")]));
    let ping = h2::octets(h2::PING, 0, 0, &[0; 8]);
    let over_http2 = [interim, ping].map(|frame| Scripted::start(move |peer, _| peer.flood(&frame)));
    let site = |(nth, url): (usize, String)| {
        let health = "[site.health]\npath = \"/check\"\ninterval = \"60s\"\ntimeout = \"60s\"\nunhealthy = 1";
        format!("[[site]]\nhosts = [\"{}\"]\nupstreams = [\"{url}\"]\n{health}\n", host(nth))
    };
    let world = World::with(|setup| {
        let mut urls: Vec<_> = over_http2.iter().map(|one| format!("h2c://{}", one.address)).collect();
        urls.push(format!("http://{}", setup.upstream));
        let sites: String = urls.into_iter().enumerate().map(site).collect();
        setup.toml(&sites)
    });
    world.upstream.on("/check", |exchange| {
        while exchange.send("HTTP/1.1 103 Early Hints\r\n\r\n") {}
        Then::Close
    });
    for why in ["it floods its connection", "too many interim responses"] {
        wait(why, || world.process.output().contains(why).then_some(()));
    }
    for upstream in &over_http2 {
        wait("the check's connection to end", || {
            (upstream.connections() == 1 && upstream.open() == 0).then_some(())
        });
        assert!(upstream.sent() < 24 << 20, "{} octets were taken", upstream.sent());
    }
}
