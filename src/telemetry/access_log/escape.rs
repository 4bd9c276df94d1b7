//! What a client sent, so that it stays one line, and a terminal that shows it obeys nothing in it. Pure.

use crate::digits::Digits;

/// Whether neither style has anything to escape in it.
fn is_plain(octet: u8) -> bool {
    matches!(octet, b' '..=b'~') && octet != b'"' && octet != b'\\'
}

/// The same of all, sixteen at a time.
fn are_plain(value: &[u8]) -> bool {
    let (sixteens, rest) = value.as_chunks::<16>();
    sixteens.iter().all(|octets| octets.iter().fold(true, |all, octet| all & is_plain(*octet)))
        && rest.iter().copied().all(is_plain)
}

/// With everything escaped that JSON or a terminal could take for something else.
pub(super) fn put_escaped(out: &mut Vec<u8>, value: &[u8]) {
    if are_plain(value) {
        return out.extend_from_slice(value);
    }
    for piece in value.utf8_chunks() {
        for c in piece.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                c if c.is_control() || turns_lines(c) => put_code(out, c),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !piece.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Ends of lines and changes of direction that are no control characters.
fn turns_lines(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// As nginx escapes: every octet that is not a plain character as `\xHH`.
pub(super) fn put_hexed(out: &mut Vec<u8>, value: &[u8]) {
    if are_plain(value) {
        return out.extend_from_slice(value);
    }
    for &octet in value {
        if is_plain(octet) {
            out.push(octet);
        } else {
            let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
            out.extend_from_slice(&[b'\\', b'x', digit(octet >> 4), digit(octet & 15)]);
        }
    }
}

/// A character of the first 65,536 as JSON escapes it.
fn put_code(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(b"\\u");
    out.extend_from_slice(Digits::hexadecimal(u32::from(c).into(), 4).as_bytes());
}
