//! An HTTP/2 upstream by hyper: echoes bodies as they come, ends them with trailers, and remembers what it saw.

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

type Body = BoxBody<Bytes, hyper::Error>;

pub struct H2Upstream {
    pub address: SocketAddr,
    /// Its certificate; empty in clear.
    pub pem: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// It opens WebSockets as streams (RFC 8441).
    has_tunnels: AtomicBool,
}

/// A request's head.
#[derive(Debug, Clone)]
pub struct Seen {
    pub authority: String,
    pub scheme: String,
    pub version: String,
    pub method: String,
    pub headers: HeaderMap,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Counts a stream as open until it is dropped.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl H2Upstream {
    /// Cleartext, prior knowledge.
    pub fn start() -> Self {
        Self::of(None, String::new())
    }

    /// The same, which opens WebSockets as streams (RFC 8441).
    pub fn start_with_tunnels() -> Self {
        let upstream = Self::start();
        upstream.shared.has_tunnels.store(true, Ordering::SeqCst);
        upstream
    }

    /// TLS with a certificate of its own making; HTTP/2 or HTTP/1.1 as ALPN says.
    pub fn start_tls() -> Self {
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                key.signing_key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::of(Some(tokio_rustls::TlsAcceptor::from(Arc::new(config))), key.cert.pem())
    }

    fn of(tls: Option<tokio_rustls::TlsAcceptor>, pem: String) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::new(Shared::default()));
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    of_thread.connections.fetch_add(1, Ordering::SeqCst);
                    let (shared, tls) = (Arc::clone(&of_thread), tls.clone());
                    tokio::spawn(async move {
                        let Some(tls) = tls else { return serve(stream, shared, true).await };
                        if let Ok(stream) = tls.accept(stream).await {
                            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            serve(stream, shared, is_h2).await;
                        }
                    });
                }
            });
        });
        Self { address, pem, shared }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Streams that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
    is_h2: bool,
) {
    let of_service = Arc::clone(&shared);
    let service = service_fn(move |request| answer(Arc::clone(&of_service), request));
    let io = TokioIo::new(stream);
    // However it ends.
    let _ = if is_h2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        if shared.has_tunnels.load(Ordering::SeqCst) {
            builder.enable_connect_protocol();
        }
        builder.serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await
    };
}

async fn answer(shared: Arc<Shared>, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    shared.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(Arc::clone(&shared));
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let key = head.headers.get("sec-websocket-key").cloned();
    let is_stream =
        head.extensions.get::<hyper::ext::Protocol>().is_some_and(|it| it.as_str() == "websocket");
    shared.seen.lock().unwrap().push(Seen {
        authority: head.uri.authority().map(ToString::to_string).unwrap_or_default(),
        scheme: head.uri.scheme_str().unwrap_or_default().to_owned(),
        version: format!("{:?}", head.version),
        method: head.method.to_string(),
        headers: head.headers,
    });
    let mut response = match head.uri.path() {
        "/only-head" => {
            let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
            response.headers_mut().insert("grpc-status", "5".parse().unwrap());
            response
        }
        "/page" => {
            let page = http_body_util::Full::new(Bytes::from_static(b"<p>hi"));
            let mut response = Response::new(page.map_err(|never| match never {}).boxed());
            response.headers_mut().insert("content-type", "text/html".parse().unwrap());
            response
        }
        "/refused" => {
            let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
            *response.status_mut() = http::StatusCode::FORBIDDEN;
            response
        }
        path if path.starts_with("/ws") && (is_stream || key.is_some()) => {
            tokio::spawn(echo_all(upgrade, open, path.starts_with("/ws-frames")));
            return Ok(opened(key));
        }
        "/silent" => {
            let _ = body.collect().await;
            drop(open);
            return std::future::pending().await;
        }
        _ => Response::new(echo(body, open)),
    };
    response.headers_mut().entry("content-type").or_insert("application/grpc".parse().unwrap());
    Ok(response)
}

/// A tunnel is open: by a switch of protocols where there was a key.
fn opened(key: Option<http::HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    let fields = response.headers_mut();
    fields.insert("sec-websocket-protocol", "chat".parse().unwrap());
    if let Some(key) = key {
        let text = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
        let accept = base64::engine::general_purpose::STANDARD.encode(hash);
        fields.insert("sec-websocket-accept", accept.parse().unwrap());
        fields.insert("connection", "upgrade".parse().unwrap());
        fields.insert("upgrade", "websocket".parse().unwrap());
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    }
    response
}

/// Octets back as they came, or messages.
async fn echo_all(upgrade: hyper::upgrade::OnUpgrade, open: Open, is_framed: bool) {
    if let Ok(upgraded) = upgrade.await {
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        let (mut octets, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            octets.extend_from_slice(&chunk[..read]);
            let said =
                if is_framed { super::frames::answer(&mut octets) } else { std::mem::take(&mut octets) };
            if to.write_all(&said).await.is_err() || to.flush().await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }
    drop(open);
}

/// The body back, frame by frame; at its end what trailers came with it, and some of our own.
fn echo(mut body: Incoming, open: Open) -> Body {
    let (mut is_over, mut seen) = (false, Vec::new());
    let frames = futures_util::stream::poll_fn(move |cx| {
        let _ = &open;
        loop {
            if is_over {
                return std::task::Poll::Ready(None);
            }
            let frame = std::task::ready!(std::pin::Pin::new(&mut body).poll_frame(cx));
            match frame {
                Some(Ok(frame)) => match frame.into_trailers() {
                    Ok(trailers) => seen.extend(trailers.keys().map(ToString::to_string)),
                    Err(frame) => return std::task::Poll::Ready(Some(Ok(frame))),
                },
                Some(Err(error)) => return std::task::Poll::Ready(Some(Err(error))),
                None => {
                    is_over = true;
                    let mut trailers = HeaderMap::new();
                    let pairs = [
                        ("grpc-status", "0"),
                        ("set-cookie", "a=b"),
                        ("beian-verdict", "allow"),
                        ("x-seen", &seen.join(",")),
                    ];
                    for (name, value) in pairs {
                        trailers.insert(
                            http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                            value.parse().unwrap(),
                        );
                    }
                    return std::task::Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
            }
        }
    });
    BodyExt::boxed(StreamBody::new(frames))
}
