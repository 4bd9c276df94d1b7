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

/// Parses the request head that fills `raw` exactly, into `head` (whose storage is reused).
///
/// # Errors
/// `MalformedRequest`, `MalformedHost`, `HeadTooLarge`, `MethodRefused` or `UnknownCoding`.
pub fn parse_request(raw: &[u8], limits: HeadLimits, head: &mut RequestHead) -> Result<(), Reject> {
    check_octets(raw)?;
    head.reset();
    // Not cleared: that would cost more than the parsing does.
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(raw, &mut fields[..limits.fields.min(MAX_FIELDS)]) {
        Ok(httparse::Status::Complete(length)) if length == raw.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Reject::HeadTooLarge),
        _ => return Err(Reject::MalformedRequest("the request head does not parse")),
    }
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

/// Parses the response head that fills `raw` exactly, into `head`.
///
/// # Errors
/// What is wrong with it; the caller answers 502.
pub fn parse_response(raw: &[u8], limits: HeadLimits, head: &mut ResponseHead) -> Result<(), &'static str> {
    check_octets(raw).map_err(|_| "octets that no response head may hold")?;
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let fields = &mut fields[..limits.fields.min(MAX_FIELDS)];
    let mut response = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, raw, fields) {
        Ok(httparse::Status::Complete(length)) if length == raw.len() => {}
        _ => return Err("the response head does not parse"),
    }
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

/// No NUL or other control octet but HTAB and CRLF, no bare CR or LF, no folded line, no space around a name.
///
/// One pass without a branch, that the compiler does sixteen octets at a time; a bad head is read again for what
/// is wrong with it.
fn check_octets(raw: &[u8]) -> Result<(), Reject> {
    let is_control = |octet: u8| (octet < 32) & !matches!(octet, b'\t' | b'\n' | b'\r') | (octet == 127);
    let Some((&last, &first)) = raw.last().zip(raw.first()) else { return Ok(()) };
    let mut is_bad = (first == b'\n') | (last == b'\r') | is_control(last);
    for (&octet, &next) in raw.iter().zip(&raw[1..]) {
        let is_half_line_end = (octet == b'\r') != (next == b'\n');
        let is_fold = (octet == b'\n') & ((next == b' ') | (next == b'\t'));
        is_bad |= is_control(octet) | is_half_line_end | is_fold;
    }
    if is_bad { explain(raw) } else { Ok(()) }
}

/// What is wrong with the octets of a head.
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

    /// Every octet at every place of a head, against the reading octet by octet.
    #[test]
    fn the_fast_check_is_the_slow_one() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for at in 0..head.len() {
            for octet in 0..=255 {
                let mut raw = head.to_vec();
                raw[at] = octet;
                assert_eq!(check_octets(&raw), explain(&raw), "{octet} at {at}");
                assert_eq!(check_octets(&raw[..at]), explain(&raw[..at]), "cut at {at}");
                raw.insert(at, octet);
                assert_eq!(check_octets(&raw), explain(&raw), "{octet} put in at {at}");
            }
        }
    }
}
