//! The access log: JSON lines by our own serializer, into per-worker buffers, written by a thread of its own.
//!
//! A writer that is behind loses lines, and every lost line is counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// A worker hands its buffer over when it is this full.
const HAND_OVER_BYTES: usize = 32 * 1024;
/// Buffers that may wait for the writer.
const MAX_WAITING: usize = 1024;
/// The most octets of one client-sent value in a line.
const MAX_VALUE_BYTES: usize = 2048;

/// What one line says.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the keys of the line, in its order")]
pub struct AccessLine<'a> {
    pub at_ms: i64,
    pub client: SocketAddr,
    pub listener: SocketAddr,
    pub http: &'a str,
    pub tls: Option<TlsLine<'a>>,
    pub method: &'a [u8],
    pub host: &'a str,
    pub target: &'a [u8],
    pub user_agent: Option<&'a [u8]>,
    pub status: u16,
    pub verdict: &'a str,
    pub verdict_id: u64,
    pub number: Option<&'a str>,
    /// Forwarded although the verdict would have blocked it (monitor mode, an ACME challenge).
    pub is_let_through: bool,
    pub detail: Option<&'a str>,
    pub upstream: Option<&'a str>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration_us: u64,
    pub upstream_us: Option<u64>,
}

/// TLS facts of a line.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the keys of the line")]
pub struct TlsLine<'a> {
    pub version: &'a str,
    pub cipher: &'a str,
    pub sni: Option<&'a str>,
}

/// Where workers hand their buffers over.
#[derive(Debug, Clone)]
pub struct AccessLogSink {
    to: SyncSender<Vec<u8>>,
    /// Lines that could not be written and that no worker has counted yet.
    failed_lines: Arc<AtomicU64>,
}

/// The other end: run it on a thread of its own.
#[derive(Debug)]
pub struct AccessLogWriter {
    from: Receiver<Vec<u8>>,
    failed_lines: Arc<AtomicU64>,
}

impl AccessLogWriter {
    /// A sink and its writer.
    #[must_use]
    pub fn new() -> (AccessLogSink, Self) {
        let (to, from) = sync_channel(MAX_WAITING);
        let failed_lines = Arc::<AtomicU64>::default();
        (AccessLogSink { to, failed_lines: Arc::clone(&failed_lines) }, Self { from, failed_lines })
    }

    /// Opens the file for appending, and anew whenever `reopen` is asked for: a rotated file is let go.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path, reopen: &Reopen) -> io::Result<LogFile> {
        Ok(LogFile { path: path.to_owned(), file: append(path)?, reopen: reopen.clone() })
    }

    /// Writes until every sink is gone. Says when writing begins to fail, and when it goes on.
    pub fn run(self, mut out: impl Write) {
        let mut is_failing = false;
        while let Ok(lines) = self.from.recv() {
            // What failed may have left a part of a line behind.
            let begun = if is_failing { out.write_all(b"\n") } else { Ok(()) };
            match begun.and_then(|()| out.write_all(&lines)).and_then(|()| out.flush()) {
                Ok(()) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!("the access log is written again");
                    }
                }
                Err(error) => {
                    let lost = memchr::memchr_iter(b'\n', &lines).count() as u64;
                    self.failed_lines.fetch_add(lost, Ordering::Relaxed);
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(%error, "the access log can't be written; its lines are lost and counted");
                    }
                }
            }
        }
    }
}

/// Asks for the log's file to be opened anew before the next lines.
#[derive(Debug, Clone, Default)]
pub struct Reopen(Arc<AtomicBool>);

impl Reopen {
    /// Asks.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The log's file, found again by its name when it was rotated.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    reopen: Reopen,
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for LogFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.reopen.0.swap(false, Ordering::Relaxed) {
            match append(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => {
                    tracing::error!(%error, "the access log can't be opened anew; going on with the old file");
                }
            }
        }
        self.file.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// One worker's lines that were not handed over yet.
#[derive(Debug)]
pub struct LogBuffer {
    sink: Option<AccessLogSink>,
    lines: Vec<u8>,
    count: u64,
}

impl LogBuffer {
    /// `None`: nothing is logged, and nothing is spent on it.
    #[must_use]
    pub fn new(sink: Option<AccessLogSink>) -> Self {
        Self { sink, lines: Vec::new(), count: 0 }
    }

    /// Whether lines are wanted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Adds a line; gives how many lines were lost by handing over.
    #[must_use]
    pub fn add(&mut self, line: &AccessLine<'_>) -> u64 {
        write_line(&mut self.lines, line);
        self.count += 1;
        if self.lines.len() >= HAND_OVER_BYTES { self.hand_over() } else { 0 }
    }

