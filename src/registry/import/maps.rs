//! Rows of what other proxies read: map files of nginx and HAProxy, and bare lists of names.
//!
//! A line is a name and its number (`example.com 京ICP备12345678号-1`, for nginx with `;` at its end), or a name alone
//! where the import says the number. A name may stand for what is below it too (`.example.com`, `*.example.com`): a
//! filing covers that anyway.

use super::rows::{FileLine, Lines, cut};
use super::{ImportError, Wanting};
use crate::registry::batch::Read as ReadLine;
use crate::registry::model::{Edit, Line};
use crate::registry::rules::Refusal;
use std::io::BufRead;
use std::path::Path;

/// What an nginx map holds beside names.
const DIRECTIVES: [&str; 4] = ["default", "hostnames", "volatile", "map_hash_max_size"];

/// Reads lines until `take` has enough.
pub(super) fn read(
    reader: impl BufRead,
    path: &Path,
    wanting: &Wanting,
    take: &mut impl FnMut(ReadLine, &[u8]) -> bool,
) -> Result<(), ImportError> {
    let mut lines = Lines::new(reader, path);
    while let Some(FileLine { number: line, octets: text, is_last }) = lines.next_line()? {
        let Ok(text) = std::str::from_utf8(text) else {
            return Err(ImportError::File(format!("line {line} is not UTF-8: save the file as UTF-8")));
        };
        for words in entries(text) {
            let Some((domain, edit)) = entry(&words, wanting) else { continue };
            if is_last && edit.as_ref().is_err_and(|it| it.rule == "invalid_number") {
                return Err(cut(line));
            }
            if !take(ReadLine { line, domain, edit }, text.as_bytes()) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The entries of a line, each as its words.
fn entries(text: &str) -> Vec<Vec<String>> {
    let (mut entries, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    for char in text.trim_start_matches('\u{feff}').chars() {
        match (quote, char) {
            (Some(open), _) if open == char => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(char),
            (None, '#') if word.is_none() => break,
            (None, '"' | '\'') if word.is_none() => {
                quote = Some(char);
                word = Some(String::new());
            }
            (None, ';' | '{' | '}') => {
                words.extend(word.take());
                // A map's own line: `map $host $number {`.
                let is_head = char == '{';
                let entry = std::mem::take(&mut words);
                if !is_head {
                    entries.push(entry);
                }
            }
            (None, _) if char.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    entries.push(words);
    entries
}

/// What an entry asks for; `None` where it is about no name.
fn entry(words: &[String], wanting: &Wanting) -> Option<(String, Result<Edit, Refusal>)> {
    let (name, rest) = words.split_first()?;
    if DIRECTIVES.contains(&name.as_str()) {
        return None;
    }
    let edit = match rest {
        [] if wanting.number.is_none() => Err(Refusal::new(
            "number_missing",
            "the line has no number: write `example.com 京ICP备12345678号-1`, or give --number for all lines",
            "该行没有备案号：请写成 `example.com 京ICP备12345678号-1`，或以 --number 指定",
        )),
        [] => filed(name, None, wanting),
        [number] => filed(name, Some(number), wanting),
        _ => Err(Refusal::new(
            "malformed_entry",
            "an entry is a name and its number, and nothing else",
            "每行应为域名和备案号",
        )),
    };
    Some((name.clone(), edit))
}

fn filed(name: &str, number: Option<&String>, wanting: &Wanting) -> Result<Edit, Refusal> {
    if name == "include" || name.starts_with('~') || name.ends_with('*') {
        return Err(Refusal::new(
            "no_plain_name",
            "an entry names one domain: what is included is imported by itself, and expressions can't be",
            "条目应为一个域名：include 的文件请单独导入，正则表达式不支持",
        ));
    }
    let plain = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')).unwrap_or(name);
    wanting.edit(Line { domain: plain.to_owned(), number: number.cloned(), ..Line::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&[&str]]) {
        let found = entries(text);
        let found: Vec<Vec<&str>> = found
            .iter()
            .filter(|it| !it.is_empty())
            .map(|it| it.iter().map(String::as_str).collect())
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_line_is_its_words() {
        check("example.com 京ICP备1号-1", &[&["example.com", "京ICP备1号-1"]]);
        check("  .example.com  \"京ICP备1号-1\"; # 注", &[&[".example.com", "京ICP备1号-1"]]);
        check("map $host $icp { default \"\"; a.cn x; }", &[&["default", ""], &["a.cn", "x"]]);
        check("map $host $icp {", &[]);
        check("}", &[]);
        check("# a.cn x", &[]);
        check("", &[]);
        check("'~^a b$' x;", &[&["~^a b$", "x"]]);
        check("a.cn", &[&["a.cn"]]);
    }
}
