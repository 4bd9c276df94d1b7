//! Header fields on their way through: what is passed on, what is dropped, what the gate sets. Pure.
//!
//! Sources: RFC 9110, 7.6 (hop-by-hop, Via), RFC 7239 (Forwarded); attacks, section 2: fields that route or
//! speak of the client are the gate's to write, unless the peer is one that the operator trusts.

use crate::digits::Digits;
use crate::gate::buffer::WriteBuffer;
use crate::gate::field_rules::FieldRules;
use crate::gate::http1::framing::Framing;
use crate::gate::http1::head::ResponseHead;
use crate::gate::request::{BodyLength, Field, Known, RequestHead, Version, list_elements};
use crate::gate::trace::Trace;
use std::net::SocketAddr;
use std::ops::Range;

/// What the gate says of a request to its upstream.
#[derive(Debug, Clone, Copy)]
pub struct Onward<'a> {
    /// The canonical name (or address) that was judged: the one Host that the upstream sees.
    pub host: &'a [u8],
    /// The client as TCP or a trusted PROXY header names it.
    pub client: SocketAddr,
    /// Whether that peer's own forwarding fields are believed.
    pub is_trusted: bool,
    /// Whether the client came by TLS.
    pub is_tls: bool,
    /// This gate's name in Via.
    pub via: &'a str,
    /// What TLS told of the client's certificate, as lines of a head, where the site asks for one.
    pub certificate: Option<&'a [u8]>,
    /// What the operator takes out and puts in.
    pub rules: Option<&'a FieldRules>,
    /// A trace that was begun here, in place of what the client names.
    pub trace: Option<&'a Trace>,
}

/// Whether the request came by the gate that is called `via` before.
#[must_use]
pub fn has_looped(head: &RequestHead, via: &str) -> bool {
    head.values(Known::Via)
        .flat_map(list_elements)
        .any(|hop| hop.split(|octet| *octet == b' ').any(|word| word == via.as_bytes()))
}

/// Writes the request head that goes to an HTTP/1.1 upstream.
pub fn write_request(head: &RequestHead, onward: &Onward<'_>, out: &mut WriteBuffer) {
    put_request_line(head, out);
    out.put(b"host: ");
    out.put(onward.host);
    out.put(b"\r\n");
    let is_picked = head.wishes.names || onward.rules.is_some() || onward.trace.is_some();
    let mut has_cookie = false;
    let mut lines = Lines::new(&head.text, out);
    for field in head.fields.iter() {
        let name = field.name.of(&head.text);
        if head.version == Version::Http2 && name == b"cookie" {
            // Pieces of one field (RFC 9113, 8.2.3): put together below.
            has_cookie = true;
        } else if is_passed_on(field, name, onward) && !(is_picked && is_left_out(head, onward, name)) {
            lines.pass_on(field);
        }
    }
    lines.put();
    if has_cookie && !is_left_out(head, onward, b"cookie") {
        put_cookies(head, out);
    }
    match head.body {
        BodyLength::None if has_content_length(head) => out.put(b"content-length: 0\r\n"),
        BodyLength::None => {}
        BodyLength::Exactly(octets) => put_number(out, b"content-length: ", octets),
        BodyLength::Unknown => out.put(b"transfer-encoding: chunked\r\n"),
    }
    if let Some(upgrade) = head.upgrade {
        put_field(out, b"connection", b"upgrade");
        put_field(out, b"upgrade", upgrade.of(&head.text));
    }
    put_forwarding(head, onward, out);
    if let Some(trace) = onward.trace {
        put_field(out, b"traceparent", &trace.text());
    }
    if let Some(rules) = onward.rules {
        rules.put(out);
    }
    out.put(b"\r\n");
}

fn put_request_line(head: &RequestHead, out: &mut WriteBuffer) {
    // Mostly it goes on as it came.
    if let Some(line) = head.line_to_pass_on() {
        return out.put(line);
    }
    put_all(out, &[head.method(), b" ", head.path(), b" HTTP/1.1\r\n"]);
}

fn has_content_length(head: &RequestHead) -> bool {
    head.fields.has(Known::ContentLength)
}

/// Fields on their way through: what stands in one piece goes in one piece.
struct Lines<'a> {
    text: &'a [u8],
    out: &'a mut WriteBuffer,
    /// Whole lines of `text` that are still to be put.
    run: Range<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8], out: &'a mut WriteBuffer) -> Self {
        Self { text, out, run: 0..0 }
    }

    fn pass_on(&mut self, field: &Field) {
        match field.line(self.text) {
            Some(line) if line.start == self.run.end => self.run.end = line.end,
            Some(line) => {
                self.put();
                self.run = line;
            }
            None => {
                self.put();
                put_field(self.out, field.name.of(self.text), field.value.of(self.text));
            }
        }
    }

    /// Puts what is gathered.
    fn put(&mut self) {
        self.out.put(&self.text[self.run.clone()]);
        self.run = 0..0;
    }
}

