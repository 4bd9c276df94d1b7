//! The lines of a head: where names and values stand, in one strict pass over the octets (RFC 9112, 2 to 5).
//!
//! Takes lines that end in CRLF, names that are tokens, values of visible octets, space and HTAB; no fold, no space
//! before a colon, no bare CR or LF. Knows grammar, not what any field means.

use crate::gate::request::{Field, Fields, Span};

/// Octets of a request's method, at most.
const MAX_METHOD_BYTES: usize = 32;

/// Why octets are no head, or not yet one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// They end too early to tell.
    Incomplete,
    /// More fields than are allowed.
    TooManyFields,
    /// What is wrong.
    Malformed(&'static str),
}

/// A request line: the end of the method, the target's end, and whether the version is 1.1.
pub(super) struct RequestLine {
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) is_http11: bool,
    /// Octets of the line, its end included.
    pub(super) octets: usize,
}

/// Reads `METHOD SP TARGET SP HTTP/1.x CRLF`, to the octet.
pub(super) fn request_line(raw: &[u8]) -> Result<RequestLine, Refusal> {
    let method = token_octets(raw);
    expect(raw, method, b" ", "the method is no token")?;
    let target_at = method + 1;
    let target = run(&raw[target_at..], b'!', HIGH);
    let target_end = target_at + target;
    match raw.get(target_end) {
        None => return Err(Refusal::Incomplete),
        Some(b' ') => {}
        Some(0x80..) => return Err(Refusal::Malformed("the target has octets beyond ASCII")),
        Some(_) => return Err(Refusal::Malformed("the request line has not three parts")),
    }
    let is_http11 = match raw.get(target_end + 1..target_end + 11) {
        Some(b"HTTP/1.1\r\n") => true,
        Some(b"HTTP/1.0\r\n") => false,
        Some(_) => return Err(Refusal::Malformed("the request line does not end in an HTTP/1 version")),
        None => return Err(Refusal::Incomplete),
    };
    if method == 0 || target == 0 {
        return Err(Refusal::Malformed("the request line is incomplete"));
    }
    if method > MAX_METHOD_BYTES {
        return Err(Refusal::Malformed("the method is too long"));
    }
    Ok(RequestLine {
        method: span(0, method)?,
        target: span(target_at, target)?,
        is_http11,
        octets: target_end + 11,
    })
}

/// Reads `HTTP/1.x SP CODE [SP reason] CRLF`: whether it is 1.1, the code, and the line's octets.
pub(super) fn status_line(raw: &[u8]) -> Result<(bool, u16, usize), Refusal> {
    let Some((version, rest)) = raw.split_at_checked(9) else { return Err(Refusal::Incomplete) };
    let is_http11 = match version {
        b"HTTP/1.1 " => true,
        b"HTTP/1.0 " => false,
        _ => return Err(Refusal::Malformed("the status line is malformed")),
    };
    let code = match rest {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            [*a, *b, *c].into_iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'))
        }
        [_, _, _, ..] => return Err(Refusal::Malformed("the status code is out of range")),
        _ => return Err(Refusal::Incomplete),
    };
    let mut end = 12;
    if raw.get(end) == Some(&b' ') {
        end += content_octets(&raw[end..]);
    }
    expect(raw, end, b"\r\n", "the status line is malformed")?;
    Ok((is_http11, code, end + 2))
}

/// Reads field lines from `at` on, and the blank line after them, whose end is given. At most `most` fields.
pub(super) fn fields(raw: &[u8], mut at: usize, most: usize, fields: &mut Fields) -> Result<usize, Refusal> {
    loop {
        let line = raw.get(at..).unwrap_or_default();
        let name = token_octets(line);
        if name == 0 || line.get(name) != Some(&b':') {
            return end_of_fields(line, name).map(|octets| at + octets);
        }
        if fields.len() >= most {
            return Err(Refusal::TooManyFields);
        }
        let mut value_at = name + 1;
        while let Some(b' ' | b'\t') = line.get(value_at) {
            value_at += 1;
        }
        let end = value_at + content_octets(&line[value_at..]);
        let [b'\r', b'\n', ..] = line[end..] else {
            return expect(line, end, b"\r\n", "a field value holds a control octet").map(|()| at);
        };
        let mut value_end = end;
        while value_end > value_at && matches!(line[value_end - 1], b' ' | b'\t') {
            value_end -= 1;
        }
        let (name, value) = (span(at, name)?, span(at + value_at, value_end - value_at)?);
        fields.push(Field::new(raw, name, value));
        at += end + 2;
    }
}

