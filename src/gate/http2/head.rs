//! Fields of a request → `RequestHead`, strictly (RFC 9113, 8; attacks, section 5). Pure.

use super::hpack::{Line, Lines, Malformed};
use super::tunnel;
use crate::domain::Authority;
use crate::gate::http1::framing;
use crate::gate::http1::head::MAX_FIELDS;
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, Field, Known, RequestHead, Span, Version};

/// How much more than is allowed is read to the end: nobody who means well sends more.
const FLOOD_FACTOR: usize = 4;

/// Octets that a head's text may have room for beyond twice what is in it.
const SPARE_BYTES: usize = 4096;

/// What is wrong with a request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is no request (RFC 9113, 8.1.1): its stream is reset.
    Malformed(&'static str),
    /// The client is told.
    Reject(Reject),
}

/// How a field's octets may be (RFC 9113, 8.2.1): a name in lower case, a value that HTTP/1.1 upstreams read alike.
const IN_NAME: u8 = 1;
const IN_VALUE: u8 = 2;
const IN_METHOD: u8 = 4;
const OCTETS: [u8; 256] = {
    let (mut octets, mut octet) = ([0; 256], 0_u8);
    while octets[u8::MAX as usize] == 0 {
        let is_token = octet.is_ascii_alphanumeric()
            || matches!(
                octet,
                b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        let mut classes = if matches!(octet, 0..=8 | 10..=31 | 127) { 0 } else { IN_VALUE };
        if is_token {
            classes |= IN_METHOD;
        }
        if is_token && !octet.is_ascii_uppercase() {
            classes |= IN_NAME;
        }
        octets[octet as usize] = classes;
        octet = octet.wrapping_add(1);
    }
    octets
};

fn are_all(text: &[u8], class: u8) -> bool {
    text.iter().all(|octet| OCTETS[usize::from(*octet)] & class != 0)
}

/// A value without space around it, which no more belongs to it than in HTTP/1.
fn trimmed(span: Span, value: &[u8]) -> Span {
    let is_space = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    if !is_space(value.first()) && !is_space(value.last()) {
        return span;
    }
    let start = value.len() - value.trim_ascii_start().len();
    span.part(start, value.trim_ascii().len()).unwrap_or_default()
}

/// What a field is that stands behind no pseudo-field, or why it may not be there.
fn check(text: &[u8], line: Line) -> Result<Field, &'static str> {
    let (name, value) = (line.name.of(text), line.value.of(text));
    if name.is_empty() || !are_all(name, IN_NAME) {
        return Err("a field's name is none");
    }
    if !are_all(value, IN_VALUE) {
        return Err("a field's value is none");
    }
    let field = Field::new(text, line.name, trimmed(line.value, value));
    let value = field.value.of(text);
    let is_wrong = match field.known {
        Known::Connection | Known::TransferEncoding | Known::Upgrade => true,
        Known::Te => !value.eq_ignore_ascii_case(b"trailers"),
        Known::Dropped => matches!(name, b"keep-alive" | b"proxy-connection"),
        _ => false,
    };
    if is_wrong { Err("a field that HTTP/2 does not have") } else { Ok(field) }
}

/// Pseudo-fields of a request.
#[derive(Debug, Default)]
struct Pseudo {
    method: Option<Span>,
    scheme: Option<Span>,
    path: Option<Span>,
    authority: Option<Span>,
    protocol: Option<Span>,
}

/// A request's head while its fields are read.
#[derive(Debug)]
pub(super) struct Request<'a> {
    head: &'a mut RequestHead,
    pseudo: Pseudo,
    has_fields: bool,
    is_tunnel: bool,
    wrong: Option<Wrong>,
    bytes: usize,
    /// Octets and fields that are allowed.
    limits: (usize, usize),
    /// Octets of the head's text that are to stay.
    kept: usize,
}

impl<'a> Request<'a> {
    /// `limits`: octets as RFC 9113 counts (6.5.2), and fields.
    pub(super) fn new(head: &'a mut RequestHead, limits: (usize, usize)) -> Self {
        head.version = Version::Http2;
        head.keep_alive = true;
        Self {
            head,
            pseudo: Pseudo::default(),
            has_fields: false,
            is_tunnel: false,
            wrong: None,
            bytes: 0,
            limits,
            kept: 0,
        }
    }