/// Underscored names are dropped: many an upstream takes them for their dashed twins. What speaks of a client's
/// certificate is believed of a trusted peer that ended the client's TLS, and of nobody else.
fn is_passed_on(field: &Field, name: &[u8], onward: &Onward<'_>) -> bool {
    let is_known = match field.known {
        Known::Other | Known::Accept | Known::AcceptLanguage | Known::UserAgent => true,
        Known::ClientCertificate => onward.is_trusted && onward.certificate.is_none(),
        _ => false,
    };
    is_known && !name.contains(&b'_')
}

/// Whether a field is the last neighbour's alone, or one that the operator takes out.
fn is_left_out(head: &RequestHead, onward: &Onward<'_>, name: &[u8]) -> bool {
    (head.wishes.names && is_named_in_connection(head, name))
        || onward.rules.is_some_and(|rules| rules.drops(name))
        || onward.trace.is_some_and(|trace| trace.replaces(name))
}

fn is_named_in_connection(head: &RequestHead, name: &[u8]) -> bool {
    head.values(Known::Connection).flat_map(list_elements).any(|token| token.eq_ignore_ascii_case(name))
}

fn put_cookies(head: &RequestHead, out: &mut WriteBuffer) {
    let cookies = head.fields.iter().map(|field| head.field(field)).filter(|(name, _)| *name == b"cookie");
    for (index, (_, value)) in cookies.enumerate() {
        out.put(if index == 0 { b"cookie: " } else { b"; " });
        out.put(value);
    }
    out.put(b"\r\n");
}

fn put_forwarding(head: &RequestHead, onward: &Onward<'_>, out: &mut WriteBuffer) {
    let ip = onward.client.ip().to_canonical();
    let client = Digits::ip(ip);
    let (host, proto): (_, &[u8]) = (onward.host, if onward.is_tls { b"https" } else { b"http" });
    out.put(b"via: ");
    for hop in head.values(Known::Via) {
        put_all(out, &[hop, b", "]);
    }
    out.put(match head.version {
        Version::Http10 => b"1.0 ",
        Version::Http11 => b"1.1 ",
        Version::Http2 => b"2 ",
    });
    out.put(onward.via.as_bytes());
    out.put(b"\r\nx-forwarded-for: ");
    if onward.is_trusted {
        for chain in head.values(Known::ForwardedFor) {
            put_all(out, &[chain, b", "]);
        }
    }
    out.put(client.as_bytes());
    let believed = if onward.is_trusted { trusted_fields(head) } else { Trusted::default() };
    out.put(b"\r\nx-forwarded-proto: ");
    out.put(believed.proto.unwrap_or(proto));
    out.put(b"\r\nx-forwarded-host: ");
    out.put(host);
    out.put(b"\r\nforwarded: ");
    for chain in believed.forwarded {
        put_all(out, &[chain, b", "]);
    }
    let is_v6 = ip.is_ipv6();
    out.put(if is_v6 { b"for=\"[" } else { b"for=" });
    out.put(client.as_bytes());
    out.put(if is_v6 { b"]\";host=" } else { b";host=" });
    // A bracketed address is no token (RFC 7239, 4): quoted.
    let quote: &[u8] = if host.starts_with(b"[") { b"\"" } else { b"" };
    put_all(out, &[quote, host, quote]);
    out.put(if onward.is_tls { b";proto=https\r\n" } else { b";proto=http\r\n" });
    if let Some(lines) = onward.certificate {
        out.put(lines);
    }
}

#[derive(Default)]
struct Trusted<'a> {
    proto: Option<&'a [u8]>,
    forwarded: Vec<&'a [u8]>,
}

fn trusted_fields(head: &RequestHead) -> Trusted<'_> {
    let mut trusted = Trusted::default();
    for field in head.fields.of(Known::Forwarding) {
        let (name, value) = head.field(field);
        if name.eq_ignore_ascii_case(b"x-forwarded-proto") {
            trusted.proto = Some(value);
        } else if name.eq_ignore_ascii_case(b"forwarded") {
            trusted.forwarded.push(value);
        }
    }
    trusted
}

/// Whether a response says that its connection ends with it.
#[must_use]
pub fn says_close(head: &ResponseHead) -> bool {
    head.wishes.close
}

