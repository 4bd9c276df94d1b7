//! docs/operations.md, "Backup and restore": its commands, run; and gates that were ahead of the copy come back to it.

use crate::sync::{NUMBER, follower};
use crate::world::postgres::Postgres;
use crate::world::process::Process;
use crate::world::{F, PROVIDER, World, address, connected, put};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

const DOCUMENT: &str = include_str!("../../docs/operations.md");

/// The commands under a heading of the section, in their order.
fn commands(heading: &str) -> Vec<&'static str> {
    let section = DOCUMENT.split("## Backup and restore").nth(1).expect("the section");
    let part = section.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    let block = part.split("```").nth(1).and_then(|it| it.strip_prefix("sh\n")).expect("a block of sh");
    block.lines().filter(|it| !it.trim().is_empty()).collect()
}

#[track_caller]
fn run(dir: &Path, database: &str, command: &str) {
    let programs = Path::new(env!("CARGO_BIN_EXE_beian-gate")).parent().unwrap().to_str().unwrap();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let done = Command::new("sh")
        .args(["-ec", command])
        .current_dir(dir)
        .env("DATABASE", database)
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

struct Registry {
    process: Process,
    address: SocketAddr,
}

impl Registry {
    /// `port` 0 for the first start; the same port again for a restart.
    fn start(dir: &Path, port: u16, database: &str) -> Self {
        let config = format!(
            "provider = \"{PROVIDER}\"\n[registry.embedded]\naddress = \"127.0.0.1:{port}\"\ndatabase = \"{database}\"\n"
        );
        std::fs::write(dir.join("registry.toml"), config).unwrap();
        let process = Process::start(&["registry", "serve", "-c", "registry.toml"], dir);
        let address = address(&process.banner("registry"));
        Self { process, address }
    }
}

/// A copy is made, more is written, and the copy is put back: the gate ends up where the registry is.
fn check(dir: &Path, database: &str, heading: &str) {
    let registry = Registry::start(dir, 0, database);
    put(registry.address, F, &connected(NUMBER));
    let gate: World =
        follower(tempfile::tempdir().unwrap(), &format!("http://{}", registry.address), |setup| setup);
    gate.in_force(F, "allow");
    let (backup, restore) =
        (commands(&format!("{heading}, backup")), commands(&format!("{heading}, restore")));
    for command in backup {
        run(dir, database, command);
    }
    put(registry.address, "later.cn", &connected("京ICP备20000051号-1"));
    gate.in_force("later.cn", "allow");
    let Registry { process, address } = registry;
    process.terminate();
    process.ended();
    for command in restore {
        run(dir, database, command);
    }
    let registry = Registry::start(dir, address.port(), database);
    gate.in_force("later.cn", "unfiled");
    // Its second change is another one than the gate once had.
    put(registry.address, "other.cn", &connected("京ICP备20000052号-1"));
    gate.in_force("other.cn", "allow");
    gate.in_force(F, "allow");
    assert_eq!(gate.verdict("later.cn")["verdict"], "unfiled");
}

#[test]
fn a_file_that_is_put_back_is_what_gates_hold() {
    if Command::new("sqlite3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "sqlite3 is not installed: .ci/run installs it");
        let mut out = std::io::stderr();
        let _ = writeln!(out, "!!! SKIPPED backup of SQLite: sqlite3 is missing");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    check(dir.path(), "sqlite:data/registry.db", "### SQLite");
}

#[test]
fn a_schema_that_is_restored_is_what_gates_hold() {
    let Some(server) = Postgres::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &server.database(), "### PostgreSQL");
}
