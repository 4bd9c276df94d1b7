//! A reload changes what open connections are judged by: how their listener is set, or their site. What stops being
//! allowed ends, whatever lane it goes by; what stays allowed goes on; what becomes allowed is, on the same connection.

use super::{Expected, From, Open, Streams, check, script, switched, with_passthrough};
use crate::world::h2::{H2, Outcome};
use crate::world::setup::Setup;
use crate::world::wire::{Lost, Wire};
use crate::world::{F, G, UC, World, access, wait};
use serde_json::json;
use std::net::Ipv4Addr;

/// Another address of this machine, as a client's.
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const NUMBER: &str = "京ICP备20000001号-1";

/// Changes the config, and waits until that is in force.
#[track_caller]
fn edit(world: &World, change: impl FnOnce(String) -> String) {
    const IN_FORCE: &str = "beian_gate_reloads_total{result=\"in_force\"}";
    let path = world.path("gate.toml");
    let before = world.metric(IN_FORCE);
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed);
    std::fs::write(&path, changed).unwrap();
    world.process.hang_up();
    wait("the reload", || (world.metric(IN_FORCE) > before).then_some(()));
}

/// Adds a line to every listener.
fn to_listeners(world: &World, line: &str) {
    edit(world, |text| {
        let mut changed = String::new();
        for one in text.lines() {
            changed.extend([one, "\n"]);
            if one.starts_with("protocol = ") {
                changed.extend([line, "\n"]);
            }
        }
        changed
    });
}

/// Takes it from them, or from wherever it stands.
fn without(world: &World, line: &str) {
    edit(world, |text| text.replace(&format!("\n{line}\n"), "\n"));
}

/// UC's number is good for who needs no access here.
fn filed_elsewhere(setup: Setup) -> Setup {
    let access = json!({ "number": "京ICP备20000011号-1", "access": { "other-cloud": "active" } });
    with_passthrough(setup).filing(UC, access)
}

#[test]
fn region_of_a_listener() {
    let world = World::with(with_passthrough);
    to_listeners(&world, "region = \"overseas\"");
    check(&world, &Expected::blocked(UC, "unfiled"), |world| without(world, "region = \"overseas\""));
}

#[test]
fn scenario_of_a_listener() {
    let world = World::with(filed_elsewhere);
    to_listeners(&world, "scenario = \"cdn\"");
    check(&world, &Expected::blocked(UC, "not_connected"), |world| without(world, "scenario = \"cdn\""));
}

#[test]
fn region_of_a_site() {
    let world = World::with(|setup| with_passthrough(setup).site("region = \"overseas\""));
    check(&world, &Expected::blocked(UC, "unfiled"), |world| without(world, "region = \"overseas\""));
}

#[test]
fn scenario_of_a_site() {
    let world = World::with(|setup| filed_elsewhere(setup).site("scenario = \"cdn\""));
    check(&world, &Expected::blocked(UC, "not_connected"), |world| without(world, "scenario = \"cdn\""));
}

/// What becomes of the connections of who is denied.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Later,
    WithThat,
}

/// The same for a client who is not let in any more, wherever it comes from; another stays.
#[track_caller]
fn check_denied(world: &World, client: From, ends: Ends, reason: impl FnOnce(&World)) {
    script(world);
    let (mut denied, mut other) = (Open::of(client, world, F), Open::new(world, G));
    let mut streams = Streams::over(client.clear(world), world, F, G);
    reason(world);
    denied.assert_cut("no_site");
    streams.assert_all_cut(404);
    if ends == Ends::WithThat {
        for wire in [&mut denied.waiting, &mut denied.idle] {
            assert!(matches!(wire.rest(), (_, Lost::Closed(_))));
        }
        streams.0.told_to_go();
    }
    other.assert_well(world);
    let line = wait("the log", || world.log().into_iter().find(|line| line["target"] == "/hang-filed.cn"));
    assert_eq!(line["detail"], "denied: the client's address", "{line}");
    world.process.assert_running();
}

#[test]
fn networks_of_a_listener() {
    let world = World::with(with_passthrough);
    let client = From { source: Some(OTHER), ..From::default() };
    check_denied(&world, client, Ends::WithThat, |world| to_listeners(world, "deny = [\"127.0.0.2\"]"));
}

#[test]
fn networks_of_a_site() {
    let world = World::with(with_passthrough);
    let client = From { source: Some(OTHER), ..From::default() };
    check_denied(&world, client, Ends::Later, |world| {
        edit(world, |text| text.replace("[[site]]\n", "[[site]]\ndeny = [\"127.0.0.2\"]\n"));
    });
}

