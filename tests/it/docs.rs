//! The documents against the product: examples that parse, translations in step, a changelog for this version.

mod commands;

use crate::world::authority::Authority;
use crate::world::run;
use beian_gate::config::Config;
use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fenced block: what its fence says, and its text.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    language: String,
    text: String,
}

impl Block {
    /// Whether it is of this language, whatever file it is said to be.
    fn is_of(&self, language: &str) -> bool {
        self.language.split(' ').next() == Some(language)
    }
}

/// A document's fenced blocks, and the levels of its headings, each in order.
fn parts(markdown: &str) -> (Vec<Block>, Vec<usize>) {
    let (mut blocks, mut headings, mut open) = (Vec::new(), Vec::new(), None::<Block>);
    for line in markdown.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(language), None) => {
                open = Some(Block { language: language.trim().to_owned(), text: String::new() });
            }
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {
                let level = line.chars().take_while(|char| *char == '#').count();
                if level > 0 && line[level..].starts_with(' ') {
                    headings.push(level);
                }
            }
        }
    }
    assert_eq!(open, None, "a block is not closed");
    (blocks, headings)
}

#[track_caller]
fn check_examples(name: &str) {
    let (blocks, _) = parts(&read(name));
    let examples = blocks.iter().filter(|block| block.is_of("toml"));
    // What examples name has to be there.
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "0123456789abcdef").unwrap();
    for example in examples {
        let text = example.text.replace("config/webhook.secret", secret.path().to_str().unwrap());
        if let Err(error) = Config::parse(&text, name) {
            panic!("an example in {name} is no config:\n{error}\n{}", example.text);
        }
    }
}

/// Every page that is written for readers.
fn pages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().flatten().map(|it| it.file_name());
    let docs = docs.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".md"));
    let mut pages: Vec<String> = docs.map(|name| format!("docs/{name}")).collect();
    pages.extend(["README.md", "README.zh-CN.md", "CONTRIBUTING.md"].map(str::to_owned));
    assert!(pages.len() > 15, "{pages:?}");
    pages
}

#[test]
fn config_examples_parse() {
    for page in pages() {
        check_examples(&page);
    }
    for page in ["README.md", "docs/configuration.md", "docs/configuration.zh-CN.md", "docs/tutorial.md"] {
        assert!(parts(&read(page)).0.iter().any(|block| block.is_of("toml")), "{page} shows no config");
    }
}

/// What the examples of the page on configuration name, in a directory.
fn named_files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for directory in ["certs", "secrets", "config/error-pages"] {
        std::fs::create_dir_all(at(directory)).unwrap();
    }
    let authority = Authority::new("authority");
    for name in ["internal-ca", "customers-ca", "operators-ca"] {
        authority.write(&at(&format!("certs/{name}.pem")));
    }
    for name in ["example.com", "admin", "gate-1"] {
        authority.server(&[name]).write(&at("certs"), name);
    }
    let own = authority.client("gate", 1);
    for (name, text) in [
        ("secrets/gate.pem", own.cert.clone()),
        ("secrets/gate.key", own.key.clone()),
        ("certs/customers.crl", authority.revokes(&[])),
        ("secrets/ticket.keys", "0123456789abcdef".repeat(6)),
        ("config/webhook.secret", "0123456789abcdef".to_owned()),
        ("config/footers.toml", read("config/footers.toml")),
        ("config/error-pages/unavailable.html", "<p>later".to_owned()),
        ("config/error-pages/unavailable.json", "{}".to_owned()),
    ] {
        std::fs::write(at(name), text).unwrap();
    }
    dir
}

