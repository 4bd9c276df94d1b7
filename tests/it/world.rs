//! Everything on port 0, in a directory of its own: the gate, its embedded registry, a recording upstream.
//!
//! Knows the contract's names only: the banner, `/v1/status`, `/readyz`, the registry API.

pub mod authority;
pub mod browser;
pub mod certs;
pub mod dns;
pub mod frames;
pub mod h2;
pub mod h2_upstream;
pub mod hello;
pub mod postgres;
pub mod process;
pub mod scripted;
pub mod setup;
pub mod upstream;
pub mod wire;

use process::Process;
use serde_json::{Value, json};
use setup::Setup;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use upstream::Upstream;
use wire::{Response, Wire};

/// Filed, connected here, has a site and a certificate (with everything below it).
pub const F: &str = "filed.cn";
/// As F, another filing, on the same certificate.
pub const G: &str = "also-filed.cn";
/// As F, with a certificate of its own.
pub const OWN: &str = "own-cert.cn";
/// Nothing is known about it, and no certificate names it.
pub const U: &str = "unfiled.cn";
/// Nothing is known about it, but F's certificate names it.
pub const UC: &str = "unfiled-cert.cn";
/// Two units under one wildcard certificate: the first connected, the second cancelled.
pub const UNIT: &str = "one.town.gov.cn";
pub const UNIT_CANCELLED: &str = "two.town.gov.cn";

pub const PROVIDER: &str = "example-cloud";
/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long a condition that must come true is waited for: a busy machine is no reason to fail.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until `ready` answers, or fails after `PATIENCE` with `what`.
#[track_caller]
pub fn wait<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(since.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(3));
    }
}

pub struct World {
    pub process: Process,
    pub upstream: Upstream,
    pub tls: certs::Client,
    /// In the config's order: protocol and address.
    pub listeners: Vec<(String, SocketAddr)>,
    pub admin: SocketAddr,
    /// Absent where the gate follows a registry elsewhere.
    pub registry: Option<SocketAddr>,
    pub dir: TempDir,
}

impl World {
    pub fn start() -> Self {
        Self::with(|setup| setup)
    }

