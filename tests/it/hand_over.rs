//! SIGUSR2: a new process takes over the listening sockets; clients notice nothing.

use crate::world::h2::{H2, Outcome};
use crate::world::process::{self, Heir, Process};
use crate::world::upstream::{Then, Upstream};
use crate::world::wire::{self, Wire};
use crate::world::{DEADLINE, F, G, U, World, certs, setup::Setup, wait};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Clients that ask without a pause until they are dropped.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

const REQUEST: &str = "GET /load HTTP/1.1\r\nHost: filed.cn\r\n\r\n";
const LAST: &str = "GET /load HTTP/1.1\r\nHost: filed.cn\r\nConnection: close\r\n\r\n";

impl Load {
    fn on(world: &World) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            served: Arc::default(),
            failures: Arc::default(),
            threads: Vec::new(),
        };
        let (http, https, tls) = (world.http(), world.https(), world.tls.clone());
        load.client(move || clear(http), LAST);
        load.client(move || clear(http), LAST);
        load.client(move || clear(http), REQUEST);
        load.client(move || clear(http), REQUEST);
        load.client(move || tls.connect(https, Some(F), &["http/1.1"]), REQUEST);
        load
    }

    fn client(&mut self, connect: impl Fn() -> Result<Wire, String> + Send + 'static, request: &'static str) {
        let (stop, served) = (Arc::clone(&self.stop), Arc::clone(&self.served));
        let failures = Arc::clone(&self.failures);
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Err(failure) = connect().and_then(|wire| converse(wire, request, &stop, &served)) {
                    failures.lock().unwrap().push(failure);
                }
            }
        }));
    }

    /// Waits until so many more were served.
    #[track_caller]
    fn serve(&self, more: usize) {
        let before = self.served.load(Ordering::Relaxed);
        wait("requests under load", || (self.served.load(Ordering::Relaxed) >= before + more).then_some(()));
    }

    #[track_caller]
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        assert_eq!(*self.failures.lock().unwrap(), Vec::<String>::new());
    }
}

fn clear(address: SocketAddr) -> Result<Wire, String> {
    let stream = TcpStream::connect(address).map_err(|error| format!("connecting: {error}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    Ok(Wire::over(Box::new(stream)))
}

/// Requests over one connection until one side wants no more.
fn converse(mut wire: Wire, request: &str, stop: &AtomicBool, served: &AtomicUsize) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        let response = wire.send(request).response().map_err(|lost| format!("{lost:?}"))?;
        if response.status != 200 {
            return Err(format!("{response:?}"));
        }
        served.fetch_add(1, Ordering::Relaxed);
        if response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            break;
        }
    }
    Ok(())
}

/// The process that answers.
pub fn pid(world: &World) -> u32 {
    let status = wait("/v1/status", || {
        let response = wire::try_ask(world.admin, "GET", "/v1/status", "")?;
        (response.status == 200).then(|| response.json())
    });
    u32::try_from(status["pid"].as_u64().unwrap()).unwrap()
}

/// Waits until another process than `old` answers.
#[track_caller]
pub fn heir(world: &World, old: u32) -> Heir {
    Heir(wait("another process", || Some(pid(world)).filter(|pid| *pid != old)))
}

