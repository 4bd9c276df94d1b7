//! Unix sockets in front of the gate and behind it, and what listeners set on their sockets.

use crate::world::process::{Heir, Process};
use crate::world::wire::{self, Duplex, Wire};
use crate::world::{DEADLINE, F, U, World, certs, run, wait};
use rustls::StreamOwned;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Local(UnixStream);

impl Read for Local {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Local {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.write(octets)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Duplex for Local {
    fn half_close(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }
}

impl Duplex for StreamOwned<rustls::ClientConnection, Local> {
    fn half_close(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

fn connect(path: &Path) -> Option<Local> {
    let stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    Some(Local(stream))
}

/// A connection to the socket at that path.
#[track_caller]
fn local(path: &Path) -> Wire {
    Wire::over(Box::new(connect(path).expect("a socket that listens")))
}

fn listener(directory: &Path, name: &str, lines: &str) -> String {
    let path = directory.join(name);
    format!("[[listener]]\naddress = \"unix:{}\"\n{lines}\n", path.display())
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn listeners() {
    let world = World::with(|setup| {
        let directory = setup.directory().to_owned();
        let expects = "proxy_protocol = \"required\"\ntrusted_peers = [\"127.0.0.1\"]";
        setup
            .toml(&listener(&directory, "clear.sock", "mode = \"0600\""))
            .toml(&listener(&directory, "tls.sock", "protocol = \"https\""))
            .toml(&listener(&directory, "proxied.sock", expects))
    });
    let path = world.path("clear.sock");
    let file = std::fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket() && file.permissions().mode() & 0o777 == 0o600, "{file:?}");
    let mut wire = local(&path);
    for (host, status) in [(F, 200), (U, 451), (F, 200)] {
        assert_eq!(wire.send(get(host, "/clear")).response().unwrap().status, status, "{host}");
    }
    assert_eq!(world.upstream.arrived("/clear").header("x-forwarded-for"), Some("127.0.0.1"));
    let name = format!("unix:{}", path.display());
    wait("its lines in the log", || world.log().iter().any(|line| line["listener"] == *name).then_some(()));
    let shown = world.status()["listeners"].clone();
    assert!(shown.as_array().unwrap().iter().any(|one| one["address"] == *name), "{shown}");

    let mut stream = connect(&world.path("tls.sock")).unwrap();
    let tls = certs::handshake(world.tls.config(&["http/1.1"]), &mut stream, Some(F)).unwrap();
    let mut wire = Wire::over(Box::new(StreamOwned::new(tls, stream)));
    assert_eq!(wire.send(get(F, "/tls")).response().unwrap().status, 200);

    let mut wire = local(&world.path("proxied.sock"));
    wire.send("PROXY TCP4 192.0.2.7 192.0.2.8 5 80\r\n").send(get(F, "/proxied"));
    assert_eq!(wire.response().unwrap().status, 200);
    assert_eq!(world.upstream.arrived("/proxied").header("x-forwarded-for"), Some("192.0.2.7"));
    assert!(local(&world.path("proxied.sock")).send(get(F, "/bare")).response().is_err());
}

#[test]
fn a_file_is_taken_over_where_nobody_listens() {
    let start = |dir: &Path| {
        let setup = crate::world::setup::Setup::new(dir, "127.0.0.1:1".parse().unwrap());
        let config = setup.toml(&listener(dir, "gate.sock", "")).write();
        config.to_str().unwrap().to_owned()
    };
    let dir = tempfile::tempdir().unwrap();
    certs::make(dir.path());
    let config = start(dir.path());
    let socket = dir.path().join("gate.sock");
    let answers = || connect(&socket).map(|stream| Wire::over(Box::new(stream)));
    let asked = |wire: &mut Wire| wire.send(get("a..b", "/")).response().ok().map(|answer| answer.status);
    let first = Process::start(&["run", "-c", &config], dir.path());
    first.banner("admin");
    assert_eq!(answers().as_mut().and_then(asked), Some(400));
    first.kill();
    assert!(socket.exists() && answers().is_none(), "its file outlives it");
    let second = Process::start(&["run", "-c", &config], dir.path());
    second.banner("admin");
    assert_eq!(answers().as_mut().and_then(asked), Some(400));

    // Somebody listens: another gate has to stay away, and the first goes on.
    let other = tempfile::tempdir().unwrap();
    certs::make(other.path());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(other.path().join("gate.toml"), text).unwrap();
    let (code, _, err) = run(other.path(), &["run", "-c", "gate.toml"]);
    assert!(code == 1 && err.contains("can't listen on") && err.contains("gate.sock"), "{code} {err}");
    assert_eq!(answers().as_mut().and_then(asked), Some(400));

    second.terminate();
    second.ended();
    assert!(!socket.exists(), "who ends in order takes the file along");
    std::fs::write(&socket, "not a socket").unwrap();
    let (code, _, err) = run(dir.path(), &["run", "-c", "gate.toml"]);
    assert!(code == 1 && err.contains("no socket"), "{code} {err}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "not a socket");
}

#[test]
fn a_socket_is_handed_over() {
    let world = World::with(|setup| {
        let directory = setup.directory().to_owned();
        setup.workers(2).toml(&listener(&directory, "gate.sock", ""))
    });
    let path = world.path("gate.sock");
    let inode = std::fs::metadata(&path).unwrap().ino();
    let old = world.process.pid;
    let mut kept = local(&path);
    assert_eq!(kept.send(get(F, "/before")).response().unwrap().status, 200);
    world.process.signal("USR2");
    let heir = Heir(wait("another process", || {
        let answer = wire::try_ask(world.admin, "GET", "/v1/status", "")?;
        let pid = u32::try_from(answer.json()["pid"].as_u64()?).unwrap();
        (pid != old).then_some(pid)
    }));
    // The old one ends: whoever answers from here on is the new one.
    world.process.ended();
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode, "the very same socket");
    for turn in 0..8 {
        assert_eq!(local(&path).send(get(F, "/after")).response().unwrap().status, 200, "{turn}");
    }
    drop(heir);
}

/// A server at a path that answers every request with its own head, and counts connections.
fn server(path: &Path) -> Arc<AtomicUsize> {
    serve(path, echo)
}

/// The same over TLS, by a certificate for `localhost` alone. Gives that as well.
fn secured(path: &Path) -> (Arc<AtomicUsize>, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let config = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let config = Arc::new(config.with_single_cert(vec![made.cert.der().clone()], key).unwrap());
    let connections = serve(path, move |stream| {
        let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        echo(StreamOwned::new(tls, stream));
    });
    (connections, made.cert.pem())
}

fn serve(path: &Path, answer: impl Fn(UnixStream) + Send + Sync + 'static) -> Arc<AtomicUsize> {
    let (listener, answer) = (UnixListener::bind(path).unwrap(), Arc::new(answer));
    let connections = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || answer(stream));
        }
    });
    connections
}

