//! Paths of a site that go elsewhere, and what a client may ask for: how often, and how much.

use crate::world::upstream::Upstream;
use crate::world::{F, U, World, wait};

#[test]
fn paths_go_where_their_prefix_says() {
    let (api, deep) = (Upstream::start(), Upstream::start());
    let world = World::with(|setup| {
        setup.site(&format!(
            "[[site.route]]\nprefix = \"/api\"\nupstreams = [\"http://{}\"]\n\
             [[site.route]]\nprefix = \"/api/v2/\"\nupstreams = [\"http://{}\"]\n",
            api.address, deep.address
        ))
    });
    let rows = [
        ("/", "site"),
        ("/apix", "site"),
        ("/%61pi", "site"),
        ("//api", "site"),
        ("/x/../api", "site"),
        ("/api", "api"),
        ("/api?x=/", "api"),
        ("/api/v2", "api"),
        ("/api/../x", "api"),
        ("/api/v2/", "deep"),
        ("/api/v2/x", "deep"),
    ];
    for (path, expected) in rows {
        assert_eq!(world.get(F, path).status, 200, "{path}");
        let saw = |upstream: &Upstream| upstream.heads().iter().any(|request| request.target == path);
        let seen: Vec<_> = [("site", saw(&world.upstream)), ("api", saw(&api)), ("deep", saw(&deep))]
            .into_iter()
            .filter_map(|(name, has_seen)| has_seen.then_some(name))
            .collect();
        assert_eq!(seen, [expected], "{path}");
    }
    // The verdict stands before every route.
    assert_eq!(world.get(U, "/api").verdict(), "unfiled");
    api.assert_only(&[F]);
    deep.assert_only(&[F]);
}

#[test]
fn a_client_that_asks_too_often_is_told_to_wait() {
    let world = World::with(|setup| setup.toml("[limits]\nrequests_per_second = 1\nrequest_burst = 3\n"));
    let mut wire = world.connect();
    let request = format!("GET /n HTTP/1.1\r\nHost: {F}\r\n\r\n");
    let statuses: Vec<u16> = (0..5).map(|_| wire.send(&request).response().unwrap().status).collect();
    assert_eq!(statuses[..3], [200, 200, 200]);
    assert!(statuses[3..].contains(&429), "{statuses:?}");
    // The same client on another connection; and who is blocked learns why all the same.
    let refused = wait("a refusal", || Some(world.get(F, "/n")).filter(|response| response.status == 429));
    assert_eq!(
        (refused.verdict(), refused.header("retry-after")),
        ("rate_limited", Some("5")),
        "{refused:?}"
    );
    assert_eq!(world.get(U, "/").verdict(), "unfiled");
    assert!(world.ask("/metrics").text().contains("beian_gate_requests_total{verdict=\"rate_limited\"}"));
}

#[test]
fn bodies_beyond_the_limit_are_refused() {
    let world = World::with(|setup| setup.toml("[limits]\nbody_bytes = 10\n"));
    let plain = |octets: usize| {
        let body = "x".repeat(octets);
        world.send(&format!("POST /p HTTP/1.1\r\nHost: {F}\r\nContent-Length: {octets}\r\n\r\n{body}"))
    };
    let chunked = |octets: usize| {
        let body = "x".repeat(octets);
        world.send(&format!(
            "POST /c HTTP/1.1\r\nHost: {F}\r\nTransfer-Encoding: chunked\r\n\r\n{octets:x}\r\n{body}\r\n0\r\n\r\n"
        ))
    };
    assert_eq!((plain(10).status, chunked(10).status), (200, 200));
    for refused in [plain(11), chunked(11)] {
        assert_eq!((refused.status, refused.verdict()), (413, "too_large"), "{refused:?}");
    }
    let whole = world.upstream.requests();
    assert!(whole.iter().all(|request| request.body.len() <= 10), "{whole:?}");
    let blocked = format!("POST / HTTP/1.1\r\nHost: {U}\r\nContent-Length: 11\r\n\r\n");
    assert_eq!(world.send(&blocked).verdict(), "unfiled");
    world.assert_well();
}

/// A site may take more than others or less, a path of it something else again; how often one may ask is the site's.
#[test]
fn limits_of_a_site() {
    let world = World::with(|setup| {
        let upstream = setup.upstream;
        setup.toml("[limits]\nbody_bytes = 10\n").toml(&format!(
            "[[site]]\nhosts = [\"upload.filed.cn\"]\nupstreams = [\"http://{upstream}\"]\n\
             limits = {{ body_bytes = 100, requests_per_second = 1, request_burst = 9 }}\n\
             [[site.route]]\nprefix = \"/api\"\nupstreams = [\"http://{upstream}\"]\n\
             limits = {{ body_bytes = 5 }}\n\
             [[site.route]]\nprefix = \"/other\"\nupstreams = [\"http://{upstream}\"]\n"
        ))
    });
    let status = |host: &str, path: &str, octets: usize| {
        let body = "x".repeat(octets);
        world
            .send(&format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {octets}\r\n\r\n{body}"))
            .status
    };
    let upload = "upload.filed.cn";
    let sent = [("/", 100), ("/", 101), ("/api", 5), ("/api", 6), ("/other", 100), ("/other", 101)];
    let statuses = sent.map(|(path, octets)| status(upload, path, octets));
    assert_eq!(statuses, [200, 413, 200, 413, 200, 413]);
    assert_eq!((status(F, "/", 10), status(F, "/", 11)), (200, 413));
    let refused =
        wait("a refusal", || Some(world.get(upload, "/n")).filter(|response| response.status == 429));
    assert_eq!(refused.verdict(), "rate_limited");
    assert_eq!(world.get(F, "/n").status, 200, "elsewhere it may");
    assert_eq!(world.get(U, "/").verdict(), "unfiled");
}

#[test]
fn a_rotated_access_log_is_begun_anew() {
    let world = World::start();
    let lines = |name: &str| std::fs::read_to_string(world.path(name)).unwrap_or_default();
    world.get(F, "/before");
    wait("the first line", || lines("access.log").contains("/before").then_some(()));
    std::fs::rename(world.path("access.log"), world.path("access.log.1")).unwrap();
    world.process.signal("USR1");
    wait("a line in the new file", || {
        world.get(F, "/after");
        lines("access.log").contains("/after").then_some(())
    });
    assert!(lines("access.log.1").contains("/before") && !lines("access.log").contains("/before"));
    world.assert_well();
}
