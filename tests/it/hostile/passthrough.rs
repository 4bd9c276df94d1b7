//! Section 6, `tls_passthrough`: what is judged is all that an upstream can go by, until it has answered.

use super::tls::{hello, shapes};
use crate::world::hello::{self, Answer};
use crate::world::wire::{Lost, Wire};
use crate::world::{F, U, World, wait};
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

/// `tls_passthrough`: judged on the SNI alone, the bytes go through as they are.
#[test]
fn passthrough() {
    let world = World::with(|setup| {
        let line = format!("upstreams = [\"tcp://{}\"]", setup.upstream);
        setup.listener("tls_passthrough", &line)
    });
    let address = world.listener("tls_passthrough", 0);
    for sni in [&b"unfiled.cn"[..], b"UNFILED.CN.", b"127.0.0.1", b"filed.cn\0.unfiled.cn"] {
        let answer = hello::answer(address, &hello(&world, sni).records(1));
        assert!(
            matches!(answer, Answer::Alert(_) | Answer::Closed),
            "{:?}: {answer:?}",
            String::from_utf8_lossy(sni)
        );
    }
    for (what, bytes) in shapes(&world, U) {
        let answer = hello::answer(address, &bytes);
        assert_eq!(answer, Answer::Alert(112), "{what}");
    }
    assert_eq!(world.upstream.bytes(), b"", "nothing of U arrives");
    for (what, bytes) in shapes(&world, F) {
        let before = world.upstream.bytes().len();
        let mut wire = Wire::clear(address);
        wire.send(&bytes);
        wait(&format!("the hello upstream, {what}"), || {
            (world.upstream.bytes().len() == before + bytes.len()).then_some(())
        });
        assert!(world.upstream.bytes().ends_with(&bytes), "{what}: octet for octet");
    }
}

