//! What a stranger reads where nothing is forwarded, and who is let through after all.

use crate::world::h2::{H2, Outcome};
use crate::world::wire::Response;
use crate::world::{F, G, PROVIDER, U, World, access, connected, wait};
use serde_json::{Value, json};

fn ask(world: &World, host: &str, headers: &str) -> Response {
    world.send(&format!("GET /page HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"))
}

/// A filing in every status that a filing can have, one name each.
fn every_status() -> Vec<(&'static str, Value, &'static str)> {
    let elsewhere = |state: &str| json!({ "number": "沪ICP备20000012号-1", "access": { PROVIDER: state, "other-cloud": "active" } });
    vec![
        (
            "not-connected.cn",
            json!({ "number": "沪ICP备20000011号-1", "access": { "other-cloud": "active" } }),
            "not_connected",
        ),
        ("moved-away.cn", elsewhere("cancelled"), "access_cancelled"),
        ("shell.cn", access("沪ICP备20000013号-1", "cancelled"), "access_cancelled"),
        ("pending.cn", json!({ "state": "pending" }), "pending"),
        (
            "restricted.cn",
            json!({ "number": "沪ICP备20000014号-1", "access": { PROVIDER: "active" }, "state": "restricted" }),
            "restricted",
        ),
    ]
}

fn world_of_every_status(hosts: &str, lines: &str) -> World {
    World::with(|setup| {
        let setup = every_status()
            .into_iter()
            .fold(setup, |setup, (domain, document, _)| setup.filing(domain, document));
        setup.site_for(hosts, lines)
    })
}

const ALL: &str = "\"not-connected.cn\", \"moved-away.cn\", \"shell.cn\", \"pending.cn\", \"restricted.cn\"";

#[test]
fn every_status_has_its_page() {
    let world = world_of_every_status(ALL, "");
    world.file("gone.cn", "沪ICP备20000015号-1");
    world.delete("gone.cn");
    world.in_force("gone.cn", "deregistered");
    let mut rows: Vec<_> = every_status().into_iter().map(|(domain, _, verdict)| (domain, verdict)).collect();
    rows.extend([
        ("gone.cn", "deregistered"),
        (U, "unfiled"),
        ("127.0.0.1", "ip_literal"),
        ("two.town.gov.cn", "access_cancelled"),
    ]);
    for (host, verdict) in rows {
        let response = ask(&world, host, "Accept: text/html\r\n");
        assert_eq!((response.status, response.verdict()), (451, verdict), "{host}");
        assert!(response.text().contains(host), "{host} is named: {response:?}");
        let cover = host.strip_prefix("www.").map_or_else(|| format!("www.{host}"), str::to_owned);
        if host != "127.0.0.1" {
            assert_eq!(ask(&world, &cover, "").verdict(), verdict, "{cover}");
        }
    }
    assert_eq!(world.upstream.heads().len(), 0);
}

#[test]
fn a_grpc_call_gets_a_status_of_grpc_s_own() {
    let world = World::start();
    let rows = [
        ("Content-Type: application/grpc\r\n", U, "7", "unfiled"),
        ("Content-Type: application/grpc+proto\r\nTE: trailers\r\n", U, "7", "unfiled"),
        ("Accept: application/grpc\r\n", U, "7", "unfiled"),
        ("Content-Type: application/grpc\r\n", "no-site.cn", "12", "no_site"),
    ];
    world.file("no-site.cn", "沪ICP备20000099号-1");
    world.in_force("no-site.cn", "allow");
    for (headers, host, status, verdict) in rows {
        let response = ask(&world, host, headers);
        assert_eq!((response.status, response.verdict()), (200, verdict), "{headers:?}");
        assert_eq!(response.header("content-type"), Some("application/grpc"));
        assert_eq!(response.header("grpc-status"), Some(status), "{response:?}");
        let message = response.header("grpc-message").unwrap();
        assert!(message.contains(host) && message.starts_with("%E"), "{message}");
        assert!(response.text().is_empty() && response.header("beian-verdict-id").is_some());
    }
    let web = ask(&world, U, "Content-Type: application/grpc-web\r\n");
    assert_eq!((web.status, web.header("grpc-status")), (451, None), "its clients read plain answers");
    assert_eq!(world.upstream.heads().len(), 0);
}

