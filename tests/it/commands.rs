//! The command line: exit codes, messages, files in and out.

use crate::world::setup::Setup;
use crate::world::upstream::Upstream;
use crate::world::{F, U, World, certs, run};
use serde_json::Value;
use std::net::TcpListener;
use tempfile::TempDir;

fn check(world: &World, arguments: &[&str]) -> (i32, String) {
    let (code, out, err) = run(world.dir.path(), &[&["check", "-c", "gate.toml"], arguments].concat());
    (code, out + &err)
}

#[test]
fn check_says_what_the_gate_says() {
    let world = World::start();
    let rows: &[(&[&str], i32, &str)] = &[
        (&[F], 0, "京ICP备20000001号-1"),
        (&["www.filed.cn", "also-filed.cn"], 0, "allow"),
        (&[U], 3, "unfiled"),
        (&[F, U], 3, "unfiled"),
        (&["two.town.gov.cn"], 3, "access_cancelled"),
        (&["127.0.0.1"], 3, "ip_literal"),
        (&["a b"], 4, "malformed"),
        (&[F, "a..b"], 4, "malformed"),
        (&[U, "--region", "overseas"], 0, "exempt"),
    ];
    for (arguments, code, word) in rows {
        let (got, text) = check(&world, arguments);
        assert!(got == *code && text.contains(word), "{arguments:?}: {got} {text}");
    }
}

#[test]
fn held_where_nothing_is() {
    let world = World::start();
    let held = |word: &[&str]| run(world.dir.path(), &[&["held", "-c", "gate.toml"], word].concat());
    assert_eq!((held(&[]).0, held(&[]).1.trim()), (0, "no update is held"));
    for word in ["apply", "refuse"] {
        let (code, _, error) = held(&[word]);
        assert_eq!((code, error.trim()), (1, "no update is held"), "{word}");
    }
}

#[test]
fn check_as_json() {
    let world = World::start();
    let (code, text) = check(&world, &["--json", F]);
    let answer: Value = serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"));
    let answer = answer.as_array().map_or(&answer, |list| &list[0]);
    assert_eq!((code, answer["verdict"].as_str()), (0, Some("allow")), "{answer}");
    assert_eq!(answer["number"], "京ICP备20000001号-1");
    assert_eq!(answer["verdict"], world.verdict(F)["verdict"]);
}

/// Without a running gate: the saved state, else the database.
#[test]
fn check_without_a_gate() {
    let world = World::start();
    world.process.terminate();
    world.process.ended();
    assert_eq!(check(&world, &[F]).0, 0);
    assert_eq!(check(&world, &[U]).0, 3);
    std::fs::remove_dir_all(world.path("state")).unwrap();
    assert_eq!(check(&world, &[F]).0, 0, "from the database");
    std::fs::remove_file(world.path("registry.db")).unwrap();
    assert_eq!(check(&world, &[F]).0, 4, "nothing to say anything from");
}

#[test]
fn config_check() {
    let dir = tempfile::tempdir().unwrap();
    certs::make(dir.path());
    let setup = Setup::new(dir.path(), Upstream::start().address);
    setup.write();
    let (code, out, err) = run(dir.path(), &["config", "check", "-c", "gate.toml"]);
    assert_eq!(code, 0, "{out}{err}");
    let table = out.lines().any(|line| line.contains("cdn")) && out.contains("overseas");
    assert!(table, "prints the scenario table in force: {out}");
    std::fs::remove_file(dir.path().join("certs/own.key")).unwrap();
    let (code, out, err) = run(dir.path(), &["config", "check", "-c", "gate.toml"]);
    assert!(code == 2 && (out + &err).contains("own"), "a certificate without its key");
}

