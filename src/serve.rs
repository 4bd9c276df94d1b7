//! Serves the admin API and the registry: HTTP/1.1 by hyper, with a bound on every wait and on how many may come,
//! and the one place where a caller's token is looked at.
//!
//! Knows nothing of what is served.

mod guard;
mod tls;

pub use guard::{Caller, Guard, Shown, hash};
pub use tls::{CallerCertificate, Tls, TlsError};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

/// Connections open at once: followers, operators, a metrics collector.
const MAX_CONNECTIONS: usize = 1024;
/// From a connection's beginning, or from one answer, to the next request's complete head.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// Between octets of a request's body, and while a caller takes nothing of its answer.
const SILENCE: Duration = Duration::from_secs(30);
/// For a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Octets of a request head.
const HEAD_BYTES: usize = 64 * 1024;
/// How long accepting pauses when the system has nothing to accept with (descriptors, memory).
const PAUSE: Duration = Duration::from_millis(50);
/// For what is under way when told to stop.
const LEAVE_TIME: Duration = Duration::from_secs(30);

/// Serves until `shutdown` says true; what is under way is then brought to its end.
///
/// # Errors
/// Where the listener can't be used.
pub async fn run(
    (socket, tls): (std::net::TcpListener, Option<Arc<Tls>>),
    router: Router,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let is_here = socket.local_addr()?.ip().to_canonical().is_loopback();
    // Over TLS a browser holds the name against the certificate by itself.
    let reach = if is_here && tls.is_none() { Reach::Here } else { Reach::Far };
    run_within(reach, (socket, tls), router, shutdown).await
}

/// As `run`, for what everybody may ask under whatever name leads here.
///
/// # Errors
/// Where the listener can't be used.
pub async fn run_for_all(
    socket: std::net::TcpListener,
    router: Router,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    run_within(Reach::Far, (socket, None), router, shutdown).await
}

async fn run_within(
    reach: Reach,
    (socket, tls): (std::net::TcpListener, Option<Arc<Tls>>),
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let stopping = shutdown.clone();
    let mut stopped = pin!(async move {
        let _ = shutdown.wait_for(|is_over| *is_over).await;
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => break,
        };
        let Ok((tcp, peer)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // One too many is closed without a word.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (router, stopping) = (router.clone(), stopping.clone());
        let tls = tls.clone();
        tokio::spawn(async move {
            // An error only means that the peer is gone already.
            let _ = tcp.set_nodelay(true);
            match tls {
                None => connection((tcp, peer, None), router, reach, stopping).await,
                Some(tls) => {
                    let handshake = TlsAcceptor::from(tls.config()).accept(tcp);
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, handshake).await {
                        let certificate = tls.caller(stream.get_ref().1);
                        connection((stream, peer, certificate), router, reach, stopping).await;
                    }
                }
            }
            drop(place);
        });
    }
    drop(listener);
    // Everybody has left once all places are free.
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    if tokio::time::timeout(LEAVE_TIME, places.acquire_many(all)).await.is_err() {
        tracing::warn!("requests that did not come to their end are ended");
    }
    Ok(())
}

