//! What servers are burdened with: retries within a budget, places and queues, connections that are kept or not.

use crate::world::upstream::{Then, Upstream};
use crate::world::wire::Wire;
use crate::world::{F, World, wait};
use std::sync::{Arc, Condvar, Mutex};

const HOST: &str = "burden.filed.cn";

fn world(servers: &[&Upstream], lines: &str) -> World {
    let servers: Vec<_> = servers.iter().map(|one| format!("\"http://{}\"", one.address)).collect();
    let site = format!(
        "[[site]]\nhosts = [\"{HOST}\"]\nupstreams = [{}]\nbalance = \"round_robin\"\n{lines}",
        servers.join(", ")
    );
    World::with(|setup| setup.toml(&site))
}

fn counted(world: &World, name: &str, upstream: &Upstream) -> u64 {
    let line = format!("beian_gate_upstream_{name}{{upstream=\"http://{}\"}} ", upstream.address);
    let text = world.ask("/metrics").text();
    let value =
        text.lines().find_map(|one| one.strip_prefix(&line)).unwrap_or_else(|| panic!("{line}: {text}"));
    value.parse().unwrap()
}

fn ask(world: &World, method: &str) -> u16 {
    world.send(&format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n")).status
}

/// A GET goes to the other server after a 503, a POST does not; without budget neither does.
#[test]
fn statuses_are_tried_elsewhere_where_that_is_safe() {
    let (bad, good) = (Upstream::start(), Upstream::start());
    bad.answers("/", "HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n", Then::Keep);
    let world = world(&[&bad, &good], "[site.retries]\nstatuses = [503]");
    let statuses: Vec<_> = (0..6).map(|_| ask(&world, "GET")).collect();
    assert_eq!(statuses, [200; 6]);
    assert_eq!(counted(&world, "retries_total", &bad), bad.requests().len() as u64);
    let before = bad.requests().len();
    let mut statuses: Vec<_> = (0..4).map(|_| ask(&world, "POST")).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503], "sent once each");
    assert_eq!(bad.requests().len(), before + 2);
}

#[test]
fn the_budget_ends_retries() {
    let (bad, worse) = (Upstream::start(), Upstream::start());
    for upstream in [&bad, &worse] {
        upstream.answers("/", "HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n", Then::Keep);
    }
    let world = world(&[&bad, &worse], "[site.retries]\nstatuses = [503]\nbudget = 0\nper_second = 0");
    (0..110).for_each(|_| assert_eq!(ask(&world, "GET"), 503));
    let retries = counted(&world, "retries_total", &bad) + counted(&world, "retries_total", &worse);
    let denied =
        counted(&world, "retries_denied_total", &bad) + counted(&world, "retries_denied_total", &worse);
    assert_eq!((retries, denied), (100, 10));
    assert_eq!(bad.requests().len() + worse.requests().len(), 210);
}

/// Requests for /hold are answered once the gate is opened.
fn holding(upstream: &Upstream) -> impl Fn() + use<> {
    let held = Arc::new((Mutex::new(false), Condvar::new()));
    let of_script = Arc::clone(&held);
    upstream.on("/hold", move |exchange| {
        let (is_open, opened) = &*of_script;
        drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
        exchange.answer("200 OK", "held")
    });
    move || {
        *held.0.lock().unwrap() = true;
        held.1.notify_all();
    }
}

