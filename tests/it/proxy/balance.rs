//! Several servers: whom checks, failures and the operator leave out, and who gets how much.

use crate::world::upstream::{Then, Upstream};
use crate::world::{World, wait, wire};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const HOST: &str = "many.filed.cn";

/// A site on these servers, with lines of its own.
fn world(servers: &[String], lines: &str) -> World {
    let site = format!("[[site]]\nhosts = [\"{HOST}\"]\nupstreams = [{}]\n{lines}", servers.join(", "));
    World::with(|setup| setup.toml(&site))
}

fn url(address: SocketAddr) -> String {
    format!("\"http://{address}\"")
}

/// Requests for these paths that arrived at a server, checks aside.
fn served(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| request.target == "/").count()
}

fn get(world: &World, count: usize) {
    for _ in 0..count {
        assert_eq!(world.get(HOST, "/").status, 200);
    }
}

/// An upstream's row in `GET /v1/upstreams`.
fn shown(world: &World, upstream: &str) -> serde_json::Value {
    let list = world.ask("/v1/upstreams").json();
    let rows = list["upstreams"].as_array().unwrap();
    rows.iter()
        .find(|row| row["upstream"] == upstream)
        .unwrap_or_else(|| panic!("{upstream} in {list}"))
        .clone()
}

fn checked(world: &World, upstream: &str, is_healthy: bool) {
    wait(&format!("{upstream} to be healthy: {is_healthy}"), || {
        let row = shown(world, upstream);
        (row["healthy"] == is_healthy && row["check"] != "unknown").then_some(())
    });
}

fn say(world: &World, upstream: &str, state: &str) -> u16 {
    let body = format!("{{\"state\": \"{state}\"}}");
    wire::ask(world.admin, "POST", &format!("/v1/upstreams/{upstream}"), &body).status
}

#[test]
fn checks_decide_who_is_used() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let is_well = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&is_well);
    one.on("/check", move |exchange| {
        let status = if asked.load(Ordering::SeqCst) { "204 No Content" } else { "503 Service Unavailable" };
        exchange.answer(status, "")
    });
    let lines = "balance = \"round_robin\"\n[site.health]\npath = \"/check?deep=1\"\nhost = \"probe.example\"\n\
                 interval = \"60ms\"\nhealthy = 2\nunhealthy = 2\nstatus = [204, \"200-299\"]";
    let world = world(&[url(one.address), url(two.address)], lines);
    let label = format!("http://{}", one.address);
    checked(&world, &label, true);
    get(&world, 10);
    assert_eq!((served(&one), served(&two)), (5, 5));
    is_well.store(false, Ordering::SeqCst);
    checked(&world, &label, false);
    assert_eq!(shown(&world, &label)["check"], "failing");
    let metrics = world.ask("/metrics").text();
    assert!(metrics.contains(&format!("beian_gate_upstream_up{{upstream=\"{label}\"}} 0")), "{metrics}");
    get(&world, 10);
    assert_eq!((served(&one), served(&two)), (5, 15), "what fails its checks gets nothing");
    is_well.store(true, Ordering::SeqCst);
    checked(&world, &label, true);
    get(&world, 10);
    assert_eq!((served(&one), served(&two)), (10, 20));
    let check = one.requests().into_iter().find(|request| request.target == "/check?deep=1").unwrap();
    assert_eq!((check.method.as_str(), check.host()), ("GET", "probe.example"));
}

/// A server that nobody listens at, until somebody does.
#[test]
fn checks_by_connecting() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = Upstream::start();
    let lines = "balance = \"round_robin\"\n[site.health]\ntype = \"tcp\"\ninterval = \"60ms\"\nhealthy = 1";
    let world = world(&[url(closed), url(other.address)], lines);
    let label = format!("http://{closed}");
    checked(&world, &label, false);
    get(&world, 5);
    assert_eq!(served(&other), 5);
    let listener = TcpListener::bind(closed).unwrap();
    checked(&world, &label, true);
    drop(listener);
    checked(&world, &label, false);
}

/// All fail their checks: rather those than nobody.
#[test]
fn all_are_ill() {
    let one = Upstream::start();
    one.answers("/check", "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", Then::Keep);
    let world = world(&[url(one.address)], "[site.health]\npath = \"/check\"\ninterval = \"60ms\"");
    checked(&world, &format!("http://{}", one.address), false);
    get(&world, 3);
}

