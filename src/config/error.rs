//! What is wrong with a config: file, line, column, key and remedy, with the line itself below, but for its secrets.
//!
//! Knows text and positions; knows no key.

use super::secrets::{self, Secrets};
use std::cell::OnceCell;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// Why a config can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: can't read the config file: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file was read, and these are its mistakes, in the order of the file; never empty.
    #[error("{}", Joined(.0))]
    Invalid(Vec<Problem>),
}

impl ConfigError {
    /// The mistakes; none where the file could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Read { .. } => &[],
            Self::Invalid(problems) => problems,
        }
    }
}

/// One mistake in a config. Displays as `FILE:LINE:COLUMN: KEY: MESSAGE`, with the line and a caret below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Dotted path of the offending key (`listener.protocol`); empty where the file is no TOML.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// What is shown of the file, where there is such a line.
    excerpt: Option<Excerpt>,
}

/// A line without its secrets, the white space in front of the carets below it, and how many they are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    line: String,
    indent: String,
    carets: usize,
}

/// A config's text and the name of its file.
pub(super) struct Source<'t> {
    pub(super) name: &'t str,
    pub(super) text: &'t str,
    secrets: OnceCell<Secrets>,
}

impl<'t> Source<'t> {
    pub(super) fn new(name: &'t str, text: &'t str) -> Self {
        Self { name, text, secrets: OnceCell::new() }
    }
}

/// What a mistake makes of the line that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The line can be read: what is secret in it is known by its keys.
    Known,
    /// The key means nothing, so that its value may be anything.
    UnknownKey,
    /// It is no TOML.
    Broken,
}

impl Problem {
    /// Locates `span` (octets) in the text. No secret of the text is repeated, whatever `message` says.
    pub(super) fn locate(
        source: &Source<'_>,
        span: &Range<usize>,
        reading: Reading,
        (key, message): (&str, &str),
    ) -> Self {
        let text = source.text;
        let start = floor_boundary(text, span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let line_span = line_start..line_start + line.len();
        let end = floor_boundary(text, span.end.max(start)).min(line_span.end.max(start));
        let more = match reading {
            Reading::Known => None,
            Reading::UnknownKey => line.get(end - line_start..).and_then(|rest| {
                let value = end + rest.find('=')? + 1;
                let blank = text[value..line_span.end].len() - text[value..line_span.end].trim_start().len();
                Some(value + blank..line_span.end)
            }),
            Reading::Broken => secrets::tail(line).map(|it| line_start + it.start..line_start + it.end),
        };
        let secrets = source.secrets.get_or_init(|| Secrets::of(text));
        let hidden = secrets.within(&line_span, more);
        // What begins or ends within a secret is marked as the whole of it.
        let around = |at: usize| hidden.iter().find(|it| it.start < at && at < it.end);
        let marked = around(start).map_or(start, |it| it.start)..around(end).map_or(end, |it| it.end);
        let shown = |range| secrets::masked(text, range, &hidden);
        Self {
            file: source.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            key: key.to_owned(),
            message: secrets.out_of(message),
            excerpt: Some(Excerpt {
                line: shown(line_span),
                indent: shown(line_start..marked.start).chars().map(blank).collect(),
                carets: text_width(&shown(marked)).max(1),
            }),
        }
    }

    /// A mistake that lies in what is not there.
    pub(super) fn missing(file: &str, key: &str, message: String) -> Self {
        Self { file: file.to_owned(), line: 1, column: 1, key: key.to_owned(), message, excerpt: None }
    }

    /// The first line of its display: position, key, message.
    pub fn headline(&self) -> String {
        let Self { file, line, column, key, message, .. } = self;
        if key.is_empty() {
            format!("{file}:{line}:{column}: {message}")
        } else {
            format!("{file}:{line}:{column}: {key}: {message}")
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        let Some(Excerpt { line, indent, carets }) = &self.excerpt else { return Ok(()) };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        write!(f, "\n{gutter} |\n{number} | {line}\n{gutter} | {indent}{}", "^".repeat(*carets))
    }
}

/// Several mistakes, a blank line between.
struct Joined<'a>(&'a [Problem]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// White space as wide as `c`, so that carets stand below what they mark.
fn blank(c: char) -> &'static str {
    match c {
        '\t' => "\t",
        c if is_wide(c) => "  ",
        _ => " ",
    }
}

/// Columns of a terminal that `text` takes.
pub(crate) fn text_width(text: &str) -> usize {
    text.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}

/// Whether terminals give `c` two columns (CJK and full-width forms).
fn is_wide(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{20000}'..='\u{3fffd}')
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Problem, Reading, Source};

    #[track_caller]
    fn check(text: &str, marked: &str, expected: &str) {
        let at = text.find(marked).unwrap();
        let source = Source::new("f.toml", text);
        let problem = Problem::locate(&source, &(at..at + marked.len()), Reading::Known, ("a.b", "no"));
        assert_eq!(problem.to_string(), expected);
    }

    #[test]
    fn carets_stand_below_what_they_mark() {
        check(
            "x = 1\nhue = \"htp\"\n",
            "\"htp\"",
            "f.toml:2:7: a.b: no\n  |\n2 | hue = \"htp\"\n  |       ^^^^^",
        );
        check("名 = \"备\"", "\"备\"", "f.toml:1:5: a.b: no\n  |\n1 | 名 = \"备\"\n  |      ^^^^");
        check("\tk = 1\r\n", "1", "f.toml:1:6: a.b: no\n  |\n1 | \tk = 1\n  | \t    ^");
    }

    #[test]
    fn positions_past_the_end_are_the_end() {
        let problem = Problem::locate(&Source::new("f", "abc"), &(10..12), Reading::Known, ("", "cut short"));
        assert_eq!(problem.headline(), "f:1:4: cut short");
    }
}
