//! Where a message ends, settled once per head (RFC 9112, 6): one unambiguous framing or a refusal.
//!
//! Pure. Also settles what else the head decides for the connection: the one authority, keep-alive,
//! `Expect`, `Upgrade`.

use super::head::ResponseHead;
use crate::domain::Authority;
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, Field, Known, RequestHead, Span, Version, Wishes, list_elements};

/// How a response body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// No body, or one of no octets.
    #[default]
    Empty,
    /// Content-Length.
    Length(u64),
    /// Chunked.
    Chunked,
    /// Until the upstream closes.
    UntilClose,
}

/// The most digits of a Content-Length: more could not be counted.
const MAX_LENGTH_DIGITS: usize = 18;

/// Fills in what a request head's fields decide.
pub(super) fn settle_request(head: &mut RequestHead) -> Result<(), Reject> {
    if matches!(head.method(), b"CONNECT" | b"TRACE") {
        return Err(Reject::MethodRefused);
    }
    head.body = request_body(head)?;
    settle_connection(head)?;
    settle_target(head);
    Ok(())
}

fn request_body(head: &RequestHead) -> Result<BodyLength, Reject> {
    let mut codings = head.values(Known::TransferEncoding);
    let length = content_length(head.values(Known::ContentLength)).map_err(Reject::MalformedRequest)?;
    let Some(coding) = codings.next() else {
        return Ok(match length {
            None | Some(0) => BodyLength::None,
            Some(octets) => BodyLength::Exactly(octets),
        });
    };
    if codings.next().is_some() || length.is_some() {
        return Err(Reject::MalformedRequest("the body is framed twice"));
    }
    if head.version == Version::Http10 {
        return Err(Reject::MalformedRequest("Transfer-Encoding in HTTP/1.0"));
    }
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(BodyLength::Unknown);
    }
    // A list that ends in chunked, or a single token that we don't know, is a coding that we don't do;
    // anything else (spaces inside, other characters) is no coding at all.
    let is_token =
        |element: &[u8]| element.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    if coding.is_empty()
        || !list_elements(coding).all(is_token)
        || memchr::memmem::find(&coding.to_ascii_lowercase(), b"chunked").is_some()
    {
        return Err(Reject::MalformedRequest("Transfer-Encoding is not exactly `chunked`"));
    }
    Err(Reject::UnknownCoding)
}

/// At most one Content-Length, of digits only.
///
/// # Errors
/// What is wrong with it.
pub(in crate::gate) fn content_length<'a>(
    mut values: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<u64>, &'static str> {
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("Content-Length is given twice");
    }
    if value.is_empty() || value.len() > MAX_LENGTH_DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return Err("Content-Length is not a plain number");
    }
    Ok(Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))))
}

fn settle_connection(head: &mut RequestHead) -> Result<(), Reject> {
    let wishes = Wishes::of(&head.fields, &head.text);
    let keep_alive = !wishes.close && (head.version != Version::Http10 || wishes.keep_alive);
    let asks_upgrade = wishes.upgrade && head.version == Version::Http11 && head.body == BodyLength::None;
    let upgrade = single(head, Known::Upgrade)
        .filter(|field| asks_upgrade && is_upgrade_to_pass(field.value.of(&head.text)));
    let expects_continue = expects_continue(head)?;
    head.upgrade = upgrade.map(|field| field.value);
    (head.wishes, head.keep_alive) = (wishes, keep_alive);
    head.expects_continue = expects_continue && head.version == Version::Http11;
    Ok(())
}

/// Whether the client waits for a word before it sends the body.
///
/// # Errors
/// `ExpectationFailed`: it waits for something else.
pub(in crate::gate) fn expects_continue(head: &RequestHead) -> Result<bool, Reject> {
    let mut expectations = head.values(Known::Expect);
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Reject::ExpectationFailed),
    }
}

/// What begins the names of protocols in which requests for any name would pass unread: HTTP in other versions
/// (RFC 9113 dropped `h2c`), under TLS (RFC 2817), or in a connection to anywhere (RFC 9298, RFC 9484).
const UNREAD: [&[u8]; 6] = [b"http", b"h2", b"h3", b"tls", b"ssl", b"connect-"];

