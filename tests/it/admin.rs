//! What operators see: health, status, metrics, verdicts, and the access log.

use crate::world::upstream::Then;
use crate::world::{F, G, U, World, wait};
use serde_json::Value;
use std::collections::HashSet;

#[test]
fn health_and_status() {
    let world = World::start();
    assert_eq!((world.ask("/healthz").status, world.ask("/readyz").status), (200, 200));
    let status = world.status();
    for key in ["epoch", "seq", "filings", "synced_at", "lag_ms", "digest", "listeners", "registry", "admin"]
    {
        assert!(!status[key].is_null(), "{key}: {status}");
    }
    assert_eq!(status["filings"], 6);
    assert_eq!(status["listeners"].as_array().unwrap().len(), 2);
    assert_eq!(world.ask("/nothing-here").status, 404);
}

#[test]
fn verdicts() {
    let world = World::start();
    let rows = [
        (F, "allow", Some("京ICP备20000001号-1")),
        ("WWW.filed.cn.", "allow", Some("京ICP备20000001号-1")),
        (U, "unfiled", None),
        ("two.town.gov.cn", "access_cancelled", Some("京ICP备20000006号-1")),
        ("127.0.0.1", "ip_literal", None),
        ("a..b", "malformed_host", None),
        ("unfiled.cn&region=overseas", "exempt", None),
    ];
    for (host, verdict, number) in rows {
        let answer = world.verdict(host);
        assert_eq!(
            (answer["verdict"].as_str(), answer["number"].as_str()),
            (Some(verdict), number),
            "{host}: {answer}"
        );
    }
}

/// One sample line of the Prometheus text format: name, labels, value.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series
        .split_once('{')
        .map_or(Some((series, "")), |(name, rest)| Some((name, rest.strip_suffix('}')?)))?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':');
    is_name.then_some((name, labels, value.parse().ok()?))
}

fn requests(world: &World, verdict: &str) -> f64 {
    let text = world.ask("/metrics").text();
    let label = format!("verdict=\"{verdict}\"");
    let fits = |line: &&str| line.starts_with("beian_gate_requests") && line.contains(&label);
    text.lines().filter(fits).filter_map(sample).map(|(_, _, value)| value).sum()
}

#[test]
fn metrics() {
    let world = World::start();
    for host in [F, F, G, U, "127.0.0.1"] {
        world.get(host, "/");
    }
    wait("the counts", || (requests(&world, "allow") >= 3.0).then_some(()));
    let text = world.ask("/metrics").text();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, labels, _) = sample(line).unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(name.starts_with("beian_gate_"), "{line}");
        assert!(!labels.contains("filed.cn") && !labels.contains("host="), "never a host: {line}");
    }
    for (verdict, count) in [("allow", 3.0), ("unfiled", 1.0), ("ip_literal", 1.0)] {
        assert!((requests(&world, verdict) - count).abs() < 0.5, "{verdict}: {text}");
    }
}

/// The line of the access log with that value.
#[track_caller]
fn line(world: &World, key: &str, value: &str) -> Value {
    wait(&format!("a log line with {key} {value}"), || {
        world.log().into_iter().find(|line| line[key] == value)
    })
}

#[test]
fn access_log() {
    let world = World::start();
    world.upstream.answers("/body", "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello", Then::Keep);
    world.get(F, "/body");
    let allowed = line(&world, "host", F);
    assert_eq!(
        (allowed["verdict"].as_str(), allowed["status"].as_u64()),
        (Some("allow"), Some(201)),
        "{allowed}"
    );
    assert_eq!(allowed["number"], "京ICP备20000001号-1");
    let keys = allowed.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert!(keys.contains("duration") && keys.contains("bytes"), "{keys}");
    let blocked = world.get(U, "/");
    let logged = line(&world, "host", U);
    assert_eq!(logged["verdict"], "unfiled");
    assert_eq!(logged["verdict_id"].as_str(), blocked.header("beian-verdict-id"), "the log repeats the id");
    assert_eq!(logged["status"], 451);
}

/// What a client sends can't break a line or forge one.
#[test]
fn log_injection() {
    let world = World::start();
    let raw = "GET /\"},{%0a?\u{202e} HTTP/1.1\r\nHost: filed.cn\r\nUser-Agent: a\"b\\c\u{1b}[31m\r\nReferer: \"}\r\n\r\n";
    let _ = world.connect().send(raw).response();
    world.send("GET / HTTP/1.1\r\nHost: fil\"ed\r\n\r\n");
    world.get(U, "/last");
    line(&world, "host", U);
    assert!(world.log().len() >= 3, "every line is JSON, one a request");
}

/// Each request leaves exactly one line, whatever became of it.
#[test]
fn one_line_a_request() {
    let world = World::start();
    let mut wire = world.connect();
    for i in 0..100 {
        let host = [F, U, G, "127.0.0.1"][i % 4];
        wire.send(format!("GET /{i} HTTP/1.1\r\nHost: {host}\r\n\r\n")).response().unwrap();
    }
    wait("100 lines", || (world.log().len() >= 100).then_some(()));
    let log = world.log();
    assert_eq!(log.len(), 100);
    let ids: HashSet<&str> = log.iter().filter_map(|line| line["verdict_id"].as_str()).collect();
    assert_eq!(ids.len(), 100, "ids are unique");
}
