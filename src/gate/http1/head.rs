//! The head parser: raw octets → `RequestHead` or `ResponseHead`, strictly (RFC 9112; attacks, sections 2 and 3).
//!
//! `lines` finds the pieces in one pass and takes nothing that two parsers could read in two ways (a test holds it
//! against `httparse`). Pure: knows no socket, no clock, no filing.

use super::framing::{self, Framing};
use super::lines::{self, Refusal};
use crate::gate::reject::Reject;
use crate::gate::request::{Field, Fields, RequestHead, Span, Version, Wishes};

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
    /// What the upstream speaks.
    pub version: Version,
    /// The fields in order.
    pub fields: Fields,
    /// What its Connection fields say.
    pub wishes: Wishes,
    /// How its body is framed, the request's method aside.
    pub framing: Framing,
    /// Whether the connection may carry another exchange afterwards.
    pub keep_alive: bool,
}

impl ResponseHead {
    /// Adds a field at the end.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let mut append = |octets: &[u8]| {
            let start = self.text.len();
            self.text.extend_from_slice(octets);
            Span::new(start, octets.len()).unwrap_or_default()
        };
        let name = append(name);
        append(b": ");
        let value = append(value);
        append(b"\r\n");
        self.fields.push(Field::new(&self.text, name, value));
    }
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

/// Takes a request head from the start of `input` into `head` (whose storage is reused), and gives its length; `None`
/// while it is incomplete. `scanned` is how much of it an earlier call has seen.
///
/// # Errors
/// `MalformedRequest`, `MalformedHost`, `HeadTooLarge`, `MethodRefused` or `UnknownCoding`.
pub fn take_request(
    input: &[u8],
    scanned: usize,
    limits: HeadLimits,
    head: &mut RequestHead,
) -> Result<Option<usize>, Reject> {
    if input.is_empty() {
        return Ok(None);
    }
    // Most heads arrive whole: the pass that reads them then finds their end too. What it does not take is looked
    // at by those who know why.
    if scanned == 0
        && let Ok(end) = read_request(input, limits, head)
        && end <= limits.bytes
    {
        return framing::settle_request(head).map(|()| Some(end));
    }
    let Some(end) = find_end(input, scanned, limits)? else { return Ok(None) };
    parse_request(&input[..end], limits, head).map(|()| Some(end))
}

/// Parses the request head that fills `raw` exactly, as `find_end` found it, into `head` (whose storage is reused).
///
/// # Errors
/// As `take_request`.
pub fn parse_request(raw: &[u8], limits: HeadLimits, head: &mut RequestHead) -> Result<(), Reject> {
    match read_request(raw, limits, head) {
        Ok(end) if end == raw.len() => framing::settle_request(head),
        refused => {
            explain(raw)?;
            Err(match refused {
                Err(Refusal::TooManyFields) => Reject::HeadTooLarge,
                Err(Refusal::Malformed(why)) => Reject::MalformedRequest(why),
                Ok(_) | Err(Refusal::Incomplete) => {
                    Reject::MalformedRequest("the request head does not parse")
                }
            })
        }
    }
}

/// Reads lines; gives the head's length.
fn read_request(raw: &[u8], limits: HeadLimits, head: &mut RequestHead) -> Result<usize, Refusal> {
    head.reset();
    let line = lines::request_line(raw)?;
    let end = lines::fields(raw, line.octets, limits.fields.min(MAX_FIELDS), &mut head.fields)?;
    debug_assert_eq!(explain(&raw[..end]), Ok(()), "what is read holds nothing that is refused");
    head.text.extend_from_slice(&raw[..end]);
    (head.method, head.target) = (line.method, line.target);
    head.version = if line.is_http11 { Version::Http11 } else { Version::Http10 };
    Ok(end)
}

/// As `take_request`, for a response head.
///
/// # Errors
/// What is wrong with it; the caller answers 502.
pub fn take_response(
    input: &[u8],
    scanned: usize,
    limits: HeadLimits,
    head: &mut ResponseHead,
) -> Result<Option<usize>, &'static str> {
    if input.is_empty() {
        return Ok(None);
    }
    if scanned == 0
        && let Ok(end) = read_response(input, limits, head)
        && end <= limits.bytes
    {
        return framing::settle_response(head).map(|()| Some(end));
    }
    let found = find_end(input, scanned, limits).map_err(|_| "its response head is malformed")?;
    let Some(end) = found else { return Ok(None) };
    parse_response(&input[..end], limits, head).map(|()| Some(end))
}

