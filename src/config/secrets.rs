//! What in a config is nobody's business, so that an error can show a line without it.
//!
//! Knows words in the names of keys and the shape of URLs, no key of ours: an unknown key may hold a secret as well.
//! Rather hides too much than too little: the key, the line and the column say which value is meant.

mod scan;

use scan::Scanner;
use std::ops::Range;

/// What stands for a secret in an error.
const MASK: &str = "***";
/// Words in the name of a key or of a header field whose value is a secret, unless it is a file's path.
const WORDS: [&str; 10] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "authorization",
    "credential",
    "bearer",
    "api-key",
    "apikey",
];
/// Names, or their last words, that say the same. A word within a name they may not be: `keep` has nothing to hide.
const LAST_WORDS: [&str; 9] = ["key", "keys", "pass", "pw", "pwd", "psk", "auth", "dsn", "sig"];
/// Last words of names whose value is the path of what is secret.
const FILES: [&str; 5] = ["file", "key", "keys", "directory", "path"];
/// Words in names of sections whose URLs are secrets themselves: whoever knows one may write there.
const HOOKS: [&str; 3] = ["webhook", "hook", "alert"];
/// Last words of names that hold a URL, whether it is written well or not.
const URLS: [&str; 6] = ["url", "uri", "address", "endpoint", "target", "hook"];
/// A piece of a secret that is shorter stands in a message by chance.
const MIN_PIECE_BYTES: usize = 6;
/// The longest ending of a file's name: what follows the last dot of a token is longer.
const MAX_ENDING_BYTES: usize = 8;

/// Whether the value of a key of that name is a secret, or the path of one.
pub(super) fn is_secret_name(name: &str) -> bool {
    WORDS.iter().any(|word| name.contains(word))
}

/// `A_Name` as `a-name`, which is how names are compared.
pub(super) fn normal(name: &str) -> String {
    name.trim().trim_matches(['"', '\'']).to_ascii_lowercase().replace('_', "-")
}

/// Where in a text secrets stand, and what of them a message may repeat.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Octets; in order, none within another.
    spans: Vec<Range<usize>>,
    /// What a message may say, and what is to be said instead; the longest first.
    words: Vec<(String, String)>,
}

impl Secrets {
    /// Of a config, be it TOML or not.
    pub(super) fn of(text: &str) -> Self {
        let mut found = Scanner::new(text).run();
        found.words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        found.words.dedup();
        found
    }

    /// The octets of a line that are not to be shown; `more` are further ones.
    pub(super) fn within(&self, line: &Range<usize>, more: Option<Range<usize>>) -> Vec<Range<usize>> {
        let first = self.spans.partition_point(|span| span.end <= line.start);
        let known = self.spans[first..].iter().take_while(|span| span.start < line.end).cloned();
        let cut = |span: Range<usize>| span.start.max(line.start)..span.end.min(line.end);
        let mut spans: Vec<_> =
            known.chain(more).map(cut).filter(|span: &Range<usize>| !span.is_empty()).collect();
        spans.sort_by_key(|span| span.start);
        spans.dedup_by(|next, before| {
            let is_one = next.start <= before.end;
            if is_one {
                before.end = before.end.max(next.end);
            }
            is_one
        });
        spans
    }

    /// A message that repeats no secret.
    pub(super) fn out_of(&self, message: &str) -> String {
        let mut said = message.to_owned();
        for (word, instead) in &self.words {
            if said.contains(word.as_str()) {
                said = said.replace(word.as_str(), instead);
            }
        }
        without_users(&said)
    }

    fn hide(&mut self, value: &Value<'_>) {
        let parts = hidden(value.path, value.text);
        if parts.is_empty() {
            return;
        }
        let shown = masked(value.text, 0..value.text.len(), &parts);
        self.words.push((format!("{:?}", value.text), format!("{shown:?}")));
        let parts_of = parts.iter().map(|part| &value.text[part.clone()]);
        let passwords =
            parts_of.clone().filter_map(|part| part.split_once(':').map(|(_, password)| password));
        let pieces = parts_of.chain(passwords).chain([value.text]);
        for piece in pieces.filter(|piece| piece.len() >= MIN_PIECE_BYTES) {
            let instead = if piece.len() == value.text.len() { shown.clone() } else { MASK.to_owned() };
            self.words.push((piece.to_owned(), instead));
        }
        match value.is_as_written {
            true => self.spans.extend(parts.iter().map(|part| value.at + part.start..value.at + part.end)),
            false => self.spans.push(value.at..value.at + value.octets),
        }
    }
}

/// A value as the scanner finds it.
struct Value<'v> {
    /// The names of its sections and its key, normal, with dots between.
    path: &'v str,
    /// What it says.
    text: &'v str,
    /// Where it stands, without quotes.
    at: usize,
    octets: usize,
    /// It holds no escapes.
    is_as_written: bool,
}

