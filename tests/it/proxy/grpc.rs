//! HTTP/2 to upstreams, and gRPC end to end: streams both ways, trailers, statuses, and the cut.

use crate::world::h2::{self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS};
use crate::world::h2_upstream::{H2Upstream, Seen};
use crate::world::{DEADLINE, F, World, wait};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self as client, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const HOST: &str = "grpc.filed.cn";
const NUMBER: &str = "京ICP备20000001号-1";

type Body = BoxBody<Bytes, Infallible>;

fn world(upstream: &str, lines: &str) -> World {
    let site = format!("[[site]]\nhosts = [\"{HOST}\"]\nupstreams = [\"{upstream}\"]\n{lines}");
    World::with(|setup| setup.toml(&site))
}

fn h2c(address: SocketAddr) -> String {
    format!("h2c://{address}")
}

async fn clear(world: &World) -> SendRequest<Body> {
    let stream = TcpStream::connect(world.http()).await.unwrap();
    let (client, connection) = client::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn tls(world: &World) -> SendRequest<Body> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(world.tls.config(&["h2"])));
    let stream = TcpStream::connect(world.https()).await.unwrap();
    let stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
    let (client, connection) = client::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A call whose frames come from the sender.
fn call(path: &str) -> (mpsc::Sender<Frame<Bytes>>, Request<Body>) {
    let (sender, mut receiver) = mpsc::channel(4);
    let frames = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|frame: Option<Frame<Bytes>>| frame.map(Ok::<_, Infallible>))
    });
    let request = Request::post(format!("http://{HOST}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "1H")
        .body(StreamBody::new(frames).boxed())
        .unwrap();
    (sender, request)
}

fn trailers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn message(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from(text))
}

async fn next(body: &mut Incoming) -> Frame<Bytes> {
    tokio::time::timeout(DEADLINE, body.frame())
        .await
        .expect("in time")
        .expect("a frame")
        .expect("a whole one")
}

async fn ask(client: &mut SendRequest<Body>, path: &str) -> Response<Incoming> {
    let (_, mut request) = call(path);
    *request.body_mut() = http_body_util::Empty::new().boxed();
    client.send_request(request).await.unwrap()
}

/// Messages go both ways as they come, and what follows them arrives at both ends, but for names that frame, route
/// or authenticate.
#[tokio::test]
async fn streams_both_ways_with_trailers() {
    let upstream = H2Upstream::start();
    let world = world(&h2c(upstream.address), "");
    for (nth, mut client) in [clear(&world).await, tls(&world).await].into_iter().enumerate() {
        let (sender, request) = call("/shop.Cart/Echo");
        let sending = sender.clone();
        sending.send(message("first")).await.unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["content-type"].as_bytes()),
            (200, &b"application/grpc"[..])
        );
        assert!(response.headers()["via"].to_str().unwrap().starts_with("2 "), "{response:?}");
        let mut body = response.into_body();
        assert_eq!(next(&mut body).await.into_data().unwrap(), "first");
        for text in ["second", "third"] {
            sending.send(message(text)).await.unwrap();
            assert_eq!(next(&mut body).await.into_data().unwrap(), text, "before the next was sent");
        }
        let last = trailers(&[
            ("x-sum", "3"),
            ("content-length", "5"),
            ("host", "unfiled.cn"),
            ("x-forwarded-for", "1.1.1.1"),
        ]);
        sending.send(Frame::trailers(last)).await.unwrap();
        drop((sender, sending));
        let trailers = next(&mut body).await.into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["x-seen"], "x-sum", "of the request's trailers the upstream saw one");
        assert!(
            !trailers.contains_key("set-cookie") && !trailers.contains_key("beian-verdict"),
            "{trailers:?}"
        );
        let seen = upstream.seen().remove(nth);
        assert_eq!((seen.header("te"), seen.header("grpc-timeout")), (Some("trailers"), Some("1H")));
        assert_eq!((seen.authority.as_str(), seen.scheme.as_str()), (HOST, "http"));
        assert!(seen.header("x-forwarded-for").is_some() && seen.header("via").is_some(), "{seen:?}");
    }
    assert_eq!(upstream.connections(), 1, "streams share a connection");
}

