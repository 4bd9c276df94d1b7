//! What gRPC says of a call's end: the deadline that its client gives it, and the status that tells of it. Pure.
//!
//! Source: gRPC over HTTP/2, "Requests" (`grpc-timeout`) and "Responses".

use crate::gate::request::{BodyLength, Known, RequestHead};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The most digits of a timeout.
const MAX_DIGITS: usize = 8;
/// `DEADLINE_EXCEEDED`
const DEADLINE_EXCEEDED: &str = "4";

/// How long the client of a gRPC call waits for its end, where it says so.
#[must_use]
pub fn timeout(head: &RequestHead) -> Option<Duration> {
    // Every call has a body; what has none need not be looked at.
    if head.body == BodyLength::None || !head.is_grpc() {
        return None;
    }
    let named = |name: &[u8]| name.eq_ignore_ascii_case(b"grpc-timeout");
    let fields = head.fields.iter().filter(|field| field.known == Known::Other);
    let (_, value) = fields.map(|field| head.field(field)).find(|(name, _)| named(name))?;
    parse(value)
}

/// `100m`: at most eight digits and a unit. What is none says nothing, as to any other server.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Trailers of a call whose time is over.
#[must_use]
pub fn too_late() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(DEADLINE_EXCEEDED));
    let message = HeaderValue::from_static("the call's own timeout is over");
    trailers.insert(HeaderName::from_static("grpc-message"), message);
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let check =
            |text: &str, expected: Option<Duration>| assert_eq!(parse(text.as_bytes()), expected, "{text}");
        check("5S", Some(Duration::from_secs(5)));
        check("100m", Some(Duration::from_millis(100)));
        check("2H", Some(Duration::from_secs(7200)));
        check("1M", Some(Duration::from_secs(60)));
        check("7u", Some(Duration::from_micros(7)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        for wrong in ["", "S", "5", "5s", "-5S", "+5S", "1.5S", "123456789S", "5 S", "5SS"] {
            check(wrong, None);
        }
    }
}
