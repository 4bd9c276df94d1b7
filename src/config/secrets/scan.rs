//! Values in a text that is TOML, or nearly: each with the names that lead to it.
//!
//! Never fails: it is asked about configs that are wrong. Where a quote or a bracket is not closed, what follows is
//! taken for more of it, until the end of the line or the next header.

use super::{Secrets, Value, normal};

/// Goes through a text once.
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// The last header, normal.
    section: String,
    /// Brackets and braces that are open, with the key in front of each.
    open: Vec<(u8, String)>,
    key: String,
    is_value: bool,
    found: Secrets,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            section: String::new(),
            open: Vec::new(),
            key: String::new(),
            is_value: false,
            found: Secrets::default(),
        }
    }

    pub(super) fn run(mut self) -> Secrets {
        self.header();
        while let Some(&octet) = self.text.as_bytes().get(self.at) {
            match octet {
                b'#' => self.comment(),
                b'"' | b'\'' => self.quoted(octet),
                b'\n' => {
                    self.at += 1;
                    if self.open.is_empty() {
                        self.next_key();
                    }
                    self.header();
                }
                b'=' => self.turn(|it| it.is_value = true),
                b',' if self.open.last().is_some_and(|(bracket, _)| *bracket == b'{') => {
                    self.turn(Self::next_key);
                }
                b'{' | b'[' => self.turn(|it| {
                    let key = std::mem::take(&mut it.key);
                    it.open.push((octet, key));
                    it.is_value = octet == b'[';
                }),
                b'}' | b']' => self.turn(|it| {
                    it.open.pop();
                    it.key.clear();
                    it.is_value = it.open.last().is_some_and(|(bracket, _)| *bracket == b'[');
                }),
                b' ' | b'\t' | b'\r' | b',' => self.at += 1,
                _ => self.bare(),
            }
        }
        self.found
    }

    fn turn(&mut self, change: impl FnOnce(&mut Self)) {
        self.at += 1;
        change(self);
    }

    fn next_key(&mut self) {
        self.key.clear();
        self.is_value = false;
    }

    fn line(&self) -> &'t str {
        self.text[self.at..].split('\n').next().unwrap_or_default()
    }

    /// `[section]`, `[[section]]` at the start of a line; it closes whatever was left open.
    fn header(&mut self) {
        let line = self.line();
        let bare = line.trim_start();
        let Some(inner) = bare.strip_prefix("[[").or_else(|| bare.strip_prefix('[')) else { return };
        let Some(end) = inner.find(']') else { return };
        let name = &inner[..end];
        let is_name = name.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"');
        if !self.open.is_empty() && (!is_name || name.contains([',', '='])) {
            return;
        }
        self.open.clear();
        self.next_key();
        self.section = name.split('.').map(normal).collect::<Vec<_>>().join(".");
        let after = line.len() - inner.len() + end;
        self.at += after + line[after..].bytes().take_while(|octet| *octet == b']').count();
    }

    fn comment(&mut self) {
        let line = self.line().trim_end();
        let text = normal(&line[1..]);
        if text.contains('@') || text.contains("://") || super::is_secret_name(&text) {
            self.found.spans.push(self.at + 1..self.at + line.len());
        }
        self.at += line.len();
    }

    fn quoted(&mut self, quote: u8) {
        let mark = if quote == b'"' { "\"\"\"" } else { "'''" };
        let rest = &self.text[self.at..];
        let (skip, is_long) = if rest.starts_with(mark) { (3, true) } else { (1, false) };
        let inner = &rest[skip..];
        let (octets, is_closed) = closing(inner, (quote, is_long));
        let start = self.at + skip;
        self.at = start + octets + if is_closed { skip } else { 0 };
        let raw = &self.text[start..start + octets];
        if !self.is_value {
            return self.name(raw);
        }
        if quote == b'"' && raw.contains('\\') {
            let unescaped =
                toml::from_str::<toml::Table>(&format!("v = {}", &rest[..self.at - start + skip]));
            let said = unescaped.ok().and_then(|table| table.get("v")?.as_str().map(str::to_owned));
            return self.value(start, octets, said.as_deref().unwrap_or(raw), false);
        }
        self.value(start, octets, raw, true);
    }

    fn bare(&mut self) {
        let rest = &self.text[self.at..];
        let is_end = |c: char| c.is_whitespace() || "#\"'{}[],".contains(c) || (!self.is_value && c == '=');
        // At least one character, or it would stay where it is.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let octets = first + rest[first..].find(is_end).unwrap_or(rest.len() - first);
        let (start, word) = (self.at, &rest[..octets]);
        self.at += octets;
        if self.is_value { self.value(start, octets, word, true) } else { self.name(word) }
    }

    fn name(&mut self, written: &str) {
        let name = normal(written);
        if !self.key.is_empty() && !self.key.ends_with('.') && !name.starts_with('.') {
            self.key.push('.');
        }
        self.key.push_str(&name);
    }

    fn value(&mut self, at: usize, octets: usize, text: &str, is_as_written: bool) {
        let keys = self.open.iter().map(|(_, key)| key.as_str()).chain([self.key.as_str()]);
        let names: Vec<_> =
            std::iter::once(self.section.as_str()).chain(keys).filter(|it| !it.is_empty()).collect();
        let path = names.join(".");
        self.found.hide(&Value { path: &path, text, at, octets, is_as_written });
    }
}

/// Octets up to the closing quote, and whether there is one. A short string ends with its line.
fn closing(inner: &str, (quote, is_long): (u8, bool)) -> (usize, bool) {
    let octets = inner.as_bytes();
    let mut at = 0;
    while let Some(&octet) = octets.get(at) {
        match octet {
            b'\\' if quote == b'"' && (is_long || octets.get(at + 1) != Some(&b'\n')) => at += 1,
            b'\n' if !is_long => return (at, false),
            _ if octet == quote && !is_long => return (at, true),
            _ if octet == quote && octets[at..].starts_with(&[quote; 3]) => return (at, true),
            _ => {}
        }
        at += 1;
    }
    (octets.len(), false)
}