/// An answer that is trailers only, and one whose server is gone.
#[tokio::test]
async fn statuses() {
    let upstream = H2Upstream::start();
    let world = world(&h2c(upstream.address), "");
    let mut client = clear(&world).await;
    let refused = ask(&mut client, "/only-head").await;
    assert_eq!((refused.status().as_u16(), refused.headers()["grpc-status"].as_bytes()), (200, &b"5"[..]));
    assert!(hyper::body::Body::is_end_stream(refused.body()));
    let gone = format!("[[site]]\nhosts = [\"gone.filed.cn\"]\nupstreams = [\"h2c://{}\"]", nobody());
    let world = World::with(|setup| setup.toml(&gone));
    let mut client = clear(&world).await;
    let (_, mut request) = call("/a/b");
    *request.uri_mut() = "http://gone.filed.cn/a/b".parse().unwrap();
    *request.body_mut() = http_body_util::Empty::new().boxed();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["grpc-status"].as_bytes()), (200, &b"14"[..]));
}

fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// HTTP/1.1 clients reach it as well, and get trailers where they say that they take them.
#[test]
fn http1_clients() {
    let upstream = H2Upstream::start();
    let world = world(&h2c(upstream.address), "");
    let mut wire = world.connect();
    let post = |te: &str| {
        format!(
            "POST /echo HTTP/1.1\r\nHost: {HOST}\r\n{te}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
    };
    for (te, expected) in [("TE: trailers\r\n", true), ("", false)] {
        wire.send(post(te));
        let head = wire.head().unwrap();
        assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
        assert_eq!((wire.line().unwrap().as_str(), wire.exactly(7).unwrap()), ("5", b"hello\r\n".to_vec()));
        assert_eq!(wire.line().unwrap(), "0");
        let mut lines = Vec::new();
        while let Some(line) = wire.line().ok().filter(|line| !line.is_empty()) {
            lines.push(line);
        }
        assert_eq!(lines.contains(&"grpc-status: 0".to_owned()), expected, "{lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("set-cookie")), "{lines:?}");
    }
    wire.send(format!("HEAD /echo HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(wire.response_to("HEAD").unwrap().status, 200);
    assert_eq!(upstream.connections(), 1);
}

/// Trailers of a chunked HTTP/1.1 answer, to an HTTP/2 client and to one of HTTP/1.1.
#[tokio::test]
async fn trailers_of_http1_upstreams() {
    let world = World::start();
    let answer =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nHost: u\r\n\r\n";
    world.upstream.answers("/sum", answer, crate::world::upstream::Then::Keep);
    let mut client = clear(&world).await;
    let (_, mut request) = call("/sum");
    *request.uri_mut() = format!("http://{F}/sum").parse().unwrap();
    *request.body_mut() = http_body_util::Empty::new().boxed();
    let whole = client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap(), &trailers(&[("x-sum", "1")]));
    let raw = format!("GET /sum HTTP/1.1\r\nHost: {F}\r\nTE: trailers\r\nConnection: close, te\r\n\r\n");
    let (bytes, _) = world.connect().send(raw).rest();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with("2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"), "{text}");
}

/// Megabytes each way, by many streams at once: windows are given back.
#[tokio::test]
async fn megabytes_both_ways() {
    let upstream = H2Upstream::start();
    let world = world(&h2c(upstream.address), "");
    let client = clear(&world).await;
    let one = |mut client: SendRequest<Body>| async move {
        let body = Bytes::from(vec![b'x'; 2 << 20]);
        let request =
            Request::post(format!("http://{HOST}/echo")).body(http_body_util::Full::new(body).boxed());
        let got = client.send_request(request.unwrap()).await.unwrap().into_body().collect().await.unwrap();
        got.to_bytes().len()
    };
    let all = futures_util::future::join_all((0..8).map(|_| one(client.clone()))).await;
    assert_eq!(all, [2 << 20; 8]);
}

/// A client that resets its call takes it away from the upstream; the connection there goes on.
#[tokio::test]
async fn cancelled_calls() {
    let upstream = H2Upstream::start();
    let world = world(&h2c(upstream.address), "");
    let mut client = clear(&world).await;
    let (sender, request) = call("/echo");
    sender.send(message("open")).await.unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(upstream.open(), 1);
    drop((response, sender));
    let ended = async {
        while upstream.open() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.expect("the upstream is let go");
    assert_eq!(ask(&mut client, "/only-head").await.status(), 200);
    assert_eq!(upstream.connections(), 1);
}

/// The cut ends calls, and what was waiting is told.
#[tokio::test]
async fn the_cut_ends_calls() {
    let upstream = H2Upstream::start();
    let world = world(&h2c(upstream.address), "");
    let mut client = clear(&world).await;
    let (sender, request) = call("/echo");
    sender.send(message("open")).await.unwrap();
    let mut body = client.send_request(request).await.unwrap().into_body();
    assert_eq!(next(&mut body).await.into_data().unwrap(), "open");
    let (waiting, request) = call("/silent");
    waiting.send(message("open")).await.unwrap();
    let silent = tokio::spawn(client.send_request(request));
    let world = Arc::new(world);
    let cancelling = Arc::clone(&world);
    let cancelled = tokio::task::spawn_blocking(move || {
        wait("the silent call", || (upstream.open() == 2).then_some(()));
        cancelling.cancel(F, NUMBER);
        wait("both calls to end upstream", || (upstream.open() == 0).then_some(()));
    });
    let end = tokio::time::timeout(DEADLINE, body.frame()).await.expect("in time");
    assert!(end.is_some_and(|frame| frame.is_err()), "it is reset");
    let told = silent.await.unwrap().unwrap();
    assert_eq!((told.status().as_u16(), told.headers()["grpc-status"].as_bytes()), (200, &b"7"[..]));
    cancelled.await.unwrap();
    drop((sender, waiting));
}

/// TLS to the upstream, where ALPN decides.
#[tokio::test]
async fn by_alpn() {
    for (offered, expected) in
        [("[\"h2\"]", "HTTP/2.0"), ("[\"h2\", \"http/1.1\"]", "HTTP/2.0"), ("[\"http/1.1\"]", "HTTP/1.1")]
    {
        let upstream = H2Upstream::start_tls();
        let lines = format!("[site.tls]\nverify = false\nalpn = {offered}");
        let world = world(&format!("https://{}", upstream.address), &lines);
        let mut client = clear(&world).await;
        let got = ask(&mut client, "/only-head").await;
        assert_eq!(got.status(), 200, "{offered}");
        let seen: Vec<Seen> = upstream.seen();
        assert_eq!(seen[0].version, expected, "{offered}");
    }
}

/// Whom the gate believes: its own authorities alone, under the name that was asked for.
#[tokio::test]
async fn own_authorities() {
    let upstream = H2Upstream::start_tls();
    let rows = [
        ("", 502),
        ("[site.tls]\nca_file = \"upstream.pem\"", 200),
        ("[site.tls]\nca_file = \"upstream.pem\"\nserver_name = \"other.internal\"", 502),
    ];
    for (lines, expected) in rows {
        let site = format!(
            "[[site]]\nhosts = [\"{HOST}\"]\nupstreams = [\"https://{}\"]\n{lines}",
            upstream.address
        );
        let world = World::with(|setup| {
            std::fs::write(setup.directory().join("upstream.pem"), &upstream.pem).unwrap();
            setup.toml(&site)
        });
        assert_eq!(world.get(HOST, "/only-head").status, expected, "{lines}");
    }
}

/// A server of hand-made frames: the script gets each stream's number and writes what it likes.
fn frames(script: impl Fn(u32, &mut std::net::TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let script = Arc::clone(&script);
            std::thread::spawn(move || {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).ok()?;
                stream.write_all(&h2::octets(SETTINGS, 0, 0, &[])).ok()?;
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head).ok()?;
                    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                    stream.read_exact(&mut payload).ok()?;
                    match head[3] {
                        SETTINGS if head[4] & 1 == 0 => {
                            stream.write_all(&h2::octets(SETTINGS, 1, 0, &[])).ok()?
                        }
                        HEADERS => {
                            script(u32::from_be_bytes([head[5], head[6], head[7], head[8]]), &mut stream)
                        }
                        _ => {}
                    }
                }
                #[allow(unreachable_code, reason = "gives the closure its type")]
                Some(())
            });
        }
    });
    address
}

