//! Who ended a request, and in which phase: the code in the access log's line.

use crate::treatment::h2;
use crate::world::upstream::Then;
use crate::world::{F, U, World, wait};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The code of the request with that target.
#[track_caller]
fn ended(world: &World, target: &str) -> String {
    let line = wait(&format!("the line of {target}"), || {
        world.log().into_iter().find(|line| line["target"] == target)
    });
    line["ended"].as_str().unwrap().to_owned()
}

fn sites(setup: crate::world::setup::Setup) -> crate::world::setup::Setup {
    let site = |host: &str, rest: &str| format!("[[site]]\nhosts = [\"{host}.filed.cn\"]\n{rest}\n");
    let upstream = setup.upstream;
    setup.http("health_path = \"/alive\"").toml(
        &[
            site("moved", "redirect = { to = \"https://elsewhere.example\" }"),
            site("refused", "upstreams = [\"http://127.0.0.1:1\"]"),
            site(
                "slow",
                &format!("upstreams = [\"http://{upstream}\"]\n[site.timeouts]\nresponse = \"100ms\""),
            ),
            site(
                "silent",
                &format!("upstreams = [\"http://{upstream}\"]\n[site.timeouts]\nidle = \"100ms\""),
            ),
        ]
        .concat(),
    )
}

#[test]
fn what_the_gate_and_the_upstream_end() {
    let world = World::with(sites);
    world.upstream.answers("/whole", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Keep);
    world.upstream.answers("/closes", "", Then::Close);
    world.upstream.answers("/half", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", Then::Close);
    world.upstream.hangs("/hangs");
    world.upstream.on("/begins", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        while exchange.raw().is_some() {}
        Then::Close
    });
    let rows = [
        (F, "/whole", "--"),
        (U, "/blocked", "PR"),
        ("moved.filed.cn", "/moved", "LR"),
        ("refused.filed.cn", "/refused", "SC"),
        (F, "/alive", "LR"),
        (F, "/closes", "SH"),
        (F, "/half", "SD"),
        ("slow.filed.cn", "/hangs", "sH"),
        ("silent.filed.cn", "/begins", "sD"),
    ];
    for (host, path, expected) in rows {
        // What breaks off amid its body is no whole response.
        let _ = world.connect().send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).response();
        assert_eq!(ended(&world, path), expected, "{host}{path}");
    }
}

/// Connects, sends a request, reads `octets` of the answer, and resets the connection.
fn resets(world: &World, path: &str, octets: usize) {
    let mut tcp = TcpStream::connect(world.http()).unwrap();
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: {F}\r\n\r\n").as_bytes()).unwrap();
    world.upstream.arrived(path);
    tcp.read_exact(&mut vec![0; octets]).unwrap();
    socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn what_clients_end() {
    let world = World::start();
    world.upstream.hangs("/hangs");
    world.upstream.drips("/endless");
    resets(&world, "/hangs", 0);
    assert_eq!(ended(&world, "/hangs"), "CH");
    resets(&world, "/endless", 20);
    assert_eq!(ended(&world, "/endless"), "CD");
}

#[test]
fn heads_that_do_not_go_on() {
    let world = World::with(|setup| setup.toml("[limits]\nheader_timeout = \"300ms\""));
    wait("a head that does not go on", || {
        // On a busy machine the first octets may be late themselves.
        let _ = world.connect().send("GET /late HTTP/1.1\r\nHost: fil").response();
        let slow = |line: &serde_json::Value| line["verdict"] == "request_timeout" && line["ended"] == "cR";
        world.log().iter().any(slow).then_some(())
    });
}

#[tokio::test]
async fn streams_that_their_clients_end() {
    let world = World::start();
    world.upstream.hangs("/hangs");
    let mut client = h2(&world).await;
    let request = Request::get(format!("http://{F}/hangs")).body(Full::<Bytes>::default()).unwrap();
    let answer = tokio::spawn(client.send_request(request));
    wait_for_arrival(&world).await;
    answer.abort();
    // Dropped, the request's stream is reset.
    assert!(answer.await.unwrap_err().is_cancelled());
    let world = tokio::task::spawn_blocking(move || {
        assert_eq!(ended(&world, "/hangs"), "CH");
        world
    })
    .await
    .unwrap();
    drop((client, world));
}

async fn wait_for_arrival(world: &World) {
    while !world.upstream.heads().iter().any(|head| head.target == "/hangs") {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[test]
fn what_a_verdict_ends() {
    let world = World::start();
    world.upstream.hangs("/hangs");
    world.upstream.echoes("/ws");
    let mut waiting = world.connect();
    waiting.send(format!("GET /hangs HTTP/1.1\r\nHost: {F}\r\n\r\n"));
    let mut tunnel = world.connect();
    let upgrade =
        format!("GET /ws HTTP/1.1\r\nHost: {F}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.send(upgrade).response().unwrap().status, 101);
    world.upstream.arrived("/hangs");
    world.cancel(F, "京ICP备20000001号-1");
    assert_eq!(waiting.response().unwrap().verdict(), "access_cancelled");
    // What it is told is its verdict by now; nothing of the upstream's was under way.
    assert_eq!((ended(&world, "/hangs").as_str(), ended(&world, "/ws").as_str()), ("PH", "KT"));
}
