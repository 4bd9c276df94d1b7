//! What the gate takes away, sets and keeps in requests and responses.

use crate::world::upstream::{Request, Then};
use crate::world::{F, World};

/// The one request as the upstream saw it.
#[track_caller]
fn seen(world: &World, headers: &str) -> Request {
    let response = world.send(&format!("GET /seen HTTP/1.1\r\nHost: {F}:80\r\n{headers}\r\n"));
    assert_eq!(response.status, 200, "{response:?}");
    world.upstream.request("/seen")
}

#[test]
fn hop_by_hop_is_removed() {
    let world = World::start();
    let seen = seen(
        &world,
        "Connection: keep-alive, X-Mine, x-forwarded-for\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: gzip\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nTrailer: X\r\nX-Kept: yes\r\n",
    );
    for name in
        ["x-mine", "keep-alive", "te", "proxy-connection", "proxy-authorization", "trailer", "upgrade"]
    {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-kept"), Some("yes"));
    assert!(seen.header("x-forwarded-for").is_some(), "Connection can't remove what the gate sets");
}

#[test]
fn the_gate_says_who_came_and_how() {
    let world = World::start();
    let seen = seen(&world, "");
    assert_eq!(seen.host(), F);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host").len(), 1);
    assert!(seen.header("x-forwarded-host").unwrap().starts_with(F));
    assert!(seen.header("via").unwrap().starts_with("1.1 "), "{seen:?}");
}

#[test]
fn over_tls_it_says_https() {
    let world = World::start();
    let mut wire = world.tls(Some(F), &["http/1.1"]).unwrap();
    wire.send(format!("GET /tls HTTP/1.1\r\nHost: {F}\r\n\r\n")).response().unwrap();
    assert_eq!(world.upstream.request("/tls").all("x-forwarded-proto"), ["https"]);
}

#[test]
fn a_strangers_word_is_overwritten() {
    let world = World::start();
    let seen = seen(
        &world,
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: u\r\n\
         X-Forwarded-Port: 1\r\nForwarded: for=1.2.3.4;host=u;proto=https\r\n",
    );
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert!(seen.all("x-forwarded-host").iter().all(|host| host.starts_with(F)));
    let forged = |(_, value): &&(String, String)| value.contains("1.2.3.4") || value.contains("5.6.7.8");
    assert_eq!(seen.headers.iter().find(forged), None);
}

#[test]
fn a_trusted_peers_word_is_kept() {
    let world = World::with(|setup| setup.http("trusted_peers = [\"127.0.0.0/8\"]"));
    let seen = seen(&world, "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n");
    assert_eq!(seen.all("x-forwarded-for").join(", "), "1.2.3.4, 127.0.0.1");
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
}

#[test]
fn responses_lose_hop_by_hop_and_our_names() {
    let world = World::start();
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: x\r\n\
                Proxy-Authenticate: x\r\nBeian-Verdict: allow\r\nbeian-verdict-id: x\r\nX-Kept: a\r\nX-Kept: b\r\n\r\nok";
    world.upstream.answers("/head", head, Then::Keep);
    let response = world.get(F, "/head");
    for name in ["x-mine", "keep-alive", "proxy-authenticate", "beian-verdict", "beian-verdict-id"] {
        assert_eq!(response.header(name), None, "{name}: {response:?}");
    }
    let kept: Vec<_> =
        response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-kept")).collect();
    assert_eq!(kept.len(), 2, "{response:?}");
    assert!(response.header("via").unwrap().contains("1.1 "));
}

/// A request that has been here before goes no further.
#[test]
fn loops_end() {
    let world = World::start();
    world.get(F, "/first");
    let via = world.upstream.request("/first").header("via").unwrap().to_owned();
    let response = world.send(&format!("GET /again HTTP/1.1\r\nHost: {F}\r\nVia: 1.0 other, {via}\r\n\r\n"));
    assert_eq!((response.status, response.verdict()), (508, "loop"));
    let other = world.send(&format!("GET /other HTTP/1.1\r\nHost: {F}\r\nVia: 1.1 somebody\r\n\r\n"));
    assert_eq!(other.status, 200);
    assert!(world.upstream.request("/other").all("via").join(", ").starts_with("1.1 somebody, "));
}

/// A gate behind another gate is no loop, and neither's own headers pass the other.
#[test]
fn a_gate_behind_a_gate() {
    let inner = World::start();
    let to_inner =
        format!("[[site]]\nhosts = [\"chain.filed.cn\"]\nupstreams = [\"http://{}\"]", inner.http());
    let outer = World::with(|setup| setup.toml(&to_inner));
    assert_eq!(outer.get("chain.filed.cn", "/chain").status, 200);
    let via = inner.upstream.request("/chain").all("via").join(", ");
    assert_eq!(via.split(", ").count(), 2, "{via}");
    inner.cancel(F, "京ICP备20000001号-1");
    let response = outer.get("chain.filed.cn", "/");
    assert_eq!((response.status, response.verdict()), (451, ""), "forwarded responses carry no verdict");
}
