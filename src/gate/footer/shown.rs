//! What a page's text and links show of filing numbers, however they are spaced, wide or escaped. Pure.

use super::page::Wanted;
use crate::filing::{FilingNumber, PublicSecurityNumber};

/// The ministry's host (`MINISTRY_URL`).
const MINISTRY_HOST: &str = "beian.miit.gov.cn";
/// Characters of text that are remembered: more than any number has.
const MAX_REMEMBERED: usize = 80;
/// Characters of a link's text that are looked at.
const MAX_LINK: usize = 200;
/// Octets of a character reference.
const MAX_REFERENCE: usize = 10;
/// What stands in every public-security number, and how many digits follow.
const PUBLIC_SECURITY: &str = "公网安备";
const PUBLIC_SECURITY_DIGITS: usize = 14;

/// What a page shows of its filing number, the better the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum State {
    /// No number.
    #[default]
    Missing,
    /// Another one, linked to the ministry.
    Other,
    /// It, but not as a link to the ministry.
    Unlinked,
    /// It, linked.
    Linked,
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(super) struct Sought {
    number: String,
    public_security: Option<String>,
}

impl Sought {
    pub(super) fn new(wanted: &Wanted) -> Self {
        Self {
            number: wanted.number.to_string(),
            public_security: wanted.public_security.as_ref().map(ToString::to_string),
        }
    }
}

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Seen {
    sought: Sought,
    pub(super) state: State,
    pub(super) has_public_security: bool,
    /// The end of the text so far.
    text: String,
    /// The text of the link to the ministry that is open.
    link: Option<String>,
    /// A character reference that is not whole yet.
    reference: String,
}

impl Seen {
    pub(super) fn new(sought: Sought) -> Self {
        Self {
            sought,
            state: State::Missing,
            has_public_security: false,
            text: String::new(),
            link: None,
            reference: String::new(),
        }
    }

    /// A link begins (or ends, or leads nowhere).
    pub(super) fn link(&mut self, href: Option<&str>) {
        self.link = href.filter(|href| is_ministry(href)).map(|_| String::new());
    }

    /// Text follows; `is_last`: with it a piece of text is whole, and no digit will follow.
    pub(super) fn text(&mut self, text: &str, is_last: bool) {
        for c in text.chars() {
            self.character(c);
        }
        self.look(is_last);
        let characters = self.text.chars().count();
        if let Some((cut, _)) = self.text.char_indices().nth(characters.saturating_sub(MAX_REMEMBERED)) {
            self.text.drain(..cut);
        }
    }

    fn character(&mut self, c: char) {
        if self.reference.is_empty() && c != '&' {
            return self.push(c);
        }
        if c == ';' {
            let reference = std::mem::take(&mut self.reference);
            return match referred(&reference) {
                Some(c) => self.push(c),
                None => reference.chars().chain([c]).for_each(|c| self.push(c)),
            };
        }
        let is_part = c == '&' && self.reference.is_empty() || c == '#' || c.is_ascii_alphanumeric();
        if is_part && self.reference.len() < MAX_REFERENCE {
            return self.reference.push(c);
        }
        for c in std::mem::take(&mut self.reference).chars().chain([c]) {
            self.push(c);
        }
    }

    fn push(&mut self, c: char) {
        let Some(c) = normal(c) else { return };
        self.text.push(c);
        if let Some(link) = self.link.as_mut().filter(|link| link.len() < MAX_LINK) {
            link.push(c);
        }
    }

    fn look(&mut self, is_whole: bool) {
        let contains = |text: &str, number: &str| contains(text, number, is_whole);
        let linked = self.link.as_deref().filter(|link| !link.is_empty());
        let found = match linked {
            Some(link) if contains(link, &self.sought.number) => State::Linked,
            _ if contains(&self.text, &self.sought.number) => State::Unlinked,
            Some(link) if is_whole && FilingNumber::parse(link).is_ok() => State::Other,
            _ => State::Missing,
        };
        self.state = self.state.max(found);
        self.has_public_security = self.has_public_security
            || match &self.sought.public_security {
                Some(number) => self.text.contains(number.trim_end_matches('号')),
                None => has_public_security(&self.text),
            };
    }
}