fn fields(pairs: &[(&str, &str)]) -> Vec<u8> {
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    h2::block(&pairs)
}

/// What an upstream does wrong stays its own: a clean error before the head, a broken body after it.
#[test]
fn hand_made_faults() {
    type Script = fn(u32, &mut std::net::TcpStream);
    let rows: [(&str, Script, Option<u16>); 6] = [
        ("reset", |id, to| drop(to.write_all(&h2::octets(RST_STREAM, 0, id, &[0, 0, 0, 2]))), Some(502)),
        ("closed", |_, to| drop(to.shutdown(std::net::Shutdown::Both)), Some(502)),
        (
            "no status",
            |id, to| {
                drop(to.write_all(&h2::octets(HEADERS, END_HEADERS | END_STREAM, id, &fields(&[("a", "b")]))))
            },
            Some(502),
        ),
        (
            "transfer-encoding",
            |id, to| {
                let block = fields(&[(":status", "200"), ("transfer-encoding", "chunked")]);
                drop(to.write_all(&h2::octets(HEADERS, END_HEADERS | END_STREAM, id, &block)));
            },
            Some(502),
        ),
        (
            "less than it says",
            |id, to| {
                let block = fields(&[(":status", "200"), ("content-length", "9")]);
                let head = h2::octets(HEADERS, END_HEADERS, id, &block);
                drop(to.write_all(&[head, h2::octets(DATA, END_STREAM, id, b"less")].concat()));
            },
            None,
        ),
        (
            "reset in the middle",
            |id, to| {
                let head = h2::octets(HEADERS, END_HEADERS, id, &fields(&[(":status", "200")]));
                let reset = h2::octets(RST_STREAM, 0, id, &[0, 0, 0, 2]);
                drop(to.write_all(&[head, h2::octets(DATA, 0, id, b"half"), reset].concat()));
            },
            None,
        ),
    ];
    for (what, script, expected) in rows {
        let world = world(&h2c(frames(script)), "");
        let got = world.connect().send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).response();
        assert_eq!(got.as_ref().ok().map(|got| got.status), expected, "{what}: {got:?}");
        world.assert_well();
    }
}