/// One token that is not a way around the gate's own parser.
fn is_upgrade_to_pass(value: &[u8]) -> bool {
    let is_token = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._/+".contains(octet);
    let begins = |name: &&[u8]| value.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    !value.is_empty() && value.iter().all(is_token) && !UNREAD.iter().any(begins)
}

fn single(head: &RequestHead, known: Known) -> Option<Field> {
    let mut fields = head.fields.of(known);
    fields.next().copied().filter(|_| fields.next().is_none())
}

/// Exactly one Host; an absolute-form target must name the very same authority; what is sent on is its path.
fn settle_target(head: &mut RequestHead) {
    let target = head.target.of(&head.text);
    let parse = |octets: &[u8]| Authority::from_wire(octets).map_err(|_| Reject::MalformedHost);
    let (in_target, path) = match split_absolute(target) {
        Some((authority, rest)) => (Some(parse(authority)), rest),
        None => (None, 0),
    };
    let is_origin = target.starts_with(b"/") || (target == b"*" && head.method() == b"OPTIONS");
    let rest = target.len() - path.min(target.len());
    let has_path = target.get(path) == Some(&b'/');
    let is_odd = if in_target.is_none() && !is_origin {
        Some("the target is neither a path nor an absolute URI")
    } else if memchr::memchr(b'#', target).is_some() {
        Some("the target has a fragment")
    } else {
        None
    };
    head.path = match in_target {
        None => head.target,
        Some(_) if has_path => span_within(head.target, path, rest),
        // An absolute URI without a path asks for `/` (RFC 9112, 3.2.1); OPTIONS without one is `*`.
        Some(_) if rest == 0 => {
            let instead: &[u8] = if head.method() == b"OPTIONS" { b"*" } else { b"/" };
            head.append(instead)
        }
        Some(_) => Span::default(),
    };
    head.authority = Some(if head.path == Span::default() {
        Err(Reject::MalformedRequest("a query without a path"))
    } else if let Some(why) = is_odd {
        Err(Reject::MalformedRequest(why))
    } else {
        one_authority(head, in_target)
    });
}

fn span_within(span: Span, from: usize, len: usize) -> Span {
    span.part(from, len).unwrap_or_default()
}

/// `http://authority` and where the rest begins.
fn split_absolute(target: &[u8]) -> Option<(&[u8], usize)> {
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))?;
    let rest = &target[scheme.len()..];
    let end = rest.iter().position(|octet| matches!(octet, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    Some((&rest[..end], scheme.len() + end))
}

fn one_authority(
    head: &mut RequestHead,
    in_target: Option<Result<Authority, Reject>>,
) -> Result<Authority, Reject> {
    let field = single(head, Known::Host).ok_or(Reject::MalformedHost)?;
    let host = head.host(field.value)?;
    match in_target.transpose()? {
        Some(target) if target.host != host.host => Err(Reject::MalformedHost),
        _ => Ok(host),
    }
}

/// Fills in what a response head's fields decide.
pub(super) fn settle_response(head: &mut ResponseHead) -> Result<(), &'static str> {
    let is_http11 = head.version != Version::Http10;
    let values = |known: Known| {
        let text = &head.text;
        head.fields.of(known).map(move |field| field.value.of(text))
    };
    let length = content_length(values(Known::ContentLength))?;
    let mut codings = values(Known::TransferEncoding);
    let framing = match (codings.next(), length) {
        (None, Some(0)) => Framing::Length(0),
        (None, Some(octets)) => Framing::Length(octets),
        (None, None) => Framing::UntilClose,
        (Some(_), Some(_)) => return Err("the body is framed twice"),
        (Some(coding), None)
            if coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() && is_http11 =>
        {
            Framing::Chunked
        }
        (Some(_), None) => return Err("Transfer-Encoding is not exactly `chunked`"),
    };
    let wishes = Wishes::of(&head.fields, &head.text);
    let keep_alive = !wishes.close && (is_http11 || wishes.keep_alive);
    head.wishes = wishes;
    head.framing = framing;
    head.keep_alive = keep_alive && framing != Framing::UntilClose;
    Ok(())
}
