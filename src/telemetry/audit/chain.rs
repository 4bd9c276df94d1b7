//! A line of the audit log and what ties it to the one before: a number, and that line's SHA-256.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::Deserialize;
use std::fmt;

/// Octets of a line at most, its newline included. The writer makes none that is longer.
pub(super) const MAX_LINE_BYTES: usize = 64 * 1024;

/// A line's SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineHash([u8; 32]);

impl LineHash {
    /// What the first line of all holds in place of the hash of the one before.
    pub const NONE: Self = Self([0; 32]);

    /// Of a line without its newline.
    #[must_use]
    pub fn of(line: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, line).as_ref());
        Self(hash)
    }

    /// From 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 64 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
        let octet = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
        let octets: Option<Vec<u8>> = (0..32).map(octet).collect();
        Some(Self(octets.filter(|_| is_hex)?.try_into().ok()?))
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// The last line so far: what the next one follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number; the first is 1.
    pub seq: u64,
    /// Its hash.
    pub hash: LineHash,
}

impl Link {
    /// Before the first line.
    pub const START: Self = Self { seq: 0, hash: LineHash::NONE };

    /// Adds the line that holds `event` (a JSON object's text, not empty) to `out`, and becomes that line.
    pub(super) fn add(&mut self, at_ms: i64, event: &str, out: &mut Vec<u8>) {
        let time = Timestamp::from_millisecond(at_ms).unwrap_or_default();
        let seq = self.seq + 1;
        let rest = event.strip_prefix('{').unwrap_or(event);
        let line = format!(r#"{{"seq":{seq},"time":"{time:.3}","prev":"{}",{rest}"#, self.hash);
        *self = Self { seq, hash: LineHash::of(line.as_bytes()) };
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}

/// What every line says of its place.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) time: Timestamp,
    prev: String,
}

impl Place {
    /// Of a line without its newline; `None` where it is no line of an audit log.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    pub(super) fn prev(&self) -> Option<LineHash> {
        LineHash::parse(&self.prev)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_the_hash_of_the_one_before() {
        let (mut link, mut out) = (Link::START, Vec::new());
        link.add(0, r#"{"event":"end"}"#, &mut out);
        let first = link;
        link.add(1_700_000_000_123, r#"{"event":"end"}"#, &mut out);
        let lines: Vec<_> = out.split(|octet| *octet == b'\n').collect();
        let (one, two) = (Place::of(lines[0]).unwrap(), Place::of(lines[1]).unwrap());
        assert_eq!((one.seq, one.prev()), (1, Some(LineHash::NONE)));
        assert_eq!((two.seq, two.prev()), (2, Some(first.hash)));
        assert_eq!(two.time.as_millisecond(), 1_700_000_000_123);
        assert_eq!(LineHash::parse(&link.hash.to_string()), Some(LineHash::of(lines[1])));
        assert!(LineHash::parse("+0").is_none() && LineHash::parse(&"g".repeat(64)).is_none());
    }
}
