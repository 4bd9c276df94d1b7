//! The config in force: shown by the admin API and by the command, filled in, without secrets.

use crate::world::{F, World, run, wait};
use serde_json::Value;

fn with_secrets(setup: crate::world::setup::Setup) -> crate::world::setup::Setup {
    setup.site("[site.request_headers]\nset = { authorization = \"Basic hunter2\", x-env = \"prod\" }")
}

fn reload(world: &World, change: impl Fn(&str) -> String) {
    let path = world.path("gate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, change(&text)).unwrap();
    world.process.hang_up();
}

#[test]
fn what_is_in_force_is_shown() {
    let world = World::with(with_secrets);
    let shown = || world.ask("/v1/config").json();
    let first = shown();
    assert!(!first.to_string().contains("hunter2"), "{first}");
    assert!(first["source"].as_str().unwrap().ends_with("gate.toml"), "{first}");
    assert_eq!(first["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(first["waiting_for_a_restart"], serde_json::json!([]));
    let config = &first["config"];
    assert_eq!(
        (&config["limits"]["header_timeout"], &config["cache"]["directory"]),
        (&"10s".into(), &"state".into())
    );
    assert_eq!((&config["site"][0]["balance"], &config["trace"]), (&"p2c".into(), &false.into()));
    let set = &config["site"][0]["request_headers"]["set"];
    assert_eq!((&set["authorization"], &set["x-env"]), (&"(hidden)".into(), &"prod".into()));
    reload(&world, |text| text.replace("workers = 1", "workers = 7\ntrace = true"));
    let second = wait("the reload", || Some(shown()).filter(|it| it["config"]["trace"] == true));
    assert_eq!(second["config"]["workers"], 1, "that is for a restart");
    assert_eq!(second["waiting_for_a_restart"], serde_json::json!(["workers"]));
    assert_ne!(second["sha256"], first["sha256"]);
    let at = |it: &Value| it["since"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(at(&first) < at(&second), "{first} {second}");
    // What is refused is not in force.
    reload(&world, |text| format!("colour = 1\n{text}"));
    wait("the refusal", || (world.status()["reload"]["is_in_force"] == false).then_some(()));
    assert_eq!(shown(), second);
    assert_eq!(world.get(F, "/").status, 200);
    assert_eq!(world.upstream.arrived("/").header("authorization"), Some("Basic hunter2"));
}

#[test]
fn the_command_shows_a_file() {
    let world = World::with(with_secrets);
    let (code, out, err) = run(world.dir.path(), &["config", "show", "-c", "gate.toml"]);
    assert_eq!(code, 0, "{err}");
    let (told, asked): (Value, _) = (serde_json::from_str(&out).unwrap(), world.ask("/v1/config").json());
    for key in ["config", "sha256"] {
        assert_eq!(told[key], asked[key], "{key}");
    }
    assert!(!out.contains("hunter2"), "{out}");
    std::fs::write(world.path("bad.toml"), "colour = 1\n").unwrap();
    let (code, _, err) = run(world.dir.path(), &["config", "show", "-c", "bad.toml"]);
    assert!(code == 2 && err.contains("colour"), "{code} {err}");
}
