//! The same over HTTP/2, by a client that others use: hyper's.

use crate::world::upstream::Then;
use crate::world::{DEADLINE, F, U, World};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

type Body = BoxBody<Bytes, Infallible>;

async fn client(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<Body> {
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn clear(world: &World) -> SendRequest<Body> {
    client(TcpStream::connect(world.http()).await.unwrap()).await
}

async fn tls(world: &World) -> SendRequest<Body> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(world.tls.config(&["h2"])));
    let stream = TcpStream::connect(world.https()).await.unwrap();
    client(connector.connect(ServerName::try_from(F).unwrap(), stream).await.unwrap()).await
}

fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Body> {
    let uri = format!("http://{F}{path}");
    Request::builder().method(method).uri(uri).body(Full::new(body.into()).boxed()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes()).into_owned()
}

/// As `world::wait`, while the connection's task goes on.
async fn until(what: &str, ready: impl Fn() -> bool) {
    let poll = async {
        while !ready() {
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(DEADLINE, poll).await.unwrap_or_else(|_| panic!("waited for {what}"));
}

#[tokio::test]
async fn methods_in_clear_and_tls() {
    let world = World::start();
    for mut client in [clear(&world).await, tls(&world).await] {
        let got = client.send_request(request("GET", "/g", "")).await.unwrap();
        assert_eq!((got.status().as_u16(), got.headers().get("beian-verdict")), (200, None));
        assert_eq!(text(got).await, "GET /g");
        let got = client.send_request(request("POST", "/p", "hello")).await.unwrap();
        assert_eq!(text(got).await, "POST /p");
        let got = client.send_request(request("HEAD", "/h", "")).await.unwrap();
        assert_eq!((got.status().as_u16(), text(got).await.as_str()), (200, ""));
    }
    world.upstream.assert_only(&[F]);
    let posts: Vec<_> = world.upstream.requests().into_iter().filter(|one| one.method == "POST").collect();
    assert!(posts.len() == 2 && posts.iter().all(|one| one.body == b"hello"));
    assert!(posts[0].header("via").unwrap().contains("2"), "{:?}", posts[0]);
    assert_eq!(posts[1].all("x-forwarded-proto"), ["https"]);
}

#[tokio::test]
async fn block_pages() {
    let world = World::start();
    let mut client = clear(&world).await;
    let mut asked = request("GET", "/", "");
    *asked.uri_mut() = "http://unfiled.cn/".parse().unwrap();
    let got = client.send_request(asked).await.unwrap();
    assert_eq!((got.status().as_u16(), got.headers()["beian-verdict"].to_str().unwrap()), (451, "unfiled"));
    assert!(text(got).await.contains("unfiled.cn"));
    assert_eq!(client.send_request(request("GET", "/", "")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn megabytes_both_ways() {
    let world = World::start();
    let body: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(10 << 20).collect();
    let of_script = body.clone();
    world.upstream.on("/down", move |exchange| exchange.answer("200 OK", &of_script));
    for mut client in [clear(&world).await, tls(&world).await] {
        let got = client.send_request(request("GET", "/down", "")).await.unwrap();
        assert!(got.into_body().collect().await.unwrap().to_bytes() == body);
        assert_eq!(client.send_request(request("PUT", "/up", body.clone())).await.unwrap().status(), 200);
    }
    let up: Vec<_> = world.upstream.requests().into_iter().filter(|one| one.target == "/up").collect();
    assert!(up.len() == 2 && up.iter().all(|one| one.body == body));
}

#[tokio::test]
async fn slow_streams_are_not_collected() {
    let world = World::start();
    world.upstream.on("/echo", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Some(some) = exchange.some_body() {
            exchange.send([format!("{:x}\r\n", some.len()).as_bytes(), &some, b"\r\n"].concat());
        }
        exchange.send("0\r\n\r\n");
        Then::Keep
    });
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    let stream = futures_util::stream::poll_fn(move |context| {
        receiver.poll_recv(context).map(|some| some.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))))
    });
    let body = StreamBody::new(stream).boxed();
    let asked = Request::post(format!("http://{F}/echo")).body(body).unwrap();
    let mut client = clear(&world).await;
    sender.send("0".into()).await.unwrap();
    let mut got = client.send_request(asked).await.unwrap().into_body();
    for digit in 0..5 {
        let frame = got.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, digit.to_string(), "came before the next was sent");
        sender.send((digit + 1).to_string().into()).await.unwrap();
    }
}

/// Many streams at once, each with its own answer.
#[tokio::test]
async fn a_hundred_streams() {
    let world = World::start();
    let client = tls(&world).await;
    let one = |i: usize| {
        let mut client = client.clone();
        async move { text(client.send_request(request("GET", &format!("/{i}"), "")).await.unwrap()).await }
    };
    let answers = futures_util::future::join_all((0..100).map(one)).await;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, format!("GET /{i}"));
    }
}

/// A stream that its client resets takes its request to the upstream with it; the connection lives on.
#[tokio::test]
async fn cancelled_streams() {
    let world = World::start();
    world.upstream.hangs("/hang");
    let mut client = clear(&world).await;
    let hanging = tokio::spawn(client.send_request(request("GET", "/hang", "")));
    until("the request upstream", || !world.upstream.heads().is_empty()).await;
    hanging.abort();
    until("the upstream to be let go", || world.upstream.open() == 0).await;
    assert_eq!(client.send_request(request("GET", "/next", "")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_blocked_grpc_call_ends_with_its_head() {
    let world = World::start();
    let mut call = request("POST", "/shop.Cart/Add", "\0\0\0\0\0");
    *call.uri_mut() = format!("http://{U}/shop.Cart/Add").parse().unwrap();
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let answer = clear(&world).await.send_request(call).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"7".parse().unwrap()));
    assert!(answer.body().is_end_stream(), "a status without a message is one HEADERS frame");
    assert_eq!(world.upstream.heads().len(), 0);
}