fn connection_of(head: &ResponseHead) -> impl Iterator<Item = &[u8]> {
    head.fields.of(Known::Connection).flat_map(|f| list_elements(f.value.of(&head.text)))
}

/// A response's fields that go on to the client: neither hop-by-hop nor the gate's own.
pub fn response_fields(head: &ResponseHead) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields_to_client(head).map(|field| (field.name.of(&head.text), field.value.of(&head.text)))
}

fn fields_to_client(head: &ResponseHead) -> impl Iterator<Item = &Field> {
    let named = head.wishes.names;
    head.fields.iter().filter(move |field| {
        let is_kept = !matches!(
            field.known,
            Known::Dropped
                | Known::Te
                | Known::Connection
                | Known::TransferEncoding
                | Known::ContentLength
                | Known::Upgrade
        );
        let name = field.name.of(&head.text);
        let is_named = || named && connection_of(head).any(|token| token.eq_ignore_ascii_case(name));
        is_kept && !is_named()
    })
}

/// The Via of a response that an upstream sent in HTTP/1.0, in HTTP/1.1 and in HTTP/2.
#[must_use]
pub fn response_vias(via: &str) -> [String; 3] {
    [Version::Http10, Version::Http11, Version::Http2].map(|version| format!("{} {via}", version.as_str()))
}

/// The Content-Length of a response, which also describes bodies that are not sent (HEAD, 304).
#[must_use]
pub fn response_length(head: &ResponseHead) -> Option<u64> {
    match head.framing {
        Framing::Length(octets) => Some(octets),
        _ => None,
    }
}

/// How a response goes to an HTTP/1 client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The fields say it all: length, or no body.
    AsFramed,
    /// Chunked.
    Chunked,
    /// The end of the connection ends it (HTTP/1.0 clients).
    UntilClose,
}

/// Writes a forwarded response head for an HTTP/1 client.
pub fn write_response(
    head: &ResponseHead,
    delivery: Delivery,
    keeps: bool,
    (to, via): (Version, &str),
    out: &mut WriteBuffer,
) {
    put_status_line(out, head.status);
    let mut lines = Lines::new(&head.text, out);
    fields_to_client(head).for_each(|field| lines.pass_on(field));
    lines.put();
    // RFC 9110, 8.6: none with 1xx and 204.
    if let Some(octets) = response_length(head).filter(|_| head.status >= 200 && head.status != 204) {
        put_number(out, b"content-length: ", octets);
    }
    put_all(out, &[b"via: ", head.version.as_str().as_bytes(), b" ", via.as_bytes(), b"\r\n"]);
    if delivery == Delivery::Chunked {
        out.put(b"transfer-encoding: chunked\r\n");
    }
    match (keeps, to) {
        (false, _) => out.put(b"connection: close\r\n"),
        (true, Version::Http10) => out.put(b"connection: keep-alive\r\n"),
        (true, _) => {}
    }
    out.put(b"\r\n");
}

/// Writes the head of a `101 Switching Protocols`.
pub fn write_switch(head: &ResponseHead, out: &mut WriteBuffer) {
    put_status_line(out, 101);
    for field in head.fields.iter() {
        let name = field.name.of(&head.text);
        if matches!(field.known, Known::Other | Known::Upgrade) {
            put_field(out, name, field.value.of(&head.text));
        }
    }
    out.put(b"connection: upgrade\r\n\r\n");
}

/// Writes `HTTP/1.1 STATUS REASON`.
pub fn put_status_line(out: &mut WriteBuffer, status: u16) {
    if status == 200 {
        return out.put(b"HTTP/1.1 200 OK\r\n");
    }
    let reason = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or(
        match status {
            451 => "Unavailable For Legal Reasons",
            _ => "",
        },
    );
    out.put(b"HTTP/1.1 ");
    put_decimal(out, status.into());
    put_all(out, &[b" ", reason.as_bytes(), b"\r\n"]);
}

/// Writes one field.
pub fn put_field(out: &mut WriteBuffer, name: &[u8], value: &[u8]) {
    put_all(out, &[name, b": ", value, b"\r\n"]);
}

fn put_all(out: &mut WriteBuffer, pieces: &[&[u8]]) {
    for piece in pieces {
        out.put(piece);
    }
}

fn put_number(out: &mut WriteBuffer, name: &[u8], number: u64) {
    out.put(name);
    put_decimal(out, number);
    out.put(b"\r\n");
}

/// Writes a number.
pub fn put_decimal(out: &mut WriteBuffer, number: u64) {
    out.put(Digits::decimal(number).as_bytes());
}
