//! The audit log: what changed and who was turned away, in a chain that shows what was done to it.

use crate::world::{F, G, U, World, run, setup::Setup, wait};
use serde_json::Value;
use std::path::Path;

fn audited(setup: Setup) -> Setup {
    setup.toml("[audit]\nfile = \"audit.log\"\n")
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits for a line of the log that holds these, and gives it.
#[track_caller]
fn line(world: &World, holds: &[(&str, &str)]) -> Value {
    wait(&format!("a line with {holds:?}"), || {
        let is_it = |line: &Value| holds.iter().all(|(key, value)| line[*key] == *value);
        lines(&world.path("audit.log")).into_iter().find(is_it)
    })
}

#[track_caller]
fn verify(world: &World, arguments: &[&str]) -> (i32, String) {
    let (code, out, err) = run(world.dir.path(), &[&["audit", "verify"], arguments].concat());
    (code, out + &err)
}

/// `replay --host --at`, as JSON.
#[track_caller]
fn at(world: &World, host: &str, time: &Value) -> (i32, Value) {
    let time = time.as_str().unwrap();
    let arguments = ["replay", "--host", host, "--at", time, "--json", "-c", "gate.toml"];
    let (code, out, err) = run(world.dir.path(), &arguments);
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out}{err}")))
}

#[test]
fn changes_and_blocked_domains_are_proven() {
    let world = World::with(audited);
    let begin = line(&world, &[("event", "begin")]);
    let first = line(&world, &[("event", "verdict"), ("host", F), ("verdict", "allow")]);
    assert_eq!(first["number"], "京ICP备20000001号-1");
    world.get(U, "/");
    world.get(U, "/again");
    let blocked = line(&world, &[("event", "blocked"), ("domain", U)]);
    assert_eq!(blocked["verdict"], "unfiled");
    world.get(&format!("www.{F}"), "/");
    line(&world, &[("event", "verdict"), ("host", &format!("www.{F}"))]);
    world.cancel(F, "京ICP备20000001号-1");
    // Nobody asked for it since.
    let www = format!("www.{F}");
    for host in [F, &www] {
        let change = line(&world, &[("host", host), ("was", "allow"), ("verdict", "access_cancelled")]);
        assert!(change["because_zh"].as_str().unwrap().contains("空壳网站"), "{change}");
        assert_eq!(change["decided_by"], F);
    }
    let cancelled = line(&world, &[("host", F), ("verdict", "access_cancelled")]);
    let (code, answer) = at(&world, F, &first["time"]);
    assert_eq!((code, &answer["audit"]["verdict"]["verdict"]), (0, &"allow".into()), "{answer}");
    assert_eq!(answer["audit"]["config"]["config"], begin["config"]);
    let (code, answer) = at(&world, F, &cancelled["time"]);
    assert_eq!((code, &answer["audit"]["verdict"]["seq"]), (0, &cancelled["seq"]), "{answer}");
    assert_eq!(answer["derived"]["verdict"], "access_cancelled");
    assert!(answer["change_log"][0]["change"]["who"].is_string(), "{answer}");
    let (_, answer) = at(&world, F, &"2020-01-01T00:00:00Z".into());
    assert_eq!(
        (&answer["audit"]["verdict"], &answer["derived"]["verdict"]),
        (&Value::Null, &"unfiled".into())
    );
    let said = run(world.dir.path(), &["replay", "--host", U, "--at", "2100-01-01", "-c", "gate.toml"]).1;
    assert!(said.contains("turned away (unfiled)") && said.contains("按现行规则推导"), "{said}");
    world.process.terminate();
    world.process.ended();
    let all = lines(&world.path("audit.log"));
    assert!(all.iter().any(|it| it["event"] == "blocked_again" && it["requests"] == 1), "{all:?}");
    assert_eq!(all.last().unwrap()["event"], "end");
    assert_eq!(verify(&world, &["audit.log"]).0, 0);
}

