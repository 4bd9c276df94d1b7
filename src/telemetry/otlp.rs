//! Spans for an OpenTelemetry collector: OTLP over HTTP, in its JSON encoding (OTLP 1.x, "OTLP/HTTP"; names of attributes:
//! semantic conventions for HTTP).
//!
//! Workers hand spans over and go on; they are sent in batches by a task of the control thread. What finds no room, or a
//! collector that does not take it, is counted and forgotten. Knows spans, not what makes a request one.

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};

/// Spans that may wait.
const MAX_WAITING: usize = 8192;
/// Spans of one request to the collector.
const MAX_BATCH: usize = 512;
/// How long the first of a batch waits for others.
const GATHER_TIME: Duration = Duration::from_secs(1);
/// How long a batch that was not taken waits for its second and last try.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// One request, as its trace shows it.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "named as what they become")]
pub struct Span {
    pub trace: u128,
    pub span: u64,
    pub parent: Option<u64>,
    pub begun: SystemTime,
    pub duration: Duration,
    pub method: String,
    pub path: String,
    pub is_tls: bool,
    pub host: String,
    pub status: u16,
    pub http: &'static str,
    pub client: String,
    pub verdict: &'static str,
    pub verdict_id: u64,
    pub ended: &'static str,
    pub upstream: Option<Arc<str>>,
}

/// What became of spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// Taken by the collector.
    pub sent: AtomicU64,
    /// Lost: there was no room, or the collector did not take them.
    pub dropped: AtomicU64,
    /// Requests to the collector that it did not answer well.
    pub errors: AtomicU64,
}

/// Where workers hand spans over.
#[derive(Debug, Clone)]
pub struct SpanSink {
    to: mpsc::Sender<Span>,
    counts: Arc<SpanCounts>,
    /// The share of traces begun here that are recorded, in 2⁻³².
    threshold: u64,
}

/// Sends them; to be run on a task of its own.
#[derive(Debug)]
pub struct SpanExporter {
    from: mpsc::Receiver<Span>,
    counts: Arc<SpanCounts>,
    options: OtlpOptions,
    client: reqwest::Client,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpOptions {
    /// `http://127.0.0.1:4318/v1/traces`
    pub endpoint: String,
    /// Bearer token.
    pub token: Option<String>,
    /// The share (0 to 1) of traces begun here that are recorded.
    pub sample: f64,
    /// `service.name`
    pub service: String,
    /// For one request to the collector.
    pub timeout: Duration,
}

impl SpanSink {
    /// A sink and its exporter.
    ///
    /// # Errors
    /// The system lends no client.
    pub fn new(
        options: OtlpOptions,
        counts: Arc<SpanCounts>,
    ) -> Result<(Self, SpanExporter), reqwest::Error> {
        let (to, from) = mpsc::channel(MAX_WAITING);
        let client = reqwest::Client::builder().no_proxy().timeout(options.timeout).build()?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32")]
        let threshold = (options.sample.clamp(0.0, 1.0) * 4_294_967_296.0) as u64;
        let sink = Self { to, counts: Arc::clone(&counts), threshold };
        Ok((sink, SpanExporter { from, counts, options, client }))
    }

    /// Whether a trace begun here is recorded, by a number that looks random.
    #[must_use]
    pub fn samples(&self, number: u64) -> bool {
        number >> 32 < self.threshold
    }