/// A server's HelloRetryRequest, cut into records of at most that many octets.
fn retry(most: usize) -> Vec<u8> {
    const RANDOM: [u8; 32] = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
        0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    let extensions = [0, 43, 0, 2, 3, 4, 0, 51, 0, 2, 0, 0x17];
    let body = [&[3, 3][..], &RANDOM, &[0, 0x13, 1, 0, 0, 12], &extensions].concat();
    hello::records(&[&[2, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat(), most)
}

/// What a server was sent, connection by connection.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server that says this to whatever comes first.
fn scripted(answer: Vec<u8>) -> (std::net::SocketAddr, Seen) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let of_thread = Arc::clone(&seen);
    std::thread::spawn(move || {
        for (number, mut stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let (seen, answer) = (Arc::clone(&of_thread), answer.clone());
            seen.lock().unwrap().push(Vec::new());
            std::thread::spawn(move || {
                let mut is_first = true;
                let mut space = vec![0; 64 * 1024];
                while let Ok(octets @ 1..) = stream.read(&mut space) {
                    seen.lock().unwrap()[number].extend(&space[..octets]);
                    if std::mem::take(&mut is_first) && stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

/// Waits until a connection has brought this to its end.
#[track_caller]
fn arrived(seen: &Seen, what: &str, octets: &[u8]) {
    wait(what, || seen.lock().unwrap().iter().any(|one| one.ends_with(octets)).then_some(()));
}

#[track_caller]
fn assert_unseen(seen: &Seen, names: &[&str]) {
    let seen = seen.lock().unwrap().concat();
    let seen = String::from_utf8_lossy(&seen);
    assert!(names.iter().all(|name| !seen.contains(name)), "nothing of it arrives");
}

/// The connection ends with one of these alerts.
#[track_caller]
fn assert_refused(wire: &mut Wire, alerts: &[u8], what: &str) {
    let (rest, end) = wire.rest();
    let is_told = alerts.iter().any(|alert| rest.ends_with(&[21, 3, 3, 0, 2, 2, *alert]));
    assert!(is_told && matches!(end, Lost::Closed(_)), "{what}: {rest:?} {end:?}");
}

/// `tls_passthrough`: a server may ask for a second hello, and that must name what the first one did, whether the
/// client waits to be asked or not, and however it is cut.
#[test]
fn second_hellos() {
    let change = &[20, 3, 3, 0, 1, 1][..];
    let early = &[23, 3, 3, 0, 4, 1, 0, 0, 9][..];
    for cut in [1, 7, 16384] {
        let (upstream, seen) = scripted(retry(cut));
        let line = format!("upstreams = [\"tcp://{upstream}\"]");
        let world = World::with(|setup| setup.listener("tls_passthrough", &line));
        let address = world.listener("tls_passthrough", 0);
        let first = hello(&world, b"filed.cn").records(16384);
        for (between, most, waits) in [
            (&b""[..], 16384, true),
            (change, 16384, true),
            (change, 1, true),
            (early, 3, false),
            (b"", 5, false),
        ] {
            let what = format!("cut {cut}, {between:02x?}, records of {most}, waits: {waits}");
            for (sni, is_passed) in [
                (&b"filed.cn"[..], true),
                (b"FILED.CN.", true),
                (b"unfiled.cn", false),
                (b"own-cert.cn", false),
                (b"", false),
            ] {
                let second = [between, &hello(&world, sni).records(most)].concat();
                let mut wire = Wire::clear(address);
                wire.send(&first);
                if waits {
                    wire.exactly(retry(cut).len()).unwrap();
                }
                wire.send(&second);
                if is_passed {
                    arrived(&seen, &what, &[&first[..], &second].concat());
                } else {
                    assert_refused(&mut wire, &[47, 112], &format!("{what} {sni:?}"));
                }
            }
        }
        assert_unseen(&seen, &["unfiled", "own-cert"]);
    }
}

/// A second hello is one whatever version it claims, for servers don't all look; and before a server has answered
/// there is nothing else that a client has to say.
#[test]
fn second_hellos_of_every_kind() {
    let (upstream, seen) = scripted(retry(16384));
    let line = format!("upstreams = [\"tcp://{upstream}\"]");
    let world = World::with(|setup| setup.listener("tls_passthrough", &line));
    let address = world.listener("tls_passthrough", 0);
    let open = |waits: bool| {
        let mut wire = Wire::clear(address);
        wire.send(hello(&world, b"filed.cn").records(16384));
        if waits {
            wire.exactly(retry(16384).len()).unwrap();
        }
        wire
    };
    let of = |sni: &[u8], version: [u8; 2]| hello(&world, sni).version(version);
    for version in [[3, 3], [3, 1], [3, 2], [3, 4], [3, 0], [2, 0], [0, 0], [254, 253]] {
        for (waits, most) in [(true, 16384), (true, 1), (true, 5), (false, 16384), (false, 6)] {
            let what = format!("{version:?}, waits: {waits}, records of {most}");
            assert_refused(open(waits).send(of(b"unfiled.cn", version).records(most)), &[47], &what);
            let again = of(b"filed.cn", version).records(most);
            let mut wire = open(waits);
            wire.send(&again);
            arrived(&seen, &what, &again);
        }
    }
    let plain = hello(&world, b"unfiled.cn");
    let message = plain.message();
    let behind = |front: &[u8]| [front, &plain.records(16384)].concat();
    let within = |front: &[u8]| hello::records(&[front, &message].concat(), 16384);
    let sslv2 = [&[0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10][..], &[0; 40]].concat();
    for (what, octets) in [
        ("a hello request in front", within(&[0, 0, 0, 0])),
        ("a key update in front", within(&[24, 0, 0, 1, 0])),
        ("a finished in front", within(&[20, 0, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])),
        ("another message in a record of its own", behind(&hello::records(&[11, 0, 0, 3, 0, 0, 0], 100))),
        ("an empty record of the handshake", behind(&[22, 3, 3, 0, 0])),
        ("a record of no kind", behind(&[25, 3, 3, 0, 1, 0])),
        ("a record of kind 0", behind(&[0, 3, 3, 0, 1, 0])),
        ("a hello of SSL 2.0", [sslv2, plain.records(16384)].concat()),
        ("HTTP", behind(b"GET / HTTP/1.1\r\nHost: unfiled.cn\r\n\r\n")),
        ("a record of version 2", [&[22, 2, 0][..], &plain.records(16384)[3..]].concat()),
        ("its first octet alone", [&[22, 3, 1, 0, 1, 1, 20, 3, 3, 0, 1, 1][..], &message[1..]].concat()),
    ] {
        for waits in [true, false] {
            assert_refused(open(waits).send(&octets), &[10], &format!("{what}, waits: {waits}"));
        }
    }
    assert_unseen(&seen, &["unfiled"]);
}