#[test]
fn failures_eject() {
    let (bad, good) = (Upstream::start(), Upstream::start());
    bad.answers("/", "HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n", Then::Keep);
    let lines =
        "balance = \"round_robin\"\n[site.ejection]\nserver_errors = 3\ntime = \"1h\"\nmax_time = \"2h\"";
    let world = world(&[url(bad.address), url(good.address)], lines);
    let statuses: Vec<u16> = (0..20).map(|_| world.get(HOST, "/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 3, "{statuses:?}");
    let row = shown(&world, &format!("http://{}", bad.address));
    assert_eq!((row["healthy"].as_bool(), row["ejections"].as_u64()), (Some(false), Some(1)), "{row}");
    assert!(row["ejected_for_ms"].as_u64().unwrap() > 3_000_000, "{row}");
}

/// A server that refuses is left out after five tries: requests no longer meet it.
#[test]
fn refusals_eject_by_default() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = Upstream::start();
    let world = world(&[url(closed), url(good.address)], "balance = \"round_robin\"");
    get(&world, 40);
    let row = shown(&world, &format!("http://{closed}"));
    assert_eq!((row["failures"].as_u64(), row["healthy"].as_bool()), (Some(5), Some(false)), "{row}");
}

#[test]
fn backups_wait() {
    let (first, backup) = (Upstream::start(), Upstream::start());
    let spare = format!("{{ url = {}, backup = true }}", url(backup.address));
    let world = world(&[url(first.address), spare], "");
    get(&world, 5);
    assert_eq!((served(&first), served(&backup)), (5, 0));
    assert_eq!(say(&world, &format!("http://{}", first.address), "down"), 200);
    get(&world, 5);
    assert_eq!((served(&first), served(&backup)), (5, 5));
}

#[test]
fn weights() {
    let (light, heavy) = (Upstream::start(), Upstream::start());
    let heavier = format!("{{ url = {}, weight = 3 }}", url(heavy.address));
    let world = world(&[url(light.address), heavier], "balance = \"round_robin\"");
    get(&world, 80);
    assert!((18..=22).contains(&served(&light)), "{} and {}", served(&light), served(&heavy));
}

#[test]
fn hashes_stay() {
    let upstreams: Vec<Upstream> = (0..4).map(|_| Upstream::start()).collect();
    let servers: Vec<String> = upstreams.iter().map(|one| url(one.address)).collect();
    let world = world(&servers, "balance = \"hash\"\nhash_on = \"header:X-User\"");
    for user in 0..8 {
        for _ in 0..3 {
            let ask = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nx-user: {user}\r\n\r\n");
            assert_eq!(world.send(&ask).status, 200);
        }
    }
    let mut users = 0;
    for upstream in &upstreams {
        let mut seen: Vec<String> =
            upstream.requests().iter().map(|request| request.header("x-user").unwrap().to_owned()).collect();
        assert_eq!(seen.len() % 3, 0, "a user came to two servers: {seen:?}");
        seen.dedup();
        users += seen.len();
    }
    assert_eq!(users, 8);
}

/// A cookie of the gate's brings a client back, also to a server that is being drained; the server never sees
/// another client's.
#[test]
fn cookies_bind() {
    let upstreams: Vec<Upstream> = (0..3).map(|_| Upstream::start()).collect();
    let servers: Vec<String> = upstreams.iter().map(|one| url(one.address)).collect();
    let world = world(&servers, "[site.sticky]\ncookie = \"route\"\nmax_age = \"1h\"");
    let first = world.get(HOST, "/");
    let set = first.header("set-cookie").unwrap().to_owned();
    assert!(
        set.starts_with("route=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"),
        "{set}"
    );
    let bound = upstreams.iter().position(|upstream| served(upstream) == 1).unwrap();
    let cookie = set.split(';').next().unwrap();
    let again = |cookie: &str| {
        world.send(&format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=b; {cookie}\r\n\r\n"))
    };
    for _ in 0..9 {
        assert_eq!(again(cookie).header("set-cookie"), None, "it is bound already");
    }
    let label = format!("http://{}", upstreams[bound].address);
    assert_eq!(say(&world, &label, "drain"), 200);
    again(cookie);
    assert_eq!(served(&upstreams[bound]), 11, "who is bound stays");
    get(&world, 9);
    assert_eq!(served(&upstreams[bound]), 11, "nobody else comes");
    assert_eq!(say(&world, &label, "down"), 200);
    let moved = again(cookie);
    assert!(
        moved.status == 200 && moved.header("set-cookie").is_some_and(|set| !set.starts_with(cookie)),
        "{moved:?}"
    );
    assert!(again("route=nonsense").header("set-cookie").is_some(), "a forged one binds nobody");
}

/// The operator's word: at once, over reloads, and nothing that is under way ends.
#[test]
fn drained_by_hand() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let world = world(&[url(one.address), url(two.address)], "balance = \"round_robin\"");
    let label = format!("http://{}", one.address);
    assert_eq!(say(&world, &label, "drain"), 200);
    get(&world, 6);
    assert_eq!((served(&one), served(&two)), (0, 6));
    world.process.hang_up();
    std::fs::write(
        world.path("gate.toml"),
        std::fs::read_to_string(world.path("gate.toml")).unwrap().replace("round_robin", "least_connections"),
    )
    .unwrap();
    world.process.hang_up();
    get(&world, 6);
    assert_eq!(served(&one), 0, "it survives a reload");
    assert_eq!(shown(&world, &label)["state"], "drain");
    assert_eq!(say(&world, &format!("http://{}", two.address), "down"), 200);
    let refused = world.get(HOST, "/");
    assert_eq!((refused.status, refused.verdict()), (502, "upstream_error"), "nobody is left");
    assert_eq!(say(&world, &label, "up"), 200);
    get(&world, 6);
    assert_eq!(served(&one), 6);
    assert_eq!((say(&world, &label, "off"), say(&world, "http://no.such:1", "up")), (422, 404));
}
