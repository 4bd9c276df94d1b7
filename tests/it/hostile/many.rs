//! Section 1: among 100,000 filings and as many exceptions a name is decided on as ever, from the first request on.

use crate::world::setup::Setup;
use crate::world::{PROVIDER, World};
use std::fmt::Write as _;

const MANY: usize = 100_000;

/// Filings by an import at the first start; exceptions, every second of them with all below it.
fn many(setup: Setup) -> Setup {
    let mut filings = "domain,number,access\n".to_owned();
    let mut exceptions = "[enforcement]\nexceptions = [".to_owned();
    for i in 0..MANY {
        writeln!(filings, "n{i}.cn,京ICP备3{i:07}号-1,{PROVIDER}=active").unwrap();
        let all = if i % 2 == 0 { "" } else { "*." };
        write!(
            exceptions,
            "{{ host = \"{all}e{i}.cn\", until = \"2099-01-01\", reason = \"r\", owner = \"o\" }},"
        )
        .unwrap();
    }
    std::fs::write(setup.directory().join("filings.csv"), filings).unwrap();
    setup
        .registry("sample = \"filings.csv\"")
        .toml(&format!("{exceptions}]"))
        .site_for("\"n7.cn\", \"*.n7.cn\", \"e0.cn\", \"*.e0.cn\", \"e1.cn\", \"*.e1.cn\", \"e0.cn.com\"", "")
}

#[track_caller]
fn check(world: &World) {
    let rows = [
        // Nothing is warm when the first of them comes.
        ("unfiled.cn", 451),
        ("filed.cn", 200),
        ("n7.cn", 200),
        ("WWW.N7.CN.", 200),
        ("n99999.cn", 404),
        ("n100000.cn", 451),
        ("n7.cn.unfiled.cn", 451),
        ("evil-n7.cn", 451),
        ("n7.com.cn", 451),
        ("e0.cn", 200),
        ("www.e0.cn", 451),
        ("www.e1.cn", 200),
        ("e1.cn", 451),
        ("e99998.cn", 404),
        ("e100000.cn", 451),
        ("e0.cn.com", 451),
        ("n7.cn@unfiled.cn", 400),
        ("UNFILED.cn.:80", 451),
    ];
    let wrong: Vec<_> = rows
        .iter()
        .map(|(host, status)| (host, status, world.get(host, "/many").status))
        .filter(|(_, status, got)| *status != got)
        .collect();
    assert!(wrong.is_empty(), "host, expected, got: {wrong:?}");
    world.upstream.assert_only(&["filed.cn", "n7.cn", "www.n7.cn", "e0.cn", "www.e1.cn"]);
}

#[test]
fn among_a_hundred_thousand() {
    let world = World::with(many);
    assert!(
        world.status()["filings"].as_u64().is_some_and(|filings| filings > 100_000),
        "{}",
        world.status()
    );
    check(&world);
    // And once more from what was saved.
    let World { process, dir, tls, upstream, .. } = world;
    process.terminate();
    process.ended();
    check(&World::of(&many(Setup::new(dir.path(), upstream.address)), dir, tls, upstream));
}
