//! Commands on the pages that no other test runs as they stand there: those of the walkthrough, the tutorial and the
//! operators' page are run in `walkthrough` and `tutorial`.

use super::{pages, parts, read};
use crate::walkthrough::{Part, Said, holds};
use crate::world::postgres::Postgres;
use crate::world::process::Process;
use crate::world::{F, World, run, wait};
use base64::Engine as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

/// As people type it, in the directory, with the binary under test on the path.
fn bash(directory: &Path, command: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_beian-gate"));
    let path =
        format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let mut bash = Command::new("bash");
    bash.arg("-euc").arg(command).current_dir(directory).env("PATH", path).env("NO_COLOR", "1");
    bash
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What stands in `backticks`, and the lines of a shell's blocks, where it begins with the program's name.
fn named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut block = None::<&str>;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language) };
        } else if let Some(language) = block {
            if language != "sh" && language != "console" {
                continue;
            }
            let typed = line.strip_prefix("$ ").unwrap_or(line).trim_start_matches("CODE=$(");
            found.extend(typed.strip_prefix("beian-gate ").map(str::to_owned));
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            found.extend(spans.filter_map(|span| span.strip_prefix("beian-gate ")).map(str::to_owned));
        }
    }
    found
}

/// `--help` of a command, where there is such a one.
struct Helps {
    known: BTreeMap<String, Option<String>>,
    directory: tempfile::TempDir,
}

impl Helps {
    fn of(&mut self, command: &str) -> Option<&str> {
        let directory = self.directory.path();
        let asked = || {
            let arguments: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
            let (code, out, _) = run(directory, &arguments);
            let usage = format!("Usage: beian-gate {command}");
            let is_it =
                |line: &str| line.strip_prefix(usage.trim_end()).is_some_and(|rest| !rest.starts_with('-'));
            (code == 0 && out.lines().any(is_it)).then_some(out)
        };
        self.known.entry(command.to_owned()).or_insert_with(asked).as_deref()
    }
}

/// Commands and options that any page names are there.
#[test]
fn every_command_that_a_page_names_exists() {
    let mut helps = Helps { known: BTreeMap::new(), directory: tempfile::tempdir().unwrap() };
    let mut count = 0;
    for page in pages() {
        for line in named(&read(&page)) {
            let words: Vec<&str> =
                line.split(['|', '>', '#', ')']).next().unwrap().split_whitespace().collect();
            let mut command = String::new();
            for word in &words {
                let longer = format!("{command} {word}").trim().to_owned();
                let may_be = word.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-');
                if !may_be || word.starts_with('-') || helps.of(&longer).is_none() {
                    break;
                }
                command = longer;
            }
            let help = helps.of(&command).unwrap_or_default().to_owned();
            assert!(!command.is_empty() && !help.is_empty(), "{page}: there is no `beian-gate {line}`");
            for option in words.iter().filter(|word| word.starts_with("--")) {
                let option = option.split('=').next().unwrap();
                assert!(help.contains(option), "{page}: `beian-gate {command}` has no {option}");
            }
            count += 1;
        }
    }
    assert!(count > 60, "the commands are found: {count}");
}

/// Files of the repository that a page names are there.
#[test]
fn every_file_that_a_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        let spans = text.split('`').skip(1).step_by(2).flat_map(str::split_whitespace);
        for span in spans {
            let is_ours = ["benches/", "tests/", "deploy/", "src/", "fuzz/", ".ci/", "docs/"]
                .iter()
                .any(|it| span.starts_with(it));
            if is_ours && !span.contains(['*', '…', '<', '{']) {
                assert!(
                    root.join(span.trim_end_matches(['.', ',', ';'])).exists(),
                    "{page}: there is no {span}"
                );
                count += 1;
            }
        }
    }
    assert!(count > 10, "the files are found: {count}");
}

