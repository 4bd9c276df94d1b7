//! `tokens_file`: a registry's tokens with names and roles, of which the file holds only hashes.

use crate::config::raw::Value;
use crate::config::{Role, Token};

/// The most tokens of a registry.
const MAX_TOKENS: usize = 1000;
/// The longest name of one.
const MAX_NAME_BYTES: usize = 64;

/// The tokens in the file that the value names; what is wrong with one is recorded.
pub(super) fn tokens(value: &Value<'_>) -> Vec<Token> {
    let Some(path) = value.path() else { return Vec::new() };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            value.refuse(format!("can't read the tokens in {}: {error}", path.display()));
            return Vec::new();
        }
    };
    parse(&text).unwrap_or_else(|(line, problem)| {
        value.refuse(format!(
            "{}, line {line}: {problem}; a line is `NAME ROLE SHA256`, like `li.wei reviewer 9f86d0…` (64 digits: \
             printf %s TOKEN | sha256sum)",
            path.display()
        ));
        Vec::new()
    })
}

fn parse(text: &str) -> Result<Vec<Token>, (usize, String)> {
    let mut tokens: Vec<Token> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default();
        let words: Vec<_> = text.split_whitespace().collect();
        let token = match words[..] {
            [] => continue,
            [name, role, hash] => token(name, role, hash).map_err(|problem| (line, problem))?,
            _ => return Err((line, "three words are needed".to_owned())),
        };
        if tokens.iter().any(|it| it.name == token.name || it.hash == token.hash) {
            return Err((line, format!("the name or the token of {} is there twice", token.name)));
        }
        tokens.push(token);
        if tokens.len() > MAX_TOKENS {
            return Err((line, format!("there are more than {MAX_TOKENS} tokens")));
        }
    }
    if tokens.is_empty() { Err((1, "it holds no token".to_owned())) } else { Ok(tokens) }
}

/// The words are not repeated in what is wrong with them: any may be a token that somebody wrote in the wrong place.
fn token(name: &str, role: &str, hash: &str) -> Result<Token, String> {
    let is_good = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.' | b'@');
    if name.len() > MAX_NAME_BYTES || !name.bytes().all(is_good) {
        return Err(
            "the first word can't name a token: use 1 to 64 letters, digits, `-`, `_`, `.` or `@`".to_owned()
        );
    }
    let Some(role) = Role::named(role) else {
        return Err("the second word is no role: reader, reviewer, operator or gate".to_owned());
    };
    let octet = |at: usize| u8::from_str_radix(hash.get(2 * at..2 * at + 2)?, 16).ok();
    let octets: Option<Vec<u8>> = (0..32).map(octet).collect();
    let is_whole = hash.len() == 64 && hash.bytes().all(|octet| octet.is_ascii_hexdigit());
    match octets.and_then(|it| it.try_into().ok()).filter(|_| is_whole) {
        Some(hash) => Ok(Token { name: name.to_owned(), role, hash }),
        None => Err("the hash is not 64 hexadecimal digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[(&str, Role)], (usize, &str)>) {
        match (parse(text), expected) {
            (Ok(tokens), Ok(expected)) => {
                let seen: Vec<_> = tokens.iter().map(|it| (it.name.as_str(), it.role)).collect();
                assert_eq!(seen, expected);
            }
            (Err((line, problem)), Err((at, part))) => {
                assert!(line == at && problem.contains(part), "{problem}")
            }
            (other, expected) => panic!("{other:?}, not {expected:?}"),
        }
    }

    #[test]
    fn tokens_are_lines() {
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        check(
            &format!("# who\n\nli.wei reviewer {one} # at the desk\ngate-1\tgate {other}\n"),
            Ok(&[("li.wei", Role::Reviewer), ("gate-1", Role::Gate)]),
        );
        check("", Err((1, "no token")));
        check("a reader\n", Err((1, "three words")));
        check(&format!("a admin {one}"), Err((1, "is no role")));
        check(&format!("a reader {}", &one[2..]), Err((1, "64 hexadecimal")));
        check(&format!("a reader +{}", &one[1..]), Err((1, "64 hexadecimal")));
        check(&format!("a/b reader {one}"), Err((1, "can't name")));
        check(&format!("a reader {one}\nb reader {one}"), Err((2, "twice")));
    }
}
