//! WebSocket over HTTP/2 (RFC 8441): a stream that becomes a tunnel, judged and cut like every other.

use crate::world::h2_upstream::H2Upstream;
use crate::world::upstream::{Exchange, Then};
use crate::world::{DEADLINE, F, U, World, wait};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What a server puts behind a key (RFC 6455, 1.3).
pub const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Switches as RFC 6455 says, or by another key.
pub fn switch(exchange: &mut Exchange<'_>, guid: &str) {
    let key = exchange.request.header("sec-websocket-key").unwrap_or("").to_owned();
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{guid}").as_bytes());
    let accept = base64::engine::general_purpose::STANDARD.encode(hash);
    exchange.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ));
}

fn world() -> World {
    let world = World::start();
    world.upstream.on("/ws", |exchange| {
        switch(exchange, GUID);
        while let Some(bytes) = exchange.raw() {
            exchange.send(bytes);
        }
        Then::Close
    });
    world.upstream.on("/other-key", |exchange| {
        switch(exchange, "another");
        exchange.raw();
        Then::Close
    });
    world
}

async fn client(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let client = client.ready().await.unwrap();
    let told = async {
        while !client.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(DEADLINE, told).await.expect("the gate to say that it takes extended CONNECT");
    client.clone().ready().await.unwrap();
    client
}

async fn clear(world: &World) -> SendRequest<Bytes> {
    client(TcpStream::connect(world.http()).await.unwrap()).await
}

async fn tls(world: &World) -> SendRequest<Bytes> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(world.tls.config(&["h2"])));
    let stream = TcpStream::connect(world.https()).await.unwrap();
    client(connector.connect(ServerName::try_from(F).unwrap(), stream).await.unwrap()).await
}