#[test]
fn what_was_done_to_the_log_is_found() {
    let world = World::with(audited);
    line(&world, &[("event", "verdict"), ("host", G)]);
    let head = wait("the head", || world.status()["audit"]["head"].as_str().map(str::to_owned));
    world.process.kill();
    let path = world.path("audit.log");
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(verify(&world, &["audit.log", "--head", &head]).0, 0);
    let check = |text: &str, expected: (i32, &str)| {
        std::fs::write(&path, text).unwrap();
        let (code, said) = verify(&world, &["audit.log"]);
        assert!(code == expected.0 && said.contains(expected.1), "{code} {said}, not {expected:?}");
    };
    let nth = |nth: usize| written.lines().nth(nth).unwrap();
    check(&written.replacen("allow", "exempt", 1), (1, "was changed after it was written"));
    check(&written.replacen(&format!("{}\n", nth(1)), "", 1), (1, "lines 2 to 2 are missing"));
    let known: Value = serde_json::from_slice(&std::fs::read(world.path("audit.log.head")).unwrap()).unwrap();
    let fewer = usize::try_from(known["seq"].as_u64().unwrap()).unwrap() - 1;
    check(&written.split_inclusive('\n').take(fewer).collect::<String>(), (1, "at its end"));
    check(&(written.clone() + "{\"seq\":99,\"ti"), (0, "its last line is cut off (13 octets)"));
    assert!(verify(&world, &["audit.log", "--head", &"0".repeat(64)]).1.contains("no line has the hash"));
    // The next process goes on where the crash left it.
    let world = restart(world);
    let again = wait("its record", || {
        lines(&world.path("audit.log")).into_iter().find(|line| line["torn_bytes"] == 13)
    });
    assert_eq!(again["event"], "begin");
    assert_eq!(verify(&world, &["audit.log"]).0, 0);
}

fn restart(world: World) -> World {
    let World { process, upstream, tls, dir, .. } = world;
    drop(process);
    let setup = audited(Setup::new(dir.path(), upstream.address));
    World::of(&setup, dir, tls, upstream)
}

#[test]
fn a_disk_that_takes_nothing_is_told_of_and_nothing_is_lost() {
    let world = World::with(audited);
    line(&world, &[("event", "verdict"), ("host", F)]);
    let limit = |octets: &str| {
        let to = format!("--fsize={octets}:");
        let pid = world.process.pid.to_string();
        let done = std::process::Command::new("prlimit").args(["--pid", &pid, &to]).status().unwrap();
        assert!(done.success());
    };
    limit("1");
    world.get(U, "/");
    wait("the failure to be told", || (world.metric("beian_gate_audit_failing") == 1).then_some(()));
    assert!(world.metric("beian_gate_audit_unwritten") >= 1);
    assert!(world.status()["audit"]["error"].is_string());
    assert!(world.process.output().contains("the audit log can't be written"));
    assert_eq!(world.get(G, "/").status, 200, "requests are served meanwhile");
    limit("unlimited");
    line(&world, &[("event", "blocked"), ("domain", U)]);
    wait("the end of the failure", || (world.metric("beian_gate_audit_failing") == 0).then_some(()));
    assert_eq!(world.metric("beian_gate_audit_dropped_total"), 0);
    let (code, said) = verify(&world, &["audit.log"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn reloads_and_full_files_are_in_the_chain() {
    let world = World::with(|setup| {
        setup.toml("[audit]\nfile = \"logs/audit.log\"\nrotate_bytes = \"64 KiB\"\nrotate_after = \"1ms\"\n")
    });
    let directory = world.path("logs");
    let all = || {
        let mut paths: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|it| it.unwrap().path()).collect();
        paths.retain(|path| !path.to_str().unwrap().contains(".head"));
        paths
    };
    world.process.hang_up();
    let events = |of: &str| all().iter().flat_map(|path| lines(path)).filter(|it| it["event"] == of).count();
    wait("the reload in the log", || (events("reload") == 1).then_some(()));
    assert!(events("rotated") >= 1 && all().len() >= 2, "{:?}", all());
    world.process.terminate();
    world.process.ended();
    let paths = all();
    let mut arguments: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    let (code, said) = verify(&world, &arguments);
    assert_eq!(code, 0, "{said}");
    // Without the first of them the rest still holds, which is said; without one in the middle it does not.
    arguments.sort_unstable_by_key(|path| (!path.contains("log."), *path));
    assert!(verify(&world, &arguments[1..]).1.contains("were not given"));
    if arguments.len() > 2 {
        arguments.remove(1);
        assert_eq!(verify(&world, &arguments).0, 1);
    }
}
