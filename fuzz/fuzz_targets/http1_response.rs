//! A response head that is taken survives being passed on: what a client reads is what was judged.
//!
//! Also: where a head ends does not depend on how it arrives.

#![no_main]

use beian_gate::gate::buffer::WriteBuffer;
use beian_gate::gate::headers::{self, Delivery};
use beian_gate::gate::http1::framing::Framing;
use beian_gate::gate::http1::head::{self, HeadLimits, ResponseHead};
use beian_gate::gate::request::Version;
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, fields: 32 };

const VIA: &str = "gate";

fuzz_target!(|input: &[u8]| {
    let found = head::find_end(input, 0, LIMITS);
    assert_eq!(found.clone().ok().flatten(), found_by_octets(input), "where a head ends");
    let Ok(Some(end)) = found else { return };
    let mut response = ResponseHead::default();
    if head::parse_response(&input[..end], LIMITS, &mut response).is_err() {
        return;
    }
    for to in [Version::Http11, Version::Http10] {
        passed_on(&response, to, response.keep_alive);
    }
});

/// The head's end, where the octets come one by one; none where it is incomplete or refused.
fn found_by_octets(input: &[u8]) -> Option<usize> {
    let mut scanned = 0;
    for end in 0..=input.len() {
        match head::find_end(&input[..end], scanned, LIMITS) {
            Ok(None) => scanned = end,
            Ok(Some(at)) => return Some(at),
            Err(_) => return None,
        }
    }
    None
}

fn passed_on(response: &ResponseHead, to: Version, keeps: bool) {
    let delivery = match response.framing {
        Framing::Empty | Framing::Length(_) => Delivery::AsFramed,
        _ if to == Version::Http10 => Delivery::UntilClose,
        _ => Delivery::Chunked,
    };
    let keeps = keeps && delivery != Delivery::UntilClose;
    let mut out = WriteBuffer::default();
    headers::write_response(response, delivery, keeps, (to, VIA), &mut out);

    let wide = HeadLimits { bytes: 2 * LIMITS.bytes, fields: 2 * LIMITS.fields };
    assert_eq!(head::find_end(out.data(), 0, wide), Ok(Some(out.len())), "one head, and nothing after it");
    let mut again = ResponseHead::default();
    head::parse_response(out.data(), wide, &mut again).expect("what the gate writes parses");
    assert_eq!(again.status, response.status);
    let via = format!("{} {VIA}", response.version.as_str());
    let expected = headers::response_fields(response).chain([(&b"via"[..], via.as_bytes())]);
    assert!(headers::response_fields(&again).eq(expected), "the same fields, and ours");
    let has_length = response.status >= 200 && response.status != 204;
    let expected = match (response.framing, delivery) {
        (Framing::Length(octets), _) if has_length => Framing::Length(octets),
        (_, Delivery::Chunked) => Framing::Chunked,
        _ => Framing::UntilClose,
    };
    assert_eq!(again.framing, expected);
    assert_eq!(headers::says_close(&again), !keeps);
}
