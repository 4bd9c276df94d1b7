//! A template rendered ahead: fixed pieces with slots between them that a request fills.
//!
//! Each value is stood in for by one private-use character while minijinja renders, and the result
//! is cut at those characters. Values are cleaned and escaped here and nowhere else, so nothing
//! that a client sent is ever read as a template or as markup.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::brand::Said;
use super::texts::{Labels, Text};

/// A value that differs from request to request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Domain,
    Number,
    Verdict,
    VerdictId,
    Status,
    SyncedAt,
    SyncedAtIso,
    OperatorReason,
}

const SLOTS: [(Slot, &str); 8] = [
    (Slot::Domain, "\u{e0f0}"),
    (Slot::Number, "\u{e0f1}"),
    (Slot::Verdict, "\u{e0f2}"),
    (Slot::VerdictId, "\u{e0f3}"),
    (Slot::Status, "\u{e0f4}"),
    (Slot::SyncedAt, "\u{e0f5}"),
    (Slot::SyncedAtIso, "\u{e0f6}"),
    (Slot::OperatorReason, "\u{e0f7}"),
];

impl Slot {
    fn mark(self) -> &'static str {
        SLOTS[self as usize].1
    }

    fn of(mark: char) -> Option<Self> {
        // Nearly all of a page stands before the private use area, where the marks are.
        if mark < '\u{e000}' {
            return None;
        }
        SLOTS.iter().find(|(_, slot_mark)| slot_mark.chars().eq([mark])).map(|(slot, _)| *slot)
    }
}

/// Whether a source holds a character that stands for a slot.
pub(super) fn has_mark(source: &str) -> bool {
    source.chars().any(|c| Slot::of(c).is_some())
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    Html,
    None,
}

/// Which of the values that may be absent are there: each combination is rendered by itself, so a
/// template asks with a plain `if`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Presence(usize);

impl Presence {
    const DOMAIN: usize = 1;
    const NUMBER: usize = 2;
    const SYNCED_AT: usize = 4;
    const OPERATOR_REASON: usize = 8;

    /// Every combination; those with an operator's reason only where one can occur.
    pub(super) fn all(with_operator_reason: bool) -> impl Iterator<Item = Self> {
        let end = if with_operator_reason { 16 } else { 8 };
        (0..end).map(Self)
    }

    /// What of `values` there is.
    pub(super) fn of(values: &Values<'_>) -> Self {
        let bit = |slot, bit| if values.is_known(slot) { bit } else { 0 };
        Self(
            bit(Slot::Domain, Self::DOMAIN)
                | bit(Slot::Number, Self::NUMBER)
                | bit(Slot::SyncedAt, Self::SYNCED_AT)
                | bit(Slot::OperatorReason, Self::OPERATOR_REASON),
        )
    }

    /// The place among `count` combinations, 8 or 16.
    pub(super) fn index(self, count: usize) -> usize {
        self.0 & (count - 1)
    }

    fn mark(self, bit: usize, slot: Slot) -> Option<&'static str> {
        (self.0 & bit != 0).then(|| slot.mark())
    }
}

/// What a template sees of one page.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Subject<'a> {
    pub(super) lang: &'static str,
    pub(super) blocked: bool,
    pub(super) text: &'a Text,
    pub(super) labels: &'a Labels,
    pub(super) other: Other<'a>,
    pub(super) brand: &'a Said<'a>,
}

/// The page in the other language, in short.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Other<'a> {
    pub(super) lang: &'static str,
    pub(super) title: &'a str,
    pub(super) summary: &'a str,
}

#[derive(Serialize)]
struct Context<'a> {
    #[serde(flatten)]
    subject: Subject<'a>,
    domain: Option<&'static str>,
    number: Option<&'static str>,
    verdict: &'static str,
    verdict_id: &'static str,
    status: &'static str,
    synced_at: Option<&'static str>,
    synced_at_iso: Option<&'static str>,
    operator_reason: Option<&'static str>,
    /// Ours, and therefore not escaped.
    recheck: Option<minijinja::Value>,
}

/// A template, ready to be rendered ahead. HTML is escaped for names that end in `.html`.
pub(super) struct Source {
    environment: Environment<'static>,
    name: &'static str,
    /// Pieces seen so far: pages share most of theirs.
    pieces: HashSet<Arc<str>>,
}

