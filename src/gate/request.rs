//! A request head as the data path sees it, whichever HTTP it came by.
//!
//! One block of octets and spans into it, reused from request to request, so that a warm connection
//! allocates nothing. Knows what fields are called, not what to do with them.

mod known;

pub use known::Known;

use crate::domain::Authority;
use crate::gate::reject::Reject;
use std::cell::RefCell;
use std::ops::Range;

/// Storage that a head keeps from request to request.
const KEPT_BYTES: usize = 2048;
const KEPT_FIELDS: usize = 32;
/// Storage of heads that each worker keeps for the next.
const MAX_SPARE: usize = 1024;

thread_local! {
    static SPARE: RefCell<Vec<(Vec<u8>, Fields)>> = const { RefCell::new(Vec::new()) };
}

/// A piece of a head: offset and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// `None` where the numbers pass what any head limit allows.
    #[must_use]
    pub fn new(start: usize, len: usize) -> Option<Self> {
        Some(Self { start: u32::try_from(start).ok()?, len: u32::try_from(len).ok()? })
    }

    /// `len` octets of this span, from its octet `from` on.
    #[must_use]
    pub fn part(self, from: usize, len: usize) -> Option<Self> {
        Self::new(self.start as usize + from, len)
    }

    fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    /// The octets, in the head that the span was made for.
    #[must_use]
    pub fn of(self, text: &[u8]) -> &[u8] {
        let start = self.start as usize;
        text.get(start..start + self.len as usize).unwrap_or_default()
    }
}

/// What a message's Connection fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// `close`
    pub close: bool,
    /// `keep-alive`
    pub keep_alive: bool,
    /// `upgrade`
    pub upgrade: bool,
    /// Names of fields that are for the next hop only.
    pub names: bool,
}

impl Wishes {
    /// Of the fields of the head `text`.
    #[must_use]
    pub fn of(fields: &Fields, text: &[u8]) -> Self {
        let mut wishes = Self::default();
        for value in fields.of(Known::Connection).map(|field| field.value.of(text)) {
            // Mostly it is this one word.
            if value == b"keep-alive" {
                wishes.keep_alive = true;
                continue;
            }
            for token in list_elements(value) {
                let is = |word: &str| token.eq_ignore_ascii_case(word.as_bytes());
                match () {
                    () if is("close") => wishes.close = true,
                    () if is("keep-alive") => wishes.keep_alive = true,
                    () if is("upgrade") => wishes.upgrade = true,
                    () => wishes.names = true,
                }
            }
        }
        wishes
    }
}

/// One header field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name, as it was sent.
    pub name: Span,
    /// Its value, without the space around it.
    pub value: Span,
    /// What it is to the gate.
    pub known: Known,
}

impl Field {
    /// A field of the head `text`.
    #[must_use]
    pub fn new(text: &[u8], name: Span, value: Span) -> Self {
        Self { name, value, known: Known::of(name.of(text)) }
    }

    /// The field's whole line, where it reads `name: value CRLF` to the octet: it can be passed on as it stands.
    #[must_use]
    pub fn line(&self, text: &[u8]) -> Option<Range<usize>> {
        let (name_end, value_end) = (self.name.end(), self.value.end());
        let is_plain = self.value.start as usize == name_end + 2
            && text.get(name_end..name_end + 2) == Some(b": ")
            && text.get(value_end..value_end + 2) == Some(b"\r\n");
        is_plain.then(|| self.name.start as usize..value_end + 2)
    }
}

/// A head's fields in order, and which of the known ones are among them: most are asked for and absent.
#[derive(Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    present: u32,
    /// Which of the known ones are there more than once.
    repeated: u32,
    /// Where the first of each known one stands.
    first: [u8; Known::COUNT],
}

impl Fields {
    /// Adds one at the end.
    pub fn push(&mut self, field: Field) {
        let bit = 1 << field.known as u32;
        if self.present & bit == 0 {
            // Beyond the range of an octet it is looked for from there on.
            self.first[field.known as usize] = u8::try_from(self.list.len()).unwrap_or(u8::MAX);
        }
        self.repeated |= self.present & bit;
        self.present |= bit;
        self.list.push(field);
    }

    /// Takes out those that `keeps` does not hold of.
    pub fn retain(&mut self, mut keeps: impl FnMut(&Field) -> bool) {
        let list = std::mem::take(&mut self.list);
        (self.present, self.repeated) = (0, 0);
        list.into_iter().filter(|field| keeps(field)).for_each(|field| self.push(field));
    }

    /// Whether one of them is `known`.
    #[must_use]
    pub fn has(&self, known: Known) -> bool {
        self.present & (1 << known as u32) != 0
    }

    /// Those that are `known`, in order.
    pub fn of(&self, known: Known) -> impl Iterator<Item = &Field> {
        let first = usize::from(self.first[known as usize]);
        let list = match (self.has(known), self.repeated & (1 << known as u32) != 0) {
            (false, _) => &[],
            (true, false) if first < usize::from(u8::MAX) => &self.list[first..=first],
            (true, _) => &self.list[first..],
        };
        list.iter().filter(move |field| field.known == known)
    }

    /// Takes all out; keeps storage for `kept` of them.
    pub fn clear(&mut self, kept: usize) {
        (self.present, self.repeated) = (0, 0);
        self.list.clear();
        self.list.shrink_to(kept);
    }
}

impl std::ops::Deref for Fields {
    type Target = [Field];