fn workers(world: &World, from: usize, to: usize) {
    let path = world.path("gate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text.replace(&format!("workers = {from}\n"), &format!("workers = {to}\n"));
    assert_ne!(text, changed);
    std::fs::write(path, changed).unwrap();
}

#[test]
fn under_load_nobody_is_refused_whatever_the_number_of_workers() {
    let world = World::with(|setup| setup.workers(3));
    let load = Load::on(&world);
    load.serve(200);
    workers(&world, 3, 1);
    world.process.signal("USR2");
    let first = heir(&world, world.process.pid);
    load.serve(200);
    assert_eq!(world.process.ended().code(), Some(0), "{}", world.process.output());
    // The second has fewer workers than sockets; the third gets more.
    workers(&world, 1, 4);
    process::signal(first.0, "USR2");
    let _second = heir(&world, first.0);
    load.serve(200);
    load.end();
    assert_eq!(world.get(U, "/").status, 451);
    // The embedded registry and its database went along.
    world.file("later.cn", "京ICP备20000009号-1");
    world.upstream.assert_only(&[F]);
}

/// What is under way goes on in the old process, and is cut there when its name is cancelled.
#[test]
fn a_web_socket_stays_until_its_name_is_cancelled() {
    let world = World::start();
    world.upstream.echoes("/ws");
    let mut wire = world.connect();
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: {G}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    assert_eq!(wire.send(upgrade).response().unwrap().status, 101);
    world.process.signal("USR2");
    let _heir = heir(&world, world.process.pid);
    assert_eq!(wire.send("ping!").exactly(5).unwrap(), b"ping!", "it goes on");
    world.process.assert_running();
    world.put(G, &crate::world::access("京ICP备20000002号-1", "cancelled"));
    let (rest, _) = wire.rest();
    assert_eq!(rest, b"");
    assert_eq!(world.process.ended().code(), Some(0));
}

/// A binary that does not come up: the old process goes on with all that it had.
#[test]
fn a_new_process_that_fails_changes_nothing() {
    let world = World::start();
    let path = world.path("gate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let refusals = |world: &World| world.metric("beian_gate_hand_overs_failed_total");
    std::fs::write(&path, "nonsense = true").unwrap();
    world.process.signal("USR2");
    wait("the failure", || (refusals(&world) == 1).then_some(()));
    wait("word of it", || world.process.output().contains("not handed over").then_some(()));
    // This one fails after the old process left data directory and database.
    let broken = text.replace("sqlite:registry.db", "sqlite:gate.toml");
    assert_ne!(text, broken);
    std::fs::write(&path, &broken).unwrap();
    world.process.signal("USR2");
    wait("the second failure", || (refusals(&world) == 2).then_some(()));
    std::fs::write(&path, text).unwrap();
    assert_eq!(pid(&world), world.process.pid);
    world.assert_well();
    world.file("later.cn", "京ICP备20000009号-1");
    wait("a save", || {
        let status = world.status();
        (status["saved"]["seq"] == status["seq"]).then_some(())
    });
    // And then one that works.
    world.process.signal("USR2");
    let _heir = heir(&world, world.process.pid);
    world.in_force("later.cn", "allow");
}

/// What is started is what stands at the path of the running binary by now.
#[test]
fn the_binary_may_be_another_one_by_now() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certs::make(dir.path());
    let upstream = Upstream::start();
    let config = Setup::new(dir.path(), upstream.address).write();
    let binary = dir.path().join("gate");
    std::fs::hard_link(env!("CARGO_BIN_EXE_beian-gate"), &binary)
        .or_else(|_| std::fs::copy(env!("CARGO_BIN_EXE_beian-gate"), &binary).map(drop))
        .unwrap();
    let process = Process::start_binary(&binary, &["run", "-c", config.to_str().unwrap()], dir.path());
    let world = World::around(process, dir, tls, upstream);
    let other = world.path("other");
    let script = format!(
        "#!/bin/sh\ntouch {}/replaced\nexec {} \"$@\"\n",
        world.dir.path().display(),
        env!("CARGO_BIN_EXE_beian-gate")
    );
    std::fs::write(&other, script).unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&other, world.path("gate")).unwrap();
    world.process.signal("USR2");
    let _heir = heir(&world, world.process.pid);
    assert!(world.path("replaced").exists());
    assert_eq!(world.process.ended().code(), Some(0));
}

/// A service manager's side of `sd_notify`: the socket, and lines that nobody asked about yet.
struct Notified(UnixDatagram, Vec<String>);

impl Notified {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket, Vec::new())
    }

    /// Waits for that line: old and new process speak in any order.
    #[track_caller]
    fn told(&mut self, line: &str) {
        wait(line, || {
            if let Some(at) = self.1.iter().position(|one| one == line) {
                self.1.remove(at);
                return Some(());
            }
            let mut octets = [0; 4096];
            let length = self.0.recv(&mut octets).unwrap_or_else(|e| panic!("{e}: {line}: {:?}", self.1));
            self.1.extend(String::from_utf8_lossy(&octets[..length]).lines().map(str::to_owned));
            None
        });
    }
}