fn echo(mut stream: impl Read + Write) {
    let (mut octets, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        octets.extend_from_slice(&chunk[..read]);
        if octets.ends_with(b"\r\n\r\n") {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", octets.len());
            let _ = stream.write_all(&[head.as_bytes(), &octets].concat());
            octets.clear();
        }
    }
}

#[test]
fn upstreams_over_tls() {
    let mut connections = None;
    let world = World::with(|setup| {
        let directory = setup.directory().to_owned();
        let (counted, pem) = secured(&directory.join("tls.sock"));
        connections = Some(counted);
        std::fs::write(directory.join("ca.pem"), pem).unwrap();
        let at = directory.join("tls.sock").display().to_string();
        let ca = directory.join("ca.pem").display().to_string();
        let site = |host: &str, more: &str| {
            format!(
                "[[site]]\nhosts = [\"{host}.filed.cn\"]\nupstreams = [\"https+unix:{at}\"]\n\
                 [site.tls]\nca_file = \"{ca}\"\n{more}\n"
            )
        };
        setup
            .toml(&site("secured", "[site.health]\ninterval = \"1h\""))
            .toml(&site("misnamed", "server_name = \"app.internal\""))
    });
    let mut wire = world.connect();
    for turn in 0..3 {
        let answer = wire.send(get("secured.filed.cn", "/")).response().unwrap();
        assert!(answer.text().contains("host: secured.filed.cn\r\n"), "{turn}: {answer:?}");
    }
    wait("its check", || {
        let shown = world.ask("/metrics").text();
        shown
            .lines()
            .any(|it| it.contains("checks_passed_total{upstream=\"https+unix:") && it.ends_with(" 1"))
            .then_some(())
    });
    assert_eq!(connections.unwrap().load(Ordering::SeqCst), 2, "one is kept, one was the check's");
    let answer = world.get("misnamed.filed.cn", "/");
    assert_eq!((answer.status, answer.verdict()), (502, "upstream_error"));
}

