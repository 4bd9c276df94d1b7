//! How soon a change is in force everywhere: `cargo bench --bench followers -- --followers 50 --filings 10000000`.
//!
//! Starts a registry with that many filings, one gate that follows it, and light followers that read the feed,
//! keep nothing but their position, and acknowledge. Then single changes at random times: from the commit (the
//! API's answer) to the last light follower having it, and to the gate enforcing it. Then one write of 100,000
//! changes, while the gate serves at a fixed rate. All of it is on one machine, whose cores are shared: while
//! requests are measured, registry and light followers, which stand for other machines, run when nobody else wants to.
//! `--changes N` and `--rate N` say how many single changes, and how many requests a second.

#![allow(clippy::print_stdout, reason = "what it measures is what it prints")]
#![allow(clippy::unwrap_used, reason = "a measurement that can't be made has nothing to say")]

#[allow(dead_code, reason = "shared with another bench, which uses the rest")]
mod domains;
#[path = "followers/light.rs"]
mod light;
#[path = "followers/load.rs"]
mod load;
#[path = "followers/process.rs"]
mod process;

use domains::Numbers;
use light::Light;
use load::{Load, Wire};
use process::{Process, Threads, memory_kib, run_to_end};
use reqwest::Client;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const PROVIDER: &str = "example-cloud";
/// Changes in the burst: the most that one write may bring without beginning a new epoch.
const BURST: u64 = 100_000;
/// How long the gate's requests are measured without a burst.
const WINDOW: Duration = Duration::from_secs(5);
/// What takes longer is not going to happen.
const DEADLINE: Duration = Duration::from_secs(900);

struct Arguments {
    followers: u64,
    filings: u64,
    changes: u64,
    rate: u64,
}

struct World {
    client: Client,
    registry: String,
    gate: SocketAddr,
    gate_pid: u32,
    registry_pid: u32,
    light: Vec<Light>,
}

fn main() {
    let arguments = arguments();
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), arguments.filings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(directory.path(), &arguments));
}

fn arguments() -> Arguments {
    let given: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        let at = given.iter().position(|it| it == name);
        at.map_or(default, |at| given.get(at + 1).and_then(|it| it.parse().ok()).expect("a number follows"))
    };
    Arguments {
        followers: number("--followers", 50),
        filings: number("--filings", 100_000),
        changes: number("--changes", 200),
        rate: number("--rate", 2000),
    }
}

/// The `PUT` body of a filing.
fn document(index: u64, access: &str) -> Value {
    let number = domains::record(index).number.expect("every record has one").to_string();
    json!({ "number": number, "access": { PROVIDER: access } })
}

/// Fills a database, as an operator does.
fn fill(directory: &Path, filings: u64) {
    let config = format!(
        "provider = \"{PROVIDER}\"\n[registry.embedded]\naddress = \"127.0.0.1:0\"\ndatabase = \"sqlite:registry.db\"\n"
    );
    std::fs::write(directory.join("registry.toml"), config).unwrap();
    let path = directory.join("filings.csv");
    let mut out = BufWriter::new(std::fs::File::create(&path).unwrap());
    out.write_all(b"domain,number,access\n").unwrap();
    for index in 0..filings {
        let number = domains::record(index).number.expect("every record has one");
        writeln!(out, "{},{number},{PROVIDER}=active", domains::filed(index)).unwrap();
    }
    out.flush().unwrap();
    drop(out);
    let since = Instant::now();
    let most = run_to_end(&["registry", "import", "filings.csv", "-c", "registry.toml"], directory);
    println!("import of {filings} filings: {:.1?}, {most} KiB at its peak", since.elapsed());
    std::fs::remove_file(path).unwrap();
}

