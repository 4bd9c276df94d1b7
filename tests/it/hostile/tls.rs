//! Section 6: what a TLS client says about the name, and what it then asks for.

use crate::world::certs;
use crate::world::hello::{self, Answer, Cut, Cutting, Hello, SERVER_NAME};
use crate::world::wire::{self, Lost, Response, Wire};
use crate::world::{F, G, OWN, U, UC, UNIT, UNIT_CANCELLED, World};
use rustls::StreamOwned;

/// Fatal alert `unrecognized_name`.
const UNRECOGNIZED: Answer = Answer::Alert(112);

fn get(wire: &mut Wire, host: &str) -> Response {
    wire.send(format!("GET /tls HTTP/1.1\r\nHost: {host}\r\n\r\n")).response().unwrap()
}

/// A hello as rustls sends it, with any name in it.
pub(super) fn hello(world: &World, sni: &[u8]) -> Hello {
    Hello::of(world.tls.config(&["h2", "http/1.1"]), Some(F)).names(&[(0, sni)])
}

#[track_caller]
fn check(world: &World, rows: &[(Option<&str>, &str, &[u16])]) {
    for (sni, host, statuses) in rows {
        let mut wire = world.tls(*sni, &["http/1.1"]).unwrap_or_else(|e| panic!("{sni:?}: {e}"));
        let response = get(&mut wire, host);
        assert!(statuses.contains(&response.status), "{sni:?} {host}: {response:?}");
        assert_eq!(response.status != 200, !response.verdict().is_empty(), "{response:?}");
    }
    let allowed: Vec<&str> = rows.iter().filter(|row| row.2.contains(&200)).map(|row| row.1).collect();
    world.upstream.assert_only(&allowed);
    world.assert_well();
}

#[test]
fn sni_and_host() {
    let world = World::start();
    check(
        &world,
        &[
            (Some(F), F, &[200]),
            (Some(F), "www.filed.cn", &[200]),
            (Some("www.filed.cn"), F, &[200]),
            (Some("FILED.CN"), F, &[200]),
            (Some(G), G, &[200]),
            (Some(OWN), OWN, &[200]),
            (Some(UNIT), UNIT, &[200]),
            (Some(F), "a.b.filed.cn", &[421]),
            (Some(F), U, &[421, 451]),
            (Some(F), UC, &[421, 451]),
            (Some(F), G, &[421]),
            (Some(G), F, &[421]),
            (Some(F), OWN, &[421]),
            (Some(OWN), F, &[421]),
            (Some(OWN), U, &[421, 451]),
            (Some(UC), UC, &[451]),
            (Some(UC), F, &[421, 451]),
            (Some(UC), U, &[421, 451]),
            (Some(UNIT), UNIT_CANCELLED, &[421, 451]),
            (Some(UNIT_CANCELLED), UNIT, &[421, 451]),
            (Some(UNIT_CANCELLED), UNIT_CANCELLED, &[451]),
            (Some(UNIT), F, &[421]),
            (Some(F), "127.0.0.1", &[400, 421, 451]),
            (Some(F), "", &[400]),
            (Some(F), "filed.cn@unfiled.cn", &[400]),
        ],
    );
}

#[test]
fn no_certificate() {
    let world = World::start();
    for sni in [U, "www.unfiled.cn", "UNFILED.CN", "nobody.example", "xn--fiqs8s.cn"] {
        assert_eq!(
            hello::answer(world.https(), &hello(&world, sni.as_bytes()).records(16384)),
            UNRECOGNIZED,
            "{sni}"
        );
        // What the client has sent on without waiting makes no reset of it.
        let mut wire = Wire::clear(world.https());
        wire.send([hello(&world, sni.as_bytes()).records(16384), vec![23; 40_000]].concat());
        let (rest, end) = wire.rest();
        assert_eq!(rest, [21, 3, 3, 0, 2, 2, 112], "{sni}: {end:?}");
        assert!(matches!(end, Lost::Closed(_)), "{sni}: {end:?}");
        let failed = world.tls(Some(sni), &[]).err().unwrap_or_default();
        assert!(failed.contains("UnrecognisedName"), "{sni}: {failed}");
    }
    world.assert_well();
}

#[test]
fn no_name() {
    let world = World::start();
    assert!(world.tls(None, &[]).is_err(), "no SNI, no default certificate: refused");
    world.assert_well();
    let world = World::with(|setup| setup.tls("default_certificate = \"shared\""));
    check(
        &world,
        &[
            (None, F, &[200]),
            (None, "www.filed.cn", &[200]),
            (None, G, &[200, 421]),
            (None, U, &[421, 451]),
            (None, UC, &[421, 451]),
            (None, OWN, &[421]),
        ],
    );
}