    /// Hands a span over.
    pub fn send(&self, span: Span) {
        if self.to.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SpanExporter {
    /// Sends what comes until all sinks are gone, or until told to stop; what waits then is sent in one last try.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        let mut is_failing = false;
        loop {
            let is_last = tokio::select! {
                // An error means that nobody is left to tell: the same.
                _ = stopping.wait_for(|stop| *stop) => true,
                is_some = gather(&mut self.from, &mut batch) => !is_some,
            };
            while is_last && batch.len() < MAX_BATCH {
                match self.from.try_recv() {
                    Ok(span) => batch.push(span),
                    Err(_) => break,
                }
            }
            if !batch.is_empty() {
                self.send(&batch, is_last, &mut is_failing).await;
                batch.clear();
            }
            if is_last {
                let left = self.from.len() as u64;
                self.counts.dropped.fetch_add(left, Ordering::Relaxed);
                return;
            }
        }
    }

    async fn send(&self, batch: &[Span], is_last: bool, is_failing: &mut bool) {
        let body = request(batch, &self.options.service).to_string();
        let mut result = self.post(body.clone()).await;
        if result.is_err() && !is_last {
            self.counts.errors.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(RETRY_PAUSE).await;
            result = self.post(body).await;
        }
        let count = batch.len() as u64;
        match result {
            Ok(()) => {
                self.counts.sent.fetch_add(count, Ordering::Relaxed);
                if std::mem::take(is_failing) {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(error) => {
                self.counts.errors.fetch_add(1, Ordering::Relaxed);
                self.counts.dropped.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(is_failing, true) {
                    let (collector, why) = (place(&self.options.endpoint), cause(error));
                    tracing::warn!("{collector} takes no spans, they are lost and counted: {why}");
                }
            }
        }
    }

    async fn post(&self, body: String) -> Result<(), reqwest::Error> {
        let mut request = self.client.post(&self.options.endpoint).header("content-type", "application/json");
        if let Some(token) = &self.options.token {
            request = request.bearer_auth(token);
        }
        request.body(body).send().await?.error_for_status().map(drop)
    }
}

/// A URL without its user and its parameters: some collectors know callers by a word in them.
fn place(endpoint: &str) -> String {
    let uri: http::Uri = endpoint.parse().unwrap_or_default();
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{}://{host}{}", uri.scheme_str().unwrap_or("http"), uri.path())
}

/// Why a request failed, without its URL.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Waits for a batch; `false`: no more will come.
async fn gather(from: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> bool {
    if batch.is_empty() {
        let Some(first) = from.recv().await else { return false };
        batch.push(first);
    }
    let more = async {
        while batch.len() < MAX_BATCH {
            let room = MAX_BATCH - batch.len();
            if from.recv_many(batch, room).await == 0 {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(GATHER_TIME, more).await.unwrap_or(true)
}

/// An `ExportTraceServiceRequest`.
fn request(batch: &[Span], service: &str) -> Value {
    let spans: Vec<_> = batch.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [
            text("service.name", service),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &std::process::id().to_string()),
        ] },
        "scopeSpans": [{
            "scope": { "name": "beian-gate", "version": env!("CARGO_PKG_VERSION") },
            "spans": spans,
        }],
    }] })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    // 64-bit numbers are strings in this encoding.
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

fn span(it: &Span) -> Value {
    /// `SPAN_KIND_SERVER`
    const SERVER: u8 = 2;
    /// `STATUS_CODE_ERROR`; else the status is left to whoever reads.
    const ERROR: u8 = 2;
    let (path, query) = it.path.split_once('?').unwrap_or((&it.path, ""));
    let mut attributes = vec![
        text("http.request.method", &it.method),
        text("url.scheme", if it.is_tls { "https" } else { "http" }),
        text("url.path", path),
        text("server.address", &it.host),
        text("network.protocol.name", "http"),
        text("network.protocol.version", it.http),
        text("client.address", &it.client),
        text("beian.verdict", it.verdict),
        text("beian.verdict_id", &format!("{:016x}", it.verdict_id)),
        text("beian.ended", it.ended),
    ];
    if !query.is_empty() {
        attributes.push(text("url.query", query));
    }
    if it.status > 0 {
        attributes.push(number("http.response.status_code", it.status.into()));
    }
    if let Some(upstream) = &it.upstream {
        attributes.push(text("beian.upstream", upstream));
    }
    let mut span = json!({
        "traceId": format!("{:032x}", it.trace),
        "spanId": format!("{:016x}", it.span),
        "name": it.method,
        "kind": SERVER,
        "startTimeUnixNano": nanos(it.begun),
        "endTimeUnixNano": nanos(it.begun + it.duration),
        "attributes": attributes,
    });
    if let Some(parent) = it.parent {
        span["parentSpanId"] = format!("{parent:016x}").into();
    }
    if it.status >= 500 || it.status == 0 {
        span["status"] = json!({ "code": ERROR });
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_test(status: u16) -> Span {
        Span {
            trace: 1,
            span: 2,
            parent: Some(3),
            begun: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            duration: Duration::from_micros(5),
            method: "GET".into(),
            path: "/a?b=c".into(),
            is_tls: true,
            host: "a.cn".into(),
            status,
            http: "2",
            client: "192.0.2.1".into(),
            verdict: "allow",
            verdict_id: 255,
            ended: "--",
            upstream: None,
        }
    }

    #[test]
    fn spans_as_the_encoding_has_them() {
        let sent = request(&[of_test(200), of_test(502)], "s");
        let spans = &sent["resourceSpans"][0]["scopeSpans"][0]["spans"];
        let first = &spans[0];
        assert_eq!(first["traceId"], "00000000000000000000000000000001");
        assert_eq!(
            (&first["spanId"], &first["parentSpanId"]),
            (&json!("0000000000000002"), &json!("0000000000000003"))
        );
        assert_eq!(
            (&first["startTimeUnixNano"], &first["endTimeUnixNano"]),
            (&json!("1000000000"), &json!("1000005000"))
        );
        let has = |key: &str, value: Value| {
            let all = first["attributes"].as_array().unwrap();
            assert!(all.contains(&json!({ "key": key, "value": value })), "{key}: {first}");
        };
        has("url.path", json!({ "stringValue": "/a" }));
        has("url.query", json!({ "stringValue": "b=c" }));
        has("http.response.status_code", json!({ "intValue": "200" }));
        has("beian.verdict_id", json!({ "stringValue": "00000000000000ff" }));
        assert!(first["status"].is_null() && spans[1]["status"]["code"] == 2);
    }

    #[test]
    fn a_share_is_sampled() {
        let sink = |sample| {
            let options = OtlpOptions {
                endpoint: "http://127.0.0.1:1".into(),
                token: None,
                sample,
                service: "s".into(),
                timeout: Duration::from_secs(1),
            };
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            SpanSink::new(options, Arc::default()).unwrap().0
        };
        let share = |sink: &SpanSink| (0..1000_u64).filter(|it| sink.samples(it << 54)).count();
        assert_eq!((share(&sink(0.0)), share(&sink(1.0))), (0, 1000));
        let half = share(&sink(0.5));
        assert!((450..=550).contains(&half), "{half}");
    }
}