/// What begins with no field name: the blank line, whose octets are given, or nothing that may stand here.
fn end_of_fields(line: &[u8], name: usize) -> Result<usize, Refusal> {
    if name > 0 {
        expect(line, name, b":", "a field name is no token")?;
    } else if line.first() == Some(&b':') {
        return Err(Refusal::Malformed("a header field without a name"));
    }
    let otherwise = if line.first() == Some(&b'\r') { "a bare CR or LF" } else { "a field name is no token" };
    expect(line, 0, b"\r\n", otherwise).map(|()| 2)
}

/// `expected` must stand at `at`.
fn expect(raw: &[u8], at: usize, expected: &[u8], otherwise: &'static str) -> Result<(), Refusal> {
    let rest = raw.get(at..).unwrap_or_default();
    if rest.starts_with(expected) {
        Ok(())
    } else if expected.starts_with(rest) {
        Err(Refusal::Incomplete)
    } else {
        Err(Refusal::Malformed(otherwise))
    }
}

fn span(start: usize, len: usize) -> Result<Span, Refusal> {
    Span::new(start, len).ok_or(Refusal::Malformed("a head beyond all limits"))
}

/// RFC 9110, 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 128_u8 {
        table[octet as usize] = octet.is_ascii_alphanumeric()
            || matches!(
                octet,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        octet += 1;
    }
    table
};

/// How many octets of a token stand in front.
fn token_octets(octets: &[u8]) -> usize {
    // Nearly all are letters and hyphens, and a colon comes next.
    let plain = plain_octets(octets);
    if matches!(octets.get(plain), Some(b':' | b' ')) {
        return plain;
    }
    octets[plain..].iter().position(|octet| !TOKEN[usize::from(*octet)]).map_or(octets.len(), |at| plain + at)
}

/// How many letters and hyphens stand in front: eight octets at a time, and none of the last seven is looked at.
fn plain_octets(octets: &[u8]) -> usize {
    for (index, word) in octets.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // Without the highest bits no sum overflows into the next octet.
        let low = (word | (EACH * 0x20)) & !HIGH;
        let is_letter = low.wrapping_add(EACH * (0x80 - 0x61)) & !low.wrapping_add(EACH * (0x7f - 0x7a));
        let hyphen = (word ^ (EACH * 0x2d)) & !HIGH;
        let is_hyphen = !hyphen.wrapping_add(EACH * 0x7f);
        let stops = !((is_letter | is_hyphen) & !word) & HIGH;
        if stops != 0 {
            return index * 8 + stops.trailing_zeros() as usize / 8;
        }
    }
    octets.len() & !7
}

/// How many octets of field content stand in front: visible ones, beyond ASCII too, space and HTAB.
fn content_octets(octets: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += run(&octets[at..], b' ', 0);
        if octets.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
}

const EACH: u64 = 0x0101_0101_0101_0101;
/// The highest bit of every octet.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many octets in front are none below `floor` (128 at most), no DEL, and none with a bit in `not`: eight at
/// a time.
#[inline]
fn run(octets: &[u8], floor: u8, not: u64) -> usize {
    // Where a subtraction borrows from the next octet, the lowest bit found is still a true one.
    let stops = |word: u64| {
        let below = word.wrapping_sub(EACH * u64::from(floor)) & !word;
        let del = word ^ (EACH * 0x7f);
        let is_del = del.wrapping_sub(EACH) & !del;
        (below | is_del | (word & not)) & HIGH
    };
    let (words, rest) = octets.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = stops(u64::from_le_bytes(*word));
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // What is not there is zero, and stops.
    let found = stops(u64::from_le_bytes(last));
    words.len() * 8 + found.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_as_octet_by_octet(octets in prop::collection::vec(prop_oneof![any::<u8>(), 32_u8..128], 0..40), mask in 0_usize..40) {
            let mut octets = octets;
            octets.iter_mut().take(mask).for_each(|octet| *octet = b'a' + *octet % 26);
            let bad = |octet: &u8| *octet < b' ' || *octet == 127;
            let expected = octets.iter().position(bad).unwrap_or(octets.len());
            prop_assert_eq!(run(&octets, b' ', 0), expected);
            let bad = |octet: &u8| !octet.is_ascii_graphic();
            let expected = octets.iter().position(bad).unwrap_or(octets.len());
            prop_assert_eq!(run(&octets, b'!', HIGH), expected);
            let bad = |octet: &u8| !TOKEN[usize::from(*octet)];
            let expected = octets.iter().position(bad).unwrap_or(octets.len());
            prop_assert_eq!(token_octets(&octets), expected);
        }
    }
}
