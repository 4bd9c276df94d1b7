//! How clients come in: told to come over TLS, by their addresses, at what pace, for how long, and while there is too
//! much to do.

use crate::world::h2::{H2, Outcome};
use crate::world::setup::Setup;
use crate::world::wire::{Response, Wire};
use crate::world::{F, G, U, World, connected, wait};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn h2_get(host: &str, path: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", path)];
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// The gate believes PROXY headers and `X-Forwarded-*` of this machine.
fn balanced(setup: Setup) -> Setup {
    setup.http("proxy_protocol = \"optional\"\ntrusted_peers = [\"127.0.0.1\"]")
}

/// A connection of that client's, by a balancer.
fn of(world: &World, client: &str) -> Wire {
    let mut wire = world.connect();
    wire.send(format!("PROXY TCP4 {client} 192.0.2.250 1000 80\r\n"));
    wire
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[track_caller]
fn check_redirect(response: &Response, status: u16, location: &str) {
    let seen = (response.status, response.verdict(), response.header("location"));
    assert_eq!(seen, (status, "redirect", Some(location)), "{response:?}");
}

#[test]
fn what_is_allowed_in_clear_is_told_to_come_over_tls() {
    let world = World::with(|setup| {
        setup
            .site("redirect_to_https = { status = 301, port = 8443 }\ntimeouts = { connect = \"1s\" }")
            .site_for("\"in-clear.cn\"", "")
            .filing("in-clear.cn", connected("京ICP备20000009号-1"))
    });
    for (path, expected) in [
        ("/", "/"),
        ("//u/..;/%2e?a=//b&c", "//u/..;/%2e?a=//b&c"),
        (&*format!("http://{F}/abs?x"), "/abs?x"),
    ] {
        check_redirect(&world.get(F, path), 301, &format!("https://{F}:8443{expected}"));
    }
    check_redirect(&world.get("FILED.cn.:8080", "/p"), 301, "https://filed.cn:8443/p");
    check_redirect(
        &world.send(&format!("OPTIONS * HTTP/1.1\r\nHost: {F}\r\n\r\n")),
        301,
        "https://filed.cn:8443/",
    );
    // An unread body ends the connection; a connection without one goes on.
    let post = format!("POST /p HTTP/1.1\r\nHost: {F}\r\nContent-Length: 5\r\n\r\nGET /");
    check_redirect(&world.send(&post), 301, "https://filed.cn:8443/p");
    let mut wire = world.connect();
    for path in ["/one", "/two"] {
        check_redirect(
            &wire.send(get(F, path)).response().unwrap(),
            301,
            &format!("https://filed.cn:8443{path}"),
        );
    }
    let mut h2 = H2::start(world.connect());
    h2.request(1, &h2_get(F, "/h2"));
    h2.request(3, &h2_get(U, "/h2"));
    assert_eq!([h2.outcome(1), h2.outcome(3)], [Outcome::Status(301), Outcome::Status(451)]);
    // Who is blocked is told why, and a site that does not ask for it is served.
    assert_eq!(world.get(U, "/").verdict(), "unfiled");
    assert_eq!(world.get("in-clear.cn", "/plain").status, 200);
    // A certificate authority asks in clear; over TLS all is as ever.
    assert_eq!(world.get(F, "/.well-known/acme-challenge/token").status, 200);
    let mut tls = world.tls(Some(F), &["http/1.1"]).unwrap();
    assert_eq!(tls.send(get(F, "/tls")).response().unwrap().status, 200);
    world.upstream.assert_only(&[F, "in-clear.cn"]);
    let mut seen: Vec<_> = world.upstream.heads().into_iter().map(|request| request.target).collect();
    seen.sort();
    assert_eq!(seen, ["/.well-known/acme-challenge/token", "/plain", "/tls"]);
    let counted = "beian_gate_requests_total{verdict=\"redirect\"} 9\n";
    wait("the count", || world.ask("/metrics").text().contains(counted).then_some(()));
}

#[test]
fn a_listener_tells_all_sites_but_those_that_say_otherwise() {
    let world = World::with(|setup| {
        balanced(setup)
            .http("redirect_to_https = true")
            .site_for("\"in-clear.cn\"", "redirect_to_https = false")
            .filing("in-clear.cn", connected("京ICP备20000009号-1"))
            .filing("nowhere.cn", connected("京ICP备20000010号-1"))
    });
    check_redirect(&world.get(F, "/a?b"), 308, "https://filed.cn/a?b");
    assert_eq!(world.get("in-clear.cn", "/").status, 200);
    assert_eq!(world.get("nowhere.cn", "/").verdict(), "no_site");
    // A balancer that took the request over TLS says so; nobody else is believed.
    let over_tls = format!("GET /b HTTP/1.1\r\nHost: {F}\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_eq!(world.send(&over_tls).status, 200);
    let stranger = of(&world, "192.0.2.1").send(&over_tls).response().unwrap();
    check_redirect(&stranger, 308, "https://filed.cn/b");
}

#[test]
fn a_listener_lets_in_by_address() {
    let world = World::with(|setup| {
        balanced(setup).http("deny = [\"192.0.2.0/24\"]\nallow = [\"192.0.2.8\", \"0.0.0.0/0\"]")
    });
    for (client, is_let_in) in [("192.0.2.7", false), ("192.0.2.8", true), ("198.51.100.1", true)] {
        let answer = of(&world, client).send(get(F, "/by-proxy")).response();
        assert_eq!(answer.is_ok_and(|response| response.status == 200), is_let_in, "{client}");
    }
    wait("the count", || (world.metric("beian_gate_connections_denied_total") == 1).then_some(()));
    let of_chain = |chain: &str, mut wire: Wire| {
        let request =
            format!("GET /{} HTTP/1.1\r\nHost: {F}\r\nX-Forwarded-For: {chain}\r\n\r\n", chain.len());
        let response = wire.send(request).response().unwrap();
        (response.status, response.verdict().to_owned())
    };
    let denied = (404, "no_site".to_owned());
    let served = (200, String::new());
    for (chain, expected) in [
        ("192.0.2.7", &denied),
        ("192.0.2.7:4711", &denied),
        ("198.51.100.1, 192.0.2.7, 127.0.0.1", &denied),
        ("192.0.2.7, 198.51.100.1", &served),
        ("192.0.2.8", &served),
        ("[2001:db8::1]:80, unknown", &served),
    ] {
        assert_eq!(of_chain(chain, world.connect()), *expected, "{chain}");
    }
    // Strangers speak for nobody.
    assert_eq!(of_chain("192.0.2.7", of(&world, "198.51.100.1")), served);
    let blocked = format!("GET / HTTP/1.1\r\nHost: {U}\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
    assert_eq!(world.send(&blocked).verdict(), "unfiled");
    world.upstream.assert_only(&[F]);
}

#[test]
fn a_site_answers_by_address() {
    let world = World::with(|setup| {
        balanced(setup)
            .site("allow = [\"203.0.113.0/24\"]\ntimeouts = { connect = \"1s\" }")
            .site_for("\"open.cn\"", "deny = [\"203.0.113.5\"]")
            .filing("open.cn", connected("京ICP备20000009号-1"))
    });
    let rows = [
        ("203.0.113.5", F, 200, ""),
        ("198.51.100.1", F, 404, "no_site"),
        ("198.51.100.1", G, 404, "no_site"),
        ("203.0.113.5", "open.cn", 404, "no_site"),
        ("198.51.100.1", "open.cn", 200, ""),
        ("198.51.100.1", U, 451, "unfiled"),
    ];
    for (client, host, status, verdict) in rows {
        let response = of(&world, client).send(get(host, "/")).response().unwrap();
        assert_eq!((response.status, response.verdict()), (status, verdict), "{client} {host}");
        let mut h2 = H2::start(of(&world, client));
        h2.request(1, &h2_get(host, "/"));
        assert_eq!(h2.outcome(1), Outcome::Status(status), "{client} {host}");
    }
    let seen: Vec<_> = world.upstream.heads().iter().map(|request| request.host().to_owned()).collect();
    assert_eq!(seen, [F, F, "open.cn", "open.cn"]);
    wait("the log", || {
        let is_told = |line: &serde_json::Value| line["detail"] == "denied: the client's address";
        (world.log().iter().filter(|line| is_told(line)).count() == 6).then_some(())
    });
}

#[test]
fn a_client_that_connects_too_often_is_turned_away() {
    let limits = "[limits]\nconnections_per_second = 1\nconnection_burst = 3\nclient_prefix_v4 = 24\n";
    let world = World::with(|setup| balanced(setup).toml(limits));
    let comes_in = |client: &str| {
        let answer = of(&world, client).send(get(F, "/")).response();
        answer.is_ok_and(|response| response.status == 200)
    };
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert!(comes_in(client), "{client}");
    }
    wait("a refusal", || (!comes_in("192.0.2.4")).then_some(()));
    assert!(comes_in("198.51.100.1"), "another network");
    assert!(world.metric("beian_gate_connections_rate_limited_total") > 0);
    // The balancer's own connections are its clients', and counted for none of them.
    for _ in 0..8 {
        assert_eq!(world.get(F, "/").status, 200);
    }
}

#[test]
fn a_connection_carries_so_many_requests() {
    let world = World::with(|setup| setup.toml("[limits]\nrequests_per_connection = 3\n"));
    for (mut wire, blocked) in [(world.connect(), 451), (world.tls(Some(F), &["http/1.1"]).unwrap(), 421)] {
        wire.send(get(F, "/a") + &get(U, "/b") + &get(F, "/c") + &get(F, "/never"));
        let answers: Vec<_> = (0..3).map(|_| wire.response().unwrap()).collect();
        let seen: Vec<_> = answers.iter().map(|it| (it.status, it.header("connection"))).collect();
        assert_eq!(seen, [(200, None), (blocked, None), (200, Some("close"))]);
        assert!(wire.response().is_err());
    }
    for wire in [world.connect(), world.tls(Some(F), &["h2"]).unwrap()] {
        let mut h2 = H2::start(wire);
        for stream in [1, 3, 5] {
            h2.request(stream, &h2_get(F, "/h2"));
        }
        h2.told_to_go();
        assert_eq!([1, 3, 5].map(|stream| h2.end(stream)), [200, 200, 200].map(Outcome::Status));
    }
    assert!(world.upstream.heads().iter().all(|request| request.target != "/never"));
}

#[test]
fn an_old_connection_ends_when_it_is_free() {
    let world = World::with(|setup| setup.toml("[limits]\nconnection_age = \"100ms\"\n"));
    let may_answer = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&may_answer);
    world.upstream.on("/slow", move |exchange| {
        wait("the word to answer", || told.load(Ordering::Relaxed).then_some(()));
        exchange.answer("200 OK", "done")
    });
    let mut h2 = H2::start(world.tls(Some(F), &["h2"]).unwrap());
    h2.request(1, &h2_get(F, "/slow"));
    world.upstream.arrived("/slow");
    let mut wire = world.connect();
    wire.send(get(F, "/slow"));
    h2.told_to_go();
    may_answer.store(true, Ordering::Relaxed);
    assert_eq!(h2.end(1), Outcome::Status(200));
    // Told with the answer to the first request that comes after its time.
    let mut answer = wire.response().unwrap();
    while answer.header("connection").is_none() {
        answer = wire.send(get(F, "/next")).response().unwrap();
        assert_eq!(answer.status, 200);
    }
    assert!(wire.response().is_err());
    let mut idle = H2::start(world.connect());
    idle.told_to_go();
}

#[test]
fn with_too_much_to_do_new_work_waits_and_blocked_names_are_answered() {
    let world = World::with(|setup| {
        setup.http("health_path = \"/alive\"").toml(
            "[limits]\nconnections = 100\n[overload]\nconnections = 0.1\nlag = \"30s\"\ndescriptors = 1\n",
        )
    });
    let mut open = H2::start(world.connect());
    let held: Vec<Wire> = (0..11).map(|_| world.connect()).collect();
    let shed = wait("a refusal", || Some(world.get(F, "/no")).filter(|response| response.status == 503));
    assert_eq!(
        (shed.verdict(), shed.header("connection"), shed.header("retry-after")),
        ("overloaded", Some("close"), Some("5"))
    );
    open.request(1, &h2_get(F, "/no"));
    open.request(3, &h2_get(U, "/no"));
    assert_eq!([open.outcome(1), open.outcome(3)], [Outcome::Status(503), Outcome::Status(451)]);
    assert_eq!((world.get(U, "/").verdict(), world.get(F, "/alive").status), ("unfiled", 200));
    assert_eq!((world.ask("/healthz").status, world.metric("beian_gate_workers_shedding")), (200, 1));
    drop(held);
    wait("relief", || (world.get(F, "/yes").status == 200).then_some(()));
    assert_eq!(world.metric("beian_gate_workers_shedding"), 0);
}