    pub fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tls = certs::make(dir.path());
        let upstream = Upstream::start();
        let setup = change(Setup::new(dir.path(), upstream.address));
        Self::of(&setup, dir, tls, upstream)
    }

    /// As `with`, for a start in a directory that an earlier world left.
    pub fn of(setup: &Setup, dir: TempDir, tls: certs::Client, upstream: Upstream) -> Self {
        let config = setup.write();
        let command = process::command(&["run", "-c", config.to_str().unwrap()], dir.path());
        Self::by(command, setup, dir, tls, upstream)
    }

    /// The same by a command of one's own, for a config that is written.
    pub fn by(command: Command, setup: &Setup, dir: TempDir, tls: certs::Client, upstream: Upstream) -> Self {
        let world = Self::around(Process::of(command), dir, tls, upstream);
        let registry = world.registry.filter(|_| setup.embedded);
        let world = Self { registry, ..world };
        world.fill(setup);
        world
    }

    /// Of a process that runs already.
    pub fn around(process: Process, dir: TempDir, tls: certs::Client, upstream: Upstream) -> Self {
        let admin = address(&process.banner("admin"));
        let status = wait("/v1/status", || {
            process.assert_running();
            let response = ask_as_operator(admin, "/v1/status")?;
            (response.status == 200).then(|| response.json())
        });
        let listeners = status["listeners"].as_array().expect("listeners in /v1/status");
        let listeners = listeners.iter().filter(|one| !text(&one["address"]).starts_with("unix:"));
        let listeners =
            listeners.map(|one| (text(&one["protocol"]), address(&text(&one["address"])))).collect();
        let registry = status["registry"].as_str().map(address);
        Self { process, upstream, tls, listeners, admin, registry, dir }
    }

    fn fill(&self, setup: &Setup) {
        if setup.wait_ready {
            wait("/readyz", || {
                self.process.assert_running();
                (self.ask("/readyz").status == 200).then_some(())
            });
        }
        if self.registry.is_none() {
            return;
        }
        for (domain, document) in &setup.filings {
            self.put(domain, document);
        }
        if let (Some((last, _)), true) = (setup.filings.last(), setup.wait_ready) {
            wait("the filings in force", || (self.verdict(last)["verdict"] != "unfiled").then_some(()));
        }
    }

    /// Where the nth listener of that protocol listens.
    #[track_caller]
    pub fn listener(&self, protocol: &str, nth: usize) -> SocketAddr {
        let mut of_protocol = self.listeners.iter().filter(|(one, _)| one == protocol);
        of_protocol.nth(nth).unwrap_or_else(|| panic!("no {protocol} listener {nth}: {:?}", self.listeners)).1
    }

    pub fn http(&self) -> SocketAddr {
        self.listener("http", 0)
    }

    pub fn https(&self) -> SocketAddr {
        self.listener("https", 0)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Opens a connection to the plain listener.
    pub fn connect(&self) -> Wire {
        Wire::clear(self.http())
    }

    /// A TLS connection, handshake done; the alert or I/O error where there is none.
    pub fn tls(&self, sni: Option<&str>, alpn: &[&str]) -> Result<Wire, String> {
        self.tls.connect(self.https(), sni, alpn)
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn get(&self, host: &str, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// Raw bytes on a connection of their own, and the first response to them.
    #[track_caller]
    pub fn send(&self, bytes: &str) -> Response {
        self.connect().send(bytes).response().unwrap()
    }

    /// A GET to the admin listener.
    #[track_caller]
    pub fn ask(&self, path: &str) -> Response {
        wait(path, || ask_as_operator(self.admin, path))
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        self.ask("/v1/status").json()
    }

    /// A metric that has no labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.ask("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// What the gate says about a host.
    #[track_caller]
    pub fn verdict(&self, host: &str) -> Value {
        let answer = self.ask(&format!("/v1/verdict?host={host}")).json();
        // One host or a list of one: both are `check --json`.
        answer.as_array().and_then(|list| list.first().cloned()).unwrap_or(answer)
    }

    /// PUT to the registry; not yet in force.
    #[track_caller]
    pub fn put(&self, domain: &str, document: &Value) {
        put(self.registry.expect("an embedded registry"), domain, document);
    }

    /// Files `domain` with an active access here, and waits until the gate knows.
    #[track_caller]
    pub fn file(&self, domain: &str, number: &str) {
        self.put(domain, &connected(number));
        self.in_force(domain, "allow");
    }

    /// Cancels the access here, and waits until the gate knows.
    #[track_caller]
    pub fn cancel(&self, domain: &str, number: &str) {
        self.put(domain, &access(number, "cancelled"));
        self.in_force(domain, "access_cancelled");
    }

    #[track_caller]
    pub fn delete(&self, domain: &str) {
        let registry = self.registry.expect("an embedded registry");
        let response = wire::ask(registry, "DELETE", &format!("/v1/filings/{domain}"), "");
        assert!(response.status < 300, "DELETE {domain}: {response:?}");
    }

    /// Waits until the gate gives `host` that verdict.
    #[track_caller]
    pub fn in_force(&self, host: &str, verdict: &str) {
        let is = |answer: &Value| {
            answer["verdict"] == verdict || (verdict == "allow" && answer["verdict"] == "no_site")
        };
        wait(&format!("{host} to be {verdict}"), || is(&self.verdict(host)).then_some(()));
    }

    /// A normal request for F is served, by the process that was started.
    #[track_caller]
    pub fn assert_well(&self) {
        self.process.assert_running();
        let response = self.get(F, "/well");
        assert_eq!(response.status, 200, "a normal request for F: {response:?}");
    }

    /// The access log's lines so far.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("access.log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

#[track_caller]
pub fn put(registry: SocketAddr, domain: &str, document: &Value) {
    let response = wire::ask(registry, "PUT", &format!("/v1/filings/{domain}"), &document.to_string());
    assert!(response.status < 300, "PUT {domain} {document}: {response:?}");
}

/// A GET to the admin listener, with the token that it may ask for.
fn ask_as_operator(admin: SocketAddr, path: &str) -> Option<Response> {
    let token = format!("Authorization: Bearer {}\r\n", setup::ADMIN_TOKEN);
    wire::try_ask_with(admin, ("GET", path), &token, "")
}

/// The document of a site that is connected here.
pub fn connected(number: &str) -> Value {
    access(number, "active")
}

pub fn access(number: &str, state: &str) -> Value {
    json!({ "number": number, "access": { PROVIDER: state } })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

/// `http://127.0.0.1:80/`, `127.0.0.1:80` → the socket address.
#[track_caller]
pub fn address(url: &str) -> SocketAddr {
    let bare = url.rsplit("://").next().unwrap().trim_end_matches('/');
    bare.parse().unwrap_or_else(|e| panic!("{url}: {e}"))
}

/// Runs the binary to its end: exit code, stdout, stderr.
#[track_caller]
pub fn run(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let name = |stream: &str| directory.join(format!(".{stream}-{:?}", std::thread::current().id()));
    let (out, err) = (name("out"), name("err"));
    let mut command = process::command(arguments, directory);
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut child = command.spawn().unwrap();
    let since = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if since.elapsed() < DEADLINE => std::thread::park_timeout(Duration::from_millis(3)),
            None => {
                let _ = child.kill();
                break child.wait().unwrap();
            }
        }
    };
    let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    (status.code().unwrap_or(-1), text(&out), text(&err))
}