async fn ask(
    client: &mut SendRequest<Bytes>,
    (host, path, protocol): (&str, &str, &'static str),
) -> (Response<RecvStream>, SendStream<Bytes>) {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://{host}{path}"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "of-the-client")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .unwrap();
    request.extensions_mut().insert(Protocol::from_static(protocol));
    let (response, stream) = client.send_request(request, false).unwrap();
    (tokio::time::timeout(DEADLINE, response).await.unwrap().unwrap(), stream)
}

async fn status(client: &mut SendRequest<Bytes>, asked: (&str, &str, &'static str)) -> u16 {
    ask(client, asked).await.0.status().as_u16()
}

/// What comes back of what is sent.
async fn echo(stream: &mut SendStream<Bytes>, from: &mut RecvStream, octets: usize) -> usize {
    let mut back = 0;
    stream.send_data(Bytes::from(vec![b'x'; octets]), false).unwrap();
    while back < octets {
        let data = tokio::time::timeout(DEADLINE, from.data()).await.unwrap().unwrap().unwrap();
        from.flow_control().release_capacity(data.len()).unwrap();
        back += data.len();
    }
    back
}

/// What comes next that says something: a frame without an octet may carry the end.
async fn last(from: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    loop {
        match from.data().await {
            Some(Ok(data)) if data.is_empty() => {}
            other => return other,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_in_clear_and_tls() {
    let world = world();
    for (turn, mut client) in [clear(&world).await, tls(&world).await].into_iter().enumerate() {
        let path = format!("/ws/{turn}");
        let (response, mut stream) = ask(&mut client, (F, &path, "websocket")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut from = response.into_body();
        for octets in [1, 100, 200_000] {
            assert_eq!(echo(&mut stream, &mut from, octets).await, octets);
        }
        // Beside it, other streams of the connection go on.
        assert_eq!(status(&mut client, (F, "/ws/beside", "websocket")).await, 200);
        let seen = world.upstream.heads().into_iter().find(|one| one.target == path).unwrap();
        assert_eq!((seen.method.as_str(), seen.header("upgrade")), ("GET", Some("websocket")));
        assert_eq!(seen.all("sec-websocket-key").len(), 1);
        assert_ne!(seen.header("sec-websocket-key"), Some("of-the-client"), "HTTP/2 knows none");
        assert_eq!(seen.header("transfer-encoding"), None);
        // The client's end travels, and the upstream's comes back.
        stream.send_data(Bytes::new(), true).unwrap();
        let end = tokio::time::timeout(DEADLINE, last(&mut from)).await.unwrap();
        assert!(end.is_none(), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_tunnel() {
    let world = world();
    let mut client = clear(&world).await;
    assert_eq!(status(&mut client, (U, "/ws", "websocket")).await, 451);
    assert_eq!(status(&mut client, ("..", "/ws", "websocket")).await, 400);
    assert_eq!(status(&mut client, (F, "/ws", "connect-udp")).await, 405);
    // A plain answer that would say "open", and a switch that is none.
    assert_eq!(status(&mut client, (F, "/plain", "websocket")).await, 502);
    assert_eq!(status(&mut client, (F, "/other-key", "websocket")).await, 502);
    world.upstream.answers("/no", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", Then::Keep);
    assert_eq!(status(&mut client, (F, "/no", "websocket")).await, 403);
    world.upstream.assert_only(&[F]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_cut_and_counted() {
    let world = world();
    let mut client = clear(&world).await;
    let (response, mut stream) = ask(&mut client, (F, "/ws", "websocket")).await;
    let mut from = response.into_body();
    assert_eq!(echo(&mut stream, &mut from, 5000).await, 5000);
    tokio::task::block_in_place(|| world.cancel(F, "京ICP备20000001号-1"));
    // Ended or reset: nothing more comes.
    let last = tokio::time::timeout(DEADLINE, last(&mut from)).await.unwrap();
    assert!(last.is_none_or(|data| data.is_err()));
    assert_eq!(status(&mut client, (F, "/ws", "websocket")).await, 451, "the connection goes on");
    let line = tokio::task::block_in_place(|| {
        wait("the tunnel's line", || {
            world.log().into_iter().find(|line| line["target"] == "/ws" && line["status"] == 200)
        })
    });
    assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(5000), Some(5000)), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_client_resets_is_counted_too() {
    let world = world();
    let mut client = clear(&world).await;
    let (response, mut stream) = ask(&mut client, (F, "/ws/reset", "websocket")).await;
    let mut from = response.into_body();
    assert_eq!(echo(&mut stream, &mut from, 5000).await, 5000);
    stream.send_reset(h2::Reason::CANCEL);
    let line = tokio::task::block_in_place(|| {
        wait("the tunnel's line", || world.log().into_iter().find(|line| line["target"] == "/ws/reset"))
    });
    assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(5000), Some(5000)), "{line}");
    assert_eq!(line["ended"], "CT", "{line}");
}

/// A site in front of each: one that opens streams, one that does not, one that may be asked over HTTP/1.1 instead.
fn beyond(streams: &H2Upstream, none: &H2Upstream, either: &H2Upstream) -> World {
    World::with(|setup| {
        let ca = setup.directory().join("either.pem");
        std::fs::write(&ca, &either.pem).unwrap();
        let site = |name: &str, upstream: String, more: &str| {
            format!("[[site]]\nhosts = [\"{name}.filed.cn\"]\nupstreams = [\"{upstream}\"]\n{more}")
        };
        let tls = format!("[site.tls]\nca_file = \"{}\"\nalpn = [\"h2\", \"http/1.1\"]\n", ca.display());
        setup
            .toml(&site("streams", format!("h2c://{}", streams.address), ""))
            .toml(&site("none", format!("h2c://{}", none.address), "ejection = { failures = 2 }\n"))
            .toml(&site("either", format!("https://{}", either.address), &tls))
    })
}

const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// As HTTP/1.1 asks.
fn upgrade(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {SAMPLE_KEY}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn towards_upstreams_that_speak_http2() {
    let (streams, none) = (H2Upstream::start_with_tunnels(), H2Upstream::start());
    let either = H2Upstream::start_tls();
    let world = beyond(&streams, &none, &either);
    let mut client = clear(&world).await;
    for (host, upstream, method) in
        [("streams.filed.cn", &streams, "CONNECT"), ("either.filed.cn", &either, "GET")]
    {
        let (response, mut stream) = ask(&mut client, (host, "/ws/h2", "websocket")).await;
        assert_eq!(response.status(), 200, "{host}");
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut from = response.into_body();
        for octets in [1, 70_000, 400_000] {
            assert_eq!(echo(&mut stream, &mut from, octets).await, octets);
        }
        let seen = upstream.seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.header("upgrade").is_some()), (method, method == "GET"));
        assert_eq!(seen.header("sec-websocket-key").is_some(), method == "GET");
        stream.send_data(Bytes::new(), true).unwrap();
        let end = tokio::time::timeout(DEADLINE, last(&mut from)).await.unwrap();
        assert!(end.is_none(), "{end:?}");
    }
    assert_eq!(status(&mut client, ("streams.filed.cn", "/refused", "websocket")).await, 403);
    // Whoever asks for what there is none of takes no server out of use.
    for _ in 0..3 {
        assert_eq!(status(&mut client, ("none.filed.cn", "/ws", "websocket")).await, 502);
    }
    assert!(none.seen().is_empty(), "it was not asked");
    tokio::task::block_in_place(|| {
        assert_eq!(world.get("none.filed.cn", "/plain").status, 200);
        for (host, upstream) in [("streams.filed.cn", &streams), ("either.filed.cn", &either)] {
            let mut wire = world.connect();
            let head = wire.send(upgrade(host, "/ws/h1")).head().unwrap();
            assert_eq!(head.status, 101, "{host}: {head:?}");
            assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
            assert_eq!(
                (head.header("upgrade"), head.header("connection")),
                (Some("websocket"), Some("upgrade"))
            );
            wire.send("there and back");
            assert_eq!(wire.exactly(14).unwrap(), b"there and back");
            drop(wire);
            wait("the stream's end", || (upstream.open() == 0).then_some(()));
        }
        let answer = world.connect().send(upgrade("none.filed.cn", "/ws")).response().unwrap();
        assert_eq!((answer.status, answer.verdict()), (502, "upstream_error"));
    });
}
