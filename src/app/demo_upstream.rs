//! A small upstream to try the gate with: shows what reached it, and sends what it is asked for.
//!
//! Knows HTTP; refuses to know filings and the gate in front of it.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use http_body_util::BodyExt;
use std::convert::Infallible;
use std::fmt::Write;
use std::future::Future;
use std::time::Duration;

/// The most that `/bytes/N` sends.
const MAX_OCTETS: u64 = 10 << 30;
const CHUNK: &[u8] = &[b'x'; 64 << 10];
const SLOWEST: Duration = Duration::from_secs(60);

/// Serves until `shutdown` resolves and the requests in flight are done.
///
/// # Errors
/// Where the listener fails.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, routes()).with_graceful_shutdown(shutdown).await
}

fn routes() -> Router {
    Router::new().route("/bytes/{count}", get(octets)).route("/slow", get(slow)).fallback(show)
}

/// `/bytes/N`: N octets, with their count in front.
async fn octets(Path(count): Path<u64>) -> Response {
    if count > MAX_OCTETS {
        return (StatusCode::BAD_REQUEST, format!("at most {MAX_OCTETS} octets\n")).into_response();
    }
    let chunks = stream::unfold(count, |left| async move {
        let size = usize::try_from(left).map_or(CHUNK.len(), |left| left.min(CHUNK.len()));
        let rest = left - u64::try_from(size).unwrap_or_default();
        (size > 0).then(|| (Ok::<_, Infallible>(Bytes::from_static(&CHUNK[..size])), rest))
    });
    let headers = [
        (header::CONTENT_LENGTH, count.to_string()),
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

#[derive(serde::Deserialize)]
struct Pause {
    ms: Option<u64>,
}

/// `/slow?ms=2000`: answers after a while, two seconds without `ms`.
async fn slow(Query(pause): Query<Pause>) -> String {
    let wait = Duration::from_millis(pause.ms.unwrap_or(2000)).min(SLOWEST);
    tokio::time::sleep(wait).await;
    format!("answered after {} ms\n", wait.as_millis())
}

/// Everything else: what reached the upstream, as a page for browsers and as text for the rest.
async fn show(request: Request) -> Response {
    let (head, mut body) = request.into_parts();
    let mut octets: u64 = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        octets += u64::try_from(size).unwrap_or_default();
    }
    let host = head.headers.get(header::HOST).map(shown).unwrap_or_default();
    let mut seen = format!("{} {} {:?}\n", head.method, head.uri, head.version);
    for (name, value) in &head.headers {
        let _ = writeln!(seen, "{name}: {}", shown(value));
    }
    let _ = writeln!(seen, "\nbody: {octets} octets");
    if wants_html(&head.headers) { Html(page(&host, &seen)).into_response() } else { seen.into_response() }
}

fn shown(value: &axum::http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|accept| shown(accept).contains("text/html"))
}

fn page(host: &str, seen: &str) -> String {
    let (host, seen) = (escaped(host), escaped(seen));
    format!(
        r#"<!doctype html>
<html lang="zh-CN">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{host}</title>
<style>
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #222 }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto; border-radius: .5rem }}
footer {{ margin-top: 3rem; color: #555; font-size: .875rem }}
</style>
<h1>{host}</h1>
<p>该域名备案有效，请求已转发到演示源站。<br>The filing of this name is in order; the request reached the demo upstream.</p>
<pre>{seen}</pre>
<p>POST /, /bytes/1000, /slow?ms=500</p>
<footer>网站应在页脚展示备案号，例如 <a href="https://beian.miit.gov.cn/">京ICP备10000001号-1</a>。
A site shows its filing number in the footer.</footer>
</html>
"#
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn started() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, std::future::pending()));
        format!("http://{address}")
    }

    fn client() -> reqwest::Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        reqwest::Client::builder().no_proxy().build().unwrap()
    }

    #[tokio::test]
    async fn shows_what_reached_it() {
        let (base, client) = (started().await, client());
        let post = client.post(format!("{base}/a?b=c")).header("x-seen", "<1>").body("12345");
        let text = post.send().await.unwrap().text().await.unwrap();
        assert!(text.starts_with("POST /a?b=c HTTP/1.1\n"), "{text}");
        assert!(text.contains("x-seen: <1>\n") && text.ends_with("body: 5 octets\n"), "{text}");
        let get = client.get(format!("{base}/<i>")).header("accept", "text/html").header("x-seen", "<1>");
        let html = get.send().await.unwrap().text().await.unwrap();
        assert!(html.contains("x-seen: &lt;1&gt;") && html.contains("备案"), "{html}");
    }

    #[tokio::test]
    async fn sends_what_it_is_asked_for() {
        let (base, client) = (started().await, client());
        for count in [0, 1, 65_536, 200_000] {
            let answer = client.get(format!("{base}/bytes/{count}")).send().await.unwrap();
            assert_eq!(answer.content_length(), Some(count));
            assert_eq!(answer.bytes().await.unwrap().len() as u64, count);
        }
        let slow = client.get(format!("{base}/slow?ms=1")).send().await.unwrap().text().await.unwrap();
        assert_eq!(slow, "answered after 1 ms\n");
        let bad = client.get(format!("{base}/bytes/99999999999999")).send().await.unwrap();
        assert_eq!(bad.status(), 400);
    }
}