/// Opened by a service manager, with readiness, main process and watchdog told to it.
#[test]
fn a_service_manager_opens_the_socket_and_hears_how_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certs::make(dir.path());
    let upstream = Upstream::start();
    let opened = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = opened.local_addr().unwrap();
    let setup = Setup::new(dir.path(), upstream.address)
        .toml(&format!("[[listener]]\naddress = \"{address}\"\nprotocol = \"http\"\n"));
    let config = setup.write();
    let mut notified = Notified::at(&dir.path().join("notify"));
    let mut command = Command::new("sh");
    let script =
        "exec 3<&0 0</dev/null; LISTEN_PID=$$ WATCHDOG_PID=$$ LISTEN_FDS=1 exec \"$0\" run -c \"$1\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_beian-gate"), config.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("WATCHDOG_USEC", "150000");
    command.current_dir(dir.path()).stdin(std::os::fd::OwnedFd::from(opened));
    let process = Process::of(command);
    notified.told("READY=1");
    notified.told("WATCHDOG=1");
    let world = World::around(process, dir, tls, upstream);
    assert_eq!(world.listeners.last().unwrap().1, address);
    let over_given = |world: &World| {
        wire::ask(address, "GET", "/healthz", "").status + u16::from(world.listener("http", 1) != address)
    };
    assert_eq!(over_given(&world), 451, "an address has no filing");
    world.process.hang_up();
    notified.told("RELOADING=1");
    notified.told("READY=1");
    world.process.signal("USR2");
    notified.told("READY=1");
    let heir = heir(&world, world.process.pid);
    notified.told(&format!("MAINPID={}", heir.0));
    notified.told("WATCHDOG=1");
    assert_eq!(over_given(&world), 451, "the same socket, handed on");
    process::signal(heir.0, "TERM");
    notified.told("STOPPING=1");
}

/// At SIGTERM an HTTP/2 client is told to go while its stream goes on, which then comes to its end.
#[test]
fn the_end_over_http2() {
    let world = World::start();
    let goes_on = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&goes_on);
    world.upstream.on("/slow", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
        while !told.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(3));
        }
        exchange.send("lf");
        Then::Keep
    });
    let mut h2 = H2::start(world.tls(Some(F), &["h2"]).unwrap());
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", F), (":path", "/slow")];
    h2.request(1, &fields.map(|(name, value)| (name.into(), value.into())));
    assert_eq!(h2.outcome(1), Outcome::Status(200));
    world.process.terminate();
    h2.told_to_go();
    world.process.assert_running();
    goes_on.store(true, Ordering::Relaxed);
    assert_eq!(h2.end(1), Outcome::Status(200), "whole");
    assert_eq!(world.process.ended().code(), Some(0));
}

/// A WebSocket goes on while the gate drains, and no longer than it may.
#[test]
fn the_end_of_a_web_socket() {
    let world = World::with(|setup| setup.toml("[limits]\ndrain_timeout = \"1s\""));
    world.upstream.echoes("/ws");
    let mut wire = world.connect();
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: {G}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    assert_eq!(wire.send(upgrade).response().unwrap().status, 101);
    world.process.terminate();
    wait("the drain", || world.process.output().contains("draining").then_some(()));
    assert_eq!(wire.send("ping!").exactly(5).unwrap(), b"ping!", "it goes on");
    assert_eq!(world.process.ended().code(), Some(0));
    assert_eq!(wire.rest().0, b"");
}

/// Over one connection: the answer to what was sent while draining, and that it is the last.
#[test]
fn the_end_over_http1_answers_a_request_on_its_way() {
    let world = World::start();
    let mut wire = world.connect();
    let request = format!("GET / HTTP/1.1\r\nHost: {F}\r\n\r\n");
    assert_eq!(wire.send(&request).response().unwrap().status, 200);
    world.process.signal("USR2");
    let _heir = heir(&world, world.process.pid);
    // The old process drains, and this connection is its.
    world.process.assert_running();
    let last = wire.send(&request).response().unwrap();
    assert_eq!((last.status, last.header("connection")), (200, Some("close")), "{last:?}");
    assert_eq!(world.process.ended().code(), Some(0));
}