/// Parses the response head that fills `raw` exactly, as `find_end` found it, into `head`.
///
/// # Errors
/// What is wrong with it; the caller answers 502.
pub fn parse_response(raw: &[u8], limits: HeadLimits, head: &mut ResponseHead) -> Result<(), &'static str> {
    match read_response(raw, limits, head) {
        Ok(end) if end == raw.len() => framing::settle_response(head),
        _ if explain(raw).is_err() => Err("octets that no response head may hold"),
        Err(Refusal::Malformed(why)) => Err(why),
        _ => Err("the response head does not parse"),
    }
}

/// Reads lines; gives the head's length.
fn read_response(raw: &[u8], limits: HeadLimits, head: &mut ResponseHead) -> Result<usize, Refusal> {
    head.fields.clear(KEPT_FIELDS);
    let (is_http11, status, line) = lines::status_line(raw)?;
    let end = lines::fields(raw, line, limits.fields.min(MAX_FIELDS), &mut head.fields)?;
    debug_assert_eq!(explain(&raw[..end]), Ok(()), "what is read holds nothing that is refused");
    head.status = status;
    head.version = if is_http11 { Version::Http11 } else { Version::Http10 };
    head.text.clear();
    head.text.shrink_to(KEPT_BYTES);
    head.text.extend_from_slice(&raw[..end]);
    Ok(end)
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

    /// What `httparse` takes, where all lines end in CRLF and a request line is its three parts to the octet.
    fn is_taken_by_httparse(raw: &[u8]) -> (bool, bool) {
        let is_one_head = find_end(raw, 0, LIMITS) == Ok(Some(raw.len())) && !raw.starts_with(b"\r");
        let is_whole = |parsed| is_one_head && parsed == Ok(httparse::Status::Complete(raw.len()));
        let are_named = |fields: &[httparse::Header<'_>]| fields.iter().all(|field| !field.name.is_empty());
        let (mut one, mut other) = ([httparse::EMPTY_HEADER; 8], [httparse::EMPTY_HEADER; 8]);
        let mut request = httparse::Request::new(&mut one);
        let is_request = is_whole(request.parse(raw)) && are_named(request.headers) && {
            let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
            let line = format!("{method} {target} HTTP/1.{}\r\n", request.version.unwrap_or(9));
            raw.starts_with(line.as_bytes()) && target.is_ascii() && method.len() <= 32
        };
        let mut response = httparse::Response::new(&mut other);
        let is_response = is_whole(response.parse(raw))
            && are_named(response.headers)
            && response.code.is_some_and(|code| code >= 100);
        (is_request, is_response)
    }

    /// Every octet at every place of a head, in the place of another and put in: what is read is what `httparse`
    /// takes, no more and no less.
    #[test]
    fn reads_what_httparse_takes() {
        for head in [
            &b"GET /a HTTP/1.1\r\nHost: a\r\nB:\t c d\t\r\nE:\r\n\r\n"[..],
            b"HTTP/1.1 200 Very OK\r\nB: c\r\nCache-Control: no-cache, private\r\n\r\n",
            b"HTTP/1.0 404\r\n\r\n",
        ] {
            for (at, octet) in (0..head.len()).flat_map(|at| (0..=255).map(move |octet| (at, octet))) {
                let mut changed = head.to_vec();
                changed[at] = octet;
                let mut longer = head.to_vec();
                longer.insert(at, octet);
                for raw in [changed, longer] {
                    let whole = Ok(raw.len());
                    let read = (
                        read_request(&raw, LIMITS, &mut RequestHead::default()) == whole,
                        read_response(&raw, LIMITS, &mut ResponseHead::default()) == whole,
                    );
                    let shown = String::from_utf8_lossy(&raw);
                    assert_eq!(read, is_taken_by_httparse(&raw), "{shown:?}, {octet} at {at}");
                }
            }
        }
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