    /// Hands over what there is; gives how many lines were lost.
    #[must_use]
    pub fn hand_over(&mut self) -> u64 {
        let Some(sink) = &self.sink else { return 0 };
        let failed = match sink.failed_lines.load(Ordering::Relaxed) {
            0 => 0,
            _ => sink.failed_lines.swap(0, Ordering::Relaxed),
        };
        if self.count == 0 {
            return failed;
        }
        let lines = std::mem::replace(&mut self.lines, Vec::with_capacity(HAND_OVER_BYTES + 4096));
        let count = std::mem::take(&mut self.count);
        match sink.to.try_send(lines) {
            Ok(()) => failed,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => failed + count,
        }
    }
}

fn write_line(out: &mut Vec<u8>, line: &AccessLine<'_>) {
    let time = jiff::Timestamp::from_millisecond(line.at_ms).unwrap_or_default();
    put(
        out,
        format_args!(
            r#"{{"time":"{time:.3}","client":"{}","listener":"{}","http":"{}""#,
            line.client, line.listener, line.http
        ),
    );
    if let Some(tls) = line.tls {
        put(out, format_args!(r#","tls":{{"version":"{}","cipher":"{}""#, tls.version, tls.cipher));
        if let Some(sni) = tls.sni {
            text(out, "sni", sni.as_bytes());
        }
        out.push(b'}');
    }
    text(out, "method", line.method);
    text(out, "host", line.host.as_bytes());
    text(out, "target", line.target);
    if let Some(agent) = line.user_agent {
        text(out, "user_agent", agent);
    }
    put(out, format_args!(r#","status":{},"verdict":"{}""#, line.status, line.verdict));
    put(out, format_args!(r#","verdict_id":"{:016x}""#, line.verdict_id));
    if line.is_let_through {
        out.extend_from_slice(br#","would_block":true"#);
    }
    for (key, value) in [("number", line.number), ("detail", line.detail), ("upstream", line.upstream)] {
        if let Some(value) = value {
            text(out, key, value.as_bytes());
        }
    }
    put(
        out,
        format_args!(
            r#","bytes_in":{},"bytes_out":{},"duration_us":{}"#,
            line.bytes_in, line.bytes_out, line.duration_us
        ),
    );
    if let Some(us) = line.upstream_us {
        put(out, format_args!(r#","upstream_us":{us}"#));
    }
    out.extend_from_slice(b"}\n");
}

fn put(out: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    // Writing to memory can't fail.
    let _ = out.write_fmt(what);
}

/// `,"key":"value"` with everything escaped that JSON or a terminal could take for something else.
fn text(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    put(out, format_args!(r#","{key}":""#));
    let value = &value[..value.len().min(MAX_VALUE_BYTES)];
    for piece in value.utf8_chunks() {
        for c in piece.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => {
                    put(out, format_args!("\\u{:04x}", u32::from(c)))
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !piece.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(target: &'a [u8], host: &'a str) -> AccessLine<'a> {
        AccessLine {
            at_ms: 1_700_000_000_123,
            client: "192.0.2.1:5".parse().unwrap(),
            listener: "192.0.2.2:80".parse().unwrap(),
            http: "1.1",
            tls: Some(TlsLine { version: "1.3", cipher: "x", sni: Some("a.example") }),
            method: b"GET",
            host,
            target,
            user_agent: None,
            status: 200,
            verdict: "allow",
            verdict_id: 255,
            number: Some("京ICP备12345678号-1"),
            is_let_through: false,
            detail: None,
            upstream: None,
            bytes_in: 1,
            bytes_out: 2,
            duration_us: 3,
            upstream_us: Some(4),
        }
    }

    #[test]
    fn hostile_values_stay_one_line_of_json() {
        for target in [&b"/\"\\\x00\x1b[31m\r\n\xff\xfe"[..], "/\u{2028}\u{85}é".as_bytes(), &[b'a'; 100_000]]
        {
            let mut out = Vec::new();
            write_line(&mut out, &line(target, "x\"y"));
            assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
            assert!(out.len() < 8 * MAX_VALUE_BYTES);
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(json["host"], "x\"y");
            assert_eq!(json["verdict_id"], "00000000000000ff");
            assert_eq!(json["time"], "2023-11-14T22:13:20.123Z");
            assert_eq!(json["tls"]["sni"], "a.example");
        }
    }

    #[test]
    fn what_the_writer_cannot_take_is_counted() {
        let (sink, writer) = AccessLogWriter::new();
        drop(writer);
        let mut buffer = LogBuffer::new(Some(sink));
        assert_eq!(buffer.add(&line(b"/", "a")) + buffer.add(&line(b"/", "a")), 0);
        assert_eq!(buffer.hand_over(), 2);
    }
}
