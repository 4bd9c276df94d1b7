//! Words for mistakes: alternatives as people list them, and the word that was probably meant.
//!
//! Text only: knows no document.

/// `"a", "b" or "c"`.
pub(super) fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// The known key that `key` was probably meant to be.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = 1 + key.chars().count() / 4;
    let scored = known.iter().map(|&word| (edits(key, word), word));
    scored.filter(|&(edits, _)| edits <= allowed).min().map(|(_, word)| word)
}

/// How many characters to insert, delete or replace to make `b` of `a` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_meant() {
        #[track_caller]
        fn check(key: &str, expected: Option<&str>) {
            assert_eq!(nearest(key, &["address", "protocol", "region", "scenario"]), expected);
        }
        check("adress", Some("address"));
        check("protcol", Some("protocol"));
        check("Region", Some("region"));
        check("colour", None);
        check("", None);
    }

    #[test]
    fn words_are_listed_as_people_do() {
        assert_eq!(alternatives(&["a"]), "\"a\"");
        assert_eq!(alternatives(&["a", "b"]), "\"a\" or \"b\"");
        assert_eq!(alternatives(&["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}
