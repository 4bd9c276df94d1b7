//! The head parser: raw octets → `RequestHead` or `ResponseHead`, strictly (RFC 9112; attacks, sections 2 and 3).
//!
//! `httparse` finds the pieces; before it sees them the raw octets are held against what two parsers could
//! read in two ways. Pure: knows no socket, no clock, no filing.

use super::framing::{self, Framing};
use crate::gate::reject::Reject;
use crate::gate::request::{Field, Fields, RequestHead, Span, Version};
use std::mem::MaybeUninit;

/// The most header fields that any configuration may allow.
pub const MAX_FIELDS: usize = 256;
/// Storage that a response head keeps for the next.
const KEPT_FIELDS: usize = 64;
const KEPT_BYTES: usize = 4096;

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Octets, request line and final blank line included.
    pub bytes: usize,
    /// Header fields.
    pub fields: usize,
}

/// A response head of an upstream.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// All octets of the head.
    pub text: Vec<u8>,
    /// Status code, 100 to 999.
    pub status: u16,
    /// Whether the upstream speaks HTTP/1.1.
    pub is_http11: bool,
    /// The fields in order.
    pub fields: Fields,
    /// How its body is framed, the request's method aside.
    pub framing: Framing,
    /// Whether the connection may carry another exchange afterwards.
    pub keep_alive: bool,
}

/// Looks for a complete head at the start of `raw`; `scanned` is how much of it an earlier call has seen.
///
/// Gives the head's length, `None` while it is incomplete.
///
/// # Errors
/// As soon as the octets so far can't become a good head.
pub fn find_end(raw: &[u8], scanned: usize, limits: HeadLimits) -> Result<Option<usize>, Reject> {
    // Three octets back: a blank line may have been cut there.
    for at in memchr::memchr_iter(b'\n', &raw[scanned.saturating_sub(1)..]) {
        let at = at + scanned.saturating_sub(1);
        if at == 0 || raw[at - 1] != b'\r' {
            return Err(Reject::MalformedRequest("a line ends without CR"));
        }
        if at >= 3 && raw[at - 3..=at] == *b"\r\n\r\n" {
            return if at < limits.bytes { Ok(Some(at + 1)) } else { Err(Reject::HeadTooLarge) };
        }
    }
    if raw.len() >= limits.bytes { Err(Reject::HeadTooLarge) } else { Ok(None) }
}

/// Holds an incomplete request head against what it can still become, so that what speaks no HTTP/1 is told at once.
///
/// # Errors
/// Where the first line is whole and no HTTP/1 request line, or the first octet can begin none.
pub fn check_begun(raw: &[u8]) -> Result<(), Reject> {
    let Some(first) = raw.first() else { return Ok(()) };
    if !first.is_ascii_graphic() && *first != b'\r' {
        return Err(Reject::MalformedRequest("not HTTP"));
    }
    match memchr::memchr(b'\n', raw) {
        Some(end) if !raw[..end].ends_with(b" HTTP/1.1\r") && !raw[..end].ends_with(b" HTTP/1.0\r") => {
            Err(Reject::MalformedRequest("the request line does not end in an HTTP/1 version"))
        }
        _ => Ok(()),
    }
}

/// Parses the request head that fills `raw` exactly, as `find_end` found it, into `head` (whose storage is reused).
///
/// # Errors
/// `MalformedRequest`, `MalformedHost`, `HeadTooLarge`, `MethodRefused` or `UnknownCoding`.
pub fn parse_request(raw: &[u8], limits: HeadLimits, head: &mut RequestHead) -> Result<(), Reject> {
    head.reset();
    // Not cleared: that would cost more than the parsing does.
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(raw, &mut fields[..limits.fields.min(MAX_FIELDS)]) {
        Ok(httparse::Status::Complete(length)) if length == raw.len() => {}
        refused => {
            explain(raw)?;
            return Err(match refused {
                Err(httparse::Error::TooManyHeaders) => Reject::HeadTooLarge,
                _ => Reject::MalformedRequest("the request head does not parse"),
            });
        }
    }
    debug_assert_eq!(explain(raw), Ok(()), "httparse and `find_end` together take nothing that it refuses");
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Reject::MalformedRequest("the request line is incomplete"));
    };
    check_line(raw, method, target, version)?;
    head.text.extend_from_slice(raw);
    head.method = span_of(raw, method.as_bytes())?;
    head.target = span_of(raw, target.as_bytes())?;
    head.version = if version == 1 { Version::Http11 } else { Version::Http10 };
    copy_fields(raw, request.headers, &mut head.fields)?;
    framing::settle_request(head)
}

