//! Our HTTP/2 against h2's: the input is what a client sends behind preface and settings, first in one piece and then cut
//! as its first octet says. However it is cut it comes to the same; what we say are frames; requests that both accept
//! they must read alike; and what we accept leaves for an upstream as one head with the same reading.
//!
//! We refuse more than h2 does, on purpose.

#![no_main]

use beian_gate::config::Limits;
use beian_gate::gate::buffer::WriteBuffer;
use beian_gate::gate::headers::{self, Onward};
use beian_gate::gate::http1::head::{self, HeadLimits};
use beian_gate::gate::http2::protocol::{Born, Protocol};
use beian_gate::gate::request::RequestHead;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fuzz_target!(|input: &[u8]| {
    let [step, frames @ ..] = input else { return };
    let octets = [BEGIN, frames].concat();
    let (whole, born) = ours(&octets, octets.len());
    let (cut, _) = ours(&octets, usize::from(*step).max(1));
    assert_eq!(whole, cut, "it comes to the same however it is cut");
    let requests: Vec<_> = born.iter().filter_map(|born| Some((born.stream(), born.request()?))).collect();
    requests.iter().for_each(|(_, head)| survives_the_way_on(head));
    // h2 reads the same only as long as it finds nothing wrong.
    let theirs = theirs(&octets);
    for (stream, head) in requests {
        if let Some(other) = theirs.get(&stream) {
            agree(head, other);
        }
    }
});

/// What our side says, by frame, and how far it came.
type Said = (Vec<(u8, u8, u32, Vec<u8>)>, String);

fn ours(octets: &[u8], step: usize) -> (Said, Vec<Born>) {
    let (now, mut out, mut born) = (Instant::now(), WriteBuffer::default(), Vec::new());
    let mut protocol = Protocol::new(&Limits::default(), now, &mut out);
    let (mut at, mut end) = (0, 0);
    let outcome = loop {
        match protocol.take(&octets[at..end], now, &mut out, &mut born) {
            Ok(0) if end == octets.len() => break String::from("on"),
            Ok(0) => end = octets.len().min(end + step),
            Ok(some) => at += some,
            Err(code) => break format!("{code:?}"),
        }
        let _ = protocol.due(&octets[at..end]);
    };
    let said = (frames(out.data()), outcome);
    (said, born)
}

fn frames(mut octets: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while !octets.is_empty() {
        let [a, b, c, kind, flags, stream @ ..] = octets.first_chunk::<9>().expect("whole heads of frames");
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let payload = octets.get(9..9 + length).expect("whole frames");
        assert!(length <= 16_384 && matches!(kind, 3 | 4 | 6 | 7 | 8), "kind {kind}");
        frames.push((*kind, *flags, u32::from_be_bytes(*stream), payload.to_vec()));
        octets = &octets[9 + length..];
    }
    frames
}

fn agree(head: &RequestHead, other: &http::Request<h2::RecvStream>) {
    // A WebSocket's opening is turned into one of HTTP/1.1.
    if head.upgrade.is_some() {
        return assert_eq!(other.method(), http::Method::CONNECT);
    }
    assert_eq!(head.method(), other.method().as_str().as_bytes(), "method");
    let theirs = other.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    assert_eq!(String::from_utf8_lossy(head.path()), theirs, "path");
    assert_eq!(head.fields.len(), other.headers().len(), "number of fields");
    for name in other.headers().keys() {
        let ours = head.fields.iter().map(|field| head.field(field));
        let ours = ours.filter(|(ours, _)| *ours == name.as_str().as_bytes());
        // Space around a value is none of it to us.
        let theirs = other.headers().get_all(name).iter().map(|value| value.as_bytes().trim_ascii());
        assert!(ours.map(|(_, value)| value).eq(theirs), "values of {name}");
    }
    if let (Some(Ok(ours)), Some(theirs)) = (&head.authority, other.uri().authority()) {
        let theirs = beian_gate::domain::Authority::from_wire(theirs.as_str().as_bytes());
        assert_eq!(Ok(&ours.host), theirs.as_ref().map(|theirs| &theirs.host), "authority");
    }
}

/// Whatever was accepted leaves as one head that reads as it was judged.
fn survives_the_way_on(request: &RequestHead) {
    let Some(Ok(authority)) = &request.authority else { return };
    let host = authority.host.to_string();
    let onward = Onward {
        host: host.as_bytes(),
        client: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        is_trusted: false,
        is_tls: false,
        via: "gate",
        certificate: None,
        rules: None,
        trace: None,
    };
    let mut out = WriteBuffer::default();
    headers::write_request(request, &onward, &mut out);
    let wide = HeadLimits { bytes: 1 << 20, fields: 256 };
    assert_eq!(head::find_end(out.data(), 0, wide), Ok(Some(out.len())), "one head, and nothing after it");
    let mut again = RequestHead::default();
    head::parse_request(out.data(), wide, &mut again).expect("what the gate writes parses");
    assert_eq!((again.method(), again.path()), (request.method(), request.path()));
    assert_eq!(again.body, request.body);
    let judged = again.authority.as_ref().expect("settled").as_ref().expect("what was judged is a name");
    assert_eq!(judged.host, authority.host);
    assert!(again.fields.iter().all(|field| !again.field(field).0.starts_with(b"beian-")));
}

/// Requests that h2's server reads from these octets, by their streams.
fn theirs(octets: &[u8]) -> BTreeMap<u32, http::Request<h2::RecvStream>> {
    let mut context = Context::from_waker(Waker::noop());
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol().max_concurrent_streams(100).max_header_list_size(32 * 1024);
    let mut handshake = pin!(builder.handshake::<_, bytes::Bytes>(Wire(octets)));
    let mut seen = BTreeMap::new();
    let Poll::Ready(Ok(mut connection)) = handshake.as_mut().poll(&mut context) else { return seen };
    let mut answers = Vec::new();
    // Everything is there at once, so that it takes turns, not wake-ups.
    while let Poll::Ready(Some(Ok((request, answer)))) = connection.poll_accept(&mut context) {
        seen.insert(answer.stream_id().as_u32(), request);
        answers.push(answer);
    }
    seen
}

/// A client that has sent all it will, and takes whatever comes.
struct Wire<'a>(&'a [u8]);

impl AsyncRead for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let (now, later) = self.0.split_at(self.0.len().min(into.remaining()));
        into.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire<'_> {
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
