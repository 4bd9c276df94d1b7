//! What a line of the access log says, and how it is written: as JSON, or in the combined format of web servers.
//!
//! Whatever a client sent is escaped: a line stays one line, and a terminal that shows it obeys nothing in it. Pure.

use super::escape::{put_escaped, put_hexed};
use crate::digits::Digits;
use crate::filing::FilingNumber;
use std::net::{IpAddr, SocketAddr};

/// Octets that most lines take at most: room for them is made once.
const LINE_BYTES: usize = 1024;
/// The most octets of one client-sent value in a line.
const MAX_VALUE_BYTES: usize = 2048;
/// What stands for a status where the client was gone before there was one (nginx's).
const NO_STATUS: u64 = 499;

macro_rules! fields {
    ($($variant:ident $key:literal $default:literal,)*) => {
        /// Something that a line may say, in the order of lines that say all.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is called what its key is")]
        pub enum LogField {
            $($variant,)*
        }

        impl LogField {
            /// All of them.
            pub const ALL: [Self; [$($key,)*].len()] = [$(Self::$variant,)*];

            /// Its key in a line.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $key,)*
                }
            }

            /// The same as it stands in an object of JSON, behind another.
            const fn json_key(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!(",\"", $key, "\":"),)*
                }
            }

            /// Whether lines say it where the operator does not choose.
            #[must_use]
            pub fn is_default(self) -> bool {
                match self {
                    $(Self::$variant => $default,)*
                }
            }
        }
    };
}

fields! {
    Time "time" true,
    Client "client" true,
    Caller "caller" true,
    Listener "listener" true,
    Http "http" true,
    Tls "tls" true,
    Method "method" true,
    Host "host" true,
    Target "target" true,
    Referer "referer" false,
    UserAgent "user_agent" true,
    Status "status" true,
    Verdict "verdict" true,
    VerdictId "verdict_id" true,
    WouldBlock "would_block" true,
    Number "number" true,
    Detail "detail" true,
    Upstream "upstream" true,
    BytesIn "bytes_in" true,
    BytesOut "bytes_out" true,
    DurationUs "duration_us" true,
    UpstreamUs "upstream_us" true,
    HeadUs "head_us" false,
    QueueUs "queue_us" false,
    ConnectUs "connect_us" false,
    Ended "ended" true,
    TraceId "trace_id" true,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStyle {
    /// An object of JSON.
    Json,
    /// The combined format, and the fields behind it as `key=value`.
    Combined,
}

/// What lines say, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLayout {
    /// How they are written.
    pub style: LogStyle,
    /// In this order; each once.
    pub fields: Vec<LogField>,
}

impl Default for LogLayout {
    fn default() -> Self {
        let fields = LogField::ALL.into_iter().filter(|field| field.is_default()).collect();
        Self { style: LogStyle::Json, fields }
    }
}

impl LogLayout {
    /// Whether lines say so: what nobody reads need not be found out.
    #[must_use]
    pub fn wants(&self, field: LogField) -> bool {
        let of_combined = [LogField::Referer, LogField::UserAgent, LogField::Caller];
        self.fields.contains(&field) || (self.style == LogStyle::Combined && of_combined.contains(&field))
    }
}

/// What one line says.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "called what their keys are")]
pub struct AccessLine<'a> {
    pub at_ms: i64,
    pub client: SocketAddr,
    /// Whom a trusted peer speaks for.
    pub caller: Option<IpAddr>,
    pub listener: SocketAddr,
    /// Where that has no address.
    pub listener_path: Option<&'a str>,
    pub http: &'a str,
    pub tls: Option<TlsLine<'a>>,
    pub method: &'a [u8],
    pub host: &'a [u8],
    pub target: &'a [u8],
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    /// 0: there was none.
    pub status: u16,
    pub verdict: &'a str,
    pub verdict_id: u64,
    pub number: Option<&'a FilingNumber>,
    /// Forwarded although the verdict would have blocked it (monitor mode, an ACME challenge).
    pub is_let_through: bool,
    pub detail: Option<&'a str>,
    pub upstream: Option<&'a str>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration_us: u64,
    pub upstream_us: Option<u64>,
    pub head_us: Option<u64>,
    pub queue_us: Option<u64>,
    pub connect_us: Option<u64>,
    /// Who ended it, and in which phase: two letters.
    pub ended: &'a str,
    pub trace_id: Option<u128>,
}

/// TLS facts of a line.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the keys of the line")]
pub struct TlsLine<'a> {
    pub version: &'a str,
    pub cipher: &'a str,
    pub sni: Option<&'a str>,
}

