//! A machine that runs out of things: the gate goes on, and says so. What strangers write is only text.

use crate::world::wire::Response;
use crate::world::wire::Wire;
use crate::world::{F, G, World, run, wait};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory on a file system of its own, 256 KiB large; only root may make one.
struct Tiny(PathBuf);

impl Tiny {
    fn on(directory: &Path) -> Option<Self> {
        std::fs::create_dir_all(directory).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=256k", "none"];
        let made = Command::new("mount").args(options).arg(directory).status();
        if made.is_ok_and(|status| status.success()) {
            return Some(Self(directory.to_owned()));
        }
        eprintln!("SKIPPED: a full disk can only be made by root, with mount");
        None
    }

    /// Leaves no room, or gives it back.
    fn fill(&self, is_full: bool) {
        let ballast = self.0.join("ballast");
        if is_full {
            let _ = std::fs::write(ballast, vec![0; 1 << 20]);
        } else {
            std::fs::remove_file(ballast).unwrap();
        }
    }

    fn read_only(&self) {
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Descriptors that the process has.
fn descriptors(world: &World) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", world.process.pid)).unwrap().count()
}

#[test]
fn out_of_descriptors() {
    let world = World::start();
    world.assert_well();
    let limit = (descriptors(&world) + 8).to_string();
    let pid = world.process.pid.to_string();
    let limited =
        Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:{limit}")]).status();
    assert!(limited.is_ok_and(|status| status.success()), "prlimit is of util-linux");
    for _ in 0..3 {
        // The system takes these in, the gate can't: they wait, and nobody is turned away for good.
        let crowd: Vec<Wire> = (0..64)
            .map(|_| {
                let mut wire = world.connect();
                wire.send("GET /crowd HTTP/1.1\r\n");
                wire
            })
            .collect();
        wait("no descriptor to be left", || (descriptors(&world) >= limit.parse().unwrap()).then_some(()));
        world.process.assert_running();
        drop(crowd);
        world.assert_well();
    }
    // It says so: once that it begins, once that it is over, however often it tried.
    let begun = wait("the word that it is over", || {
        world.assert_well();
        let output = world.process.output();
        let [begun, over] = ["can't accept connections", "connections are accepted again"]
            .map(|it| output.matches(it).count());
        assert!(begun == over || begun == over + 1, "they take turns: {begun} {over}");
        (begun > 0 && begun == over).then_some(begun)
    });
    assert!(world.metric("beian_gate_accept_errors_total") >= begun as u64);
}

/// Lines that can't be written are lost and counted.
#[test]
fn a_log_on_a_full_disk() {
    let mut tiny = None;
    let world = World::with(|setup| {
        tiny = Tiny::on(&setup.directory().join("logs"));
        if tiny.is_some() { setup.log("logs/access.log") } else { setup.log("/dev/full") }
    });
    if let Some(tiny) = &tiny {
        world.assert_well();
        tiny.fill(true);
    }
    wait("lost lines to be counted", || {
        world.assert_well();
        (world.metric("beian_gate_access_log_dropped_total") > 0).then_some(())
    });
    assert!(world.process.output().contains("log"), "it says so");
    let Some(tiny) = &tiny else { return };
    tiny.fill(false);
    let lines = || std::fs::read_to_string(world.path("logs/access.log")).unwrap().matches("/later").count();
    wait("lines to be written again", || {
        assert_eq!(world.get(F, "/later").status, 200);
        (lines() > 0).then_some(())
    });
}

/// Filings that can't be saved are served all the same.
#[test]
fn a_cache_that_can_not_be_saved() {
    for is_read_only in [false, true] {
        let mut tiny = None;
        let world = World::with(|setup| {
            tiny = Tiny::on(&setup.directory().join("state"));
            match &tiny {
                Some(tiny) if is_read_only => tiny.read_only(),
                Some(tiny) => tiny.fill(true),
                None => {}
            }
            setup
        });
        if tiny.is_none() {
            return;
        }
        world.cancel(F, "京ICP备20000001号-1");
        assert_eq!((world.get(F, "/x").status, world.get(G, "/x").status), (451, 200));
        wait("the failure to be told", || (world.metric("beian_gate_save_errors_total") > 0).then_some(()));
        assert_eq!(world.ask("/readyz").status, 200);
        world.process.assert_running();
    }
}

/// What strangers may write comes out as text, wherever it is shown.
#[test]
fn hostile_names_are_only_text() {
    let world = World::start();
    let console = world.ask("/");
    let policy = console.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let scripts: Vec<_> = policy.split("; ").filter(|rule| rule.starts_with("script-src")).collect();
    assert_eq!(scripts, ["script-src 'self'"], "{policy}");
    let script = "%3Cscript%3Ealert(1)%3C/script%3E";
    for path in
        [format!("/v1/verdict?host={script}"), format!("/{script}"), format!("/v1/verdict?x={script}")]
    {
        let answer = world.ask(&path);
        let kind = answer.header("content-type").unwrap_or("");
        assert!(kind.contains("json") || kind.starts_with("text/plain"), "{path}: {answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    for host in ["<script>alert(1)</script>", "unfiled.cn\"><script>", "xn--<script>"] {
        let page =
            world.send(&format!("GET /<script> HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n"));
        assert!(page.status == 400 && !page.text().contains("<script"), "{host}: {page:?}");
    }
    let page = world.send(
        "GET /?<script>alert(1)</script> HTTP/1.1\r\nHost: unfiled.cn\r\nUser-Agent: <script>\r\nAccept: text/html\r\n\r\n",
    );
    let plain = world.send("GET / HTTP/1.1\r\nHost: unfiled.cn\r\nAccept: text/html\r\n\r\n");
    let scripts = |page: &Response| page.text().matches("<script").count();
    assert_eq!((page.status, scripts(&page), scripts(&plain)), (451, 1, 1), "the page's own: {page:?}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe-inline'; script"), "{policy}");
    let lines = wait("its line", || Some(world.log()).filter(|lines| lines.len() == 5));
    assert!(lines.iter().all(serde_json::Value::is_object), "each line is JSON");
}

/// What others reach wants a token, or it doesn't start.
#[test]
fn no_token_no_listening() {
    let directory = tempfile::tempdir().unwrap();
    let rows = [
        "[admin]\naddress = \"0.0.0.0:0\"\n",
        "[registry.embedded]\naddress = \"[::]:0\"\ndatabase = \"sqlite:x.db\"\n",
    ];
    for table in rows {
        let config = directory.path().join("open.toml");
        std::fs::write(&config, format!("provider = \"p\"\n{table}")).unwrap();
        let (code, _, err) = run(directory.path(), &["run", "-c", config.to_str().unwrap()]);
        assert!(code == 2 && err.contains("token"), "{code} {err}");
    }
}

/// A limit on what a file may hold is an error like another, not the end.
#[test]
fn a_limit_on_files() {
    let world = World::start();
    let pid = world.process.pid.to_string();
    world.assert_well();
    let limited = Command::new("prlimit").args(["--pid", &pid, "--fsize=4096:4096"]).status();
    assert!(limited.is_ok_and(|status| status.success()), "prlimit is of util-linux");
    wait("lost lines to be counted", || {
        world.assert_well();
        (world.metric("beian_gate_access_log_dropped_total") > 0).then_some(())
    });
}