/// docs/audit.md, command by command, beside a gate that has its config where commands look for it.
#[test]
fn what_the_page_of_the_audit_log_shows() {
    let world = World::with(|setup| setup.toml("[audit]\nfile = \"audit.log\"\n"));
    wait("a first line", || {
        std::fs::read_to_string(world.path("audit.log")).ok().filter(|text| text.contains(F))
    });
    std::fs::create_dir_all(world.path("config")).unwrap();
    std::fs::copy(world.path("gate.toml"), world.path("config/beian-gate.toml")).unwrap();
    let commands: Vec<Said> = crate::walkthrough::parts(&read("docs/audit.md"))
        .into_iter()
        .filter_map(|part| match part {
            Part::Command(said) => Some(said),
            Part::File { .. } => None,
        })
        .collect();
    assert_eq!(commands.len(), 2);
    for Said { command, lines } in commands {
        let output = bash(world.dir.path(), &command).output().unwrap();
        let out = said(&output);
        assert!(output.status.success(), "{command}: {out}");
        assert!(lines.iter().all(|line| holds(&out, line)), "{command}\nsays\n{out}\nand not {lines:?}");
    }
}

/// The signature that docs/warnings.md makes by hand is the one that is sent; the event it shows is one.
#[test]
fn what_the_page_of_warnings_shows() {
    let (blocks, _) = parts(&read("docs/warnings.md"));
    let event = blocks.iter().find(|block| block.language == "json").unwrap();
    let event: serde_json::Value = serde_json::from_str(&event.text).unwrap();
    let kind = event["type"].as_str().unwrap();
    assert!(beian_gate::config::WarningKind::ALL.iter().any(|it| it.as_str() == kind), "{event}");
    for key in ["timestamp", "id", "provider", "gate"] {
        assert!(event[key].is_string(), "{key}: {event}");
    }
    assert!(event["message"]["zh"].is_string() && event["data"]["host"].is_string(), "{event}");
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: no openssl");
        return;
    }
    let command = &blocks.iter().find(|block| block.language == "sh").unwrap().text;
    let (id, at, body, secret) = ("evt_1", "1795668136", r#"{"a":"b c"}"#, "0123456789abcdef");
    let mut bash = bash(&std::env::temp_dir(), command);
    let output =
        bash.envs([("ID", id), ("TIMESTAMP", at), ("BODY", body), ("SECRET", secret)]).output().unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
    assert_eq!(said(&output).trim(), base64::engine::general_purpose::STANDARD.encode(tag.as_ref()));
}

/// How docs/operations.md makes a database and starts a registry over it, with a server of the test's own.
#[test]
fn a_registry_over_postgresql_as_the_page_says() {
    let Some(server) = Postgres::start() else { return };
    let (blocks, _) = parts(&read("docs/operations.md"));
    let sh = &blocks.iter().find(|block| block.language == "sh").unwrap().text;
    let toml = &blocks.iter().find(|block| block.language == "toml").unwrap().text;
    let (made, started) = sh.split_at(sh.find("beian-gate registry serve").unwrap());
    let directory = tempfile::tempdir().unwrap();
    let (host, programs) = (server.socket().display().to_string(), server.programs().display().to_string());
    // The superuser of the test's server has the name of the page's owner.
    let made = made.replace("beian", "page");
    let mut commands = bash(directory.path(), &format!("export PATH={programs}:$PATH\n{made}"));
    let output = commands.envs([("PGHOST", host.as_str()), ("PGUSER", "beian")]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let here = toml
        .replace(
            "postgres://beian@db.internal/beian?sslmode=verify-full&sslrootcert=/etc/beian-gate/db-ca.pem",
            &format!("postgres://page@localhost/page?host={host}"),
        )
        .replace("/var/lib/beian-gate/registry.feed", "registry.feed")
        .replace(":7070", ":0");
    assert_eq!(here.matches(&host).count(), 1, "{here}");
    std::fs::write(directory.path().join("registry.toml"), format!("provider = \"example-cloud\"\n{here}"))
        .unwrap();
    let started = started.trim().replace("/etc/beian-gate/", "");
    let words: Vec<&str> = started.split_whitespace().skip(1).collect();
    let process = Process::start(&words, directory.path());
    let address = crate::world::address(&process.banner("registry"));
    crate::world::put(address, F, &crate::world::connected("京ICP备20000001号-1"));
    process.terminate();
    assert!(process.ended().success());
}
