//! Our HTTP/1.1 request reader against hyper's: whatever both accept they must read alike, request after request on
//! one connection: method, target, fields (Host among them), body framing, body octets, and where the next one begins.
//!
//! What we accept is also written as it goes to an upstream and read again: one head, with the same reading.
//!
//! We refuse more than hyper does, on purpose. The reverse is a finding, but for what `is_ours_to_accept` lists.

#![no_main]

use beian_gate::domain::Authority;
use beian_gate::gate::buffer::WriteBuffer;
use beian_gate::gate::headers::{self, Onward};
use beian_gate::gate::http1::body::{BodyDecoder, Step};
use beian_gate::gate::http1::head::{self, HeadLimits};
use beian_gate::gate::request::{BodyLength, Known, RequestHead, Version};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, fields: 100 };
/// How HTTP/2 without TLS begins: no HTTP/1.1 to us.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fuzz_target!(|input: &[u8]| {
    // Below hyper's own limits on chunk extensions and heads.
    if input.len() < 8 * 1024 && !input.starts_with(HTTP2_PREFACE) {
        let theirs = theirs(input);
        ours(input, &theirs);
    }
});

/// How a body came to its end, or did not.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    Whole,
    Cut,
    Malformed,
}

/// A request as hyper reads it.
#[derive(Debug)]
struct Theirs {
    parts: http::request::Parts,
    length: Option<u64>,
    body: Vec<u8>,
    ending: Ending,
}

/// Reads requests as `gate::http1` does, holding each against the one that hyper read in its place.
fn ours(mut input: &[u8], theirs: &[Theirs]) {
    let mut request = RequestHead::default();
    for place in 0.. {
        // One empty line before a request is let pass.
        input = input.strip_prefix(b"\r\n").unwrap_or(input);
        let Ok(Some(end)) = head::find_end(input, 0, LIMITS) else { return };
        if head::check_begun(input).is_err()
            || head::parse_request(&input[..end], LIMITS, &mut request).is_err()
        {
            return;
        }
        let (body, used, ending) = body(request.body, &input[end..]);
        if let Some(Ok(authority)) = &request.authority {
            survives_the_way_on(&request, authority);
        }
        let Some(other) = theirs.get(place) else {
            let line = String::from_utf8_lossy(&input[..end]);
            assert!(
                is_ours_to_accept(&request),
                "hyper refuses, or does not come to, request {place}: {line}"
            );
            return;
        };
        agree_on_head(&request, other);
        let lines = input[end..end + used].iter().filter(|octet| **octet == b'\n').count();
        agree_on_body(&request, (&body, ending, lines), other);
        if ending != Ending::Whole
            || other.ending != Ending::Whole
            || !request.keep_alive
            || request.upgrade.is_some()
        {
            return;
        }
        input = &input[end + used..];
    }
}

/// What we accept and hyper does not.
fn is_ours_to_accept(request: &RequestHead) -> bool {
    // The authority is judged where the verdict falls: the gate answers 400 to it, but reads on.
    let is_refused_later = !matches!(request.authority, Some(Ok(_)));
    // Octets that RFC 3986 keeps out of URIs, but that browsers and others send; upstreams get them as they are.
    let is_odd_target = http::Uri::try_from(request.target.of(&request.text)).is_err();
    is_refused_later || is_odd_target
}

fn agree_on_head(request: &RequestHead, other: &Theirs) {
    let parts = &other.parts;
    assert_eq!(request.method(), parts.method.as_str().as_bytes(), "method");
    assert_eq!(request.version == Version::Http11, parts.version == http::Version::HTTP_11, "version");
    if let Some(Ok(authority)) = &request.authority {
        agree_on_target(request, authority, parts);
    }
    assert_eq!(request.fields.len(), parts.headers.len(), "number of fields");
    for name in parts.headers.keys() {
        let ours = request.fields.iter().map(|field| request.field(field));
        let ours = ours.filter(|(ours, _)| ours.eq_ignore_ascii_case(name.as_str().as_bytes()));
        let theirs = parts.headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
        assert!(ours.map(|(_, value)| value).eq(theirs), "values of {name}");
    }
    let known = [
        (Known::Host, http::header::HOST),
        (Known::ContentLength, http::header::CONTENT_LENGTH),
        (Known::TransferEncoding, http::header::TRANSFER_ENCODING),
        (Known::Connection, http::header::CONNECTION),
    ];
    for (known, name) in known {
        let theirs = parts.headers.get_all(&name).iter().map(http::HeaderValue::as_bytes);
        assert!(request.values(known).eq(theirs), "what we know as {name}");
    }
}