/// Every example is a config that the binary finds nothing wrong with, once it has what it leaves out.
#[test]
fn config_examples_are_checked_by_the_command() {
    let dir = named_files();
    let (blocks, _) = parts(&read("docs/configuration.md"));
    let examples: Vec<_> = blocks.iter().filter(|block| block.is_of("toml")).collect();
    assert!(examples.len() > 20);
    let check = |(number, block): (usize, &Block)| {
        // Names of the operator's own network, which nobody else can look up.
        let mut text =
            block.text.replace("://app.internal", "://127.0.0.1").replace("://shop.internal", "://127.0.0.1");
        let lacks = |key: &str| !text.lines().any(|line| line.starts_with(key));
        let (head, tail) = (
            if lacks("provider") { "provider = \"example-cloud\"\n" } else { "" },
            [
                if lacks("[[listener]]") { "\n[[listener]]\naddress = \"127.0.0.1:0\"\n" } else { "" },
                if lacks("[registry") { "\n[registry.embedded]\naddress = \"127.0.0.1:0\"\n" } else { "" },
            ]
            .concat(),
        );
        text = format!("{head}{text}{tail}");
        let file = format!("example-{number}.toml");
        std::fs::write(dir.path().join(&file), &text).unwrap();
        let (code, out, err) = run(dir.path(), &["config", "check", "-c", &file]);
        assert!(code == 0 && out.contains(": 0 errors"), "{text}\n{out}{err}");
    };
    let numbered: Vec<_> = examples.into_iter().enumerate().collect();
    std::thread::scope(|scope| {
        for part in numbered.chunks(numbered.len().div_ceil(4)) {
            scope.spawn(move || part.iter().copied().for_each(check));
        }
    });
}

#[test]
fn the_chinese_readme_is_in_step() {
    let (english, chinese) = (parts(&read("README.md")), parts(&read("README.zh-CN.md")));
    assert_eq!(english.0, chinese.0, "code blocks differ");
    assert_eq!(english.1, chinese.1, "headings differ");
}

#[test]
fn the_first_block_is_the_command_to_start_and_the_second_the_one_to_test() {
    let (blocks, _) = parts(&read("README.md"));
    let commands: Vec<_> = blocks.iter().take(2).map(|block| block.text.trim()).collect();
    assert_eq!(commands, ["cargo run --release -- run", "cargo test"]);
}

#[test]
fn the_changelog_has_this_version() {
    let heading = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    let changelog = read("CHANGELOG.md");
    assert!(changelog.lines().any(|line| line.starts_with(&heading)), "no section {heading}");
}

/// What links call a heading.
fn anchor(heading: &str) -> String {
    let is_kept = |char: &char| char.is_alphanumeric() || matches!(char, '-' | '_' | ' ');
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(is_kept)
        .map(|char| if char == ' ' { '-' } else { char })
        .collect()
}

/// Relative links lead to files, and to headings in them; a page that is not there yet is named without a link.
#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = read(&page);
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split(')').next().unwrap();
            let (target, place) = link.split_once('#').unwrap_or((link, ""));
            if target.contains("://") || link.is_empty() {
                continue;
            }
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let path = match target {
                "" => root.join(&page),
                _ => root.join(&page).with_file_name("").join(target),
            };
            assert!(path.exists(), "{page} links to {target}");
            if !place.is_empty() && path.extension().is_some_and(|it| it == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                let outside = text.split("\n```").step_by(2).flat_map(str::lines);
                let mut headings = outside.filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
                assert!(headings.any(|it| anchor(it) == place), "{page}: {target} has no heading {place}");
            }
        }
    }
}

/// Every key that the shipped config shows is explained.
#[test]
fn every_shipped_key_is_explained() {
    let (shipped, page) = (read("config/beian-gate.toml"), read("docs/configuration.md"));
    let keys = shipped.lines().filter_map(|line| {
        let (key, _) = line.trim_start_matches("# ").split_once(" = ")?;
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_key.then_some(key)
    });
    for key in keys {
        let is_named = page.contains(&format!("`{key}`")) || page.contains(&format!("timeouts.{key}`"));
        assert!(is_named, "docs/configuration.md does not explain {key}");
    }
}
