//! Metrics: counted apart by listener and by named site, never by host; and all that documents speak of is there.

use crate::world::{F, G, OWN, U, World, wait};
use std::collections::BTreeSet;
use std::path::Path;

fn named(setup: crate::world::setup::Setup) -> crate::world::setup::Setup {
    let upstream = setup.upstream;
    setup.workers(2).site("name = \"main\"").listener("http", "").toml(&format!(
        "[[site]]\nhosts = [\"shop.filed.cn\"]\nname = \"shop\"\nupstreams = [\"http://{upstream}\"]\n\
         [[site]]\nhosts = [\"plain.filed.cn\"]\nupstreams = [\"http://{upstream}\"]\n"
    ))
}

#[test]
fn listeners_and_named_sites_count_apart() {
    let world = World::with(named);
    let second = world.listener("http", 1);
    for host in [F, G, OWN, U, "shop.filed.cn", "shop.filed.cn", "plain.filed.cn"] {
        world.get(host, "/");
    }
    crate::world::wire::Wire::clear(second)
        .send(format!("GET / HTTP/1.1\r\nHost: {F}\r\n\r\n"))
        .response()
        .unwrap();
    let (first, second) = (world.http(), second);
    let upstream = format!("upstream=\"http://{}\"", world.upstream.address);
    let expected = [
        format!("listener_connections_total{{listener=\"{first}\"}} 7"),
        format!("listener_connections_total{{listener=\"{second}\"}} 1"),
        format!("listener_requests_total{{listener=\"{first}\",verdict=\"allow\"}} 6"),
        format!("listener_requests_total{{listener=\"{first}\",verdict=\"unfiled\"}} 1"),
        format!("listener_requests_total{{listener=\"{second}\",verdict=\"allow\"}} 1"),
        "site_requests_total{site=\"main\",verdict=\"allow\"} 4".to_owned(),
        "site_requests_total{site=\"main\",verdict=\"unfiled\"} 1".to_owned(),
        "site_requests_total{site=\"shop\",verdict=\"allow\"} 2".to_owned(),
        "site_request_duration_seconds_count{site=\"shop\"} 2".to_owned(),
        "site_responses_total{site=\"main\",status=\"2xx\"} 4".to_owned(),
        "site_responses_total{site=\"main\",status=\"4xx\"} 1".to_owned(),
        format!("upstream_responses_total{{{upstream},status=\"2xx\"}} 7"),
        format!("upstream_response_duration_seconds_bucket{{{upstream},le=\"+Inf\"}} 7"),
        format!("upstream_response_duration_seconds_count{{{upstream}}} 7"),
        "site_request_duration_seconds_bucket{site=\"shop\",le=\"+Inf\"} 2".to_owned(),
        "requests_total{verdict=\"allow\"} 7".to_owned(),
    ];
    wait("the counts", || {
        let text = world.ask("/metrics").text();
        let has = |line: &String| text.contains(&format!("\nbeian_gate_{line}\n"));
        expected.iter().all(has).then_some(())
    });
    let text = world.ask("/metrics").text();
    assert!(!text.contains("filed.cn") && !text.contains("site=\"\""), "never a host");
    let octets = "beian_gate_site_response_body_bytes_total{site=\"shop\"} ";
    assert!(text.lines().any(|line| line.strip_prefix(octets).is_some_and(|it| it != "0")), "{text}");
    // A reload begins no count anew.
    world.process.hang_up();
    wait("the reload", || (world.status()["reload"]["is_in_force"] == true).then_some(()));
    world.get("shop.filed.cn", "/");
    wait("the count goes on", || {
        let text = world.ask("/metrics").text();
        text.contains("beian_gate_site_requests_total{site=\"shop\",verdict=\"allow\"} 3\n").then_some(())
    });
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Names of metrics in a text; where it ends in `_`, it is the beginning of several.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("beian_gate_").map(|(at, _)| &text[at..]);
    let end = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    starts.map(|rest| rest[..end(rest)].to_owned()).collect()
}

#[test]
fn every_metric_that_documents_name_is_there() {
    let world = World::with(|setup| {
        setup
            .site("name = \"main\"")
            .toml("[audit]\nfile = \"audit.log\"\n[lookup]\naddress = \"127.0.0.1:0\"\n")
    });
    let text = world.ask("/metrics").text();
    let families: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let pages = [
        "docs/configuration.md",
        "docs/metrics.md",
        "deploy/prometheus/alerts.yml",
        "deploy/grafana/beian-gate.json",
        "README.md",
    ];
    for page in pages {
        let named = metrics_in(&read(page));
        assert!(!named.is_empty(), "{page} names none");
        for name in named {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_there = families.contains(name.as_str())
                || family.is_some_and(|family| families.contains(family))
                || (name.ends_with('_') && families.iter().any(|family| family.starts_with(&name)));
            assert!(is_there, "{page} names {name}, which /metrics does not have");
        }
    }
}