/// A connection that is going away: what it has not looked at is sent over another one, if that is safe.
#[test]
fn goaway() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let address = frames(move |id, to| {
        let nth = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let bytes = if nth == 1 {
            h2::octets(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])
        } else {
            h2::octets(HEADERS, END_HEADERS | END_STREAM, id, &fields(&[(":status", "204")]))
        };
        drop(to.write_all(&bytes));
    });
    let world = world(&h2c(address), "");
    for _ in 0..4 {
        assert_eq!(world.get(HOST, "/").status, 204);
    }
}

/// A client's own deadline ends its call, before the answer and in the middle of it, and is not held against the
/// server.
#[tokio::test(flavor = "multi_thread")]
async fn deadlines_of_clients_are_kept() {
    let upstream = H2Upstream::start();
    let world = world(&h2c(upstream.address), "[site.ejection]\nfailures = 1");
    let mut client = clear(&world).await;
    let timed = |path: &str, timeout: &'static str| {
        let (sender, mut request) = call(path);
        request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        (sender, request)
    };
    let (sender, request) = timed("/silent", "300m");
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4", "{:?}", answer.headers());
    drop(sender);
    let (sender, request) = timed("/echo", "1S");
    sender.send(message("one")).await.unwrap();
    let (head, mut body) = client.send_request(request).await.unwrap().into_parts();
    if head.headers.get("grpc-status").is_none() {
        let mut frame = next(&mut body).await;
        while frame.is_data() {
            frame = next(&mut body).await;
        }
        assert_eq!(frame.into_trailers().unwrap()["grpc-status"], "4");
    }
    wait("the upstream to be let go", || (upstream.open() == 0).then_some(()));
    let list = world.ask("/v1/upstreams").json();
    let is_healthy = |row: &serde_json::Value| row["healthy"] == true;
    assert!(list["upstreams"].as_array().unwrap().iter().all(is_healthy), "{list}");
}