fn is_ministry(href: &str) -> bool {
    let href = href.trim().to_ascii_lowercase();
    let host = ["https://", "http://", "//"].iter().find_map(|scheme| href.strip_prefix(scheme));
    let rest = host.and_then(|host| host.strip_prefix(MINISTRY_HOST));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#', ':']))
}

/// A character as numbers are written; `None` for the space within them.
fn normal(c: char) -> Option<char> {
    match c {
        c if c.is_whitespace() || c == '\u{200b}' || c == '\u{feff}' => None,
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some('-'),
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).map(|c| c.to_ascii_uppercase()),
        c => Some(c.to_ascii_uppercase()),
    }
}

/// The character that `&…` (its `;` aside) refers to, of those that stand in numbers.
fn referred(reference: &str) -> Option<char> {
    let name = reference.strip_prefix('&')?;
    let Some(number) = name.strip_prefix('#') else {
        return matches!(name, "nbsp" | "ensp" | "emsp").then_some(' ');
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    code.ok().and_then(char::from_u32)
}

/// Whether `number` stands in `text`, and not as the beginning of a longer one.
fn contains(text: &str, number: &str, is_whole: bool) -> bool {
    text.match_indices(number).any(|(at, _)| match text[at + number.len()..].chars().next() {
        None => is_whole,
        Some(next) => !next.is_ascii_digit(),
    })
}

fn has_public_security(text: &str) -> bool {
    text.match_indices(PUBLIC_SECURITY).any(|(at, _)| {
        let glyph = text[..at].chars().next_back().map(String::from).unwrap_or_default();
        let digits: String = text[at + PUBLIC_SECURITY.len()..]
            .chars()
            .take(PUBLIC_SECURITY_DIGITS)
            .take_while(char::is_ascii_digit)
            .collect();
        PublicSecurityNumber::parse(&format!("{glyph}{PUBLIC_SECURITY}{digits}号")).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[(Option<&str>, &str)], expected: (State, bool)) {
        let sought = Sought { number: "京ICP备12345678号-1".to_owned(), public_security: None };
        let mut seen = Seen::new(sought);
        for (href, text) in pieces {
            seen.link(*href);
            // However the text is cut.
            for c in text.chars() {
                seen.text(&c.to_string(), false);
            }
            seen.text("", true);
        }
        assert_eq!((seen.state, seen.has_public_security), expected, "{pieces:?}");
    }

    #[test]
    fn numbers_are_found_as_people_write_them() {
        let ministry = Some("https://beian.miit.gov.cn/");
        check(&[(ministry, "京ICP备12345678号-1")], (State::Linked, false));
        check(&[(Some("http://beian.miit.gov.cn"), " 京icp备 12345678号 - 1 ")], (State::Linked, false));
        check(
            &[(Some("//BEIAN.miit.gov.cn/#/x"), "备案号：京ＩＣＰ备１２３４５６７８号－１")],
            (State::Linked, false),
        );
        check(&[(ministry, "&#x4EAC;ICP&#22791;12345678&#x53f7;-1&nbsp;")], (State::Linked, false));
        check(&[(ministry, "京ICP备12345678号-11")], (State::Other, false));
        check(&[(ministry, "京ICP备12345678号")], (State::Other, false));
        check(&[(ministry, "more"), (None, "京ICP备12345678号-1")], (State::Unlinked, false));
        check(
            &[(Some("https://beian.miit.gov.cn.evil.example/"), "京ICP备12345678号-1")],
            (State::Unlinked, false),
        );
        check(&[(Some("http://www.miitbeian.gov.cn/"), "京ICP备12345678号-1")], (State::Unlinked, false));
        check(&[(None, "a & b &c; &#xfffffff; no number")], (State::Missing, false));
        check(&[(None, "京公网安备 11010102000001 号")], (State::Missing, true));
        check(&[(None, "京公网安备 1101010200000 号")], (State::Missing, false));
    }
}