async fn measure(directory: &Path, arguments: &Arguments) {
    let registry = Process::start(&["registry", "serve", "-c", "registry.toml"], directory);
    let url = registry.url("registry");
    let client = Client::builder().no_proxy().build().unwrap();
    let before = registry.cpu();
    let (since, octets) = (Instant::now(), snapshot(&client, &url).await);
    println!(
        "first snapshot, made on demand: {:.1?} ({:.1?} CPU), {:.2} octets a filing",
        since.elapsed(),
        registry.cpu() - before,
        octets as f64 / arguments.filings.max(1) as f64
    );
    let since = Instant::now();
    snapshot(&client, &url).await;
    println!("the same again: {:.1?}", since.elapsed());

    let config = format!(
        "provider = \"{PROVIDER}\"\nworkers = 1\n[[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
         [registry]\nurl = \"{url}\"\n[cache]\ndirectory = \"state\"\n[log]\naccess = \"off\"\n\
         [admin]\naddress = \"127.0.0.1:0\"\n"
    );
    let resident = |gate: &Process| memory_kib(gate.pid(), "VmRSS:").unwrap();
    let nowhere = config.replace(&url, "http://127.0.0.1:9").replace("\"state\"", "\"empty\"");
    std::fs::write(directory.join("gate.toml"), nowhere).unwrap();
    let gate = Process::start(&["run", "-c", "gate.toml"], directory);
    gate.url("admin");
    println!("gate without filings resident: {} KiB", resident(&gate));
    drop(gate);
    std::fs::write(directory.join("gate.toml"), config).unwrap();
    let since = Instant::now();
    let gate = Process::start(&["run", "-c", "gate.toml"], directory);
    let ready = format!("{}/readyz", gate.url("admin"));
    until(async || client.get(&ready).send().await.is_ok_and(|it| it.status().is_success())).await;
    println!("gate ready, from nothing: {:.1?}", since.elapsed());
    println!("gate resident: {} KiB after that", resident(&gate));

    let address = gate.url("http").trim_start_matches("http://").parse().unwrap();
    let mut light = Vec::new();
    for number in 1..arguments.followers {
        light.push(Light::start(client.clone(), url.clone(), number).await);
    }
    let (gate_pid, registry_pid) = (gate.pid(), registry.pid());
    let world = World { client: client.clone(), registry: url, gate: address, gate_pid, registry_pid, light };
    single_changes(&world, arguments).await;
    write_alone(&world).await;
    println!("gate resident: {} KiB after single changes", resident(&gate));
    burst(&world, arguments.rate).await;
    let followers: Value =
        world.get("/v1/feed/followers").await.json().await.expect("the registry lists followers");
    let in_step =
        followers["followers"].as_array().unwrap().iter().filter(|it| it["in_step"] == true).count();
    println!("acknowledged and in step: {in_step}");
    drop(gate);
    let since = Instant::now();
    let gate = Process::start(&["run", "-c", "gate.toml"], directory);
    let ready = format!("{}/readyz", gate.url("admin"));
    until(async || client.get(&ready).send().await.is_ok_and(|it| it.status().is_success())).await;
    println!("gate started again, ready: {:.2?}, resident {} KiB", since.elapsed(), resident(&gate));
}

async fn snapshot(client: &Client, url: &str) -> usize {
    let url = format!("{url}/v1/feed/snapshot?provider={PROVIDER}");
    let (mut octets, since) = (0, Instant::now());
    loop {
        assert!(since.elapsed() < DEADLINE, "no snapshot");
        let mut response = client.get(&url).send().await.unwrap();
        if !response.status().is_success() {
            // It is being made, and asked for again.
            continue;
        }
        while let Some(piece) = response.chunk().await.unwrap() {
            octets += piece.len();
        }
        return octets;
    }
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !is_so().await {
        assert!(since.elapsed() < DEADLINE, "it does not come to be so");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl World {
    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.registry)).send().await.unwrap()
    }

    /// When the last light follower had this change.
    async fn all_light_have(&self, seq: u64) -> Instant {
        let mut last = None;
        for light in &self.light {
            last = last.max(Some(light.reached(seq).await));
        }
        last.unwrap_or_else(Instant::now)
    }

    /// Asks the gate until a name is blocked or not, on a thread of its own; says when it was.
    fn probe(&self, host: String, is_blocked: bool) -> tokio::task::JoinHandle<Instant> {
        let gate = self.gate;
        tokio::task::spawn_blocking(move || {
            let (mut wire, since) = (Wire::connect(gate), Instant::now());
            loop {
                let asked = Instant::now();
                if (wire.status(&host) == Some(451)) == is_blocked {
                    return asked;
                }
                assert!(since.elapsed() < DEADLINE, "{host} is not enforced");
            }
        })
    }
}