/// A config error names file, line, column and key, for `run` and `config check` alike.
#[test]
fn bad_configs() {
    let rows = [
        ("provider = \"p\"\nunknown_key = 1\n", "bad.toml:2:1", "unknown_key"),
        ("provider = \"p\"\nworkers = \"many\"\n", "bad.toml:2:11", "workers"),
        ("provider = \"p\"\n[enforcement]\nstatus = 200\n", "bad.toml:3:10", "451"),
        ("provider = \"p\"\n[enforcement]\nmode = \"off\"\n", "bad.toml:3:8", "monitor"),
        (
            "provider = \"p\"\n[[listener]]\naddress = \"nowhere\"\nprotocol = \"http\"\n",
            "bad.toml:3:11",
            "address",
        ),
        (
            "provider = \"p\"\n[[site]]\nhosts = [\"a..b\"]\nupstreams = [\"http://127.0.0.1:1\"]\n",
            "bad.toml:3:",
            "hosts",
        ),
        (
            "provider = \"p\"\n[[site]]\nhosts = [\"a.cn\"]\nupstreams = [\"gopher://x\"]\n",
            "bad.toml:4:",
            "upstreams",
        ),
        ("provider = \"p\"\n[limits]\nheader_timeout = \"soon\"\n", "bad.toml:3:18", "header_timeout"),
        ("provider = \n", "bad.toml:1:", ""),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (text, place, word) in rows {
        std::fs::write(dir.path().join("bad.toml"), text).unwrap();
        for command in [&["run"][..], &["config", "check"]] {
            let (code, out, err) = run(dir.path(), &[command, &["-c", "bad.toml"]].concat());
            let said = out + &err;
            assert!(
                code == 2 && said.contains(place) && said.contains(word),
                "{command:?} {text:?}: {code} {said}"
            );
        }
    }
}

#[test]
fn bad_usage() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in
        [&["nonsense"][..], &["run", "--nonsense"], &["run", "-c", "missing.toml"], &["check"], &["registry"]]
    {
        let (code, out, err) = run(dir.path(), arguments);
        assert!(code == 2 && !(out + &err).contains("panicked"), "{arguments:?}: {code} {err}");
    }
    assert_eq!(run(dir.path(), &["--version"]).0, 0);
    assert_eq!(run(dir.path(), &["--help"]).0, 0);
}

#[test]
fn port_in_use() {
    let dir = tempfile::tempdir().unwrap();
    certs::make(dir.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = Setup::new(dir.path(), Upstream::start().address).text();
    std::fs::write(
        dir.path().join("taken.toml"),
        text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1),
    )
    .unwrap();
    let (code, out, err) = run(dir.path(), &["run", "-c", "taken.toml"]);
    assert!(code == 1 && (out + &err).contains(&port.to_string()), "names the address: {code} {err}");
}

#[test]
fn unreadable_database() {
    let dir = tempfile::tempdir().unwrap();
    certs::make(dir.path());
    std::fs::write(dir.path().join("registry.db"), "this is no database, and never was one".repeat(100))
        .unwrap();
    Setup::new(dir.path(), Upstream::start().address).write();
    for command in [
        &["run", "-c", "gate.toml"][..],
        &["registry", "serve", "-c", "gate.toml"],
        &["registry", "export", "-c", "gate.toml"],
    ] {
        let (code, out, err) = run(dir.path(), command);
        assert!(code == 1 && (out + &err).contains("registry.db"), "{command:?}: {code} {err}");
    }
}

/// A directory with a config for a registry and nothing else.
fn registry_only() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = "provider = \"example-cloud\"\n[registry.embedded]\naddress = \"127.0.0.1:0\"\ndatabase = \"sqlite:registry.db\"\n";
    std::fs::write(dir.path().join("r.toml"), config).unwrap();
    dir
}

const ROWS: &str = "domain,number,access\n\
    a-filed.cn,京ICP备20000051号-1,example-cloud=active\n\
    b-filed.cn,京ICP备20000052号-1,example-cloud=cancelled;other-cloud=active\n";

