//! Section 6: what a TLS client is told at the end arrives, whatever it has sent on meanwhile.

use super::tls::hello;
use crate::world::hello::{self as hellos, Hello};
use crate::world::wire::{Lost, Wire};
use crate::world::{F, World, wait};
use std::io::{Read as _, Write as _};

const GROUPS: u16 = 10;
const PADDING: u16 = 21;
const VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
/// What a client sends on without waiting: more than the gate reads of it before it has made up its mind.
const SENT_ON: usize = 40_000;

fn without(world: &World, kinds: &[u16]) -> Hello {
    let mut hello = hello(world, F.as_bytes());
    hello.extensions.retain(|(kind, _)| !kinds.contains(kind));
    hello
}

/// A hello of that length, in as few records as there may be.
fn long(world: &World, octets: usize) -> Vec<u8> {
    let plain = hello(world, F.as_bytes());
    let (head, room) = (plain.message().len() + 4, 16 * 1024);
    plain.with(PADDING, vec![0; octets - head]).records(room)
}

/// Handshakes that come to nothing in TLS itself.
#[test]
fn of_failed_handshakes() {
    let world = World::start();
    let early = |then: &[u8]| [hello(&world, F.as_bytes()).records(16384), then.to_vec()].concat();
    let rows: &[(&str, Vec<u8>, Option<u8>)] = &[
        ("no groups", without(&world, &[GROUPS, KEY_SHARE]).records(16384), Some(40)),
        (
            "nothing but TLS 1.1",
            without(&world, &[VERSIONS]).with(VERSIONS, vec![2, 3, 2]).records(16384),
            Some(70),
        ),
        (
            "a share of no group",
            without(&world, &[KEY_SHARE]).with(KEY_SHARE, vec![0, 9]).records(16384),
            Some(50),
        ),
        ("more than can be put together", long(&world, 65_535), Some(50)),
        // The gate's own flight is in front of the alert, and the alert is encrypted.
        ("a Finished in clear", early(&[22, 3, 3, 0, 4, 20, 0, 0, 0]), None),
    ];
    for (what, octets, alert) in rows {
        let mut wire = Wire::clear(world.https());
        wire.send([&octets[..], &vec![23; SENT_ON]].concat());
        let (rest, end) = wire.rest();
        assert!(matches!(end, Lost::Closed(_)), "{what}: {end:?} after {} octets", rest.len());
        match alert {
            Some(alert) => assert_eq!(rest, [21, 3, 3, 0, 2, 2, *alert], "{what}"),
            None => assert_eq!((rest[0], rest.len() > 1000), (22, true), "{what}: {rest:?}"),
        }
    }
    assert_eq!(
        hellos::answer(world.https(), &long(&world, 65_500)),
        hellos::Answer::Hello,
        "but almost as much"
    );
    world.assert_well();
}

/// A connection that is passed through and refused is told of at once: how long its client takes to go is the client's.
#[test]
fn the_log_does_not_wait_for_the_end() {
    let world = World::with(|setup| {
        let line = format!("upstreams = [\"tcp://{}\"]", setup.upstream);
        setup.listener("tls_passthrough", &line)
    });
    let mut stream = crate::world::wire::tcp(world.listener("tls_passthrough", 0));
    stream.write_all(&hello(&world, b"unfiled.cn").records(16384)).unwrap();
    let mut alert = [0; 7];
    stream.read_exact(&mut alert).unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 112]);
    // As long as it says something now and then, it is given ten seconds.
    wait("the line", || {
        stream.write_all(&[23]).expect("the connection is there still");
        world.log().into_iter().find(|line| line["host"] == "unfiled.cn")
    });
    stream.write_all(&[23]).expect("and was when the line came");
    stream.set_nonblocking(true).unwrap();
    let end = stream.read(&mut alert).map_err(|error| error.kind());
    // That nothing more is sent was said at once; that the connection is gone would be a reset.
    assert_eq!(end, Ok(0));
    assert_eq!(
        hellos::answer(world.https(), &hello(&world, F.as_bytes()).records(16384)),
        hellos::Answer::Hello
    );
}