fn agree_on_target(request: &RequestHead, authority: &Authority, parts: &http::request::Parts) {
    let theirs = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    // A server-wide OPTIONS in absolute form (RFC 9112, 3.2.4): hyper leaves that to its user.
    let is_server_wide = request.path() == b"*" && parts.method == http::Method::OPTIONS;
    if !is_server_wide {
        assert_eq!(String::from_utf8_lossy(request.path()), theirs, "path");
    }
    if let Some(in_target) = parts.uri.authority() {
        let in_target = Authority::from_wire(in_target.as_str().as_bytes());
        assert_eq!(in_target.map(|it| it.host).as_ref(), Ok(&authority.host), "authority in the target");
    }
    let host = parts.headers.get(http::header::HOST).expect("we accept none without").as_bytes();
    assert_eq!(Authority::from_wire(host).as_ref(), Ok(authority), "Host");
}

fn agree_on_body(request: &RequestHead, (body, ending, lines): (&[u8], Ending, usize), other: &Theirs) {
    let length = match request.body {
        BodyLength::None => Some(0),
        BodyLength::Exactly(octets) => Some(octets),
        BodyLength::Unknown => None,
    };
    assert_eq!(length, other.length, "body framing");
    let common = body.len().min(other.body.len());
    assert_eq!(body[..common], other.body[..common], "body octets");
    match (ending, other.ending) {
        (Ending::Whole, Ending::Whole) => assert_eq!(body, other.body, "whole bodies"),
        // We drop trailers, up to 8 KiB of them; hyper counts them.
        (Ending::Whole, _) if lines > LIMITS.fields => {}
        (Ending::Whole, _) => panic!("we see an end and hyper does not"),
        (Ending::Cut, Ending::Whole) => panic!("hyper sees an end and we wait for more"),
        _ => {}
    }
}

/// Body octets, octets used, and how it ended.
fn body(length: BodyLength, input: &[u8]) -> (Vec<u8>, usize, Ending) {
    let (mut decoder, mut body, mut used) = (BodyDecoder::for_request(length), Vec::new(), 0);
    loop {
        match decoder.step(&input[used..]) {
            Ok(Step::Skip(octets)) => used += octets,
            Ok(Step::Data(octets)) => {
                body.extend_from_slice(&input[used..used + octets]);
                used += octets;
            }
            Ok(Step::NeedInput) => return (body, used, Ending::Cut),
            Ok(Step::Done) => return (body, used, Ending::Whole),
            Err(_) => return (body, used, Ending::Malformed),
        }
    }
}

/// Whatever was accepted leaves as one head that both parsers read as it was judged.
fn survives_the_way_on(request: &RequestHead, authority: &Authority) {
    let host = authority.host.to_string();
    for is_trusted in [false, true] {
        let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let onward = Onward {
            host: host.as_bytes(),
            client,
            is_trusted,
            is_tls: false,
            via: "gate",
            certificate: None,
            rules: None,
            trace: None,
        };
        let mut out = WriteBuffer::default();
        headers::write_request(request, &onward, &mut out);

        let wide = HeadLimits { bytes: 4 * LIMITS.bytes, fields: 2 * LIMITS.fields };
        assert_eq!(
            head::find_end(out.data(), 0, wide),
            Ok(Some(out.len())),
            "one head, and nothing after it"
        );
        let mut again = RequestHead::default();
        head::parse_request(out.data(), wide, &mut again).expect("what the gate writes parses");
        assert_eq!(again.method(), request.method());
        assert_eq!(again.path(), request.path());
        assert_eq!(again.body, request.body);
        assert_eq!(again.version, Version::Http11);
        let judged = again.authority.as_ref().expect("settled").as_ref().expect("what was judged is a name");
        assert_eq!(judged.host, authority.host);
        assert!(again.fields.iter().all(|field| !again.field(field).0.starts_with(b"beian-")));
    }
}

/// All requests that hyper's server reads from these octets.
fn theirs(input: &[u8]) -> Vec<Theirs> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: http::Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (parts, mut incoming) = request.into_parts();
            let length = incoming.size_hint().exact();
            let (mut body, mut ending) = (Vec::new(), Ending::Whole);
            while let Some(frame) = incoming.frame().await {
                match frame.map(http_body::Frame::into_data) {
                    Ok(Ok(data)) => body.extend_from_slice(&data),
                    Ok(Err(_)) => {}
                    Err(error) => {
                        ending = if error.is_incomplete_message() { Ending::Cut } else { Ending::Malformed };
                        break;
                    }
                }
            }
            seen.borrow_mut().push(Theirs { parts, length, body, ending });
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = http1::Builder::new()
        .half_close(true)
        .max_headers(LIMITS.fields)
        .serve_connection(Wire(input), service);
    // Everything is ready at once, so that it takes turns, not wake-ups.
    let mut connection = pin!(connection);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100_000 {
        if connection.as_mut().poll(&mut context).is_ready() {
            drop(connection);
            return seen.take();
        }
    }
    panic!("hyper does not come to an end");
}

/// A client that has sent all it will, and reads nothing.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(to.remaining()));
        to.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