#[test]
fn headers() {
    let world = World::start();
    let response = ask(&world, U, "");
    let id = response.header("beian-verdict-id").unwrap();
    assert!(id.len() >= 8, "{id}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert!(response.header("link").unwrap().ends_with("rel=\"blocked-by\""), "{response:?}");
    assert_eq!(response.header("vary").unwrap().to_lowercase().replace(' ', ""), "accept,accept-language");
    assert!(response.header("content-language").unwrap().starts_with("zh"));
    assert!(response.header("content-type").is_some() && response.header("location").is_none());
    let other = ask(&world, U, "");
    assert_ne!(other.header("beian-verdict-id"), Some(id), "each answer has its own id");
}

#[test]
fn languages_and_media_types() {
    let world = World::start();
    let rows = [
        ("Accept: text/html\r\n", "text/html", "zh", "备案"),
        ("Accept: text/html\r\nAccept-Language: en\r\n", "text/html", "en", "filing"),
        ("Accept: text/html\r\nAccept-Language: zh-TW,en;q=0.5\r\n", "text/html", "zh", "备案"),
        ("Accept: text/html\r\nAccept-Language: fr\r\n", "text/html", "zh", "备案"),
        ("Accept: application/problem+json\r\n", "application/problem+json", "zh", "\"verdict\":\"unfiled\""),
        ("Accept: application/json\r\n", "application/problem+json", "zh", "\"verdict\":\"unfiled\""),
        ("Accept: text/plain\r\n", "text/plain", "zh", "备案"),
        ("Accept: text/plain\r\nAccept-Language: en-GB\r\n", "text/plain", "en", "filing"),
    ];
    for (headers, media_type, language, word) in rows {
        let response = ask(&world, U, headers);
        assert!(response.header("content-type").unwrap().starts_with(media_type), "{headers:?} {response:?}");
        assert!(
            response.header("content-language").unwrap().starts_with(language),
            "{headers:?} {response:?}"
        );
        assert!(response.text().contains(word), "{headers:?} {response:?}");
    }
}

#[test]
fn problem_details() {
    let world = world_of_every_status(ALL, "");
    let response = ask(&world, "www.shell.cn", "Accept: application/problem+json\r\nAccept-Language: en\r\n");
    let problem = response.json();
    for member in ["type", "title", "detail", "instance", "next_step", "synced_at"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
    }
    assert_eq!(problem["status"], 451);
    assert_eq!(problem["verdict"], "access_cancelled");
    assert_eq!(problem["domain"], "www.shell.cn");
    assert_eq!(problem["number"], "沪ICP备20000013号-1");
    assert_eq!(problem["verdict_id"].as_str(), response.header("beian-verdict-id"));
}

