//! What is below deploy/ against the product: every metric exists, every config in a manifest is one.

use crate::world::World;
use beian_gate::config::Config;
use std::collections::BTreeSet;
use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of metrics in a text, without what a histogram adds to its own.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices("beian_gate_")
        .map(|(at, _)| text[at..].chars().take_while(|c| is_part(*c)).collect::<String>())
        .map(|name| name.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn alerts_and_panels_stand_on_metrics_that_exist() {
    let world = World::start();
    let exposed = world.ask("/metrics").text();
    let types = exposed.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let known: BTreeSet<String> = types.map(str::to_owned).collect();
    for file in ["prometheus/alerts.yml", "grafana/beian-gate.json"] {
        let asked = metrics(&read(file));
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(asked.len() > 8 && unknown.is_empty(), "{file} asks for {unknown:?}");
    }
    let board: serde_json::Value = serde_json::from_str(&read("grafana/beian-gate.json")).unwrap();
    for panel in board["panels"].as_array().unwrap() {
        assert!(panel["targets"][0]["expr"].as_str().is_some_and(|it| it.contains("beian_gate_")), "{panel}");
    }
}

#[test]
fn manifests_hold_configs_that_parse() {
    for file in ["kubernetes/beian-gate.yaml", "kubernetes/registry.yaml"] {
        let manifest = read(file);
        let (_, rest) = manifest.split_once("beian-gate.toml: |\n").unwrap();
        let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
        // Tokens are in secrets, which are not here; without them the addresses may not be open.
        let local = |line: &str| {
            line.trim()
                .replace("\"0.0.0.0:7070\"", "\"127.0.0.1:7070\"")
                .replace("\"0.0.0.0:9090\"", "\"127.0.0.1:9090\"")
        };
        let text: String =
            lines.filter(|line| !line.contains("token_file")).map(|line| local(line) + "\n").collect();
        if let Err(error) = Config::parse(&text, file) {
            panic!("{file}: {error}\n{text}");
        }
    }
}
