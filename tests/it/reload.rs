//! Certificates and config that change on disk: in force without a dropped connection, or the old ones stay.

use crate::world::certs::{self, Believe};
use crate::world::process::Heir;
use crate::world::setup::Setup;
use crate::world::upstream::Upstream;
use crate::world::wire::{self, Wire};
use crate::world::{F, OWN, U, World, address, wait};
use rustls::{ClientConfig, HandshakeKind, SignatureScheme};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

/// A new pair for OWN; its certificate in DER.
fn renew(directory: &Path, file: &str) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed([OWN.to_owned()]).unwrap();
    // The certificate first: for a moment it goes with the wrong key.
    std::fs::write(directory.join(format!("{file}.crt")), made.cert.pem()).unwrap();
    std::fs::write(directory.join(format!("{file}.key")), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().to_vec()
}

fn shown_by(world: &World, config: ClientConfig) -> Vec<u8> {
    let mut stream = wire::tcp(world.https());
    let connection = certs::handshake(config, &mut stream, Some(OWN)).unwrap();
    connection.peer_certificates().unwrap()[0].to_vec()
}

#[track_caller]
fn shows(world: &World, certificate: &[u8]) {
    wait("the new certificate", || {
        (shown_by(world, world.tls.config(&["http/1.1"])) == certificate).then_some(())
    });
}

fn refused(world: &World) -> u64 {
    world.metric("beian_gate_reload_refused")
}

#[test]
fn a_renewed_certificate_is_shown_and_no_connection_notices() {
    let world = World::start();
    let mut open = world.tls(Some(OWN), &["http/1.1"]).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {OWN}\r\n\r\n");
    assert_eq!(open.send(&request).response().unwrap().status, 200);
    let certificate = renew(&world.path("certs"), "own");
    shows(&world, &certificate);
    assert_eq!(open.send(&request).response().unwrap().status, 200, "on the old certificate still");
    // One that is none leaves the old one in force, and is told of.
    std::fs::write(world.path("certs/own.crt"), "nothing").unwrap();
    wait("the refusal", || (refused(&world) == 1).then_some(()));
    let status = world.status();
    assert_eq!(status["reload"]["is_in_force"], false, "{status}");
    assert!(status["reload"]["error"].as_str().unwrap().contains("own.crt"), "{status}");
    shows(&world, &certificate);
    let certificate = renew(&world.path("certs"), "own");
    shows(&world, &certificate);
    wait("its end", || (refused(&world) == 0).then_some(()));
}

/// `..data` leads to a directory with the files, and is replaced by a rename.
#[test]
fn a_secret_is_swapped_as_kubernetes_does() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certs::make(dir.path());
    for old in ["own.crt", "own.key"] {
        std::fs::remove_file(dir.path().join("certs").join(old)).unwrap();
    }
    let secret = dir.path().join("secret");
    std::fs::create_dir_all(secret.join("..1")).unwrap();
    let first = renew(&secret.join("..1"), "tls");
    symlink("..1", secret.join("..data")).unwrap();
    for file in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{file}"), secret.join(file)).unwrap();
    }
    let upstream = Upstream::start();
    let setup = Setup::new(dir.path(), upstream.address)
        .tls("certificates = [{ cert = \"secret/tls.crt\", key = \"secret/tls.key\" }]");
    let world = World::of(&setup, dir, tls, upstream);
    shows(&world, &first);
    std::fs::create_dir(secret.join("..2")).unwrap();
    let second = renew(&secret.join("..2"), "tls");
    symlink("..2", secret.join("..data_tmp")).unwrap();
    std::fs::rename(secret.join("..data_tmp"), secret.join("..data")).unwrap();
    shows(&world, &second);
}

/// A name with keys of both kinds: who takes ECDSA gets that, who does not gets RSA, with a staple where one is given.
#[test]
fn a_certificate_for_each_kind_of_client() {
    let world = World::start();
    let certs = world.path("certs");
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let params = rcgen::CertificateParams::new([OWN.to_owned()]).unwrap();
    let rsa = params.self_signed(&key).unwrap();
    let staple = [0x30, 3, 0x0a, 1, 0];
    std::fs::write(certs.join("own-rsa.ocsp"), staple).unwrap();
    std::fs::write(certs.join("own-rsa.crt"), rsa.pem()).unwrap();
    std::fs::write(certs.join("own-rsa.key"), key.serialize_pem()).unwrap();
    let of = |schemes: &[SignatureScheme]| {
        let believe = Arc::new(Believe { schemes: schemes.to_vec(), ..Believe::default() });
        let mut config = world.tls.config(&["http/1.1"]);
        config.dangerous().set_certificate_verifier(Arc::clone(&believe) as Arc<_>);
        (config, believe)
    };
    let (config, believe) = of(&[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256]);
    wait("the RSA certificate", || {
        let mut stream = wire::tcp(world.https());
        let connection = certs::handshake(config.clone(), &mut stream, Some(OWN)).ok()?;
        (connection.peer_certificates()?[0] == *rsa.der()).then_some(())
    });
    assert_eq!(*believe.staple.lock().unwrap(), staple);
    let (config, believe) = of(&[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256]);
    assert_ne!(shown_by(&world, config), rsa.der().to_vec(), "the ECDSA one");
    assert_eq!(*believe.staple.lock().unwrap(), b"");
    assert_eq!(world.get(U, "/").status, 451);
}

