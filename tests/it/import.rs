//! A file of more rows than a batch is fed of: set aside, swapped in at once, and nothing of it before.

use crate::world::process::Process;
use crate::world::{F, World, run, wait};
use std::path::Path;

/// More than `MAX_FED_CHANGES`.
const ROWS: usize = 100_001;

/// One filing per row, from the number on.
fn write_rows(path: &Path, from: usize) {
    let row = |index| format!("n{index}.cn,京ICP备{index:08}号-1,example-cloud=active\n");
    let rows: String = (from..from + ROWS).map(row).collect();
    std::fs::write(path, format!("domain,number,access\n{rows}")).unwrap();
}

fn registry_only() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = "provider = \"example-cloud\"\n[registry.embedded]\naddress = \"127.0.0.1:0\"\ndatabase = \"sqlite:registry.db\"\n";
    std::fs::write(dir.path().join("r.toml"), config).unwrap();
    dir
}

#[track_caller]
fn import(dir: &Path, arguments: &[&str], said: &str) {
    let process = Process::start(&[&["registry", "import"], arguments].concat(), dir);
    let status = process.ended();
    wait("what it says", || process.output().contains(said).then_some(()));
    assert!(status.success(), "{status}: {}", process.output());
}

#[test]
fn many_rows_into_a_running_registry_are_one_new_epoch() {
    let world = World::start();
    let epoch = world.status()["epoch"].clone();
    write_rows(&world.path("many.csv"), 0);
    import(world.dir.path(), &["many.csv", "-c", "gate.toml"], "100001 created");
    world.in_force("n100000.cn", "allow");
    assert_eq!(world.verdict(F)["verdict"], "allow", "what was there stays");
    assert_ne!(world.status()["epoch"], epoch);
    // So few changes that they are fed as such, though the file has as many rows as before.
    let epoch = world.status()["epoch"].clone();
    let text = std::fs::read_to_string(world.path("many.csv")).unwrap();
    std::fs::write(world.path("many.csv"), text.replace("-1,example-cloud=active\nn1.", "-1,\nn1.")).unwrap();
    import(world.dir.path(), &["many.csv", "-c", "gate.toml"], "1 updated 更新, 100000 unchanged");
    world.in_force("n0.cn", "access_cancelled");
    assert_eq!(world.status()["epoch"], epoch);
}

#[test]
fn what_is_killed_midway_leaves_what_was() {
    let dir = registry_only();
    let first = "domain,number,access\nfirst.cn,京ICP备20000051号-1,example-cloud=active\n";
    std::fs::write(dir.path().join("first.csv"), first).unwrap();
    import(dir.path(), &["first.csv", "-c", "r.toml"], "1 created");
    let export = || run(dir.path(), &["registry", "export", "-c", "r.toml"]).1;
    let before = export();
    write_rows(&dir.path().join("many.csv"), 0);
    let aside = dir.path().join("registry.db.import");
    let log = dir.path().join("registry.db-wal");
    let octets = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
    // While rows are set aside, and while the swap is written but not committed.
    for (path, least) in [(&aside, 1_u64), (&log, 1 << 20)] {
        let import =
            Process::start(&["registry", "import", "many.csv", "--replace", "-c", "r.toml"], dir.path());
        wait("the import to be under way", || (octets(path) >= least).then_some(()));
        import.kill();
        assert!(!import.output().contains("imported"), "it was cut off: {}", import.output());
        assert_eq!(export(), before);
    }
    assert!(aside.exists());
    // All but the rows after the last mark were aside already.
    import(dir.path(), &["many.csv", "--replace", "-c", "r.toml"], "resumed 续传: 100000 rows");
    import_whole(dir.path());
    assert!(!aside.exists(), "what the killed ones left is gone");
}

#[track_caller]
fn import_whole(dir: &Path) {
    import(dir, &["many.csv", "--replace", "-c", "r.toml"], "100001 unchanged");
    let (code, out, _) = run(dir, &["registry", "export", "-c", "r.toml"]);
    assert_eq!((code, out.lines().count()), (0, ROWS + 1));
}
