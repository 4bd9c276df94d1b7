//! Writing field blocks. Pure.
//!
//! What a connection's answers say again and again (a server's name, a type of content) goes into the dynamic table when
//! it is said for the second time, and is one octet from then on; what differs each time never gets there. Nothing is
//! written in Huffman's code: it would save a quarter of what is left, and cost more than all the rest.

use super::table::{ENTRY_BYTES, MAX_BYTES, Table};
use crate::digits::Digits;
use crate::gate::buffer::WriteBuffer;
use std::borrow::Cow;

/// Places for what was said before.
const PLACES: usize = 64;
/// Octets of the longest value that is worth an entry.
const MAX_VALUE_BYTES: usize = 512;
/// Names whose values are nobody else's: no table may tell whether one was guessed.
const SECRET: [&[u8]; 3] = [b"set-cookie", b"authorization", b"www-authenticate"];
/// Octets of the longest name in the static table.
const MAX_NAME_BYTES: usize = 27;
/// Names of the static table that answers have, by their length, with their index.
const NAMES: [&[(&[u8], usize)]; MAX_NAME_BYTES + 1] = {
    let mut names: [&[(&[u8], usize)]; MAX_NAME_BYTES + 1] = [&[]; MAX_NAME_BYTES + 1];
    names[3] = &[(b"via", 60), (b"age", 21)];
    names[4] = &[(b"date", 33), (b"etag", 34), (b"vary", 59), (b"link", 45)];
    names[5] = &[(b"allow", 22)];
    names[6] = &[(b"server", 54)];
    names[7] = &[(b"expires", 36), (b"refresh", 52)];
    names[8] = &[(b"location", 46)];
    names[10] = &[(b"set-cookie", 55)];
    names[11] = &[(b"retry-after", 53)];
    names[12] = &[(b"content-type", 31)];
    names[13] =
        &[(b"cache-control", 24), (b"last-modified", 44), (b"accept-ranges", 18), (b"content-range", 30)];
    names[14] = &[(b"content-length", 28)];
    names[16] = &[
        (b"content-encoding", 26),
        (b"content-language", 27),
        (b"content-location", 29),
        (b"www-authenticate", 61),
    ];
    names[19] = &[(b"content-disposition", 25)];
    names[25] = &[(b"strict-transport-security", 56)];
    names[27] = &[(b"access-control-allow-origin", 20)];
    names
};
/// Where the dynamic table begins.
const DYNAMIC: usize = 62;
/// `:status`, without the values that have an index of their own.
const STATUS: usize = 8;

/// What was said: a hash of it, and as which entry it was put into the table (0: it was not).
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    hash: u32,
    entry: u32,
}

/// Writes the field blocks of one connection, in order.
#[derive(Debug, Default)]
pub struct Encoder {
    table: Table,
    /// What the peer said its table may hold, where it has to hear that we know; the least that it was meanwhile.
    resized: Option<(usize, usize)>,
    said: Option<Box<[Said; PLACES]>>,
    /// Entries that were ever put into the table.
    entries: u32,
    is_off: bool,
}

impl Encoder {
    /// The peer's table may hold so much from now on.
    pub fn resize(&mut self, bytes: usize) {
        let bytes = bytes.min(MAX_BYTES);
        if self.resized.is_none() && bytes == self.table.max_bytes() {
            return;
        }
        let least = self.resized.map_or(bytes, |(least, _)| least.min(bytes));
        self.resized = Some((least, bytes));
    }

    /// A block begins.
    pub fn begin(&mut self, out: &mut WriteBuffer) {
        let Some((least, bytes)) = self.resized.take() else { return };
        for size in [least, bytes] {
            self.table.resize(size);
            put_number(out, 0x20, 0x1f, size);
        }
        self.is_off = bytes < 2 * ENTRY_BYTES;
    }

    /// Writes a status.
    pub fn status(&mut self, status: u16, out: &mut WriteBuffer) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                put_number(out, 0, 0x0f, STATUS);
                return put_string(out, Digits::padded(status.into(), 3).as_bytes());
            }
        };
        put_number(out, 0x80, 0x7f, index);
    }

    /// Writes a field. Its name may be in any case.
    pub fn put(&mut self, name: &[u8], value: &[u8], out: &mut WriteBuffer) {
        let name: Cow<'_, [u8]> = if name.iter().any(u8::is_ascii_uppercase) {
            name.to_ascii_lowercase().into()
        } else {
            name.into()
        };
        let index = named(&name);
        if SECRET.contains(&&*name) {
            return put_literal(out, (0x10, 0x0f), (index, &name), value);
        }
        if self.is_off || value.len() > MAX_VALUE_BYTES {
            return put_literal(out, (0, 0x0f), (index, &name), value);
        }
        let hash = hash(&name, value);
        let said = self.said.get_or_insert_with(|| Box::new([Said::default(); PLACES]));
        let place = &mut said[hash as usize % PLACES];
        if place.hash != hash {
            *place = Said { hash, entry: 0 };
            return put_literal(out, (0, 0x0f), (index, &name), value);
        }
        // Entries are numbered from one; the newest has the lowest index. One that is gone has another's index, or none.
        let at = DYNAMIC + (self.entries - place.entry) as usize;
        if place.entry != 0 && self.table.at(at) == Some((&name, value)) {
            return put_number(out, 0x80, 0x7f, at);
        }
        // Beyond that number they are no longer told apart.
        let Some(entries) = self.entries.checked_add(1) else {
            return put_literal(out, (0, 0x0f), (index, &name), value);
        };
        (self.entries, place.entry) = (entries, entries);
        put_literal(out, (0x40, 0x3f), (index, &name), value);
        self.table.insert(&name, value);
    }
}

