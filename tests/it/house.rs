//! The house's invariants, each an absence: who may use whom, what pure cores don't know, how big a file may be.

use std::path::{Path, PathBuf};

struct Source {
    /// Below src/, with `/`.
    path: String,
    /// All of it.
    text: String,
    /// Without comments, and without the test module at the end.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(Source::read(&root, &path));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

impl Source {
    fn read(root: &Path, path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let relative: PathBuf = path.strip_prefix(root).unwrap().to_owned();
        let path = relative.to_str().unwrap().replace('\\', "/");
        let before_tests = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let code = before_tests
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        Self { path, text, code }
    }

    /// Whether it is that module or below it: `gate`, `gate/headers`.
    fn is_in(&self, module: &str) -> bool {
        self.path == format!("{module}.rs") || self.path.starts_with(&format!("{module}/"))
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/") || self.path.ends_with("_tests.rs")
    }

    /// Modules of the crate that its code names: `crate::x`, `use crate::{x, y}`, `beian_gate::x`.
    fn uses(&self) -> Vec<String> {
        let mut used = Vec::new();
        for start in ["crate::", "beian_gate::"] {
            for (at, _) in self.code.match_indices(start) {
                let rest = &self.code[at + start.len()..];
                let names = match rest.strip_prefix('{') {
                    Some(list) => first_names(list),
                    None => vec![word(rest)],
                };
                used.extend(names.into_iter().map(str::to_owned));
            }
        }
        used
    }
}

fn word(text: &str) -> &str {
    &text[..text.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(text.len())]
}

/// The first names of a braced list, nested lists left out.
fn first_names(list: &str) -> Vec<&str> {
    let (mut names, mut depth, mut fresh) = (Vec::new(), 0, true);
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && depth == 0 && !char.is_whitespace() => {
                names.push(word(&list[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn who_may_use_whom() {
    let all = ["cache", "follow", "gate", "registry", "admin", "config", "block_page", "telemetry"];
    let rows: &[(&str, &[&str])] = &[
        ("gate", &["follow", "registry", "admin"]),
        ("registry", &["gate", "cache", "follow", "admin"]),
        (
            "domain",
            &[
                "filing",
                "verdict",
                "feed",
                "cache",
                "follow",
                "gate",
                "registry",
                "admin",
                "config",
                "telemetry",
            ],
        ),
        (
            "filing",
            &["verdict", "feed", "cache", "follow", "gate", "registry", "admin", "config", "telemetry"],
        ),
        ("verdict", &all),
        ("feed", &["cache", "follow", "gate", "registry", "admin"]),
        ("cache", &["follow", "gate", "registry", "admin"]),
        ("follow", &["gate", "registry", "admin"]),
        ("admin", &["registry"]),
        ("telemetry", &["gate", "registry", "follow", "admin", "cache"]),
        ("warnings", &["registry", "admin", "cache", "follow"]),
        ("inquiry", &["gate", "registry", "admin", "cache", "follow"]),
        ("block_page", &["gate", "registry", "follow", "admin", "cache"]),
        ("config", &["gate", "registry", "follow", "admin", "cache"]),
    ];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let forbidden =
            rows.iter().filter(|(module, _)| source.is_in(module)).flat_map(|(_, others)| *others);
        let used = source.uses();
        found.extend(
            forbidden
                .filter(|other| used.iter().any(|one| one == *other))
                .map(|other| format!("{} uses {other}", source.path)),
        );
    }
    assert_none("against the house", &found);
}

#[test]
fn nobody_uses_app_or_cli() {
    let may = |source: &Source| ["main", "cli", "app"].iter().any(|module| source.is_in(module));
    let found: Vec<_> = sources()
        .iter()
        .filter(|source| !may(source))
        .flat_map(|source| source.uses().into_iter().map(|used| (source.path.clone(), used)))
        .filter(|(_, used)| used == "app" || used == "cli")
        .map(|(path, used)| format!("{path} uses {used}"))
        .collect();
    assert_none("only main, cli and app may", &found);
}

/// Pure cores know no clock and no socket.
#[test]
fn pure_cores() {
    let pure =
        ["domain", "filing", "verdict", "gate/route", "gate/headers", "registry/orders", "registry/rules"];
    let words = [
        "async ",
        "tokio",
        "std::time::Instant",
        "Instant::now",
        "SystemTime",
        "std::fs",
        "std::net::Tcp",
        "std::env",
        "Zoned::now",
        "Timestamp::now",
    ];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| pure.iter().any(|module| source.is_in(module))) {
        found.extend(
            words
                .iter()
                .filter(|word| source.code.contains(**word))
                .map(|word| format!("{}: {word}", source.path)),
        );
    }
    assert_none("a pure core knows", &found);
}

/// Files and environment are read in named places only.
#[test]
fn named_places_of_io() {
    let places = [
        "config",
        "cache/saved",
        // The authorities that its registry is believed by.
        "follow",
        "gate/tls",
        "gate/certificates",
        // The files of Unix sockets.
        "gate/local",
        // As the gate its own: certificates that are renewed.
        "serve/tls",
        "block_page/templates",
        "telemetry",
        "registry/import",
        "registry/export",
        "registry/store",
        "registry/base",
        "registry/lock",
        "warnings/queue",
        // The authorities that receivers are believed by.
        "warnings/delivery",
        "cli",
        "app",
        "main",
    ];
    let words = ["std::fs", "File::", "tokio::fs", "env::var", "OpenOptions"];
    let mut found = Vec::new();
    for source in
        sources().iter().filter(|source| !source.is_test() && !places.iter().any(|place| source.is_in(place)))
    {
        found.extend(
            words
                .iter()
                .filter(|word| source.code.contains(**word))
                .map(|word| format!("{}: {word}", source.path)),
        );
    }
    assert_none("reads files or environment", &found);
}

#[test]
fn sizes_and_names() {
    let mut found = Vec::new();
    for source in sources() {
        let lines = source.text.split("\n#[cfg(test)]").next().unwrap().lines().count();
        let name = source.path.rsplit('/').next().unwrap();
        let banned = ["mod.rs", "util.rs", "utils.rs", "common.rs", "helpers.rs", "manager.rs", "types.rs"];
        if lines > 400 && !source.is_test() {
            found.push(format!("{}: {lines} lines before its tests", source.path));
        }
        if banned.contains(&name) {
            found.push(format!("{}: a name that says nothing", source.path));
        }
        if !source.text.starts_with("//! ") {
            found.push(format!("{}: does not open by saying what it is for", source.path));
        }
    }
    assert_none("against the house", &found);
}

#[test]
fn no_unsafe_but_in_one_place() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|source| source.path != "cache/memory.rs" && source.code.contains("unsafe "))
        .map(|source| source.path)
        .collect();
    assert_none("unsafe", &found);
}