#[test]
fn upstreams() {
    let mut connections = None;
    let world = World::with(|setup| {
        let directory = setup.directory().to_owned();
        connections = Some(server(&directory.join("app.sock")));
        let at = |name: &str| format!("unix:{}", directory.join(name).display());
        let site = |host: &str, upstream: &str, more: &str| {
            format!("[[site]]\nhosts = [\"{host}.filed.cn\"]\nupstreams = [\"{upstream}\"]\n{more}\n")
        };
        setup
            .toml(&site("local", &at("app.sock"), ""))
            .toml(&site("announced", &at("app.sock"), "proxy_protocol = \"v1\""))
            .toml(&site("gone", &at("gone.sock"), ""))
            // TLS that passes through to the gate's own listener.
            .toml(&listener(&directory, "tls.sock", "protocol = \"https\""))
            .listener("tls_passthrough", &format!("upstreams = [\"tcp+{}\"]", at("tls.sock")))
    });
    let connections = connections.unwrap();
    let mut wire = world.connect();
    for turn in 0..3 {
        let answer = wire.send(get("local.filed.cn", "/")).response().unwrap();
        assert!(answer.text().contains("host: local.filed.cn\r\n"), "{turn}: {answer:?}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1, "it is kept");
    let answer = world.get("announced.filed.cn", "/");
    assert!(answer.text().starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "), "{answer:?}");
    let answer = world.get("gone.filed.cn", "/");
    assert_eq!((answer.status, answer.verdict()), (502, "upstream_error"));
    let shown = world.ask("/v1/upstreams").text();
    assert!(shown.contains(&format!("[\"{}\"]", world.path("app.sock").display())), "{shown}");
    let through = world.listener("tls_passthrough", 0);
    let mut wire = world.tls.connect(through, Some(F), &["http/1.1"]).unwrap();
    assert_eq!(wire.send(get(F, "/through")).response().unwrap().status, 200);
}

#[test]
fn what_is_agreed_on() {
    let world = World::with(|setup| setup.listener("https", "alpn = [\"http/1.1\"]"));
    let address = world.listener("https", 1);
    let shake = |offered: &[&str]| {
        let mut stream = wire::tcp(address);
        let tls = certs::handshake(world.tls.config(offered), &mut stream, Some(F))?;
        Ok::<_, String>(tls.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(shake(&["h2", "http/1.1"]), Ok(Some(b"http/1.1".to_vec())));
    assert_eq!(shake(&[]), Ok(None));
    assert!(shake(&["h2"]).is_err());
    let mut wire = world.tls.connect(address, Some(F), &["h2", "http/1.1"]).unwrap();
    assert_eq!(wire.send(get(F, "/")).response().unwrap().status, 200);
}

/// One socket for both families; an IPv4 client is seen as one.
#[test]
fn dual_stack() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let lines = "[[listener]]\naddress = \"[::]:0\"\nipv6_only = false\ndeny = [\"192.0.2.0/24\"]\n\
                 tcp_keepalive = { idle = \"60s\", probes = 3 }\ntcp_user_timeout = \"30s\"\nbacklog = 128\n";
    let world = World::with(|setup| setup.toml(lines));
    let port = world.listener("http", 1).port();
    for (address, seen) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")] {
        let address: SocketAddr = format!("{address}:{port}").parse().unwrap();
        let path = format!("/from-{}", address.is_ipv4());
        assert_eq!(Wire::clear(address).send(get(F, &path)).response().unwrap().status, 200);
        assert_eq!(world.upstream.arrived(&path).header("x-forwarded-for"), Some(seen));
    }
}

#[test]
fn what_is_no_place_to_listen() {
    let dir = tempfile::tempdir().unwrap();
    let check = |lines: &str, part: &str| {
        let text = format!("provider = \"p\"\n[[listener]]\n{lines}\n[registry.embedded]\n");
        std::fs::write(dir.path().join("a.toml"), text).unwrap();
        let (code, out, err) = run(dir.path(), &["config", "check", "-c", "a.toml"]);
        assert!(code == 2 && err.contains(part), "{lines}: {out}{err}");
    };
    check("address = \"unix:gate.sock\"", "give a whole path");
    check("address = \"unix:/tmp/a.sock\"\nmode = \"rw\"", "write one in octal");
    check("address = \"unix:/tmp/a.sock\"\nowner = \"no such user\"", "knows no");
    check("address = \"unix:/tmp/a.sock\"\ntcp_user_timeout = \"1s\"", "knows no such thing");
    check("address = \"127.0.0.1:0\"\nmode = \"0600\"", "goes with a Unix socket");
    check("address = \"127.0.0.1:0\"\nipv6_only = true", "goes with an IPv6 address");
    check("address = \"127.0.0.1:0\"\nalpn = [\"h2\"]", "only an https listener");
    check("address = \"127.0.0.1:0\"\nbacklog = 0", "out of range");
    check("address = \"127.0.0.1:0\"\ntcp_keepalive = \"1ms\"", "whole seconds");
    check("address = \"127.0.0.1:0\"\ntcp_keepalive = { probe = 3 }", "did you mean \"probes\"");
}
