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

/// What the package is to hold is there, but for what is made when it is built.
#[test]
fn what_is_packed_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, package) = manifest.split_once("assets = [\n").unwrap();
    let rows = package.lines().take_while(|line| *line != "]");
    let sources: Vec<_> = rows.map(|row| row.split('"').nth(1).unwrap()).collect();
    assert!(sources.len() > 8, "{sources:?}");
    for source in sources.iter().filter(|source| !source.starts_with("target/")) {
        let (directory, name) = source.rsplit_once('/').unwrap_or((".", source));
        let (start, end) = name.split_once('*').unwrap_or((name, ""));
        let fits = |it: &str| it.starts_with(start) && it.ends_with(end);
        let entries =
            std::fs::read_dir(root.join(directory)).unwrap_or_else(|error| panic!("{source}: {error}"));
        let found = entries.flatten().any(|it| it.file_name().to_str().is_some_and(fits));
        assert!(found, "{source} is not there");
    }
    let config = std::fs::read_to_string(root.join("deploy/debian/beian-gate.toml")).unwrap();
    Config::parse(&config, "deploy/debian/beian-gate.toml").unwrap().require_gate().unwrap();
}

/// The package is built of this binary, installed in a copy of this system, run, upgraded, removed.
#[test]
fn the_package_is_installed_and_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let has = |program: &str| std::process::Command::new(program).arg("--version").output().is_ok();
    if !has("cargo-deb") || !has("dpkg") {
        eprintln!("SKIPPED: no cargo-deb, or no dpkg (cargo install cargo-deb)");
        return;
    }
    let built = std::process::Command::new(root.join("deploy/debian/build")).arg("dev").output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    let package = String::from_utf8(built.stdout).unwrap();
    let package = package.lines().last().unwrap();
    let tried = std::process::Command::new(root.join("deploy/debian/test")).arg(package).output().unwrap();
    let _ = std::fs::remove_file(package);
    let said =
        format!("{}{}", String::from_utf8_lossy(&tried.stdout), String::from_utf8_lossy(&tried.stderr));
    match tried.status.code() {
        Some(0) => {}
        Some(77) => eprintln!("{said}"),
        code => panic!("{code:?} {said}"),
    }
}
