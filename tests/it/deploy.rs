//! What is below deploy/ against the product: every metric exists, every config in a manifest is one.

mod package;

use crate::world::World;
use beian_gate::config::Config;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// The image is built by a compiler that the crate takes, of files that are sent along, and runs a command that exists.
#[test]
fn the_container_file_builds_and_runs_what_there_is() {
    let file = read("Containerfile");
    let line = |start: &str| {
        file.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("no {start}")).trim()
    };
    let version = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let built_by = line("FROM rust:").split('-').next().unwrap();
    assert!(version(built_by) >= version(env!("CARGO_PKG_RUST_VERSION")), "{built_by}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let left_out = std::fs::read_to_string(root.join(".dockerignore")).unwrap();
    for needed in ["src", "config", "Cargo.toml", "Cargo.lock", "benches"] {
        assert!(!left_out.lines().any(|line| line == needed) && root.join(needed).exists(), "{needed}");
    }
    assert_eq!(line("ENTRYPOINT"), "[\"beian-gate\"]");
    let words: Vec<String> = serde_json::from_str(line("CMD")).unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_beian-gate")).arg(&words[0]).arg("--help").output().unwrap();
    let said = String::from_utf8(help.stdout).unwrap();
    assert!(said.contains("Usage: beian-gate run") && said.contains(&words[1]), "{said}");
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
        let found = !package::fitting(&root.join(source)).is_empty();
        assert!(found, "{source} is not there");
    }
    let config = std::fs::read_to_string(root.join("deploy/debian/beian-gate.toml")).unwrap();
    Config::parse(&config, "deploy/debian/beian-gate.toml").unwrap().require_gate().unwrap();
}

/// The package is built of this binary, installed in a copy of this system, run, upgraded, removed: by cargo-deb, and
/// where that is missing from the same metadata.
#[test]
fn the_package_is_installed_and_runs() {
    // Not by a macro, whose words a passing test keeps to itself.
    let skip =
        |why: &str| writeln!(std::io::stderr(), "SKIPPED: the Debian package is not tried: {why}").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !has("dpkg-deb") {
        skip("no dpkg");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let package = if has("cargo-deb") {
        let built = Command::new(root.join("deploy/debian/build")).arg("dev").output().unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{said}");
        let package = String::from_utf8(built.stdout).unwrap();
        PathBuf::from(package.lines().last().unwrap())
    } else {
        package::by_metadata(scratch.path())
    };
    let tried = Command::new(root.join("deploy/debian/test")).arg(&package).output().unwrap();
    let _ = std::fs::remove_file(package);
    let said =
        format!("{}{}", String::from_utf8_lossy(&tried.stdout), String::from_utf8_lossy(&tried.stderr));
    match tried.status.code() {
        Some(0) => assert!(said.contains("all good"), "{said}"),
        Some(77) => skip(&said),
        code => panic!("{code:?} {said}"),
    }
}