/// A name's index in the static table; 0: it has none.
fn named(name: &[u8]) -> usize {
    let names = NAMES.get(name.len()).copied().unwrap_or_default();
    names.iter().find(|(known, _)| *known == name).map_or(0, |(_, index)| *index)
}

/// Multiplicative, over eight octets at a time: whoever makes two fields meet makes them longer, and nothing else.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    // 2^64 over the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = (name.len() as u64) << 32 | value.len() as u64;
    for text in [name, value] {
        let (words, rest) = text.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last]) {
            hash = (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
        }
    }
    u32::try_from(hash >> 32).unwrap_or_default()
}

fn put_literal(out: &mut WriteBuffer, (form, mask): (u8, u8), (index, name): (usize, &[u8]), value: &[u8]) {
    put_number(out, form, mask, index);
    if index == 0 {
        put_string(out, name);
    }
    put_string(out, value);
}

fn put_string(out: &mut WriteBuffer, text: &[u8]) {
    put_number(out, 0, 0x7f, text.len());
    out.put(text);
}

/// Writes a number behind the bits of `form` (RFC 7541, 5.1).
fn put_number(out: &mut WriteBuffer, form: u8, mask: u8, number: usize) {
    let low = |number: usize| u8::try_from(number & 0x7f).unwrap_or_default();
    if number < usize::from(mask) {
        return out.put(&[form | low(number)]);
    }
    let mut left = number - usize::from(mask);
    out.put(&[form | mask]);
    while left >= 0x80 {
        out.put(&[low(left) | 0x80]);
        left >>= 7;
    }
    out.put(&[low(left)]);
}

#[cfg(test)]
mod tests {
    use super::super::table::STATIC;
    use super::*;

    fn written(encoder: &mut Encoder, name: &str, value: &str) -> Vec<u8> {
        let mut out = WriteBuffer::default();
        encoder.begin(&mut out);
        encoder.put(name.as_bytes(), value.as_bytes(), &mut out);
        out.data().to_vec()
    }

    #[test]
    fn what_is_said_again_is_short() {
        let mut encoder = Encoder::default();
        assert_eq!(written(&mut encoder, "Server", "x"), b"\x0f\x27\x01x");
        assert_eq!(written(&mut encoder, "server", "x"), b"\x76\x01x");
        assert_eq!(written(&mut encoder, "server", "x"), b"\xbe");
        written(&mut encoder, "a", "1");
        assert_eq!(written(&mut encoder, "a", "1"), b"\x40\x01a\x011");
        assert_eq!(written(&mut encoder, "server", "x"), b"\xbf");
        for _ in 0..3 {
            assert_eq!(written(&mut encoder, "set-cookie", "x"), b"\x1f\x28\x01x");
        }
    }

    #[test]
    fn a_peer_without_a_table() {
        let mut encoder = Encoder::default();
        encoder.resize(0);
        assert_eq!(written(&mut encoder, "server", "x"), b"\x20\x20\x0f\x27\x01x");
        for _ in 0..3 {
            assert_eq!(written(&mut encoder, "server", "x"), b"\x0f\x27\x01x");
        }
    }

    #[test]
    fn numbers() {
        let check = |number: usize, expected: &[u8]| {
            let mut out = WriteBuffer::default();
            put_number(&mut out, 0, 0x1f, number);
            assert_eq!(out.data(), expected, "{number}");
        };
        check(10, &[10]);
        check(31, &[31, 0]);
        check(1337, &[31, 0x9a, 10]);
    }

    #[test]
    fn statuses() {
        let check = |status: u16, expected: &[u8]| {
            let mut out = WriteBuffer::default();
            Encoder::default().status(status, &mut out);
            assert_eq!(out.data(), expected, "{status}");
        };
        check(200, b"\x88");
        check(404, b"\x8d");
        check(451, b"\x08\x03451");
    }

    #[test]
    fn indexes_are_those_of_the_table() {
        for (length, names) in NAMES.iter().enumerate() {
            for (name, index) in *names {
                assert_eq!((STATIC[index - 1].0, name.len()), (*name, length));
            }
        }
    }
}
