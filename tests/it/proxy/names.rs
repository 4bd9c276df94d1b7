//! Upstreams that have names: all their addresses are servers, looked up anew while the gate runs.

use crate::world::dns::{Dns, Says};
use crate::world::upstream::Upstream;
use crate::world::{World, run, wait};
use std::collections::BTreeSet;
use std::net::SocketAddr;

const HOST: &str = "named.filed.cn";
const NAME: &str = "app.upstreams.example";

/// Servers at these addresses, all on one port.
fn servers(addresses: &[&str]) -> Vec<Upstream> {
    loop {
        let first = Upstream::at(SocketAddr::new(addresses[0].parse().unwrap(), 0)).unwrap();
        let port = first.address.port();
        let at = |ip: &&str| Upstream::at(SocketAddr::new(ip.parse().unwrap(), port)).ok();
        let others: Option<Vec<_>> = addresses[1..].iter().map(at).collect();
        // Somebody else may have the port at another address: another one then.
        if let Some(others) = others {
            return std::iter::once(first).chain(others).collect();
        }
    }
}

fn world(dns: &Dns, port: u16, more: &str) -> World {
    let tables = format!(
        "[dns]\nservers = [\"{}\"]\nmin_ttl = \"20ms\"\nmax_ttl = \"50ms\"\ntimeout = \"5s\"\n\
         [[site]]\nhosts = [\"{HOST}\"]\nupstreams = [\"http://{NAME}:{port}\"]\nbalance = \"round_robin\"\n{more}",
        dns.address
    );
    World::with(|setup| setup.toml(&tables))
}

/// The addresses that the gate uses for the name.
fn used(world: &World) -> BTreeSet<String> {
    let list = world.ask("/v1/upstreams").json();
    let rows = list["upstreams"].as_array().unwrap().iter();
    let of_name = rows.filter(|row| row["upstream"].as_str().unwrap().contains(NAME));
    of_name.map(|row| row["addresses"][0].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn until_used(world: &World, upstreams: &[&Upstream]) {
    let expected: BTreeSet<_> = upstreams.iter().map(|one| one.address.to_string()).collect();
    wait("the name's addresses", || (used(world) == expected).then_some(()));
}

#[track_caller]
fn get(world: &World, count: usize) {
    for _ in 0..count {
        assert_eq!(world.get(HOST, "/").status, 200);
    }
}

#[test]
fn every_address_is_a_server_and_changes_are_followed() {
    let all = servers(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    let dns = Dns::start();
    dns.has(NAME, &["127.0.0.2", "127.0.0.1"]);
    let world = world(&dns, all[0].address.port(), "");
    assert_eq!(used(&world).len(), 2);
    get(&world, 6);
    let served = || all.iter().map(|one| one.requests().len()).collect::<Vec<_>>();
    assert_eq!(served(), [3, 3, 0]);
    dns.has(NAME, &["127.0.0.3"]);
    until_used(&world, &[&all[2]]);
    get(&world, 4);
    assert_eq!(served(), [3, 3, 4], "what is gone gets nothing, over kept connections neither");
    assert!(world.metric("beian_gate_dns_changes_total") >= 1);
    dns.has(NAME, &["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    until_used(&world, &[&all[0], &all[1], &all[2]]);
    get(&world, 6);
    assert_eq!(served(), [5, 5, 6]);
}

/// Nobody answers, there is no such name, it has no address: the last addresses hold on, over a reload too.
#[test]
fn the_last_good_answer_holds_on() {
    let all = servers(&["127.0.0.1", "127.0.0.2"]);
    let dns = Dns::start();
    dns.has(NAME, &["127.0.0.1"]);
    let world = world(&dns, all[0].address.port(), "");
    for says in [Says::Failed, Says::NoSuchName, Says::Addresses(Vec::new())] {
        dns.says(NAME, says);
        let before = world.metric("beian_gate_dns_failures_total");
        wait("two failures more", || {
            (world.metric("beian_gate_dns_failures_total") > before + 1).then_some(())
        });
        get(&world, 3);
    }
    world.process.hang_up();
    let reload =
        wait("the reload", || Some(world.status()["reload"].clone()).filter(|it| it["at"].is_string()));
    assert_eq!(reload["is_in_force"], true, "{reload}");
    get(&world, 3);
    assert_eq!(all[0].requests().len(), 12);
    dns.has(NAME, &["127.0.0.2"]);
    until_used(&world, &[&all[1]]);
    get(&world, 1);
    assert_eq!(all[1].requests().len(), 1);
}

/// IPv6 by name and by address; a machine without it has nothing to show here.
#[test]
fn ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let all = servers(&["::1", "127.0.0.1"]);
    let dns = Dns::start();
    dns.has(NAME, &["::1", "127.0.0.1"]);
    let port = all[0].address.port();
    let more = format!("[[site]]\nhosts = [\"six.filed.cn\"]\nupstreams = [\"http://[::1]:{port}\"]");
    let world = world(&dns, port, &more);
    get(&world, 4);
    assert_eq!((all[0].requests().len(), all[1].requests().len()), (2, 2));
    assert_eq!(world.get("six.filed.cn", "/").status, 200);
    assert_eq!(all[0].requests().len(), 3);
}

#[test]
fn config_check_looks_up() {
    let dns = Dns::start();
    dns.has(NAME, &["192.0.2.7"]);
    let dir = tempfile::tempdir().unwrap();
    let config = |name: &str| {
        let text = format!(
            "provider = \"p\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[registry.embedded]\n\
             [dns]\nservers = [\"{}\"]\n[default_site]\nupstreams = [\"http://{name}\"]\n",
            dns.address
        );
        std::fs::write(dir.path().join("gate.toml"), text).unwrap();
        run(dir.path(), &["config", "check", "-c", "gate.toml"])
    };
    let (code, out, _) = config(NAME);
    assert!(code == 0 && out.contains(&format!("http://{NAME}:80 is 192.0.2.7")), "{code} {out}");
    let (code, out, _) = config("other.upstreams.example");
    assert!(code == 2 && out.contains("does not resolve: it has no address"), "{code} {out}");
}
