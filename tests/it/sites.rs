//! As many sites as a provider has: they load within memory that grows with their number, and each is found.

use crate::world::process::command;
use beian_gate::config::Config;
use beian_gate::domain::HostForm;
use beian_gate::gate::rules::Rules;
use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;

const SITES: usize = 100_000;
/// What a site may cost while a config is checked: its text, its parsed form and what is made of it, all at once, in a
/// build for tests.
const BYTES_PER_SITE: usize = 12 << 10;
/// Upstreams that they share.
const UPSTREAMS: usize = 250;

/// Exact names and wildcards by turns.
fn host(number: usize) -> String {
    if number.is_multiple_of(2) { format!("s{number}.filed.cn") } else { format!("*.s{number}.filed.cn") }
}

fn upstream(number: usize) -> String {
    format!("http://127.0.0.1:{}", 1000 + number % UPSTREAMS)
}

fn config() -> String {
    let mut text = String::from(
        "provider = \"p\"\n[registry]\nurl = \"http://127.0.0.1:1\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n",
    );
    for number in 0..SITES {
        let (host, upstream) = (host(number), upstream(number));
        writeln!(text, "[[site]]\nhosts = [\"{host}\"]\nupstreams = [\"{upstream}\"]").unwrap();
    }
    text
}

#[test]
fn each_is_found() {
    let config = Config::parse(&config(), "f.toml").unwrap();
    assert_eq!(config.sites.len(), SITES);
    let rules = Rules::new(&config, &Default::default(), &Default::default(), &Default::default()).unwrap();
    assert_eq!(rules.endpoints.load().len(), UPSTREAMS, "sites share servers");
    let find = |name: &str| rules.routes.find(&HostForm::from_user(name).unwrap());
    for number in 0..SITES {
        let name = host(number).replace('*', "deep.www");
        let route = find(&name).unwrap_or_else(|| panic!("{name}"));
        let server = &route.target.servers.now()[0];
        assert_eq!(&*server.endpoint.label, upstream(number), "{name}");
    }
    for none in ["filed.cn", "s1.filed.cn", "www.s0.filed.cn", "s100000.filed.cn"] {
        assert!(find(none).is_none(), "{none}");
    }
}

#[test]
fn memory_grows_with_their_number() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f.toml"), config()).unwrap();
    let mut checking = command(&["config", "check", "-c", "f.toml"], dir.path());
    let mut child = checking.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most_kib = 0;
    let code = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        most_kib = most_kib.max(peak.and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(code) => break code,
            None => std::thread::park_timeout(Duration::from_millis(3)),
        }
    };
    assert!(code.success() && most_kib > 0, "{code}");
    assert!(most_kib < SITES * BYTES_PER_SITE / 1024, "{most_kib} KiB for {SITES} sites");
}
