//! Accept and Accept-Language → the form and language of an answer (RFC 9110, sections 12.4.2, 12.5.1, 12.5.4).
//!
//! Whatever bytes arrive, there is an answer: items that can't be read are passed over. Work is
//! linear in the header, whose size the gate limits, and ends after `ITEMS_MAX` items.

use super::{Language, Media};

/// How many items of one header are looked at; browsers send fewer than ten.
const ITEMS_MAX: usize = 32;

/// The form and language to answer in.
///
/// The highest q-value wins; among equals a type that is named beats one that only a wildcard
/// covers (so `application/json, */*` gets JSON), then HTML, problem and text in that order.
/// Absent, empty or unsatisfiable headers get HTML and Chinese.
pub fn negotiate(accept: Option<&[u8]>, accept_language: Option<&[u8]>) -> (Media, Language) {
    (media(accept.unwrap_or_default()), language(accept_language.unwrap_or_default()))
}

/// How well an item matched: the more specific decides, then the higher q.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    /// 0 nothing, 1 `*/*`, 2 `type/*`, 3 named.
    specificity: u8,
    /// In thousandths.
    q: u16,
}

fn media(accept: &[u8]) -> Media {
    let mut html = Match::default();
    let mut problem = Match::default();
    let mut text = Match::default();
    let mut grpc = Match::default();
    for (range, q) in items(accept) {
        let Some(slash) = memchr::memchr(b'/', range) else {
            continue;
        };
        let (kind, subtype) = (&range[..slash], &range[slash + 1..]);
        let is_kind = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
        let is_subtype = |name: &str| subtype.eq_ignore_ascii_case(name.as_bytes());
        let wildcard = subtype == b"*";
        let seen = |best: &mut Match, specificity| *best = (*best).max(Match { specificity, q });
        if wildcard && kind == b"*" {
            seen(&mut html, 1);
            seen(&mut problem, 1);
            seen(&mut text, 1);
        } else if is_kind("text") && wildcard {
            seen(&mut html, 2);
            seen(&mut text, 2);
        } else if is_kind("application") && wildcard {
            seen(&mut problem, 2);
        } else if (is_kind("text") && is_subtype("html"))
            || (is_kind("application") && is_subtype("xhtml+xml"))
        {
            seen(&mut html, 3);
        } else if is_kind("application") && (is_subtype("json") || has_json_suffix(subtype)) {
            seen(&mut problem, 3);
        } else if is_kind("text") && is_subtype("plain") {
            seen(&mut text, 3);
        } else if is_grpc(range) {
            seen(&mut grpc, 3);
        }
    }
    let mut best = (html, Media::Html);
    for (candidate, media) in [(problem, Media::Problem), (text, Media::Text), (grpc, Media::Grpc)] {
        if (candidate.q, candidate.specificity) > (best.0.q, best.0.specificity) {
            best = (candidate, media);
        }
    }
    if best.0.q == 0 { Media::Html } else { best.1 }
}

/// Whether a media type is that of gRPC's messages: `application/grpc`, maybe with a codec (`+proto`).
pub fn is_grpc(media_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let name = media_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    name.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME))
        && matches!(name.get(NAME.len()), None | Some(b'+'))
}

/// `problem+json`, `vnd.api+json` and their like (RFC 6839, section 3.1): their readers parse JSON.
fn has_json_suffix(subtype: &[u8]) -> bool {
    subtype.len() > 5 && subtype[subtype.len() - 5..].eq_ignore_ascii_case(b"+json")
}

fn language(accept_language: &[u8]) -> Language {
    let mut chinese = None;
    let mut english = None;
    let mut any = 0;
    for (range, q) in items(accept_language) {
        let primary = range.split(|&byte| byte == b'-').next().unwrap_or_default();
        if primary.eq_ignore_ascii_case(b"zh") {
            chinese = chinese.max(Some(q));
        } else if primary.eq_ignore_ascii_case(b"en") {
            english = english.max(Some(q));
        } else if range == b"*" {
            any = any.max(q);
        }
    }
    if english.unwrap_or(any) > chinese.unwrap_or(any) { Language::English } else { Language::Chinese }
}

/// The list's readable items: the range without its parameters, and its q in thousandths.
fn items(header: &[u8]) -> impl Iterator<Item = (&[u8], u16)> {
    header.split(|&byte| byte == b',').take(ITEMS_MAX).filter_map(|item| {
        let mut parts = item.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let range = parts.next().filter(|range| !range.is_empty())?;
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        Some((range, weight.map_or(Some(1000), q_thousandths)?))
    })
}