/// A second as lines write it: most lines are of the second of the one before.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<i64>,
    iso: String,
    combined: String,
}

impl Stamp {
    fn at(&mut self, second: i64) {
        if self.second.replace(second) == Some(second) {
            return;
        }
        let at = jiff::Timestamp::from_second(second).unwrap_or_default();
        self.iso = at.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        self.combined = at.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
    }
}

/// What a field is in one line.
enum Value<'a> {
    Time,
    /// Anything at all.
    Text(&'a [u8]),
    /// A word of the gate's own, with nothing in it to escape.
    Word(&'a str),
    Socket(SocketAddr),
    Address(IpAddr),
    Number(u64),
    Id(u64),
    Trace(u128),
    Filing(&'a FilingNumber),
    Tls(TlsLine<'a>),
    Yes,
}

impl<'a> AccessLine<'a> {
    /// `None`: there is nothing to say.
    fn value(&self, field: LogField) -> Option<Value<'a>> {
        let text = |text: &'a str| Value::Text(text.as_bytes());
        Some(match field {
            LogField::Time => Value::Time,
            LogField::Client => Value::Socket(self.client),
            LogField::Caller => Value::Address(self.caller?),
            LogField::Listener => self.listener_path.map_or(Value::Socket(self.listener), text),
            LogField::Http => Value::Word(self.http),
            LogField::Tls => Value::Tls(self.tls?),
            LogField::Method => Value::Text(self.method),
            LogField::Host => Value::Text(self.host),
            LogField::Target => Value::Text(self.target),
            LogField::Referer => Value::Text(self.referer?),
            LogField::UserAgent => Value::Text(self.user_agent?),
            LogField::Status => Value::Number(self.status.into()),
            LogField::Verdict => Value::Word(self.verdict),
            LogField::VerdictId => Value::Id(self.verdict_id),
            LogField::WouldBlock => self.is_let_through.then_some(Value::Yes)?,
            LogField::Number => Value::Filing(self.number?),
            LogField::Detail => text(self.detail?),
            LogField::Upstream => text(self.upstream?),
            LogField::BytesIn => Value::Number(self.bytes_in),
            LogField::BytesOut => Value::Number(self.bytes_out),
            LogField::DurationUs => Value::Number(self.duration_us),
            LogField::UpstreamUs => Value::Number(self.upstream_us?),
            LogField::HeadUs => Value::Number(self.head_us?),
            LogField::QueueUs => Value::Number(self.queue_us?),
            LogField::ConnectUs => Value::Number(self.connect_us?),
            LogField::Ended => Value::Word(self.ended),
            LogField::TraceId => Value::Trace(self.trace_id?),
        })
    }
}

/// Adds a line.
pub(super) fn write_line(out: &mut Vec<u8>, stamp: &mut Stamp, layout: &LogLayout, line: &AccessLine<'_>) {
    stamp.at(line.at_ms.div_euclid(1000));
    out.reserve(LINE_BYTES);
    match layout.style {
        LogStyle::Json => write_json(out, stamp, layout, line),
        LogStyle::Combined => write_combined(out, stamp, layout, line),
    }
    out.push(b'\n');
}

fn write_json(out: &mut Vec<u8>, stamp: &Stamp, layout: &LogLayout, line: &AccessLine<'_>) {
    let start = out.len();
    for field in &layout.fields {
        let Some(value) = line.value(*field) else { continue };
        out.extend_from_slice(field.json_key().as_bytes());
        match value {
            Value::Number(number) => put_decimal(out, number),
            Value::Yes => out.extend_from_slice(b"true"),
            Value::Tls(tls) => put_tls(out, &tls),
            value => {
                out.push(b'"');
                put_bare(out, stamp, line, (&value, LogStyle::Json));
                out.push(b'"');
            }
        }
    }
    match out.get_mut(start) {
        // In place of the comma before the first.
        Some(first) => *first = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

fn put_tls(out: &mut Vec<u8>, tls: &TlsLine<'_>) {
    for (key, word) in [("{\"version\":\"", tls.version), ("\",\"cipher\":\"", tls.cipher)] {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(word.as_bytes());
    }
    if let Some(sni) = tls.sni {
        out.extend_from_slice(b"\",\"sni\":\"");
        put_escaped(out, sni.as_bytes());
    }
    out.extend_from_slice(b"\"}");
}

/// A value without quotes; text by the escapes of the style.
fn put_bare(out: &mut Vec<u8>, stamp: &Stamp, line: &AccessLine<'_>, (value, style): (&Value<'_>, LogStyle)) {
    match value {
        Value::Time => {
            let millis = u64::try_from(line.at_ms.rem_euclid(1000)).unwrap_or(0);
            out.extend_from_slice(stamp.iso.as_bytes());
            out.push(b'.');
            out.extend_from_slice(Digits::padded(millis, 3).as_bytes());
            out.push(b'Z');
        }
        Value::Text(text) => put_text(out, style, &text[..text.len().min(MAX_VALUE_BYTES)]),
        Value::Word(word) => out.extend_from_slice(word.as_bytes()),
        Value::Socket(address) => out.extend_from_slice(Digits::socket(*address).as_bytes()),
        Value::Address(address) => out.extend_from_slice(Digits::ip(*address).as_bytes()),
        Value::Number(number) => put_decimal(out, *number),
        Value::Id(id) => out.extend_from_slice(Digits::hexadecimal((*id).into(), 16).as_bytes()),
        Value::Trace(id) => out.extend_from_slice(Digits::hexadecimal(*id, 32).as_bytes()),
        Value::Filing(number) => put_filing(out, style, number),
        Value::Tls(tls) => {
            for word in [tls.version, tls.cipher] {
                out.extend_from_slice(word.as_bytes());
                out.push(b' ');
            }
            put_text(out, style, tls.sni.unwrap_or("-").as_bytes());
        }
        Value::Yes => out.extend_from_slice(b"true"),
    }
}

fn put_text(out: &mut Vec<u8>, style: LogStyle, text: &[u8]) {
    match style {
        LogStyle::Json => put_escaped(out, text),
        LogStyle::Combined => put_hexed(out, text),
    }
}

/// The text of a common number has nothing in it that JSON escapes; the combined format escapes what is not ASCII.
fn put_filing(out: &mut Vec<u8>, style: LogStyle, number: &FilingNumber) {
    let start = out.len();
    number.put(out);
    if style == LogStyle::Combined || number.pack().is_none() {
        let text = out.split_off(start);
        put_text(out, style, &text);
    }
}

/// As NCSA's servers began to write it and all others went on.
fn write_combined(out: &mut Vec<u8>, stamp: &Stamp, layout: &LogLayout, line: &AccessLine<'_>) {
    let client = line.caller.unwrap_or(line.client.ip().to_canonical());
    out.extend_from_slice(Digits::ip(client).as_bytes());
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(stamp.combined.as_bytes());
    out.extend_from_slice(b"] \"");
    if line.method.is_empty() {
        out.push(b'-');
    } else {
        let short = |text: &'_ [u8]| text.len().min(MAX_VALUE_BYTES);
        put_hexed(out, &line.method[..short(line.method)]);
        out.push(b' ');
        put_hexed(out, &line.target[..short(line.target)]);
        out.extend_from_slice(b" HTTP/");
        out.extend_from_slice(if line.http == "2" { b"2.0" } else { line.http.as_bytes() });
    }
    let status = if line.status == 0 { NO_STATUS } else { line.status.into() };
    out.extend_from_slice(b"\" ");
    put_decimal(out, status);
    out.push(b' ');
    put_decimal(out, line.bytes_out);
    for text in [line.referer, line.user_agent] {
        out.extend_from_slice(b" \"");
        put_hexed(out, text.map_or(b"-", |text| &text[..text.len().min(MAX_VALUE_BYTES)]));
        out.push(b'"');
    }
    for field in &layout.fields {
        let Some(value) = line.value(*field) else { continue };
        out.push(b' ');
        out.extend_from_slice(field.as_str().as_bytes());
        out.push(b'=');
        let is_quoted = matches!(value, Value::Text(_) | Value::Filing(_) | Value::Tls(_));
        let quote: &[u8] = if is_quoted { b"\"" } else { b"" };
        out.extend_from_slice(quote);
        put_bare(out, stamp, line, (&value, LogStyle::Combined));
        out.extend_from_slice(quote);
    }
}

fn put_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(Digits::decimal(number).as_bytes());
}

#[cfg(test)]
impl<'a> AccessLine<'a> {
    /// A line with something in most places.
    pub(super) fn of_test(host: &'a str) -> Self {
        Self {
            at_ms: 1_700_000_000_123,
            client: "192.0.2.1:5".parse().unwrap(),
            caller: None,
            listener: "192.0.2.2:80".parse().unwrap(),
            listener_path: None,
            http: "1.1",
            tls: Some(TlsLine { version: "1.3", cipher: "x", sni: Some("a.example") }),
            method: b"GET",
            host: host.as_bytes(),
            target: b"/",
            referer: None,
            user_agent: None,
            status: 200,
            verdict: "allow",
            verdict_id: 255,
            number: None,
            is_let_through: false,
            detail: None,
            upstream: None,
            bytes_in: 1,
            bytes_out: 2,
            duration_us: 3,
            upstream_us: Some(4),
            head_us: Some(5),
            queue_us: None,
            connect_us: Some(6),
            ended: "--",
            trace_id: Some(7),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(target: &'a [u8], host: &'a str) -> AccessLine<'a> {
        AccessLine { target, ..AccessLine::of_test(host) }
    }

    fn written(style: LogStyle, fields: &[LogField], line: &AccessLine<'_>) -> String {
        let mut out = Vec::new();
        write_line(&mut out, &mut Stamp::default(), &LogLayout { style, fields: fields.to_vec() }, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hostile_values_stay_one_line_of_json() {
        for target in
            [&b"/\"\\\x00\x1b[31m\r\n\xff\xfe"[..], "/\u{2028}\u{85}\u{202e}é".as_bytes(), &[b'a'; 100_000]]
        {
            let out = written(LogStyle::Json, &LogLayout::default().fields, &line(target, "x\"y"));
            assert_eq!(memchr::memchr_iter(b'\n', out.as_bytes()).count(), 1);
            assert!(out.len() < 8 * MAX_VALUE_BYTES && !out.contains(['\u{1b}', '\u{202e}', '\u{85}']));
            let json: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(json["host"], "x\"y");
            assert_eq!(json["verdict_id"], "00000000000000ff");
            assert_eq!(json["time"], "2023-11-14T22:13:20.123Z");
            assert_eq!(json["tls"]["sni"], "a.example");
        }
    }

    #[test]
    fn lines_say_what_was_chosen_in_that_order() {
        let it = line(b"/", "a");
        let fields = [LogField::Ended, LogField::QueueUs, LogField::ConnectUs, LogField::Host];
        assert_eq!(
            written(LogStyle::Json, &fields, &it),
            "{\"ended\":\"--\",\"connect_us\":6,\"host\":\"a\"}\n"
        );
        assert_eq!(written(LogStyle::Json, &[LogField::Detail], &it), "{}\n");
        for text in ["京ICP备12345678号-1", "粤B2-20090059-5", "蜀ICP备05000001号"] {
            let number = text.parse().unwrap();
            let filed = AccessLine { number: Some(&number), ..it };
            let json = written(LogStyle::Json, &[LogField::Number], &filed);
            assert_eq!(json, format!("{{\"number\":\"{text}\"}}\n"));
            let hexed: String = text
                .bytes()
                .map(|octet| match octet {
                    b' '..=b'~' => char::from(octet).to_string(),
                    octet => format!("\\x{octet:02X}"),
                })
                .collect();
            let combined = written(LogStyle::Combined, &[LogField::Number], &filed);
            assert!(combined.ends_with(&format!(" number=\"{hexed}\"\n")), "{combined}");
        }
        let all: serde_json::Value =
            serde_json::from_str(&written(LogStyle::Json, &LogField::ALL, &it)).unwrap();
        for field in LogField::ALL {
            assert_eq!(all.get(field.as_str()).is_some(), it.value(field).is_some(), "{field:?}");
        }
    }

    #[test]
    fn the_combined_format() {
        let start = "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] ";
        let mut it = line(b"/a?b=\"\x1b\xe4\\", "a");
        assert_eq!(
            written(LogStyle::Combined, &[], &it),
            format!("{start}\"GET /a?b=\\x22\\x1B\\xE4\\x5C HTTP/1.1\" 200 2 \"-\" \"-\"\n")
        );
        it = AccessLine {
            caller: Some("2001:db8::1".parse().unwrap()),
            method: b"",
            status: 0,
            referer: Some(b"https://x/"),
            user_agent: Some(b"curl \"8\"\n"),
            ..it
        };
        let fields = [LogField::Host, LogField::Verdict, LogField::Time, LogField::Tls];
        assert_eq!(
            written(LogStyle::Combined, &fields, &it),
            "2001:db8::1 - - [14/Nov/2023:22:13:20 +0000] \"-\" 499 2 \"https://x/\" \"curl \\x228\\x22\\x0A\" host=\"a\" \
             verdict=allow time=2023-11-14T22:13:20.123Z tls=\"1.3 x a.example\"\n"
        );
    }
}