    /// Whether reading ended because it would not have.
    pub(super) fn is_flood(&self) -> bool {
        self.bytes > self.limits.0.saturating_mul(FLOOD_FACTOR)
    }

    fn take(&mut self, line: Line) -> Result<(), Wrong> {
        if self.bytes > self.limits.0 {
            return Err(Wrong::Reject(Reject::HeadTooLarge));
        }
        let text = &self.head.text;
        if line.name.of(text).first() == Some(&b':') {
            return self.take_pseudo(line).map_err(Wrong::Malformed);
        }
        if !self.has_fields {
            self.has_fields = true;
            self.is_tunnel = self.asks_for_tunnel();
        }
        let field = check(text, line).map_err(Wrong::Malformed)?;
        if self.is_tunnel && tunnel::is_left_out(field.name.of(text)) {
            return Ok(());
        }
        if self.head.fields.len() >= self.limits.1.min(MAX_FIELDS) {
            return Err(Wrong::Reject(Reject::HeadTooLarge));
        }
        self.head.fields.push(field);
        Ok(())
    }

    fn take_pseudo(&mut self, line: Line) -> Result<(), &'static str> {
        if self.has_fields {
            return Err("a pseudo-field behind fields");
        }
        let pseudo = &mut self.pseudo;
        let place = match line.name.of(&self.head.text) {
            b":method" => &mut pseudo.method,
            b":scheme" => &mut pseudo.scheme,
            b":path" => &mut pseudo.path,
            b":authority" => &mut pseudo.authority,
            b":protocol" => &mut pseudo.protocol,
            _ => return Err("a pseudo-field that no request has"),
        };
        match place.replace(line.value) {
            None => Ok(()),
            Some(_) => Err("a pseudo-field twice"),
        }
    }

    fn pseudo(&self, span: Option<Span>) -> Option<&[u8]> {
        span.map(|span| span.of(&self.head.text))
    }

    fn asks_for_tunnel(&self) -> bool {
        self.pseudo(self.pseudo.method) == Some(b"CONNECT")
            && self.pseudo(self.pseudo.protocol).is_some_and(tunnel::is_known)
    }

    /// All fields are there. `is_ended`: so is the stream's end.
    ///
    /// # Errors
    /// What is wrong; what is wrong with the authority alone is left for the walk to find.
    pub(super) fn end(mut self, is_ended: bool) -> Result<(), Wrong> {
        // A large head is not held for as long as its stream lasts with room for more.
        if self.head.text.capacity() > 2 * self.head.text.len() + SPARE_BYTES {
            self.head.text.shrink_to(self.head.text.len());
        }
        let Pseudo { method, scheme, path, authority, protocol } = self.pseudo;
        self.head.method = method.unwrap_or_default();
        self.head.path = path.unwrap_or_default();
        self.head.target = self.head.path;
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        let method = method.ok_or(Wrong::Malformed("no :method"))?;
        self.is_tunnel = self.asks_for_tunnel();
        let name = method.of(&self.head.text);
        if name.is_empty() || !are_all(name, IN_METHOD) {
            return Err(Wrong::Malformed(":method is no method"));
        }
        if protocol.is_some() && name != b"CONNECT" {
            return Err(Wrong::Malformed(":protocol without CONNECT"));
        }
        if matches!(name, b"CONNECT" | b"TRACE") && !self.is_tunnel {
            return Err(Wrong::Reject(Reject::MethodRefused));
        }
        let scheme = scheme.ok_or(Wrong::Malformed("no :scheme"))?.of(&self.head.text);
        if !(scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")) {
            return Err(malformed(":scheme is neither http nor https"));
        }
        path.ok_or(Wrong::Malformed("no :path"))?;
        check_path(self.head)?;
        self.head.body = body_length(self.head, is_ended || self.is_tunnel)?;
        self.head.expects_continue =
            framing::expects_continue(self.head).map_err(Wrong::Reject)? && !is_ended;
        self.head.authority = Some(named(self.head, authority));
        if self.is_tunnel { tunnel::ask(self.head).map_err(Wrong::Reject) } else { Ok(()) }
    }
}

