//! What is wrong with a config: file, line, column, key and remedy, with the line itself below.
//!
//! Knows text and positions; knows no key.

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
    /// The line of the file and how many columns the caret line spans, where there is such a line.
    excerpt: Option<Excerpt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    line: String,
    carets: usize,
}

impl Problem {
    /// Locates `span` (octets) in `text`.
    pub(super) fn locate(file: &str, text: &str, span: &Range<usize>, key: &str, message: String) -> Self {
        let start = floor_boundary(text, span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let marked =
            text[start..floor_boundary(text, span.end.max(start))].lines().next().unwrap_or_default();
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            key: key.to_owned(),
            message,
            excerpt: Some(Excerpt { line: line.to_owned(), carets: text_width(marked).max(1) }),
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
        let Some(Excerpt { line, carets }) = &self.excerpt else { return Ok(()) };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let indent: String = line.chars().take(self.column - 1).map(blank).collect();
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
    use super::Problem;

    #[track_caller]
    fn check(text: &str, marked: &str, expected: &str) {
        let at = text.find(marked).unwrap();
        let problem = Problem::locate("f.toml", text, &(at..at + marked.len()), "a.b", "no".into());
        assert_eq!(problem.to_string(), expected);
    }

    #[test]
    fn carets_stand_below_what_they_mark() {
        check(
            "x = 1\nkey = \"htp\"\n",
            "\"htp\"",
            "f.toml:2:7: a.b: no\n  |\n2 | key = \"htp\"\n  |       ^^^^^",
        );
        check("名 = \"备\"", "\"备\"", "f.toml:1:5: a.b: no\n  |\n1 | 名 = \"备\"\n  |      ^^^^");
        check("\tk = 1\r\n", "1", "f.toml:1:6: a.b: no\n  |\n1 | \tk = 1\n  | \t    ^");
    }

    #[test]
    fn positions_past_the_end_are_the_end() {
        let problem = Problem::locate("f", "abc", &(10..12), "", "cut short".into());
        assert_eq!(problem.headline(), "f:1:4: cut short");
    }
}