/// A session begun before a reload, or in another process, is resumed.
#[test]
fn sessions_outlive_reloads_and_hand_overs() {
    let world = World::start();
    // One for all: a client resumes with the verifier that it began with.
    let config = world.tls.resuming(&["http/1.1"]);
    let kind = || {
        let mut stream = wire::tcp(world.https());
        let connection = certs::handshake(config.clone(), &mut stream, Some(F)).unwrap();
        let kind = connection.handshake_kind();
        // The ticket comes after the handshake, with the first answer.
        let mut wire = Wire::over(Box::new(rustls::StreamOwned::new(connection, stream)));
        assert_eq!(wire.send(format!("GET / HTTP/1.1\r\nHost: {F}\r\n\r\n")).response().unwrap().status, 200);
        kind
    };
    let resumed = Some(HandshakeKind::Resumed);
    assert_ne!(kind(), resumed);
    assert_eq!(kind(), resumed);
    world.process.hang_up();
    wait("the reload", || world.status()["reload"]["at"].as_str().map(drop));
    assert_eq!(kind(), resumed, "after a reload");
    world.process.signal("USR2");
    let _heir = Heir(wait("another process", || {
        let pid = wire::try_ask(world.admin, "GET", "/v1/status", "")?.json()["pid"].as_u64()?;
        u32::try_from(pid).ok().filter(|pid| *pid != world.process.pid)
    }));
    assert_eq!(world.process.ended().code(), Some(0));
    assert_eq!(kind(), resumed, "in another process");
}

#[test]
fn a_changed_config_is_read_where_asked_for() {
    let world = World::with(|setup| {
        setup
            .first("reload_on_change = true")
            .toml("[[listener]]\naddress = \"127.0.0.3:0\"\nprotocol = \"http\"")
    });
    let path = world.path("gate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, "nonsense = true").unwrap();
    wait("the refusal", || (refused(&world) == 1).then_some(()));
    world.assert_well();
    // A listener comes and one goes; the others keep their sockets.
    let gone = world.listener("http", 1);
    let changed = text.replace("127.0.0.3:0\"\nprotocol = \"http\"", "127.0.0.4:0\"\nprotocol = \"https\"");
    assert_ne!(text, changed);
    std::fs::write(&path, changed + "\n[enforcement]\nstatus = 403\n").unwrap();
    wait("the new status", || (world.get(U, "/").status == 403).then_some(()));
    wait("the port's end", || std::net::TcpStream::connect(gone).is_err().then_some(()));
    let status = world.status();
    let listeners = status["listeners"].as_array().unwrap();
    assert_eq!(listeners.len(), 3, "{status}");
    assert_eq!(listeners[0]["address"], world.http().to_string());
    let new = address(listeners[2]["address"].as_str().unwrap());
    assert!(world.tls.connect(new, Some(F), &["http/1.1"]).is_ok());
}

/// Another file, other fields, no log, and one that can't be opened; no line is lost or written twice.
#[test]
fn the_access_log_goes_elsewhere() {
    let world = World::with(|setup| setup.workers(2));
    let path = world.path("gate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let turn = |log: &str, is_good: bool| {
        let before = world.metric(&format!("beian_gate_reloads_total{{result=\"{}\"}}", named(is_good)));
        std::fs::write(&path, text.replace("access = \"access.log\"", log)).unwrap();
        world.process.hang_up();
        wait("the reload", || {
            let now = world.metric(&format!("beian_gate_reloads_total{{result=\"{}\"}}", named(is_good)));
            (now > before).then_some(())
        });
    };
    let lines = |file: &str| std::fs::read_to_string(world.path(file)).unwrap_or_default();
    let written = |file: &str, line: &str| {
        // Workers look where lines go twenty times a second: one asked for in between goes where they went.
        wait(line, || {
            world.get(F, "/turned");
            lines(file).lines().any(|it| it == line).then_some(())
        });
    };
    let mut open = world.connect();
    let request = format!("GET /first HTTP/1.1\r\nHost: {F}\r\n\r\n");
    assert_eq!(open.send(&request).response().unwrap().status, 200);
    turn("access = \"second.log\"\nfields = [\"host\", \"target\"]", true);
    written("second.log", &format!("{{\"host\":\"{F}\",\"target\":\"/turned\"}}"));
    wait("the first line where it was", || lines("access.log").contains("/first").then_some(()));
    turn("access = \"second.log\"\nfields = [\"target\"]", true);
    written("second.log", "{\"target\":\"/turned\"}");
    turn("access = \"no/such/directory/access.log\"", false);
    written("second.log", "{\"target\":\"/turned\"}");
    assert_eq!(open.send(&request).response().unwrap().status, 200, "no connection noticed");
    turn("access = \"off\"", true);
    let asked = world.metric("beian_gate_requests_total{verdict=\"allow\"}");
    assert_eq!(world.metric("beian_gate_access_log_dropped_total"), 0);
    assert!(asked > 2);
    turn("access = \"third.log\"\nformat = \"combined\"", true);
    wait("the combined format", || {
        world.get(F, "/turned");
        lines("third.log").contains("\"GET /turned HTTP/1.1\" 200 ").then_some(())
    });
    assert_eq!(world.ask("/v1/config").json()["waiting_for_a_restart"], serde_json::json!([]));
}

fn named(is_good: bool) -> &'static str {
    if is_good { "in_force" } else { "refused" }
}