    fn deref(&self) -> &[Field] {
        &self.list
    }
}

/// The version that the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As logs and Via write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// How a request body arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyLength {
    /// There is none.
    #[default]
    None,
    /// This many octets.
    Exactly(u64),
    /// Until its end is marked.
    Unknown,
}

/// A request head.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// All octets that the spans point into.
    pub text: Vec<u8>,
    /// The method.
    pub method: Span,
    /// The target as it was sent.
    pub target: Span,
    /// What goes to the upstream as the target: origin-form or `*`.
    pub path: Span,
    /// The version.
    pub version: Version,
    /// The fields in order.
    pub fields: Fields,
    /// What its Connection fields say (HTTP/1).
    pub wishes: Wishes,
    /// How the body arrives.
    pub body: BodyLength,
    /// The one authority that the request names, or why there is none.
    pub authority: Option<Result<Authority, Reject>>,
    /// Whether the client may send another request afterwards (HTTP/1).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// The `Upgrade` value, where the client truly asked to switch.
    pub upgrade: Option<Span>,
    /// The last good Host of this connection, as it was sent and as it was read.
    last_host: Option<Box<(Vec<u8>, Authority)>>,
}

impl RequestHead {
    /// Empties it for the next request, keeping its storage.
    pub fn reset(&mut self) {
        let (mut text, mut fields) = if self.text.capacity() > 0 {
            (std::mem::take(&mut self.text), std::mem::take(&mut self.fields))
        } else {
            SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
        };
        text.clear();
        // One large head must not be paid for by all that come after it.
        text.shrink_to(KEPT_BYTES);
        fields.clear(KEPT_FIELDS);
        let last_host = std::mem::take(&mut self.last_host);
        *self = Self { text, fields, last_host, ..Self::default() };
    }

    /// Empties it for a wait: what waits for its next request holds no storage.
    pub fn release(&mut self) {
        if self.text.capacity() > 0 {
            self.reset();
            let storage = (std::mem::take(&mut self.text), std::mem::take(&mut self.fields));
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < MAX_SPARE {
                    spare.push(storage);
                }
            });
        }
    }

    /// The method's octets.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.method.of(&self.text)
    }

    /// The path and query (or `*`) that go to the upstream.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.path.of(&self.text)
    }

    /// The request line with its end, where it can go to an HTTP/1.1 upstream as it stands.
    #[must_use]
    pub fn line_to_pass_on(&self) -> Option<&[u8]> {
        let is_as_sent = self.version == Version::Http11 && self.path == self.target;
        let line = self.text.get(self.method.start as usize..self.target.end() + b" HTTP/1.1\r\n".len())?;
        (is_as_sent && line.ends_with(b" HTTP/1.1\r\n")).then_some(line)
    }

    /// A field's name and value.
    #[must_use]
    pub fn field(&self, field: &Field) -> (&[u8], &[u8]) {
        (field.name.of(&self.text), field.value.of(&self.text))
    }

    /// The values of the fields that are `known`, in order.
    pub fn values(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.fields.of(known).map(|field| field.value.of(&self.text))
    }

    /// Whether it asks to go on as a WebSocket.
    #[must_use]
    pub fn asks_for_websocket(&self) -> bool {
        self.upgrade.is_some_and(|upgrade| upgrade.of(&self.text).eq_ignore_ascii_case(b"websocket"))
    }

    /// The first value of a field that the gate does not act upon, by its name in small letters.
    #[must_use]
    pub fn named(&self, name: &[u8]) -> Option<&[u8]> {
        let is_it = |field: &&Field| field.name.of(&self.text).eq_ignore_ascii_case(name);
        self.fields.iter().find(is_it).map(|field| field.value.of(&self.text))
    }

    /// What the octets of a Host name: a connection mostly asks for the same as before.
    ///
    /// # Errors
    /// `MalformedHost`.
    pub fn host(&mut self, value: Span) -> Result<Authority, Reject> {
        let octets = value.of(&self.text);
        if let Some((_, authority)) = self.last_host.as_deref().filter(|(last, _)| *last == *octets) {
            return Ok(authority.clone());
        }
        let authority = Authority::from_wire(octets).map_err(|_| Reject::MalformedHost)?;
        match &mut self.last_host {
            Some(known) => {
                known.0.clear();
                known.0.extend_from_slice(octets);
                known.1.clone_from(&authority);
            }
            None => self.last_host = Some(Box::new((octets.to_vec(), authority.clone()))),
        }
        Ok(authority)
    }

    /// Adds octets and gives their span: for heads that do not arrive as one block (HTTP/2).
    pub fn append(&mut self, octets: &[u8]) -> Span {
        let start = self.text.len();
        self.text.extend_from_slice(octets);
        Span::new(start, octets.len()).unwrap_or_default()
    }

    /// Whether the method is HEAD: its response has no body whatever its fields say.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }

    /// Whether its body is messages that come as they may: it says that it is gRPC.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.fields.iter().any(|field| {
            field.known == Known::Other
                && field.name.of(&self.text).eq_ignore_ascii_case(b"content-type")
                && field.value.of(&self.text).starts_with(b"application/grpc")
        })
    }

    /// Whether sending it twice does no harm (RFC 9110, 9.2.1) and there is no body to send again.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.body == BodyLength::None && matches!(self.method(), b"GET" | b"HEAD" | b"OPTIONS")
    }
}

/// The comma-separated elements of a field value, without the space around them.
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|octet| *octet == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}
