//! The gate is killed at any moment, or its disk fails: what it starts with again is a state that the registry had.

use crate::sync::{Registry, follower, nobody};
use crate::world::setup::Setup;
use crate::world::{F, World, access, connected, put, wait, wire};
use std::path::Path;
use std::process::Command;

/// Names that come and go.
const NAMES: usize = 12;
const ROUNDS: usize = 12;

fn name(index: usize) -> String {
    format!("comes-and-goes-{index}.cn")
}

/// What the registry said after each change, and at which number.
struct Story {
    registry: Registry,
    /// The registry's number before the first change.
    first_seq: u64,
    /// The verdict for each name, change by change.
    verdicts: Vec<[&'static str; NAMES]>,
    random: u64,
}

impl Story {
    fn below(&mut self, limit: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap() % limit
    }

    fn change(&mut self) {
        let mut verdicts = *self.verdicts.last().unwrap();
        let index = self.below(NAMES);
        let number = format!("京ICP备2000{index:04}号-1");
        let document = if verdicts[index] == "allow" {
            verdicts[index] = "access_cancelled";
            access(&number, "cancelled")
        } else {
            verdicts[index] = "allow";
            connected(&number)
        };
        put(self.registry.address, &name(index), &document);
        self.verdicts.push(verdicts);
    }

    fn newest_seq(&self) -> u64 {
        self.first_seq + u64::try_from(self.verdicts.len()).unwrap() - 1
    }