/// The text in `range`, with a mask for each of `spans`.
pub(super) fn masked(text: &str, range: Range<usize>, spans: &[Range<usize>]) -> String {
    let (mut shown, mut at) = (String::new(), range.start);
    for span in spans.iter().filter(|span| span.start < range.end && span.end > range.start) {
        shown.push_str(&text[at..span.start.max(at)]);
        shown.push_str(MASK);
        at = span.end.min(range.end);
    }
    shown.push_str(&text[at..range.end]);
    shown
}

/// What of a line that is no TOML must not be shown: all behind its first name, where anything in it looks like a
/// secret. Octets of the line.
pub(super) fn tail(line: &str) -> Option<Range<usize>> {
    let names = normal(line);
    let first = names.split(|c: char| !(c.is_alphanumeric() || c == '-')).next().unwrap_or_default();
    let is_suspect = is_secret_name(&names)
        || has_last(first, &LAST_WORDS)
        || HOOKS.iter().any(|word| names.contains(word))
        || names.contains('@')
        || names.contains("://");
    let name_end = line.find('=').or_else(|| {
        let lead = line.len() - line.trim_start().len();
        line[lead..].find([' ', '\t', ':']).map(|at| lead + at)
    });
    let from = name_end.map_or(0, |at| at + 1);
    let from = from + line[from..].len() - line[from..].trim_start().len();
    let end = line.trim_end().len();
    (is_suspect && from < end).then_some(from..end)
}

/// The parts of a value that are secret. Octets.
fn hidden(path: &str, value: &str) -> Vec<Range<usize>> {
    let whole = 0..value.len();
    if value.is_empty() {
        return Vec::new();
    }
    let name = path.rsplit('.').next().unwrap_or_default();
    if path.split('.').any(|name| is_secret_name(name) || has_last(name, &LAST_WORDS)) || is_field(path) {
        let is_shown = has_last(name, &FILES) && is_path(value);
        return if is_shown { Vec::new() } else { vec![whole] };
    }
    let is_hook = HOOKS.iter().any(|word| path.contains(word));
    let Some(host) = value.find("://").map(|at| at + 3) else {
        let is_url = is_hook && URLS.iter().any(|word| name.ends_with(word));
        let user = value.rfind('@').filter(|at| value[..*at].contains(':')).map(|at| 0..at);
        let is_whole = is_url || value.contains("PRIVATE KEY");
        return if is_whole { vec![whole] } else { user.into_iter().collect() };
    };
    let mut parts = Vec::new();
    let host = match value.rfind('@') {
        Some(at) if at > host => {
            parts.push(host..at);
            at + 1
        }
        _ => host,
    };
    let ends: &[char] = if is_hook { &['/', '?', '#'] } else { &['?', '#'] };
    match value[host..].find(ends) {
        Some(end) if host + end + 1 < value.len() => parts.push(host + end + 1..value.len()),
        _ => {}
    }
    parts
}

/// The value of a header field that is put into messages: what servers believe each other by has any name.
fn is_field(path: &str) -> bool {
    matches!(path.rsplit('.').nth(1), Some("set" | "add"))
}

fn has_last(name: &str, words: &[&str]) -> bool {
    words.contains(&name.rsplit('-').next().unwrap_or_default())
}

/// Whether it looks as files' paths do, and not as a secret that was written where a path belongs.
fn is_path(value: &str) -> bool {
    let name = value.rsplit('/').next().unwrap_or_default();
    let has_ending = name.rsplit_once('.').is_some_and(|(_, ending)| {
        (1..=MAX_ENDING_BYTES).contains(&ending.len()) && ending.bytes().all(|o| o.is_ascii_alphanumeric())
    });
    let is_rooted = ["/", "./", "../", "~/"].iter().any(|root| value.starts_with(root));
    let is_plain =
        |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"-_./".contains(&octet);
    let is_line = !value.contains(['\n', '+', '=', ' ']);
    is_line && (has_ending || is_rooted || value.contains('/') && value.bytes().all(is_plain))
}

/// URLs without their users, where they have passwords.
fn without_users(message: &str) -> String {
    let (mut said, mut rest) = (String::new(), message);
    while let Some(at) = rest.find("://").map(|at| at + 3) {
        let (before, after) = rest.split_at(at);
        said.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "\"'`<>".contains(c)).unwrap_or(after.len());
        rest = after;
        if let Some(user) = after[..end].rfind('@').filter(|user| after[..*user].contains(':')) {
            said.push_str(MASK);
            rest = &after[user..];
        }
    }
    said + rest
}

#[cfg(test)]
mod tests;