async fn single_changes(world: &World, arguments: &Arguments) {
    let (mut numbers, mut light, mut gate) = (Numbers(7), Vec::new(), Vec::new());
    for _ in 0..arguments.changes {
        tokio::time::sleep(Duration::from_millis(numbers.below(50))).await;
        let index = numbers.below(arguments.filings);
        let name = domains::filed(index);
        // The other way round than it is: an earlier change may have been to this name's site.
        let filed = world.get(&format!("/v1/filings/{name}?provider={PROVIDER}")).await;
        let was: Value = filed.json().await.unwrap();
        let is_cancelled = was["status"] == "connected";
        let probe = world.probe(name.clone(), is_cancelled);
        let body = document(index, if is_cancelled { "cancelled" } else { "active" });
        let request = world.client.put(format!("{}/v1/filings/{name}", world.registry)).json(&body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let committed = Instant::now();
        let seq = answer["seq"].as_u64().expect("it was changed");
        light.push(world.all_light_have(seq).await.saturating_duration_since(committed));
        gate.push(probe.await.unwrap().saturating_duration_since(committed));
    }
    distribution("single change, last light follower", light);
    distribution("single change, the gate", gate);
}

/// Many new names in one write; says when it was committed.
async fn write_many(world: &World, prefix: &str, first_number: u64) -> Instant {
    let mut lines = String::new();
    for n in 0..BURST {
        let number = first_number + n;
        let access = format!("{{\"{PROVIDER}\":\"active\"}}");
        writeln!(
            lines,
            "{{\"domain\":\"{prefix}-{n}.cn\",\"number\":\"京ICP备{number}号-1\",\"access\":{access}}}"
        )
        .unwrap();
    }
    let url = format!("{}/v1/filings:batch?atomic=true", world.registry);
    let answer = world.client.post(url).body(lines).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    Instant::now()
}

/// Waits until the last of the burst is everywhere: with the light followers, and enforced by the gate.
async fn spread(world: &World, prefix: &str, committed: Instant) {
    let name = format!("{prefix}-{}.cn", BURST - 1);
    let filed = world.get(&format!("/v1/filings/{name}")).await;
    let seq = filed.json::<Value>().await.unwrap()["seq"].as_u64().unwrap();
    let probe = world.probe(name, false);
    let (light, gate) = (world.all_light_have(seq).await, probe.await.unwrap());
    println!(
        "from the commit of {BURST} changes: last light follower {:.2?}, the gate {:.2?}",
        light.saturating_duration_since(committed),
        gate.saturating_duration_since(committed)
    );
}

async fn write_alone(world: &World) {
    let sent = Instant::now();
    let committed = write_many(world, "alone", 30_000_000).await;
    println!("a write of {BURST} changes, nothing else being done: {:.2?}", committed - sent);
    spread(world, "alone", committed).await;
}

async fn burst(world: &World, rate: u64) {
    let load = Load::start(world.gate, world.gate_pid, domains::filed(0), rate);
    process::step_aside(world.registry_pid, &Threads::All);
    // The thread that asks, and the probe's, go on as they are.
    process::step_aside(std::process::id(), &Threads::First);
    let quiet = async || load.window(tokio::time::sleep(WINDOW)).await.0;
    quiet().await.print("gate without a burst");
    let (committing, committed) = load.window(write_many(world, "burst", 40_000_000)).await;
    committing.print("gate while the burst is being committed");
    // Its own requests are the only ones, and the second is longer than the followers need.
    let (following, ()) = load.window(tokio::time::sleep(Duration::from_secs(1))).await;
    following.print("gate in the second after the commit");
    assert!(committed.elapsed() > Duration::from_secs(1));
    quiet().await.print("gate after it");
}

fn distribution(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at =
        |share: usize| times.get((times.len().saturating_sub(1)) * share / 100).copied().unwrap_or_default();
    println!("{what}: p50 {:.1?}, p99 {:.1?}, max {:.1?} ({} changes)", at(50), at(99), at(100), times.len());
}