fn begin(world: &World) -> Wire {
    let mut wire = world.connect();
    wire.send(format!("GET /hold HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    wire
}

/// One is served, one waits, the third is told; the second gets its turn. By requests, and by connections.
#[test]
fn places_and_a_queue() {
    for limit in ["requests", "connections"] {
        let upstream = Upstream::start();
        let open = holding(&upstream);
        let lines = format!("[site.breaker]\n{limit} = 1\npending = 1\npending_timeout = \"1h\"");
        let world = world(&[&upstream], &lines);
        let mut first = begin(&world);
        upstream.arrived("/hold");
        let mut second = begin(&world);
        wait("one to wait", || (counted(&world, "pending", &upstream) == 1).then_some(()));
        let third = begin(&world).response().unwrap();
        assert_eq!((third.status, third.verdict()), (503, "overloaded"), "{limit}");
        assert_eq!(counted(&world, "overflow_total", &upstream), 1);
        open();
        assert_eq!(first.response().unwrap().status, 200);
        assert_eq!(second.response().unwrap().status, 200);
        assert_eq!(counted(&world, "pending", &upstream), 0);
        assert_eq!(world.get(HOST, "/").status, 200, "the place is free again");
    }
}

#[test]
fn waiting_has_an_end() {
    let upstream = Upstream::start();
    let open = holding(&upstream);
    let world = world(&[&upstream], "[site.breaker]\nrequests = 1\npending_timeout = \"100ms\"");
    let mut first = begin(&world);
    upstream.arrived("/hold");
    let second = begin(&world).response().unwrap();
    assert_eq!((second.status, second.verdict()), (503, "overloaded"));
    open();
    assert_eq!(first.response().unwrap().status, 200);
}

/// A server without room gets nothing while others have some.
#[test]
fn others_have_room() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let opens = [holding(&one), holding(&two)];
    let world = world(&[&one, &two], "[site.breaker]\nrequests = 1\npending = 0");
    let mut first = begin(&world);
    wait("one to be asked", || (one.heads().len() + two.heads().len() == 1).then_some(()));
    // In turn every second one would be for the server that is full.
    for _ in 0..4 {
        assert_eq!(world.get(HOST, "/").status, 200);
    }
    opens.iter().for_each(|open| open());
    assert_eq!(first.response().unwrap().status, 200);
}

/// Connections that have carried enough, or are old enough, are not used again; none are kept where none shall be.
#[test]
fn kept_for_so_long() {
    for (lines, expected) in [
        ("[site.keep]\nmax_requests = 2", 3),
        ("[site.keep]\nmax_age = \"1ms\"", 6),
        ("[site.keep]\nidle = 0", 6),
        ("", 1),
    ] {
        let upstream = Upstream::start();
        let world = world(&[&upstream], lines);
        for _ in 0..6 {
            assert_eq!(world.get(HOST, "/").status, 200);
            if lines.contains("age") {
                wait("the connection's end", || (upstream.open() == 0).then_some(()));
            }
        }
        assert_eq!(upstream.connections(), expected, "{lines}");
    }
}

/// Connections beyond those that shall be kept wait for a while, and are closed then.
#[test]
fn surplus_is_closed_in_time() {
    let upstream = Upstream::start();
    let open = holding(&upstream);
    let world = world(&[&upstream], "[site.keep]\nidle = 1");
    let mut asking = [begin(&world), begin(&world), begin(&world)];
    wait("all to be asked", || (upstream.heads().len() == 3).then_some(()));
    open();
    for one in &mut asking {
        assert_eq!(one.response().unwrap().status, 200);
    }
    wait("the surplus to be closed", || (upstream.open() == 1).then_some(()));
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn idle_ones_are_closed_in_time() {
    let upstream = Upstream::start();
    let world = world(&[&upstream], "[site.keep]\nidle_timeout = \"100ms\"");
    assert_eq!(world.get(HOST, "/").status, 200);
    wait("its end", || (upstream.open() == 0).then_some(()));
}

/// Connections that are opened ahead are there before the first request, which then needs none of its own; one that its
/// server ends is replaced.
#[test]
fn connections_are_opened_ahead() {
    let world = World::with(|setup| setup.site("keep = { ahead = 3 }"));
    wait("three connections", || (world.upstream.open() == 3).then_some(()));
    for turn in 0..20 {
        assert_eq!(world.get(F, &format!("/{turn}")).status, 200);
    }
    assert_eq!(world.upstream.connections(), 3, "they are enough");
    world.upstream.answers(
        "/last",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        Then::Close,
    );
    assert_eq!(world.get(F, "/last").status, 200);
    wait("another in its place", || (world.upstream.connections() == 4).then_some(()));
    wait("three again", || (world.upstream.open() == 3).then_some(()));
}