    /// The gate's verdicts are those of the number that it says it holds.
    #[track_caller]
    fn check(&self, world: &World, round: usize) -> u64 {
        let seq = world.status()["seq"].as_u64().unwrap();
        let at = usize::try_from(seq.checked_sub(self.first_seq).unwrap()).unwrap();
        let expected = self.verdicts.get(at).unwrap_or_else(|| panic!("round {round}: {seq} never was"));
        for (index, expected) in expected.iter().enumerate() {
            let verdict = world.verdict(&name(index))["verdict"].as_str().unwrap().to_owned();
            let verdict = if verdict == "no_site" { "allow" } else { &verdict };
            assert_eq!(verdict, *expected, "round {round}: {} at {seq}", name(index));
        }
        seq
    }
}

fn saved_seq(world: &World) -> Option<u64> {
    world.status()["saved"]["seq"].as_u64()
}

#[test]
fn after_any_kill_it_starts_with_what_the_registry_said() {
    let registry_dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(registry_dir.path(), 0);
    let (away, url) = (nobody(), registry.url());
    let mut dir = tempfile::tempdir().unwrap();
    let mut story = Story { registry, first_seq: 0, verdicts: vec![["unfiled"; NAMES]], random: 1 };
    put(story.registry.address, "always.cn", &connected("京ICP备10000000号-1"));
    for round in 0..ROUNDS {
        let world = follower(dir, &url, |setup| setup);
        if round == 0 {
            story.first_seq = world.status()["seq"].as_u64().unwrap();
        }
        for _ in 0..story.below(40) {
            story.change();
        }
        if round % 3 == 0 {
            // Right after a save, or in the middle of the next one.
            let newest = story.newest_seq();
            wait("a save", || saved_seq(&world).filter(|&seq| seq >= newest));
            story.change();
        }
        let floor = saved_seq(&world);
        let World { process, dir: left, .. } = world;
        process.kill();
        dir = left;
        let world = follower(dir, &away, Setup::unready);
        let has_state = world.status()["epoch"].as_u64() != Some(0);
        assert!(has_state || floor.is_none(), "round {round}: {floor:?} was saved, and nothing is there");
        if has_state {
            let seq = story.check(&world, round);
            assert!(Some(seq) >= floor, "round {round}: {seq} is older than {floor:?}");
        }
        let World { process, dir: left, .. } = world;
        process.kill();
        dir = left;
    }
    let world = follower(dir, &url, |setup| setup);
    let newest = story.newest_seq();
    wait("what was missed", || (world.status()["seq"].as_u64() == Some(newest)).then_some(()));
    story.check(&world, ROUNDS);
}

/// A small disk of its own, mounted at a directory.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// None where this user may not mount.
    fn mount(at: &'a Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=700");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        assert!(
            Command::new("mount").args(["-o", &options]).arg(self.0).status().unwrap().success(),
            "{how}"
        );
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: the gate may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn save_errors(world: &World) -> u64 {
    let text = world.ask("/metrics").text();
    let line = text.lines().find(|line| line.starts_with("beian_gate_save_errors_total ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// 2,000 filings at once: more than a file's last block has room for.
fn import(world: &World, round: usize) {
    let line = |i: usize| {
        format!(
            "{{\"domain\":\"r{round}-{i}.cn\",\"number\":\"京ICP备4{round}{i:06}号-1\",\"access\":{{\"example-cloud\":\"active\"}}}}\n"
        )
    };
    let lines: String = (0..2000).map(line).collect();
    let response = wire::ask(world.registry.unwrap(), "POST", "/v1/filings:batch", &lines);
    assert!(response.status < 300, "{response:?}");
    world.in_force(&format!("r{round}-1999.cn"), "allow");
}

/// Ends the gate and starts it again in its directory.
fn start_again(world: World, between: impl FnOnce()) -> World {
    let World { process, dir, tls, upstream, .. } = world;
    process.terminate();
    process.ended();
    between();
    World::of(&Setup::new(dir.path(), upstream.address), dir, tls, upstream)
}

fn is_saved(world: &World) -> Option<()> {
    let status = world.status();
    (status["saved"]["seq"] == status["seq"]).then_some(())
}

/// Imports what can't be saved: the gate serves it, and says what is wrong.
#[track_caller]
fn check_unsaved(world: &World, round: usize) {
    let before = save_errors(world);
    import(world, round);
    wait("an error", || (save_errors(world) > before).then_some(()));
    assert!(!world.status()["registry_error"].is_null(), "it says so");
    world.assert_well();
}

#[test]
fn a_full_or_read_only_disk_is_told_of_and_overcome() {
    let base = tempfile::tempdir().unwrap();
    let state = base.path().join("small");
    let Some(disk) = SmallDisk::mount(&state, "256k") else {
        eprintln!("SKIPPED a_full_or_read_only_disk_is_told_of_and_overcome: no right to mount a tmpfs");
        return;
    };
    let world = World::start();
    let link = world.path("state");
    let world = start_again(world, || {
        std::fs::remove_dir_all(&link).unwrap();
        std::os::unix::fs::symlink(&state, &link).unwrap();
    });
    wait("the first save", || is_saved(&world));
    // It takes what there is room for.
    let _ = std::fs::write(state.join("filler"), vec![1; 1 << 20]);
    check_unsaved(&world, 0);
    std::fs::remove_file(state.join("filler")).unwrap();
    wait("a save where there is room", || is_saved(&world));
    let world = start_again(world, || disk.remount("ro"));
    check_unsaved(&world, 1);
    disk.remount("rw");
    wait("a save where it may", || is_saved(&world));
    world.in_force("r0-7.cn", "allow");
}

/// Takes what room there is, or gives it back.
fn fill(disk: &Path, is_full: bool) {
    let filler = disk.join("filler");
    if is_full {
        let _ = std::fs::write(filler, vec![1; 64 << 20]);
    } else {
        std::fs::remove_file(filler).unwrap();
    }
}

#[track_caller]
fn status_of(registry: &Registry, domain: &str) -> u16 {
    wire::ask(registry.address, "GET", &format!("/v1/filings/{domain}"), "").status
}

/// A registry whose disk is full says so, changes nothing, and answers what is asked; where there is room again it
/// writes again. What it answered is there, what it refused is not, also after a start.
#[test]
fn a_registry_on_a_full_disk() {
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("registry");
    let Some(_disk) = SmallDisk::mount(&directory, "48m") else {
        eprintln!("SKIPPED a_registry_on_a_full_disk: no right to mount a tmpfs");
        return;
    };
    let registry = Registry::start(&directory, 0);
    put(registry.address, F, &connected("京ICP备20000001号-1"));
    let world = follower(tempfile::tempdir().unwrap(), &registry.url(), |setup| setup);
    world.in_force(F, "allow");
    fill(&directory, true);
    // More than the room within its files.
    let line = |i: usize| {
        format!(
            "{{\"domain\":\"b{i}.cn\",\"number\":\"京ICP备5{i:07}号-1\",\"access\":{{\"example-cloud\":\"active\"}}}}\n"
        )
    };
    let lines: String = (0..20_000).map(line).collect();
    let refused = wire::ask(registry.address, "POST", "/v1/filings:batch?atomic=true", &lines);
    assert_eq!((refused.status, &refused.json()["rule"]), (503, &"disk_full".into()), "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    for i in [0, 1, 9_999, 19_999] {
        assert_eq!(status_of(&registry, &format!("b{i}.cn")), 404, "b{i}.cn of a batch that was refused");
    }
    // One by one: what there is room for yet is taken, then all is refused.
    let one = |i: usize| {
        let mut document = connected(&format!("京ICP备6{i:07}号-1"));
        document["site_name"] = "名".repeat(60).into();
        wire::ask(registry.address, "PUT", &format!("/v1/filings/s{i}.cn"), &document.to_string())
    };
    let first_refused = (0..4_000).find(|&i| {
        let answer = one(i);
        assert!(answer.status < 300 || answer.status == 503, "{answer:?}");
        if answer.status == 503 {
            assert_eq!(answer.json()["rule"], "disk_full", "{answer:?}");
        }
        answer.status == 503
    });
    let first_refused = first_refused.expect("a disk that is full");
    let told = || {
        if first_refused > 0 {
            assert_eq!(status_of(&registry, &format!("s{}.cn", first_refused - 1)), 200);
        }
        assert_eq!(status_of(&registry, &format!("s{first_refused}.cn")), 404);
        assert_eq!((status_of(&registry, F), status_of(&registry, "b0.cn")), (200, 404));
    };
    told();
    assert!(registry.process.output().contains("disk of the registry database is full"), "it says so");
    // The gate goes on with what it has, and the registry with what is asked.
    world.assert_well();
    assert_eq!(world.ask("/readyz").status, 200);
    fill(&directory, false);
    told();
    wait("a write where there is room", || (one(first_refused).status < 300).then_some(()));
    world.in_force(&format!("s{first_refused}.cn"), "allow");
    let taken = wire::ask(registry.address, "POST", "/v1/filings:batch?atomic=true", &lines);
    assert!(taken.status < 300, "{taken:?}");
    world.in_force("b19999.cn", "allow");
    let port = registry.address.port();
    registry.process.kill();
    drop(registry);
    let registry = Registry::start(&directory, port);
    for name in [F, "b0.cn", "b19999.cn", &format!("s{first_refused}.cn")] {
        assert_eq!(status_of(&registry, name), 200, "{name}");
    }
    assert_eq!(status_of(&registry, &format!("s{}.cn", first_refused + 1)), 404);
    put(registry.address, F, &access("京ICP备20000001号-1", "cancelled"));
    world.in_force(F, "access_cancelled");
}