#[test]
fn import_and_export() {
    let dir = registry_only();
    std::fs::write(dir.path().join("rows.csv"), ROWS).unwrap();
    let import = ["registry", "import", "rows.csv", "-c", "r.toml"];
    let (code, out, err) = run(dir.path(), &[&import[..], &["--dry-run"]].concat());
    assert!(code == 0 && out.contains("would import") && out.contains("2 created"), "{out}{err}");
    let (code, out, err) = run(dir.path(), &[&import[..], &["--reason", "搬迁"]].concat());
    assert!(code == 0 && out.contains("2 created"), "{out}{err}");
    let (code, first, err) = run(dir.path(), &["registry", "export", "-c", "r.toml"]);
    assert!(code == 0 && first.contains("a-filed.cn") && first.contains("b-filed.cn"), "{first}{err}");
    // What was exported goes in again, and comes out the same.
    let name = if first.trim_start().starts_with('{') { "again.ndjson" } else { "again.csv" };
    let other = registry_only();
    std::fs::write(other.path().join(name), &first).unwrap();
    let (code, out, err) = run(other.path(), &["registry", "import", name, "-c", "r.toml"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(run(other.path(), &["registry", "export", "-c", "r.toml"]).1, first);
    for (host, code) in [("a-filed.cn", 0), ("b-filed.cn", 3), ("c.cn", 3)] {
        assert_eq!(run(other.path(), &["check", host, "-c", "r.toml"]).0, code, "{host}");
    }
}

/// What a rule refuses is left out with a line that says why, or, with --strict, refuses the file.
#[test]
fn import_refuses_rows_by_line_and_nothing_is_half_done() {
    let dir = registry_only();
    let bad = format!(
        "{ROWS}com.cn,京ICP备20000053号-1,example-cloud=active\nc-filed.cn,no number,example-cloud=active\n"
    );
    std::fs::write(dir.path().join("bad.csv"), bad).unwrap();
    let import = ["registry", "import", "bad.csv", "-c", "r.toml"];
    let (code, out, err) = run(dir.path(), &[&import[..], &["--strict"]].concat());
    let said = out + &err;
    assert!(code != 0 && said.contains("com.cn") && said.contains("c-filed.cn"), "{code} {said}");
    assert!(
        !run(dir.path(), &["registry", "export", "-c", "r.toml"]).1.contains("a-filed.cn"),
        "nothing half-imported"
    );
    let (code, out, err) = run(dir.path(), &[&import[..], &["--report", "refused.ndjson"]].concat());
    assert!(code == 0 && out.contains("2 created") && out.contains("2 refused"), "{code} {out}");
    assert!(err.contains("line 4: com.cn: public_suffix") && err.contains("line 5: c-filed.cn"), "{err}");
    let report = std::fs::read_to_string(dir.path().join("refused.ndjson")).unwrap();
    let rows: Vec<serde_json::Value> = report.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let rules: Vec<_> = rows.iter().map(|it| (it["line"].as_u64(), it["rule"].as_str())).collect();
    assert_eq!(rules, [(Some(4), Some("public_suffix")), (Some(5), Some("invalid_number"))]);
    assert!(rows.iter().all(|it| it["detail"].is_string() && it["detail_zh"].is_string()));
    let exported = run(dir.path(), &["registry", "export", "-c", "r.toml"]).1;
    assert!(exported.contains("a-filed.cn") && !exported.contains("c-filed.cn"), "{exported}");
}

/// An import goes through the registry that is running, so that its followers learn of it.
#[test]
fn import_into_a_running_registry() {
    let world = World::start();
    std::fs::write(world.path("rows.csv"), ROWS).unwrap();
    let (code, out, err) = run(world.dir.path(), &["registry", "import", "rows.csv", "-c", "gate.toml"]);
    assert_eq!(code, 0, "{out}{err}");
    world.in_force("a-filed.cn", "allow");
    world.in_force("b-filed.cn", "access_cancelled");
    assert_eq!(world.verdict(F)["verdict"], "allow", "what was there stays");
}

/// The sample file of the repository fills an empty database.
#[test]
fn the_sample_file() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/config/sample-filings.csv");
    let dir = registry_only();
    let (code, out, err) = run(dir.path(), &["registry", "import", sample, "-c", "r.toml"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(run(dir.path(), &["check", "example.com", "-c", "r.toml"]).0, 0);
}

#[test]
fn completions_and_man_pages() {
    let dir = tempfile::tempdir().unwrap();
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef beian-gate"), ("fish", "complete -c beian-gate")]
    {
        let (code, out, err) = run(dir.path(), &["completions", shell]);
        assert!(code == 0 && out.contains(word) && out.contains("registry"), "{shell}: {out}{err}");
    }
    let (code, _, err) = run(dir.path(), &["man", "pages"]);
    assert_eq!(code, 0, "{err}");
    let page = std::fs::read_to_string(dir.path().join("pages/beian-gate-check.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("HOST"), "{page}");
}