impl Source {
    /// Parses a template; the error says what is wrong and where.
    pub(super) fn parse(name: &'static str, source: &str) -> Result<Self, String> {
        if has_mark(source) {
            return Err(
                "holds a private-use character from U+E0F0 to U+E0F7; the gate needs these itself".to_owned()
            );
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(
            SyntaxConfig::builder().keep_trailing_newline(true).build().map_err(|error| error.to_string())?,
        );
        environment.add_template_owned(name, source.to_owned()).map_err(|error| error.to_string())?;
        Ok(Self { environment, name, pieces: HashSet::new() })
    }

    /// Renders one page with slots where values will go.
    pub(super) fn skeleton(
        &mut self,
        subject: Subject<'_>,
        recheck: Option<&str>,
        presence: Presence,
    ) -> Result<Skeleton, String> {
        let context = Context {
            subject,
            recheck: recheck.map(|script| minijinja::Value::from_safe_string(script.to_owned())),
            domain: presence.mark(Presence::DOMAIN, Slot::Domain),
            number: presence.mark(Presence::NUMBER, Slot::Number),
            verdict: Slot::Verdict.mark(),
            verdict_id: Slot::VerdictId.mark(),
            status: Slot::Status.mark(),
            synced_at: presence.mark(Presence::SYNCED_AT, Slot::SyncedAt),
            synced_at_iso: presence.mark(Presence::SYNCED_AT, Slot::SyncedAtIso),
            operator_reason: presence.mark(Presence::OPERATOR_REASON, Slot::OperatorReason),
        };
        let template = self.environment.get_template(self.name).map_err(|error| error.to_string())?;
        let page = template.render(Serde(context)).map_err(|error| error.to_string())?;
        Ok(self.cut(&page))
    }

    fn cut(&mut self, page: &str) -> Skeleton {
        let mut segments = Vec::new();
        let mut start = 0;
        for (at, mark) in page.char_indices() {
            if let Some(slot) = Slot::of(mark) {
                segments.push(Segment::Fixed(self.piece(&page[start..at])));
                segments.push(Segment::Slot(slot));
                start = at + mark.len_utf8();
            }
        }
        segments.push(Segment::Fixed(self.piece(&page[start..])));
        Skeleton { segments: segments.into(), len: page.len() }
    }

    fn piece(&mut self, piece: &str) -> Arc<str> {
        if let Some(seen) = self.pieces.get(piece) {
            return Arc::clone(seen);
        }
        let piece: Arc<str> = piece.into();
        self.pieces.insert(Arc::clone(&piece));
        piece
    }
}

#[derive(Debug, Clone)]
enum Segment {
    Fixed(Arc<str>),
    Slot(Slot),
}

/// One page, but for its values.
#[derive(Debug, Clone)]
pub(super) struct Skeleton {
    segments: Box<[Segment]>,
    len: usize,
}

impl Skeleton {
    /// The page with its values.
    pub(super) fn fill(&self, values: &Values<'_>, escape: Escape) -> Bytes {
        let mut page = String::with_capacity(self.len + values.len_bytes());
        for segment in &self.segments {
            match segment {
                Segment::Fixed(piece) => page.push_str(piece),
                Segment::Slot(slot) => push(&mut page, values.text(*slot), escape),
            }
        }
        page.into()
    }
}

fn push(page: &mut String, value: &str, escape: Escape) {
    if escape == Escape::None {
        page.push_str(value);
        return;
    }
    let mut rest = value;
    // Mostly there is nothing to escape, and all goes in one piece.
    while let Some((at, escaped)) =
        rest.bytes().enumerate().find_map(|(at, octet)| Some((at, escaped(octet)?)))
    {
        page.push_str(&rest[..at]);
        page.push_str(escaped);
        rest = &rest[at + 1..];
    }
    page.push_str(rest);
}

fn escaped(octet: u8) -> Option<&'static str> {
    Some(match octet {
        b'&' => "&amp;",
        b'<' => "&lt;",
        b'>' => "&gt;",
        b'"' => "&quot;",
        b'\'' => "&#39;",
        _ => return None,
    })
}

/// The values of one page, cleaned.
#[derive(Debug, Clone, Default)]
pub(super) struct Values<'a> {
    texts: [Option<Cow<'a, str>>; SLOTS.len()],
}

impl<'a> Values<'a> {
    pub(super) fn set(&mut self, slot: Slot, value: Option<Cow<'a, str>>) {
        self.texts[slot as usize] = value.filter(|value| !value.is_empty());
    }

    pub(super) fn is_known(&self, slot: Slot) -> bool {
        self.texts[slot as usize].is_some()
    }

    /// The value; empty where there is none.
    pub(super) fn text(&self, slot: Slot) -> &str {
        self.texts[slot as usize].as_deref().unwrap_or_default()
    }

    /// The value, where there is one.
    pub(super) fn known(&self, slot: Slot) -> Option<&str> {
        self.texts[slot as usize].as_deref()
    }

    fn len_bytes(&self) -> usize {
        self.texts.iter().flatten().map(|text| text.len()).sum()
    }
}

/// A value fit to be shown: without control characters and those that reorder or hide text, and
/// at most `chars_max` characters long.
pub(super) fn clean(value: &str, chars_max: usize) -> Cow<'_, str> {
    let is_plain = || value.bytes().all(|octet| matches!(octet, b' '..=b'~'));
    if value.len() <= chars_max && (is_plain() || !value.contains(is_unfit)) {
        return Cow::Borrowed(value);
    }
    let mut rest = value.chars().filter(|&c| !is_unfit(c));
    let mut shown: String = rest.by_ref().take(chars_max).collect();
    if rest.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    Cow::Owned(shown)
}

/// Control characters, line separators, bidirectional controls and zero-width characters.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