/// A qvalue in thousandths: `0` or `1` with up to three decimals (RFC 9110, section 12.4.2).
fn q_thousandths(weight: &[u8]) -> Option<u16> {
    let (&whole, rest) = weight.split_first()?;
    let decimals = match rest {
        [] => rest,
        [b'.', decimals @ ..] if decimals.len() <= 3 && decimals.iter().all(u8::is_ascii_digit) => decimals,
        _ => return None,
    };
    let fraction = (0..3)
        .fold(0, |sum, place| sum * 10 + u16::from(decimals.get(place).map_or(0, |digit| digit - b'0')));
    match whole {
        b'0' => Some(fraction),
        b'1' if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_media(accept: &str, expected: Media) {
        assert_eq!(negotiate(Some(accept.as_bytes()), None).0, expected, "{accept:?}");
    }

    #[track_caller]
    fn check_language(accept_language: &str, expected: Language) {
        assert_eq!(negotiate(None, Some(accept_language.as_bytes())).1, expected, "{accept_language:?}");
    }

    #[test]
    fn picks_the_media_type_the_client_prefers() {
        assert_eq!(negotiate(None, None), (Media::Html, Language::Chinese));
        for (accept, expected) in [
            ("", Media::Html),
            ("*/*", Media::Html),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
                Media::Html,
            ),
            ("text/*", Media::Html),
            ("TEXT/HTML", Media::Html),
            ("application/json", Media::Problem),
            ("application/problem+json", Media::Problem),
            ("application/vnd.api+json", Media::Problem),
            ("Application/JSON; charset=utf-8", Media::Problem),
            ("application/*", Media::Problem),
            ("application/json, text/plain, */*", Media::Problem),
            ("application/json, text/javascript, */*; q=0.01", Media::Problem),
            ("*/*, application/json", Media::Problem),
            ("text/plain", Media::Text),
            ("text/plain, */*;q=0.5", Media::Text),
            ("text/html;q=0.5, text/plain;q=0.6", Media::Text),
            ("text/html;q=0.5, application/json;q=0.501", Media::Problem),
            ("text/html, application/json, text/plain", Media::Html),
            ("text/plain, application/json", Media::Problem),
            ("text/html;q=0, */*", Media::Problem),
            ("text/html;q=0, application/json;q=0, */*;q=0.1", Media::Text),
            ("text/html;level=1;q=0.2, text/plain;q=0.3", Media::Text),
            ("text/html; Q=0.2 , text/plain;q=0.3", Media::Text),
            ("image/png", Media::Html),
            ("text/html;q=0", Media::Html),
            ("text/plain;q=2, text/html;q=0.1", Media::Html),
            ("text/plain;q=0.1234, application/json;q=0.1", Media::Problem),
            ("text/plain;q=, application/json;q=.5", Media::Html),
            ("text, /, ,;;,=, text/plain", Media::Text),
            ("application/grpc", Media::Grpc),
            ("application/grpc+proto, */*;q=0.1", Media::Grpc),
            ("Application/GRPC;q=0.5, text/plain;q=0.4", Media::Grpc),
            ("application/grpcx", Media::Html),
            ("application/grpc-web", Media::Html),
        ] {
            check_media(accept, expected);
        }
    }

    #[test]
    fn picks_chinese_unless_english_is_preferred() {
        for (accept_language, expected) in [
            ("", Language::Chinese),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
            ("en", Language::English),
            ("EN-gb", Language::English),
            ("en-US,en;q=0.9", Language::English),
            ("en-US,en;q=0.9,zh-CN;q=0.8", Language::English),
            ("en,zh", Language::Chinese),
            ("fr", Language::Chinese),
            ("fr,en;q=0.3", Language::English),
            ("*", Language::Chinese),
            ("zh;q=0.1,*;q=0.9", Language::English),
            ("en;q=0.5,*", Language::Chinese),
            ("en;q=0", Language::Chinese),
            ("enx, zhx;q=0.1", Language::Chinese),
            ("en;q=banana", Language::Chinese),
        ] {
            check_language(accept_language, expected);
        }
    }

    #[test]
    fn looks_at_a_bounded_number_of_items() {
        check_media(&format!("{}text/plain", "a/b,".repeat(ITEMS_MAX - 1)), Media::Text);
        check_media(&format!("{}text/plain", "a/b,".repeat(ITEMS_MAX)), Media::Html);
    }

    proptest! {
        #[test]
        fn never_panics(accept: Vec<u8>, language in "[enzhq*;=., 0-9-]{0,60}") {
            negotiate(Some(&accept), Some(&accept));
            negotiate(Some(language.as_bytes()), Some(language.as_bytes()));
        }
    }
}
