//! Trailer fields: what may follow a body. Pure.
//!
//! Whoever reads trailers may merge them into the head (RFC 9110, 6.5.1): names that frame, route, authenticate or
//! say how content is to be read are dropped, and so is what the gate itself writes.

use crate::gate::buffer::WriteBuffer;
use crate::gate::headers::put_field;
use crate::gate::request::{Known, RequestHead, list_elements};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The most trailer fields that are passed on.
const MAX_FIELDS: usize = 64;

/// Names that have no place behind a body, beside those that the gate acts upon.
const DROPPED: [&str; 31] = [
    "accept-encoding",
    "accept-ranges",
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "link",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "refresh",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "vary",
    "www-authenticate",
];

/// Whether the client says that it takes trailers (RFC 9110, 10.1.4).
#[must_use]
pub fn are_taken(head: &RequestHead) -> bool {
    head.values(Known::Te).flat_map(list_elements).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Whether a trailer of that name (in lower case) is passed on.
fn is_passed_on(name: &str) -> bool {
    Known::of(name.as_bytes()) == Known::Other
        && !name.contains('_')
        && !name.starts_with("access-control-")
        && DROPPED.binary_search(&name).is_err()
}

/// Those of an HTTP/2 message that are passed on; `None` where there are none.
#[must_use]
pub fn passed_on(from: &HeaderMap) -> Option<HeaderMap> {
    let mut kept = HeaderMap::new();
    for (name, value) in from.iter().filter(|(name, _)| is_passed_on(name.as_str())).take(MAX_FIELDS) {
        kept.append(name, value.clone());
    }
    (!kept.is_empty()).then_some(kept)
}

/// The same of the trailer section of a chunked body, which the decoder has found to be well-formed.
#[must_use]
pub fn of_section(section: &[u8]) -> Option<HeaderMap> {
    let mut kept = HeaderMap::new();
    for line in section.split(|octet| *octet == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            && is_passed_on(name.as_str())
            && kept.len() < MAX_FIELDS
        {
            kept.append(name, value);
        }
    }
    (!kept.is_empty()).then_some(kept)
}

/// Writes them as the trailer section of a chunked body, the last line aside.
pub fn write(trailers: &HeaderMap, out: &mut WriteBuffer) {
    for (name, value) in trailers {
        put_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order() {
        assert!(DROPPED.is_sorted());
    }

    #[test]
    fn names_that_frame_route_or_authenticate_are_dropped() {
        let section = b"grpc-status: 0\r\nContent-Length: 5\r\nTRANSFER-ENCODING: chunked\r\nhost: u\r\nX-Sum:\ta \r\n\
            authorization: x\r\nset-cookie: a=b\r\nx-forwarded-for: 1\r\nbeian-verdict: allow\r\nx_forwarded_for: 1\r\n\
            connection: close\r\nte: x\r\ntrailer: y\r\n:path: /\r\n\r\n";
        let kept = of_section(section).unwrap();
        let kept: Vec<_> = kept.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(kept, [("grpc-status", &b"0"[..]), ("x-sum", b"a")]);
        assert!(of_section(b"host: u\r\n\r\n").is_none() && of_section(b"").is_none());
    }
}
