//! Which trace a request is part of: W3C Trace Context (Recommendation of 2021-11-23; level 2 adds no field). Pure.
//!
//! Where the gate exports no spans of its own, what is well-formed passes on as it came: a parent of its making would be
//! one that nobody knows. Where it does, it becomes the parent. Where every request is to be traced, one that names no
//! trace, or not in the recommendation's words, gets a new one, and its `tracestate` is dropped with what it belonged to
//! (3.2.2.5, 3.3.1).

use crate::gate::request::RequestHead;

/// Octets of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// `sampled`: it is recorded.
const SAMPLED: u8 = 1;

/// A trace that the gate began, or has a part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Never 0.
    pub id: u128,
    /// The gate's part in it; never 0.
    pub span: u64,
    /// Whose part the gate's belongs to; `None`: the trace begins here.
    pub parent: Option<u64>,
    /// Flags that whoever comes next is told.
    flags: u8,
}

/// What a request says of its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Given {
    id: u128,
    parent: u64,
    flags: u8,
}

impl Trace {
    /// A new one for a request that names none; `next` gives numbers that are not 0.
    #[must_use]
    pub fn unless_given(head: &RequestHead, mut next: impl FnMut() -> u64) -> Option<Self> {
        if given(head).is_some() {
            return None;
        }
        let id = u128::from(next()) << 64 | u128::from(next());
        Some(Self { id, span: next(), parent: None, flags: SAMPLED })
    }

    /// The gate's part in a request's trace, which begins here where the request names none. Whoever began it said
    /// whether it is recorded; here that is for `samples` to say, of a number that looks random.
    #[must_use]
    pub fn joined(
        head: &RequestHead,
        mut next: impl FnMut() -> u64,
        samples: impl FnOnce(u64) -> bool,
    ) -> Self {
        match read(head) {
            Some(Given { id, parent, flags }) => {
                Self { id, span: next(), parent: Some(parent), flags: flags & SAMPLED }
            }
            None => {
                let id = u128::from(next()) << 64 | u128::from(next());
                Self { id, span: next(), parent: None, flags: if samples(next()) { SAMPLED } else { 0 } }
            }
        }
    }

    /// Whether it is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Whether a field of the client's is replaced, or gone with what it belonged to.
    #[must_use]
    pub fn replaces(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(b"traceparent")
            || (self.parent.is_none() && name.eq_ignore_ascii_case(b"tracestate"))
    }

    /// Its `traceparent`.
    #[must_use]
    pub fn text(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&mut text[3..35], self.id);
        put_hex(&mut text[36..52], self.span.into());
        put_hex(&mut text[53..], self.flags.into());
        text
    }
}

/// The id of the trace that a request says it is part of, in words that the recommendation allows.
#[must_use]
pub fn given(head: &RequestHead) -> Option<u128> {
    read(head).map(|given| given.id)
}

fn read(head: &RequestHead) -> Option<Given> {
    let mut values = head
        .fields
        .iter()
        .map(|field| head.field(field))
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"traceparent"));
    match (values.next(), values.next()) {
        (Some((_, value)), None) => parsed(value),
        _ => None,
    }
}

/// `version "-" trace-id "-" parent-id "-" trace-flags` (3.2.2); what later versions add follows another dash (3.2.4).
fn parsed(value: &[u8]) -> Option<Given> {
    let is_divided = value.len() >= LENGTH && value[2] == b'-' && value[35] == b'-' && value[52] == b'-';
    if !is_divided {
        return None;
    }
    let version = hex(&value[..2])?;
    let is_long_enough = match version {
        0xff => false,
        0 => value.len() == LENGTH,
        _ => value.len() == LENGTH || value[LENGTH] == b'-',
    };
    let (id, parent) = (hex(&value[3..35])?, hex(&value[36..52])?);
    let flags = u8::try_from(hex(&value[53..LENGTH])?).ok()?;
    let parent = u64::try_from(parent).ok()?;
    (is_long_enough && id != 0 && parent != 0).then_some(Given { id, parent, flags })
}

/// Digits in small letters, as the recommendation has them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

fn put_hex(to: &mut [u8], mut number: u128) {
    for digit in to.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::try_from(number & 15).unwrap_or(0)];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const ID: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

    #[test]
    fn words_of_the_recommendation() {
        #[track_caller]
        fn check(value: &str, is_good: bool) {
            assert_eq!(parsed(value.as_bytes()).map(|given| given.id), is_good.then_some(ID), "{value}");
        }
        check(GOOD, true);
        check(&GOOD.replace("-01", "-ff"), true);
        check(&GOOD.replacen("00-", "01-", 1), true);
        check(&(GOOD.replacen("00-", "cc-", 1) + "-what-the-future-will-be-like"), true);
        check(&(GOOD.replacen("00-", "cc-", 1) + ".what"), false);
        check(&(GOOD.to_owned() + "-more"), false);
        check(&(GOOD.to_owned() + "."), false);
        check(&GOOD.replacen("00-", "ff-", 1), false);
        check(&GOOD.replace("4bf9", "4BF9"), false);
        check(&GOOD.replace("-01", "-0x"), false);
        check(&GOOD.replace("00f067aa0ba902b7", "0000000000000000"), false);
        check(&GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false);
        check(&GOOD.replace('-', "_"), false);
        for length in 0..GOOD.len() {
            check(&GOOD[..length], false);
        }
    }

    #[test]
    fn what_is_made_is_well_formed() {
        let trace = Trace { id: ID, span: 0x00f0_67aa_0ba9_02b7, parent: None, flags: SAMPLED };
        assert_eq!(trace.text(), GOOD.as_bytes());
        let mut number = 0;
        let made = Trace::unless_given(&RequestHead::default(), || {
            number += 1;
            number
        });
        assert_eq!(made, Some(Trace { id: 1 << 64 | 2, span: 3, parent: None, flags: SAMPLED }));
        assert_eq!(made.and_then(|trace| parsed(&trace.text())).map(|given| given.id), Some(1 << 64 | 2));
    }
}
