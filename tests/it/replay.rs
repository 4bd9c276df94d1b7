//! `replay` and `what-if`: a log that the gate wrote, judged by other filings than it was written under.

use crate::world::{F, G, U, World, run, wait};
use serde_json::Value;

/// One request each for F, G and U, and their lines in the log.
fn visited() -> World {
    let world = World::start();
    for host in [F, G, U] {
        world.get(host, "/");
    }
    world.get("a..b", "/");
    wait("four lines of log", || (world.log().len() == 4).then_some(()));
    world
}

/// Runs a command on the world's config with `--json`; host, before, after and effect of each line.
#[track_caller]
fn changes(world: &World, arguments: &[&str]) -> Vec<[String; 4]> {
    let (code, out, err) = run(world.dir.path(), &[arguments, &["-c", "gate.toml", "--json"]].concat());
    assert_eq!(code, 0, "{out}{err}");
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|line| ["host", "before", "after", "effect"].map(|key| line[key].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn replay_lists_what_would_change() {
    let world = visited();
    assert_eq!(changes(&world, &["replay", "access.log"]), [[""; 4]; 0]);
    world.cancel(F, "京ICP备20000001号-1");
    world.file(U, "京ICP备20000009号-1");
    let expected = [[F, "allow", "access_cancelled", "blocks"], [U, "unfiled", "allow", "opens"]];
    assert_eq!(changes(&world, &["replay", "access.log"]), expected, "the running gate is asked");
    let (code, out, err) = run(world.dir.path(), &["replay", "access.log", "-c", "gate.toml"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("将阻断") && out.contains("access_cancelled") && !out.contains(G), "{out}");
    assert!(err.contains("3 requests") && err.contains("1 would be blocked"), "{err}");
    assert!(err.contains("1 lines carry no decision"), "{err}");
    world.process.terminate();
    world.process.ended();
    assert_eq!(changes(&world, &["replay", "access.log"]), expected, "the saved state is asked");
}

#[test]
fn replay_of_what_is_no_log() {
    let world = World::start();
    std::fs::write(world.path("combined.log"), "192.0.2.1 - - [x] \"GET / HTTP/1.1\" 200 1\n").unwrap();
    let (code, _, err) = run(world.dir.path(), &["replay", "combined.log", "-c", "gate.toml"]);
    assert!(code == 1 && err.contains("JSON lines"), "{code} {err}");
    let (code, _, err) = run(world.dir.path(), &["replay", "nowhere.log", "-c", "gate.toml"]);
    assert!(code == 1 && err.contains("nowhere.log"), "{code} {err}");
}

#[test]
fn what_if_says_what_a_file_would_do_and_does_nothing() {
    let world = visited();
    let header = "domain,number,access\n";
    let rows = format!("{header}{U},京ICP备20000009号-1,example-cloud=active\n");
    std::fs::write(world.path("new.csv"), &rows).unwrap();
    let what_if = ["what-if", "new.csv", "--traffic", "access.log"];
    assert_eq!(changes(&world, &what_if), [[U, "unfiled", "allow", "opens"]]);
    let whole = [&what_if[..], &["--replace"]].concat();
    let expected = [
        [G, "allow", "unfiled", "blocks"],
        [F, "allow", "unfiled", "blocks"],
        [U, "unfiled", "allow", "opens"],
    ];
    assert_eq!(changes(&world, &whole), expected);
    assert_eq!(world.verdict(U)["verdict"], "unfiled", "nothing was imported");
    std::fs::write(world.path("new.csv"), format!("{header}com.cn,京ICP备1号-1,\n")).unwrap();
    let (code, _, err) = run(world.dir.path(), &[&what_if[..], &["-c", "gate.toml"]].concat());
    assert!(code == 1 && err.contains("line 2") && err.contains("would be refused"), "{code} {err}");
}