/// Who can reach a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// This machine: names that lead here may be anybody's.
    Here,
    /// Others, who show a token.
    Far,
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    (stream, peer, certificate): (S, SocketAddr, Option<CallerCertificate>),
    router: Router,
    reach: Reach,
    mut stopping: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(|body| Body::new(Patient::new(body)));
        request.extensions_mut().insert(Caller(peer.ip()));
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let mut router = router.clone();
        async move {
            let mut response = match foreign(&request, reach) {
                None => router.call(request).await?,
                Some(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
            };
            for (name, value) in ON_ALL {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Taken::new(stream)), service);
    let mut serving = pin!(serving);
    let stopped = async move {
        let _ = stopping.wait_for(|is_over| *is_over).await;
    };
    // How a connection ended is of no interest to anybody.
    tokio::select! {
        _ = &mut serving => {}
        () = stopped => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

/// What browsers are told with every answer: nothing here is for another site's page.
const ON_ALL: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Why a request is not taken that a browser sends for a page of another site. On loopback that page may bear any
/// name that its owner lets lead here; there only names that are this machine's count.
fn foreign(request: &Request, reach: Reach) -> Option<&'static str> {
    let text = |name: &HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or(""));
    let host = request.uri().authority().map(Authority::as_str).or(text(&header::HOST)).unwrap_or("");
    if reach == Reach::Here && !is_own(host) {
        return Some("on loopback only this machine's own names are answered: 127.0.0.1, [::1], localhost");
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let is_same = |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    let is_foreign = text(&header::ORIGIN).is_some_and(|origin| !is_same(origin))
        || text(&SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"));
    is_foreign.then_some("pages of other sites change nothing here")
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a Host can only be this machine's, or is none.
fn is_own(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.to_ascii_lowercase();
    name.is_empty()
        || address.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
}

/// A wait that begins when something is first found not to be ready, and ends with it.
#[derive(Debug, Default)]
struct Wait(Option<Pin<Box<Sleep>>>);

impl Wait {
    /// Passes on what is ready; `TimedOut` where it was not for too long.
    fn bound<T>(&mut self, cx: &mut Context<'_>, polled: Poll<T>) -> Poll<Result<T, io::Error>> {
        match polled {
            Poll::Ready(value) => {
                self.0 = None;
                Poll::Ready(Ok(value))
            }
            Poll::Pending => {
                let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE)));
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

/// A request's body that may not pause for too long.
struct Patient {
    body: hyper::body::Incoming,
    wait: Wait,
}

impl Patient {
    fn new(body: hyper::body::Incoming) -> Self {
        Self { body, wait: Wait::default() }
    }
}

impl http_body::Body for Patient {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        Poll::Ready(match ready!(this.wait.bound(cx, polled)) {
            Ok(frame) => frame.map(|result| result.map_err(Into::into)),
            Err(late) => Some(Err(late.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose caller takes what it is sent.
#[derive(Debug)]
struct Taken<S> {
    stream: S,
    wait: Wait,
}

impl<S> Taken<S> {
    fn new(stream: S) -> Self {
        Self { stream, wait: Wait::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, octets);
        this.wait.bound(cx, polled).map(|result| result?)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, octets);
        this.wait.bound(cx, polled).map(|result| result?)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, fields: &[(&str, &str)], reach: Reach, is_taken: bool) {
        let mut request = axum::http::Request::builder().method(method).uri("/v1/filings:batch");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        assert_eq!(foreign(&request, reach).is_none(), is_taken, "{method} {fields:?} {reach:?}");
    }

    #[test]
    fn pages_of_other_sites() {
        for host in
            ["127.0.0.1:9090", "localhost:9090", "[::1]:9090", "[::1]", "LOCALHOST", "a.localhost", ""]
        {
            check("GET", &[("host", host)], Reach::Here, true);
        }
        for host in
            ["evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example:1"]
        {
            check("GET", &[("host", host)], Reach::Here, false);
            check("GET", &[("host", host)], Reach::Far, true);
        }
        let host = ("host", "localhost:9090");
        check("POST", &[host], Reach::Here, true);
        check("POST", &[host, ("origin", "http://localhost:9090")], Reach::Here, true);
        check("POST", &[host, ("sec-fetch-site", "same-origin")], Reach::Here, true);
        for reach in [Reach::Here, Reach::Far] {
            check("POST", &[host, ("origin", "http://localhost:8080")], reach, false);
            check("POST", &[host, ("origin", "https://evil.example")], reach, false);
            check("POST", &[host, ("origin", "null")], reach, false);
            check("DELETE", &[host, ("sec-fetch-site", "cross-site")], reach, false);
            check("PUT", &[host, ("sec-fetch-site", "same-site")], reach, false);
        }
    }
}