/// Server names that are none, or more than one.
#[test]
fn odd_names() {
    let world = World::start();
    type Names<'a> = &'a [(u8, &'a [u8])];
    let rows: &[(&str, Names<'_>)] = &[
        ("NUL", &[(0, b"filed.cn\0")]),
        ("NUL between", &[(0, b"filed.cn\0.unfiled.cn")]),
        ("two names", &[(0, b"filed.cn"), (0, b"unfiled.cn")]),
        ("two names, U first", &[(0, b"unfiled.cn"), (0, b"filed.cn")]),
        ("an address", &[(0, b"127.0.0.1")]),
        ("a short address", &[(0, b"127.1")]),
        ("an IPv6 address", &[(0, b"::1")]),
        ("an IPv6 address in brackets", &[(0, b"[::1]")]),
        ("empty", &[(0, b"")]),
        ("no name", &[]),
        ("another type", &[(1, b"filed.cn")]),
        ("two dots", &[(0, b"filed.cn..")]),
        ("a leading dot", &[(0, b".filed.cn")]),
        ("a wildcard", &[(0, b"*.filed.cn")]),
        ("a port", &[(0, b"filed.cn:443")]),
        ("a space", &[(0, b"filed.cn ")]),
        ("userinfo", &[(0, b"filed.cn@unfiled.cn")]),
        ("UTF-8", &[(0, "备案.cn".as_bytes())]),
        ("too long", &[(0, &[b'a'; 300])]),
    ];
    for (name, names) in rows {
        let hello = Hello::of(world.tls.config(&[]), Some(F)).names(names);
        let answer = hello::answer(world.https(), &hello.records(16384));
        assert!(matches!(answer, Answer::Alert(_) | Answer::Closed), "{name}: {answer:?}");
    }
    let twice = hello(&world, b"filed.cn").with(SERVER_NAME, hello::server_names(&[(0, b"unfiled.cn")]));
    let answer = hello::answer(world.https(), &twice.records(16384));
    assert!(matches!(answer, Answer::Alert(_) | Answer::Closed), "two extensions: {answer:?}");
    world.assert_well();
}

/// Hellos that ask for the same name, however it is written, however they are cut or filled.
pub(super) fn shapes(world: &World, name: &str) -> Vec<(&'static str, Vec<u8>)> {
    let grease = |hello: Hello| hello.with(0x0a0a, vec![]).with(0x1a1a, vec![0]);
    let ech = |hello: Hello| {
        hello.with(0xfe0d, [vec![0, 0, 1, 0, 1, 7, 0, 4], vec![1; 4], vec![0, 9], vec![2; 9]].concat())
    };
    let padded = |hello: Hello| hello.with(21, vec![0; 17_000]);
    let plain = hello(world, name.as_bytes());
    assert!(plain.message().len() > 1_184, "it has a post-quantum share");
    vec![
        ("plain", plain.records(16384)),
        ("upper case", hello(world, name.to_uppercase().as_bytes()).records(16384)),
        ("trailing dot", hello(world, format!("{name}.").as_bytes()).records(16384)),
        ("one octet per record", plain.records(1)),
        ("three octets per record", plain.records(3)),
        ("header and body apart", plain.records(4)),
        ("the share cut in two", plain.records(600)),
        ("GREASE", grease(plain.clone()).records(16384)),
        ("ECH", ech(plain.clone()).records(16384)),
        ("17 KiB", padded(plain.clone()).records(16384)),
        ("17 KiB in small records", padded(plain.clone()).records(100)),
        ("17 KiB, all of it", grease(ech(padded(plain))).records(1000)),
    ]
}

#[test]
fn hellos_of_every_shape() {
    let world = World::start();
    for (name, expected) in [(F, Answer::Hello), (U, UNRECOGNIZED)] {
        for (what, bytes) in shapes(&world, name) {
            assert_eq!(hello::answer(world.https(), &bytes), expected, "{name} {what}");
        }
    }
    world.assert_well();
}

#[test]
fn cut_hellos_are_served() {
    let world = World::start();
    for cut in [Cut::Records, Cut::Segments] {
        let mut stream = Cutting { stream: wire::tcp(world.https()), cut: Some(cut) };
        let connection = certs::handshake(world.tls.config(&["http/1.1"]), &mut stream, Some(F)).unwrap();
        let mut wire = Wire::over(Box::new(StreamOwned::new(connection, stream.stream)));
        assert_eq!(get(&mut wire, F).status, 200, "{cut:?}");
        let mut stream = Cutting { stream: wire::tcp(world.https()), cut: Some(cut) };
        let failed = certs::handshake(world.tls.config(&[]), &mut stream, Some(U)).err().unwrap_or_default();
        assert!(failed.contains("UnrecognisedName"), "{cut:?}: {failed}");
    }
}

/// What is no ClientHello is never taken for one without a name.
#[test]
fn not_tls() {
    let world = World::with(|setup| setup.tls("default_certificate = \"shared\""));
    let plain = hello(&world, b"filed.cn");
    let sslv2 =
        [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &[1, 0, 0x80, 2, 0, 0x80, 3], &[0; 30]].concat();
    let mut bad_name = plain.clone();
    bad_name.extensions[0].1[1] ^= 0x7f;
    let rows: &[(&str, Vec<u8>)] = &[
        ("HTTP", b"GET / HTTP/1.1\r\nHost: filed.cn\r\n\r\n".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
        ("SSLv2", sslv2),
        ("a record of another type", [&[23, 3, 1, 0, 4][..], b"GET "].concat()),
        ("an empty record", vec![22, 3, 1, 0, 0, 22, 3, 1, 0, 0]),
        ("another message", hello::records(&[2, 0, 0, 2, 3, 3], 100)),
        ("a record too long", [&[22, 3, 1, 0xff, 0xff][..], &plain.message()].concat()),
        ("names that end early", bad_name.records(16384)),
        ("zeros", vec![0; 100]),
        ("PROXY", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec()),
    ];
    for (name, bytes) in rows {
        let answer = hello::answer(world.https(), bytes);
        let is_refused = matches!(answer, Answer::Alert(_) | Answer::Closed) || answer == Answer::Other(b'H');
        assert!(is_refused, "{name}: {answer:?}");
    }
    assert_eq!(world.upstream.heads().len(), 0);
    world.assert_well();
}

/// ALPN says one protocol, the bytes are of the other.
#[test]
fn alpn_lies() {
    let world = World::start();
    let mut wire = world.tls(Some(F), &["h2"]).unwrap();
    let (bytes, _) = wire.send("GET / HTTP/1.1\r\nHost: filed.cn\r\n\r\n").rest();
    assert!(!String::from_utf8_lossy(&bytes).contains("200 OK"), "{bytes:?}");
    let mut wire = world.tls(Some(F), &["http/1.1"]).unwrap();
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").half_close();
    let (bytes, _) = wire.rest();
    assert!(!String::from_utf8_lossy(&bytes).contains("200 OK"), "{bytes:?}");
    assert_eq!(world.upstream.heads().len(), 0);
    world.assert_well();
}

/// A ticket from F opens F's door only.
#[test]
fn tickets() {
    let world = World::start();
    let resume = |sni: &str| certs::connect(world.tls.resuming(&["http/1.1"]), world.https(), Some(sni));
    for (sni, host, statuses) in
        [(F, F, &[200][..]), (F, F, &[200]), (UC, UC, &[451]), (F, F, &[200]), (UC, F, &[421, 451])]
    {
        let response = get(&mut resume(sni).unwrap(), host);
        assert!(statuses.contains(&response.status), "{sni} {host}: {response:?}");
    }
    assert_eq!(get(&mut resume(F).unwrap(), F).status, 200);
    assert!(resume(U).is_err_and(|e| e.contains("UnrecognisedName")));
    world.upstream.assert_only(&[F]);
}

#[test]
fn early_data_is_off() {
    let world = World::start();
    let mut config = world.tls.resuming(&["http/1.1"]);
    config.enable_early_data = true;
    for _ in 0..2 {
        let mut wire = certs::connect(config.clone(), world.https(), Some(F)).unwrap();
        assert_eq!(get(&mut wire, F).status, 200);
    }
    assert!(certs::client(config, Some(F)).early_data().is_none());
}

#[test]
fn blocked_by_alert_or_reset() {
    for (how, expected) in [("alert", UNRECOGNIZED), ("reset", Answer::Closed)] {
        let world = World::with(|setup| setup.toml(&format!("[enforcement]\ntls_blocked = \"{how}\"")));
        for sni in [UC, UNIT_CANCELLED] {
            let answer = hello::answer(world.https(), &hello(&world, sni.as_bytes()).records(16384));
            assert_eq!(answer, expected, "{how} {sni}");
        }
        let mut wire = world.tls(Some(F), &["http/1.1"]).unwrap();
        assert_eq!(get(&mut wire, F).status, 200, "{how}");
    }
}