/// Who the client is was said by a balancer that nobody believes any more.
#[test]
fn a_balancer_that_is_trusted_no_more() {
    let world = World::with(with_passthrough);
    to_listeners(&world, "proxy_protocol = \"optional\"\ntrusted_peers = [\"127.0.0.2\"]");
    let client = From { source: Some(OTHER), named: Some(Ipv4Addr::new(198, 51, 100, 1)) };
    check_denied(&world, client, Ends::WithThat, |world| {
        edit(world, |text| {
            text.replace("trusted_peers = [\"127.0.0.2\"]", "trusted_peers = [\"127.0.0.3\"]")
        });
    });
}

/// A peer speaks for others over connections that stay open: believed as long as it is trusted, and asked each time
/// for whom.
#[test]
fn trusted_peers() {
    let world = World::with(with_passthrough);
    script(&world);
    let named = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {F}\r\nX-Forwarded-For: 192.0.2.7\r\nAccept: text/plain\r\n\r\n"
        )
    };
    let mut lanes = [world.connect(), world.tls(Some(F), &["http/1.1"]).unwrap()];
    let mut h2 = H2::start(world.connect());
    let mut seen = |nth: u32, expected: &str| {
        let path = |lane: &str| format!("/believed-{lane}-{nth}");
        for (lane, wire) in lanes.iter_mut().enumerate() {
            let path = path(&lane.to_string());
            assert_eq!(wire.send(named(&path)).response().unwrap().status, 200);
            assert_eq!(world.upstream.request(&path).header("x-forwarded-for"), Some(expected), "{path}");
        }
        let path = path("h2");
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", &*path),
            (":authority", F),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        h2.request(nth * 2 + 1, &fields.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(h2.end(nth * 2 + 1), Outcome::Status(200));
        assert_eq!(world.upstream.request(&path).header("x-forwarded-for"), Some(expected), "{path}");
    };
    seen(0, "127.0.0.1");
    to_listeners(&world, "trusted_peers = [\"127.0.0.1\"]");
    seen(1, "192.0.2.7, 127.0.0.1");
    // Whom it speaks for is held against networks, those of the moment.
    let ask = |mut wire: Wire, path: &str, client: &str| {
        wire.send(named(path).replace("192.0.2.7", client));
        wire
    };
    let mut of_seven = ask(world.connect(), "/endless", "192.0.2.7");
    let mut of_eight = ask(world.connect(), "/endless", "192.0.2.8");
    for wire in [&mut of_seven, &mut of_eight] {
        assert_eq!(wire.head().unwrap().status, 200);
    }
    to_listeners(&world, "deny = [\"192.0.2.7\"]");
    let (_, end) = of_seven.rest();
    assert!(matches!(end, Lost::Closed(_) | Lost::Broken(_)), "{end:?}");
    assert!(of_eight.exactly(2_000).is_ok());
    let mut same = ask(world.connect(), "/of-seven", "192.0.2.7");
    assert_eq!(same.response().unwrap().verdict(), "no_site");
    // Nobody is believed: it is the peer itself again that asks.
    without(&world, "trusted_peers = [\"127.0.0.1\"]");
    seen(2, "127.0.0.1");
    assert_eq!(ask(same, "/of-the-peer", "192.0.2.7").response().unwrap().status, 200);
    assert!(of_eight.exactly(2_000).is_ok());
}

/// Open connections of every kind, with requests that are blocked.
struct Blocked {
    wires: Vec<Wire>,
    h2: H2,
    next: u32,
}

impl Blocked {
    fn new(from: From, world: &World) -> Self {
        let wires = vec![from.clear(world), from.tls(world, UC)];
        Self { wires, h2: H2::start(from.clear(world)), next: 1 }
    }

