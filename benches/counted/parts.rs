//! The parts of a request that touch no socket, one by one.

use crate::{TIMES, WARM, boundary, collected};
use beian_gate::cache::{FilingCache, Staleness, Table};
use beian_gate::config::WhenStale;
use beian_gate::domain::{Authority, HostForm};
use beian_gate::feed::EpochKey;
use beian_gate::filing::{FilingNumber, FilingRecord, Status};
use beian_gate::gate::buffer::WriteBuffer;
use beian_gate::gate::headers::{self, Delivery, Onward};
use beian_gate::gate::http1::head::{self, HeadLimits, ResponseHead};
use beian_gate::gate::request::{RequestHead, Version};
use beian_gate::verdict::{Policy, PolicyParts, Question, Region, Scenario, Verdict, decide};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, fields: 100 };
pub(crate) const REQUEST: &[u8] =
    b"GET /product/list?item=10482 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
pub(crate) const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Wed, 25 Nov 2026 20:00:00 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 16\r\nLast-Modified: Wed, 25 Nov 2026 19:00:00 GMT\r\n\
    Connection: keep-alive\r\nETag: \"6563c5a0-400\"\r\nAccept-Ranges: bytes\r\n\r\n";

/// What of each is done: counted, and put among `counts` with what it took from the heap.
pub(crate) fn all(counts: &mut Vec<(&'static str, u64)>) {
    let mut count = |part: &'static str, step: &mut dyn FnMut()| {
        (0..WARM).for_each(|_| step());
        boundary();
        collected(&mut || (0..TIMES).for_each(|_| step()));
        counts.push((part, boundary()));
    };
    let hosts = [&b"www.example.com"[..], b"WWW.Example.net:8080"];
    count("names", &mut || {
        for host in hosts {
            let _ = black_box(Authority::from_wire(black_box(host)));
        }
    });
    heads(&mut count);
    decisions(&mut count);
}

fn heads(count: &mut dyn FnMut(&'static str, &mut dyn FnMut())) {
    let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
    let mut out = WriteBuffer::default();
    let taken = head::take_request(REQUEST, 0, LIMITS, &mut request);
    assert_eq!(taken, Ok(Some(REQUEST.len())));
    let taken = head::take_response(RESPONSE, 0, LIMITS, &mut response);
    assert_eq!(taken, Ok(Some(RESPONSE.len())));
    count("request_head", &mut || {
        request.reset();
        let _ = black_box(head::take_request(black_box(REQUEST), 0, LIMITS, &mut request));
    });
    count("request_head_released", &mut || {
        // A wait between requests gives the storage back.
        request.reset();
        request.release();
        let _ = black_box(head::take_request(black_box(REQUEST), 0, LIMITS, &mut request));
    });
    let client = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 17), 40_000));
    let host = b"www.example.com";
    let onward = Onward {
        host,
        client,
        is_trusted: false,
        is_tls: true,
        via: "gate",
        certificate: None,
        rules: None,
        trace: None,
    };
    count("request_write", &mut || {
        headers::write_request(black_box(&request), &onward, &mut out);
        out.written(out.len());
    });
    count("response_head", &mut || {
        let _ = black_box(head::take_response(black_box(RESPONSE), 0, LIMITS, &mut response));
    });
    let to = (Version::Http11, "gate");
    count("response_write", &mut || {
        headers::write_response(black_box(&response), Delivery::AsFramed, true, to, &mut out);
        out.written(out.len());
    });
}

fn decisions(count: &mut dyn FnMut(&'static str, &mut dyn FnMut())) {
    let cache = filings();
    let policy = Policy::new(PolicyParts::default());
    let now = Instant::now();
    for (part, host, expected) in [
        ("decide_allow", "www.example.com", Verdict::Allow),
        ("decide_unfiled", "www.example.net", Verdict::Unfiled),
    ] {
        let host = HostForm::from_wire(host.as_bytes()).expect("a host");
        let question = Question {
            host: &host,
            scenario: Scenario::Web,
            region: Region::Mainland,
            origin_here: false,
            today: jiff::civil::date(2026, 1, 1),
        };
        count(part, &mut || {
            let decision = decide(black_box(&question), &policy, &cache.at(now));
            assert_eq!(decision.verdict, expected);
        });
    }
}

/// A thousand could be held; one is.
pub(crate) fn filings() -> FilingCache {
    let mut table = Table::with_room_for(EpochKey::from_bytes([7; EpochKey::LEN]), 1_000);
    let number = FilingNumber::parse("京ICP备12345678号-1").expect("a number");
    let record = FilingRecord {
        status: Status::Connected,
        connected_elsewhere: false,
        access_under_review: false,
        number: Some(number),
    };
    table.put("example.com", &record);
    let cache = FilingCache::new(Staleness {
        stale_after: Duration::from_secs(86_400),
        when_stale: WhenStale::Serve,
    });
    cache.publish(table, Instant::now());
    cache
}