impl Lines for Request<'_> {
    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.head.text
    }

    fn line(&mut self, line: Line) -> Result<(), Malformed> {
        self.bytes += line.bytes;
        if self.is_flood() {
            return Err(Malformed);
        }
        if self.wrong.is_none() {
            match self.take(line) {
                Ok(()) => self.kept = self.head.text.len(),
                Err(wrong) => self.wrong = Some(wrong),
            }
        }
        // Of what is not wanted nothing is held.
        self.head.text.truncate(self.kept);
        Ok(())
    }
}

fn malformed(why: &'static str) -> Wrong {
    Wrong::Reject(Reject::MalformedRequest(why))
}

fn check_path(head: &RequestHead) -> Result<(), Wrong> {
    let path = head.path();
    if path.is_empty() {
        return Err(Wrong::Malformed(":path is empty"));
    }
    if !(path.starts_with(b"/") || (path == b"*" && head.method() == b"OPTIONS")) {
        return Err(malformed(":path is neither a path nor `*`"));
    }
    if !path.iter().all(|octet| octet.is_ascii_graphic() && *octet != b'#') {
        return Err(malformed(":path has octets that no path has"));
    }
    Ok(())
}

fn body_length(head: &RequestHead, is_ended: bool) -> Result<BodyLength, Wrong> {
    let length = framing::content_length(head.values(Known::ContentLength)).map_err(malformed)?;
    match (is_ended, length) {
        (true, None | Some(0)) | (false, Some(0)) => Ok(BodyLength::None),
        (true, Some(_)) => Err(malformed("a content-length without a body")),
        (false, Some(octets)) => Ok(BodyLength::Exactly(octets)),
        (false, None) => Ok(BodyLength::Unknown),
    }
}

/// `:authority`, else one `host`; where both are there they must name the same.
fn named(head: &mut RequestHead, pseudo: Option<Span>) -> Result<Authority, Reject> {
    let host = {
        let mut hosts = head.fields.of(Known::Host).map(|field| field.value);
        match (hosts.next(), hosts.next()) {
            (host, None) => host,
            _ => return Err(Reject::MalformedHost),
        }
    };
    match (pseudo, host) {
        (Some(pseudo), None) => head.host(pseudo),
        (None, Some(host)) => head.host(host),
        (None, None) => Err(Reject::MalformedHost),
        (Some(pseudo), Some(host)) => {
            let host = Authority::from_wire(host.of(&head.text)).map_err(|_| Reject::MalformedHost)?;
            let pseudo = head.host(pseudo)?;
            if pseudo.host == host.host { Ok(pseudo) } else { Err(Reject::MalformedHost) }
        }
    }
}

/// Trailers while they are read, as lines.
#[derive(Debug)]
pub(super) struct Trailers {
    text: Vec<u8>,
    is_wrong: bool,
    bytes: usize,
    limit: usize,
    kept: usize,
}

impl Trailers {
    pub(super) fn new(limit: usize) -> Self {
        Self { text: Vec::new(), is_wrong: false, bytes: 0, limit, kept: 0 }
    }

    /// As of a request.
    pub(super) fn is_flood(&self) -> bool {
        self.bytes > self.limit.saturating_mul(FLOOD_FACTOR)
    }

    /// Their lines; `None`: they are no trailers. Names of pseudo-fields are none of fields.
    pub(super) fn end(self) -> Option<Vec<u8>> {
        (!self.is_wrong).then_some(self.text)
    }
}

impl Lines for Trailers {
    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    fn line(&mut self, line: Line) -> Result<(), Malformed> {
        self.bytes += line.bytes;
        if self.is_flood() {
            return Err(Malformed);
        }
        self.is_wrong = self.is_wrong || self.bytes > self.limit || check(&self.text, line).is_err();
        if !self.is_wrong {
            self.kept = self.text.len();
        }
        self.text.truncate(self.kept);
        Ok(())
    }
}