/// Parses the response head that fills `raw` exactly, as `find_end` found it, into `head`.
///
/// # Errors
/// What is wrong with it; the caller answers 502.
pub fn parse_response(raw: &[u8], limits: HeadLimits, head: &mut ResponseHead) -> Result<(), &'static str> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let fields = &mut fields[..limits.fields.min(MAX_FIELDS)];
    let mut response = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, raw, fields) {
        Ok(httparse::Status::Complete(length)) if length == raw.len() => {}
        _ if explain(raw).is_err() => return Err("octets that no response head may hold"),
        _ => return Err("the response head does not parse"),
    }
    debug_assert_eq!(explain(raw), Ok(()), "httparse and `find_end` together take nothing that it refuses");
    head.status =
        response.code.filter(|code| (100..=999).contains(code)).ok_or("the status code is out of range")?;
    head.is_http11 = response.version == Some(1);
    head.text.clear();
    head.text.shrink_to(KEPT_BYTES);
    head.text.extend_from_slice(raw);
    head.fields.clear(KEPT_FIELDS);
    copy_fields(raw, response.headers, &mut head.fields).map_err(|_| "a header field is malformed")?;
    framing::settle_response(head)
}

/// What is wrong with the octets of a head: NUL or another control octet but HTAB and CRLF, a bare CR or LF, a folded
/// line.
fn explain(raw: &[u8]) -> Result<(), Reject> {
    let malformed = |why| Err(Reject::MalformedRequest(why));
    let mut at_line_start = false;
    let mut rest = raw;
    while let Some((&octet, tail)) = rest.split_first() {
        match octet {
            b'\r' if tail.first() == Some(&b'\n') => {
                rest = &tail[1..];
                at_line_start = true;
                continue;
            }
            b'\r' | b'\n' => return malformed("a bare CR or LF"),
            b' ' | b'\t' if at_line_start => return malformed("a folded line"),
            0..=8 | 11..=31 | 127 => return malformed("a control octet"),
            _ => {}
        }
        at_line_start = false;
        rest = tail;
    }
    Ok(())
}

/// The request line must be exactly `METHOD SP TARGET SP HTTP/1.x CRLF`: httparse takes more spaces than that.
fn check_line(raw: &[u8], method: &str, target: &str, version: u8) -> Result<(), Reject> {
    let malformed = |why| Err(Reject::MalformedRequest(why));
    let expected = method.len() + 1 + target.len() + " HTTP/1.x\r\n".len();
    let line = memchr::memchr(b'\n', raw).map_or(0, |at| at + 1);
    if line != expected || !raw.starts_with(method.as_bytes()) || version > 1 {
        return malformed("the request line has more than three parts");
    }
    if target.bytes().any(|octet| !octet.is_ascii_graphic()) {
        return malformed("the target has octets beyond ASCII");
    }
    if method.len() > 32 { malformed("the method is too long") } else { Ok(()) }
}

fn copy_fields(raw: &[u8], from: &[httparse::Header<'_>], to: &mut Fields) -> Result<(), Reject> {
    for header in from {
        if header.name.is_empty() {
            return Err(Reject::MalformedRequest("a header field without a name"));
        }
        let (name, value) = (span_of(raw, header.name.as_bytes())?, span_of(raw, header.value)?);
        to.push(Field::new(raw, name, value));
    }
    Ok(())
}

/// Where `piece`, a part of `raw`, lies in it.
fn span_of(raw: &[u8], piece: &[u8]) -> Result<Span, Reject> {
    if piece.is_empty() {
        return Ok(Span::default());
    }
    let start = (piece.as_ptr() as usize).wrapping_sub(raw.as_ptr() as usize);
    debug_assert!(start + piece.len() <= raw.len(), "httparse gives parts of what it was given");
    Span::new(start, piece.len()).ok_or(Reject::HeadTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 8 };

    fn is_taken(raw: &[u8]) -> bool {
        let taken = |end: usize| {
            let request = parse_request(&raw[..end], LIMITS, &mut RequestHead::default()).is_ok();
            request || parse_response(&raw[..end], LIMITS, &mut ResponseHead::default()).is_ok()
        };
        find_end(raw, 0, LIMITS).is_ok_and(|end| end == Some(raw.len()) && taken(raw.len()))
    }

    /// Every octet at every place of a head, in the place of another and put in: nothing is taken that the check
    /// octet by octet refuses.
    #[test]
    fn finding_and_parsing_refuse_what_the_octets_forbid() {
        for head in
            [&b"GET /a HTTP/1.1\r\nHost: a\r\nB:\t c d\r\n\r\n"[..], b"HTTP/1.1 200 Very OK\r\nB: c\r\n\r\n"]
        {
            assert!(is_taken(head));
            for (at, octet) in (0..head.len()).flat_map(|at| (0..=255).map(move |octet| (at, octet))) {
                let mut raw = head.to_vec();
                raw[at] = octet;
                assert!(!is_taken(&raw) || explain(&raw).is_ok(), "{octet} at {at}");
                raw.insert(at, octet);
                assert!(!is_taken(&raw) || explain(&raw).is_ok(), "{octet} twice at {at}");
                let mut raw = head.to_vec();
                raw.insert(at, octet);
                assert!(!is_taken(&raw) || explain(&raw).is_ok(), "{octet} put in at {at}");
            }
        }
    }
}