#[test]
fn head_and_post() {
    let world = World::start();
    let mut wire = world.connect();
    let get = wire.send(format!("GET / HTTP/1.1\r\nHost: {U}\r\n\r\n")).response().unwrap();
    let head = wire.send(format!("HEAD / HTTP/1.1\r\nHost: {U}\r\n\r\n")).response_to("HEAD").unwrap();
    assert_eq!((head.status, head.verdict()), (451, "unfiled"));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    let post =
        wire.send(format!("POST / HTTP/1.1\r\nHost: {U}\r\nContent-Length: 0\r\n\r\n")).response().unwrap();
    assert_eq!(post.status, 451);
    let mut h2 = H2::start(world.connect());
    let fields = [(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", U)];
    h2.request(1, &fields.map(|(name, value)| (name.into(), value.into())));
    assert_eq!((h2.end(1), h2.body(1)), (Outcome::Status(451), &[][..]));
    let lines = wait("four lines", || Some(world.log()).filter(|lines| lines.len() == 4));
    let sent: Vec<_> = lines.iter().map(|line| (&line["method"], &line["bytes_out"])).collect();
    let of = |method: &str, response: &Response| json!([method, response.body.len()]);
    let expected = [of("GET", &get), json!(["HEAD", 0]), of("POST", &post), json!(["HEAD", 0])];
    assert_eq!(json!(sent), json!(expected), "octets of body that were sent");
}

/// Nothing of the request is markup in the page.
#[test]
fn pages_repeat_nothing_unescaped() {
    let world = World::start();
    let raw = "GET /<script>alert(1)</script> HTTP/1.1\r\nHost: unfiled.cn\r\nUser-Agent: <script>\r\n\r\n";
    let response = world.send(raw);
    assert!(response.status >= 400 && !response.text().contains("<script>alert"), "{response:?}");
}

#[test]
fn status_403() {
    let world = World::with(|setup| {
        setup.toml("[enforcement]\nstatus = 403\nblocked_by = \"https://icp.example/why\"")
    });
    let response = ask(&world, U, "Accept: application/problem+json\r\n");
    assert_eq!((response.status, response.verdict()), (403, "unfiled"));
    assert_eq!(response.json()["status"], 403);
    assert_eq!(response.header("link"), Some("<https://icp.example/why>; rel=\"blocked-by\""));
}

#[test]
fn operators_lists() {
    let entry = |host: &str, until: &str| {
        format!("{{ host = \"{host}\", until = \"{until}\", reason = \"test\", owner = \"ops\" }}")
    };
    let exceptions =
        [entry("exempt.cn", "2099-01-01"), entry("*.below.cn", "2099-01-01"), entry("over.cn", "2020-01-01")];
    let exceptions =
        [exceptions.join(", "), entry("203.0.113.7", "2099-01-01"), entry("198.51.100.0/24", "2099-01-01")];
    let lists = format!(
        "[enforcement]\nexceptions = [{}]\nblock_list = [{}]\nip_filings = [{{ address = \"203.0.113.9\", number = \"京ICP备20000031号-1\" }}]",
        exceptions.join(", "),
        entry("bad.filed.cn", "2099-01-01"),
    );
    let hosts = "\"exempt.cn\", \"*.exempt.cn\", \"below.cn\", \"*.below.cn\", \"over.cn\", \"203.0.113.7\", \"203.0.113.9\", \"198.51.100.1\"";
    let world = World::with(|setup| setup.site_for(hosts, "").toml(&lists));
    let rows = [
        ("exempt.cn", 200, ""),
        ("EXEMPT.cn.:80", 200, ""),
        ("www.exempt.cn", 451, "unfiled"),
        ("a.below.cn", 200, ""),
        ("b.a.below.cn", 200, ""),
        ("below.cn", 451, "unfiled"),
        ("over.cn", 451, "unfiled"),
        ("203.0.113.7", 200, ""),
        ("203.0.113.9", 200, ""),
        ("198.51.100.1", 200, ""),
        ("203.0.113.8", 451, "ip_literal"),
        ("bad.filed.cn", 451, "operator_block"),
        ("www.filed.cn", 200, ""),
    ];
    for (host, status, verdict) in rows {
        let response = ask(&world, host, "");
        assert_eq!((response.status, response.verdict()), (status, verdict), "{host}");
    }
}

#[test]
fn monitor_mode_forwards_all_and_says_what_it_would_do() {
    let world = World::with(|setup| setup.toml("[enforcement]\nmode = \"monitor\""));
    for host in [F, U] {
        let response = ask(&world, host, "");
        assert_eq!((response.status, response.header("beian-verdict")), (200, None), "{host}");
    }
    let line = crate::world::wait("the log line", || world.log().into_iter().find(|line| line["host"] == U));
    assert_eq!((&line["verdict"], &line["would_block"]), (&"unfiled".into(), &true.into()), "{line}");
    // What is malformed is refused all the same.
    assert_eq!(ask(&world, "a@b", "").status, 400);
}

#[test]
fn monitor_mode_of_one_site() {
    let world = World::with(|setup| setup.site_for("\"watched.cn\"", "mode = \"monitor\""));
    assert_eq!(ask(&world, "watched.cn", "").status, 200);
    assert_eq!(ask(&world, U, "").status, 451);
}

/// The site's scenario and region decide, else the listener's.
#[test]
fn scenarios_and_regions() {
    let cdn = world_of_every_status(ALL, "scenario = \"cdn\"");
    let rows = [
        ("not-connected.cn", 200),
        ("moved-away.cn", 200),
        ("shell.cn", 451),
        ("pending.cn", 451),
        ("restricted.cn", 451),
        (U, 451),
    ];
    for (host, status) in rows {
        assert_eq!(ask(&cdn, host, "").status, status, "cdn {host}");
    }
    let overseas = World::with(|setup| setup.http("region = \"overseas\""));
    for host in [F, U, "www.unfiled.cn"] {
        assert_eq!(ask(&overseas, host, "").status, 200, "overseas {host}");
    }
    let here = world_of_every_status(ALL, "scenario = \"cdn\"\norigin_here = true");
    assert_eq!(ask(&here, "not-connected.cn", "").status, 451, "access here is required too");
}

#[test]
fn scenario_of_a_listener() {
    let world = World::with(|setup| {
        let document = json!({ "number": "沪ICP备20000011号-1", "access": { "other-cloud": "active" } });
        setup
            .filing("not-connected.cn", document)
            .listener("http", "scenario = \"cdn\"")
            .site_for("\"not-connected.cn\"", "")
    });
    assert_eq!(ask(&world, "not-connected.cn", "").verdict(), "not_connected");
    let mut wire = crate::world::wire::Wire::clear(world.listener("http", 1));
    assert_eq!(wire.send("GET / HTTP/1.1\r\nHost: not-connected.cn\r\n\r\n").response().unwrap().status, 200);
}

/// Under .gov.cn the most specific filing decides; a pending unit runs under its parent.
#[test]
fn government_names() {
    let world = World::with(|setup| setup.filing("three.town.gov.cn", json!({ "state": "pending" })));
    let rows = [
        ("one.town.gov.cn", 200),
        ("www.one.town.gov.cn", 200),
        ("two.town.gov.cn", 451),
        ("www.two.town.gov.cn", 451),
        ("three.town.gov.cn", 200),
        ("four.town.gov.cn", 200),
        ("gov.cn", 451),
        ("village.gov.cn", 451),
    ];
    for (host, status) in rows {
        assert_eq!(ask(&world, host, "").status, status, "{host}");
    }
}

/// An IDN is filed in either form, and asked for in the ASCII form only.
#[test]
fn international_names() {
    let world = World::with(|setup| setup.site_for("\"示例.cn\"", ""));
    world.put("xn--fsq092h.cn", &connected("京ICP备20000021号-1"));
    world.in_force("xn--fsq092h.cn", "allow");
    let response = ask(&world, "XN--FSQ092H.cn", "");
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(world.upstream.request("/page").host(), "xn--fsq092h.cn");
    assert_eq!(ask(&world, "示例.cn", "").status, 400);
}

#[test]
fn no_site() {
    let world = World::start();
    world.file("homeless.cn", "京ICP备20000022号-1");
    let response = ask(&world, "homeless.cn", "");
    assert_eq!((response.status, response.verdict()), (404, "no_site"));
    assert_eq!(ask(&world, "homeless-and-unfiled.cn", "").status, 451);
    let world = World::with(|setup| {
        let line = format!("[default_site]\nupstreams = [\"http://{}\"]", setup.upstream);
        setup.toml(&line)
    });
    world.file("homeless.cn", "京ICP备20000022号-1");
    assert_eq!(ask(&world, "homeless.cn", "").status, 200);
    assert_eq!(ask(&world, "homeless-and-unfiled.cn", "").status, 451);
}

/// Probes by address or without Host are answered by the gate, without a verdict.
#[test]
fn health_path() {
    let world = World::with(|setup| setup.http("health_path = \"/healthz\""));
    for request in [
        "GET /healthz HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: unfiled.cn\r\n\r\n",
    ] {
        let response = world.send(request);
        assert_eq!(response.status, 200, "{request:?} {response:?}");
    }
    assert_eq!(ask(&world, "10.0.0.1", "").verdict(), "ip_literal", "only that path");
    assert_eq!(world.upstream.heads().len(), 0);
}

#[test]
fn no_name_of_ours_passes() {
    let world = World::start();
    let response = ask(&world, F, "Beian-Verdict: allow\r\nBEIAN-Anything: x\r\nbeian-verdict-id: 1\r\n");
    assert_eq!(
        (response.status, response.header("beian-verdict"), response.header("beian-verdict-id")),
        (200, None, None)
    );
    let seen = world.upstream.request("/page");
    assert!(seen.headers.iter().all(|(name, _)| !name.to_lowercase().starts_with("beian")), "{seen:?}");
    assert_eq!(ask(&world, G, "").status, 200);
}

/// A blocked name may still prove to a certificate authority that it is itself, where the operator says so.
#[test]
fn acme_passthrough() {
    let challenge = format!("GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: {U}\r\n\r\n");
    let world = World::start();
    assert_eq!(world.send(&challenge).status, 451, "off by default");
    let world = World::with(|setup| setup.toml("[enforcement]\nacme_passthrough = true"));
    assert_eq!(world.send(&challenge).status, 200);
    let tricks = [
        "/.well-known/acme-challenge/../../x",
        "/.well-known/acme-challenge/%2e%2e/x",
        "/.well-known/acme-challenge/a/b",
        "//.well-known/acme-challenge/x",
        "/.well-known/acme-challenge",
        "/x?/.well-known/acme-challenge/x",
        "/.well-known/acme-challenge/..;/x",
    ];
    for path in tricks {
        assert_eq!(world.get(U, path).status, 451, "{path}");
    }
    let path = "/.well-known/acme-challenge/token";
    for (method, fields) in [
        ("GET", "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ("GET", "Connection: Upgrade\r\nUpgrade: anything\r\n\r\n"),
        ("GET", "Content-Length: 5\r\n\r\nhello"),
        ("GET", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("POST", "Content-Length: 0\r\n\r\n"),
        ("DELETE", "\r\n"),
    ] {
        let response = world.send(&format!("{method} {path} HTTP/1.1\r\nHost: {U}\r\n{fields}"));
        assert_eq!(response.status, 451, "{method} {fields:?}");
    }
    let mut h2 = H2::start(world.connect());
    let common = [(":scheme", "http"), (":path", path), (":authority", U)];
    for (stream, more, status) in [
        (1, &[(":method", "GET")][..], 200),
        (3, &[(":method", "CONNECT"), (":protocol", "websocket")], 451),
        (5, &[(":method", "POST")], 451),
    ] {
        let fields = common.iter().chain(more).map(|(name, value)| ((*name).into(), (*value).into()));
        h2.request(stream, &fields.collect::<Vec<_>>());
        assert_eq!(h2.end(stream), Outcome::Status(status), "{more:?}");
    }
    assert_eq!(world.upstream.requests().len(), 2);
}

/// A challenge under way is not cut when other names change.
#[test]
fn acme_passthrough_while_filings_change() {
    let world = World::with(|setup| setup.toml("[enforcement]\nacme_passthrough = true"));
    for path in ["/.well-known", "/held"] {
        world.upstream.hangs(path);
    }
    let open = |host: &str, path: &str| {
        let mut wire = world.connect();
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        world.upstream.arrived(path);
        wire
    };
    let _challenge = open(U, "/.well-known/acme-challenge/token");
    let mut of_f = open(F, "/held");
    world.cancel(F, "京ICP备20000001号-1");
    // Once F's request is cut, both were judged again.
    assert_ne!(of_f.response().map_or(0, |one| one.status), 200);
    wait("F's upstream to be let go", || (world.upstream.open() < 2).then_some(()));
    assert_eq!(world.upstream.open(), 1, "the challenge goes on");
}

/// A load balancer in front says who the client is; from others, or where none is expected, it is refused.
#[test]
fn proxy_protocol() {
    let lines = "proxy_protocol = \"required\"\ntrusted_peers = [\"127.0.0.0/8\"]";
    let stranger = "proxy_protocol = \"required\"\ntrusted_peers = [\"10.0.0.0/8\"]";
    let world = World::with(|setup| setup.http(lines).listener("http", stranger));
    let request = |host: &str| format!("GET /pp HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let proxy = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n";
    assert_eq!(world.send(&(proxy.to_owned() + &request(F))).status, 200);
    assert_eq!(world.upstream.request("/pp").all("x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(world.send(&(proxy.to_owned() + &request(U))).status, 451);
    let mut bare = world.connect();
    assert!(bare.send(request(F)).response().is_ok_and(|one| one.status == 400) || bare.response().is_err());
    let mut untrusted = crate::world::wire::Wire::clear(world.listener("http", 1));
    let answer = untrusted.send(proxy.to_owned() + &request(F)).response();
    assert!(answer.is_err() || answer.is_ok_and(|one| one.status >= 400));
    assert_eq!(world.upstream.heads().len(), 1);
}