    #[track_caller]
    fn assert_answered(&mut self, status: u16) {
        for (nth, wire) in self.wires.iter_mut().enumerate() {
            wire.send(format!("GET /b HTTP/1.1\r\nHost: {UC}\r\nAccept: text/plain\r\n\r\n"));
            assert_eq!(wire.response().unwrap().status, status, "{nth}");
        }
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/b"), (":authority", UC)];
        self.h2.request(self.next, &fields.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(self.h2.end(self.next), Outcome::Status(status));
        self.next += 2;
    }
}

#[test]
fn what_becomes_allowed_is_on_the_open_connection() {
    let world = World::with(filed_elsewhere);
    let other = From { source: Some(OTHER), ..From::default() };
    let mut open = Blocked::new(other, &world);
    open.assert_answered(451);
    for line in ["region = \"overseas\"", "scenario = \"cdn\""] {
        to_listeners(&world, line);
        open.assert_answered(200);
        without(&world, line);
        open.assert_answered(451);
        let of_site = format!("[[site]]\n{line}\n");
        edit(&world, |text| text.replace("[[site]]\n", &of_site));
        open.assert_answered(200);
        without(&world, line);
        open.assert_answered(451);
    }
    let mode = "[enforcement]\nmode = \"monitor\"\n";
    edit(&world, |text| text + mode);
    open.assert_answered(200);
    edit(&world, |text| text.replace("[[site]]\n", "[[site]]\ndeny = [\"127.0.0.2\"]\n"));
    open.assert_answered(404);
    without(&world, "deny = [\"127.0.0.2\"]");
    open.assert_answered(200);
    to_listeners(&world, "health_path = \"/b\"");
    edit(&world, |text| text.replace(mode, ""));
    open.assert_answered(200);
    world.upstream.assert_only(&[UC]);
}

#[test]
fn redirects_of_a_listener() {
    let world = World::start();
    let (mut wire, mut h2) = (world.connect(), H2::start(world.connect()));
    for (nth, status) in [(0, 200), (1, 308), (2, 200)] {
        wire.send(format!("GET /r HTTP/1.1\r\nHost: {F}\r\n\r\n"));
        assert_eq!(wire.response().unwrap().status, status);
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/r"), (":authority", F)];
        h2.request(nth * 2 + 1, &fields.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(h2.end(nth * 2 + 1), Outcome::Status(status));
        match nth {
            0 => edit(&world, |text| {
                text.replace("protocol = \"http\"\n", "protocol = \"http\"\nredirect_to_https = true\n")
            }),
            _ if status == 308 => without(&world, "redirect_to_https = true"),
            _ => {}
        }
    }
}

/// A listener leaves the config: its connections are told to go, and what is under way is judged by what held last.
#[test]
fn a_listener_that_is_gone() {
    let lines = "region = \"overseas\"";
    let world = World::with(|setup| setup.listener("http", lines).listener("http", lines));
    script(&world);
    let [first, second] = [1, 2].map(|nth| world.listener("http", nth));
    let mut h2 = H2::start(Wire::clear(second));
    let get = |host: &str| format!("GET /g HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n");
    let mut keeps = [UC, F].map(|host| {
        let mut wire = Wire::clear(second);
        assert_eq!(wire.send(get(host)).response().unwrap().header("connection"), None);
        wire
    });
    let mut tunnels = [UC, F].map(|host| switched(Wire::clear(second), host));
    let mut of_first = switched(Wire::clear(first), UC);
    // What held last is not what held when they came.
    edit(&world, |text| {
        let at = text.rfind("region = \"overseas\"").unwrap();
        format!("{}{}", &text[..at], text[at..].replacen("overseas", "mainland", 1))
    });
    let (_, end) = tunnels[0].rest();
    assert!(matches!(end, Lost::Closed(_) | Lost::Broken(_)), "{end:?}");
    edit(&world, |text| {
        let at = text.rfind("[[listener]]").unwrap();
        let end = at + text[at..].find("[tls]").unwrap();
        format!("{}{}", &text[..at], &text[end..])
    });
    wait("its end", || std::net::TcpStream::connect(second).is_err().then_some(()));
    for (wire, status) in keeps.iter_mut().zip([451, 200]) {
        let last = wire.send(get(if status == 200 { F } else { UC })).response().unwrap();
        assert_eq!((last.status, last.header("connection")), (status, Some("close")), "{last:?}");
        assert!(matches!(wire.rest(), (_, Lost::Closed(_))));
    }
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/g"), (":authority", F)];
    h2.request(1, &fields.map(|(name, value)| (name.into(), value.into())));
    assert_eq!(h2.end(1), Outcome::Status(200));
    h2.told_to_go();
    // Tunnels go on, and end when their filing does.
    for wire in [&mut tunnels[1], &mut of_first] {
        assert_eq!(wire.send("still").exactly(5), Ok(b"still".to_vec()));
    }
    world.put(F, &access(NUMBER, "cancelled"));
    let (_, end) = tunnels[1].rest();
    assert!(matches!(end, Lost::Closed(_) | Lost::Broken(_)), "{end:?}");
    assert_eq!(of_first.send("still").exactly(5), Ok(b"still".to_vec()));
}
