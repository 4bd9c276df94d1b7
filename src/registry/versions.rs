//! Versions of what is shown, as an `etag` says them, and conditions on them (RFC 9110 §13.1).
//!
//! Pure: headers in, yes or no out.

use super::rules::Refusal;
use crate::hexadecimal::hexadecimal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, HeaderName, header};
use serde::Serialize;

/// Octets of a digest that a version shows: two documents of one record are never that alike.
const VERSION_BYTES: usize = 12;

/// The version of something: the same for as long as it says the same.
pub(super) fn version(shown: &impl Serialize) -> String {
    let octets = serde_json::to_vec(shown).expect("records are text, numbers and lists of them");
    format!("\"{}\"", hexadecimal(&digest(&SHA256, &octets).as_ref()[..VERSION_BYTES]))
}

/// `If-Match` and `If-None-Match`, as a write has them.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let joined = |name: HeaderName| -> Option<String> {
            let values: Vec<_> = headers.get_all(name).iter().map(|it| it.to_str().unwrap_or("?")).collect();
            if values.is_empty() { None } else { Some(values.join(",")) }
        };
        Self { if_match: joined(header::IF_MATCH), if_none_match: joined(header::IF_NONE_MATCH) }
    }

    /// Whether they hold for what has this version, or is not there.
    ///
    /// # Errors
    /// What to say where they don't.
    pub(super) fn hold(&self, version: Option<&str>) -> Result<(), Refusal> {
        let names = |list: &str| {
            version
                .is_some_and(|version| list.trim() == "*" || list.split(',').any(|it| it.trim() == version))
        };
        let is_met =
            self.if_match.as_deref().is_none_or(names) && !self.if_none_match.as_deref().is_some_and(names);
        if is_met {
            return Ok(());
        }
        Err(Refusal::new(
            "precondition_failed",
            "it is not the version that `if-match` or `if-none-match` names: read it again",
            "内容已被他人修改，请重新读取",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &HeaderName, values: &[&str], version: Option<&str>, expected: bool) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        assert_eq!(Conditions::of(&headers).hold(version).is_ok(), expected, "{name} {values:?} {version:?}");
    }

    #[test]
    fn conditions_hold_as_rfc_9110_says() {
        for (values, of_a, of_none) in [
            (&["\"a\""][..], true, false),
            (&["\"b\""], false, false),
            (&["\"b\", \"a\""], true, false),
            (&["\"b\"", "\"a\""], true, false),
            (&["*"], true, false),
            (&["W/\"a\""], false, false),
            (&["a"], false, false),
            (&[""], false, false),
        ] {
            check(&header::IF_MATCH, values, Some("\"a\""), of_a);
            check(&header::IF_MATCH, values, None, of_none);
            check(&header::IF_NONE_MATCH, values, Some("\"a\""), !of_a);
            check(&header::IF_NONE_MATCH, values, None, !of_none);
        }
        check(&header::IF_MATCH, &[], None, true);
    }

    #[test]
    fn a_version_is_of_what_is_said() {
        let [one, other] = [1, 2].map(|it| version(&serde_json::json!({ "b": it, "a": "x" })));
        assert_eq!(one, version(&serde_json::json!({ "a": "x", "b": 1 })));
        assert!(one != other && one.len() == 2 + 2 * VERSION_BYTES, "{one} {other}");
    }
}
