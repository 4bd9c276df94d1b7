//! Clients that drip: too slow for the pace that the operator asks for, never silent for long enough to be late.

use super::http2::{fields, open};
use super::waits::{NO_WINDOW, endless, narrow};
use super::{LANES, Lane};
use crate::world::h2::{DATA, END_HEADERS, HEADERS, SETTINGS, WINDOW_UPDATE, block};
use crate::world::wire::Wire;
use crate::world::{F, World, wait};

const PACE: &str = "[limits]\nbody_timeout = \"1s\"\nmin_rate = \"1 MiB\"";

/// Drips until the gate has had enough, which its log tells.
#[track_caller]
fn drips(world: &World, path: &str, verdict: &str, mut drip: impl FnMut()) {
    let line = wait(&format!("{path} to be over"), || {
        drip();
        world.log().into_iter().find(|line| line["target"] == path)
    });
    assert_eq!(line["verdict"], verdict, "{line}");
    wait("the upstream to be let go", || (world.upstream.open() == 0).then_some(()));
}

#[test]
fn bodies() {
    let world = World::with(|setup| setup.toml(PACE));
    for lane in LANES {
        let path = format!("/drip-{lane:?}");
        let mut wire = match lane {
            Lane::Clear => world.connect(),
            Lane::Tls => world.tls(Some(F), &["http/1.1"]).unwrap(),
        };
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: {F}\r\nContent-Length: 9000000\r\n\r\n"));
        drips(&world, &path, "request_timeout", || {
            wire.send("x");
        });
        assert_eq!(wire.response().unwrap().status, 408, "{lane:?}");
        let path = format!("/drip-2-{lane:?}");
        let mut h2 = open(&world, lane);
        let head = fields(&format!(":method=POST|:scheme=http|:path={path}|:authority={F}"));
        h2.frame(HEADERS, END_HEADERS, 1, &block(&head));
        drips(&world, &path, "request_timeout", || h2.frame(DATA, 0, 1, b"x"));
    }
    world.assert_well();
}

#[test]
fn answers() {
    let world = World::with(|setup| setup.toml(PACE));
    endless(&world);
    let mut wire: Wire = narrow(&world);
    wire.send(format!("GET /endless/1 HTTP/1.1\r\nHost: {F}\r\n\r\n"));
    drips(&world, "/endless/1", "client_gone", || drop(wire.exactly(64)));
    for (lane, path) in LANES.into_iter().zip(["/endless/2", "/endless/3"]) {
        let mut h2 = open(&world, lane);
        h2.frame(SETTINGS, 0, 0, NO_WINDOW);
        h2.request(1, &fields(&format!(":method=GET|:scheme=http|:path={path}|:authority={F}")));
        drips(&world, path, "client_gone", || h2.frame(WINDOW_UPDATE, 0, 1, &64_u32.to_be_bytes()));
    }
    world.assert_well();
}
