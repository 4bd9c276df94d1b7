//! Field blocks (RFC 7541), both ways. Pure.
//!
//! Fields are written into the text of the head that they become, as lines that can be passed on as they stand. What
//! fields mean, and which may be there, is for others to know.

mod encoder;
mod huffman;
mod table;

pub use encoder::Encoder;

use crate::gate::request::Span;
use table::{ENTRY_BYTES, Table};

/// It is no field block: what comes after it can't be read either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A field that was read.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Its name, in the head's text.
    pub name: Span,
    /// Its value.
    pub value: Span,
    /// What it counts towards the size of all (RFC 9113, 6.5.2).
    pub bytes: usize,
}

/// What a field block is read into.
pub trait Lines {
    /// Where octets of fields are added.
    fn text(&mut self) -> &mut Vec<u8>;

    /// The text ends in a field.
    ///
    /// # Errors
    /// No more of the block is to be read.
    fn line(&mut self, line: Line) -> Result<(), Malformed>;
}

/// Reads the field blocks of one connection, in order.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table,
}

/// How a field that is not in a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Inserted,
    Literal,
}

impl Decoder {
    /// Reads a whole field block.
    ///
    /// # Errors
    /// `Malformed`: the connection is to end.
    pub fn read(&mut self, mut block: &[u8], into: &mut impl Lines) -> Result<(), Malformed> {
        let mut may_resize = true;
        while let Some(first) = block.first() {
            match first {
                0x80.. => {
                    let index = number(&mut block, 0x7f)?;
                    let (name, value) = self.table.at(index).ok_or(Malformed)?;
                    let line = Draft::begin(into.text(), name).value(into.text(), value);
                    let line = line.end(into.text());
                    into.line(line)?;
                }
                0x40.. => self.literal(&mut block, 0x3f, Form::Inserted, into)?,
                // Only at a block's beginning (RFC 7541, 4.2).
                0x20.. if may_resize => {
                    let bytes = number(&mut block, 0x1f)?;
                    if !self.table.resize(bytes) {
                        return Err(Malformed);
                    }
                    continue;
                }
                0x20.. => return Err(Malformed),
                _ => self.literal(&mut block, 0x0f, Form::Literal, into)?,
            }
            may_resize = false;
        }
        Ok(())
    }

    fn literal(
        &mut self,
        block: &mut &[u8],
        mask: u8,
        form: Form,
        into: &mut impl Lines,
    ) -> Result<(), Malformed> {
        let index = number(block, mask)?;
        let text = into.text();
        let mut draft = if index == 0 {
            let start = text.len();
            string(block, text)?;
            Draft::named(text, start)
        } else {
            Draft::begin(text, self.table.at(index).ok_or(Malformed)?.0)
        };
        string(block, text)?;
        draft.value_len = text.len() - draft.value_start();
        if form == Form::Inserted {
            let (name, rest) = text[draft.start..].split_at(draft.name_len);
            self.table.insert(name, &rest[SEPARATOR.len()..]);
        }
        let line = draft.end(into.text());
        into.line(line)
    }
}

const SEPARATOR: &[u8] = b": ";

/// A field while its octets are added at the text's end.
struct Draft {
    start: usize,
    name_len: usize,
    value_len: usize,
}

impl Draft {
    fn begin(text: &mut Vec<u8>, name: &[u8]) -> Self {
        let start = text.len();
        text.extend_from_slice(name);
        Self::named(text, start)
    }

    /// The name is there.
    fn named(text: &mut Vec<u8>, start: usize) -> Self {
        let name_len = text.len() - start;
        text.extend_from_slice(SEPARATOR);
        Self { start, name_len, value_len: 0 }
    }

    fn value_start(&self) -> usize {
        self.start + self.name_len + SEPARATOR.len()
    }

    fn value(mut self, text: &mut Vec<u8>, value: &[u8]) -> Self {
        text.extend_from_slice(value);
        self.value_len = value.len();
        self
    }

    fn end(self, text: &mut Vec<u8>) -> Line {
        text.extend_from_slice(b"\r\n");
        let span = |start, len| Span::new(start, len).unwrap_or_default();
        Line {
            name: span(self.start, self.name_len),
            value: span(self.value_start(), self.value_len),
            bytes: self.name_len + self.value_len + ENTRY_BYTES,
        }
    }
}

/// The most octets that a number may have beyond its first: lengths of a gigabyte nobody sends.
const MAX_NUMBER_BYTES: u32 = 4;

/// Reads a number whose first octet has `mask` of it (RFC 7541, 5.1).
fn number(block: &mut &[u8], mask: u8) -> Result<usize, Malformed> {
    let (first, mut rest) = block.split_first().ok_or(Malformed)?;
    let mut value = usize::from(first & mask);
    if first & mask == mask {
        for octet in 0.. {
            let (next, after) = rest.split_first().ok_or(Malformed)?;
            rest = after;
            value += usize::from(next & 0x7f) << (7 * octet);
            if next & 0x80 == 0 {
                break;
            }
            if octet + 1 == MAX_NUMBER_BYTES {
                return Err(Malformed);
            }
        }
    }
    *block = rest;
    Ok(value)
}

/// Reads a string, and adds it.
fn string(block: &mut &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = number(block, 0x7f)?;
    let (string, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    if is_coded {
        return huffman::decode(string, text);
    }
    text.extend_from_slice(string);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Got {
        text: Vec<u8>,
        lines: Vec<Line>,
    }

    impl Lines for Got {
        fn text(&mut self) -> &mut Vec<u8> {
            &mut self.text
        }

        fn line(&mut self, line: Line) -> Result<(), Malformed> {
            self.lines.push(line);
            Ok(())
        }
    }

    fn read(decoder: &mut Decoder, block: &[u8]) -> Option<String> {
        let mut got = Got::default();
        decoder.read(block, &mut got).ok()?;
        for line in &got.lines {
            let (name, value) = (line.name.of(&got.text), line.value.of(&got.text));
            assert_eq!(line.bytes, name.len() + value.len() + 32);
            assert!(
                got.text.windows(name.len() + 2 + value.len()).any(|w| w == [name, b": ", value].concat())
            );
        }
        Some(String::from_utf8(got.text).unwrap())
    }

    /// Blocks of one connection, and what the last of them says.
    #[track_caller]
    fn check(blocks: &[&[u8]], expected: Option<&str>) {
        let mut decoder = Decoder::default();
        let last = blocks.iter().map(|block| read(&mut decoder, block)).last().flatten();
        assert_eq!(last.as_deref(), expected, "{blocks:02x?}");
    }

    /// RFC 7541, C.3 and C.4: the same three requests, plain and in Huffman's code.
    #[test]
    fn examples() {
        let first = ":method: GET\r\n:scheme: http\r\n:path: /\r\n:authority: www.example.com\r\n";
        let second = format!("{first}cache-control: no-cache\r\n");
        let third = ":method: GET\r\n:scheme: https\r\n:path: /index.html\r\n:authority: www.example.com\r\n\
            custom-key: custom-value\r\n";
        let plain: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x0fwww.example.com",
            b"\x82\x86\x84\xbe\x58\x08no-cache",
            b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value",
        ];
        let coded: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ];
        for blocks in [plain, coded] {
            check(&blocks[..1], Some(first));
            check(&blocks[..2], Some(&second));
            check(&blocks, Some(third));
        }
    }

    #[test]
    fn forms() {
        check(&[b""], Some(""));
        check(&[b"\x00\x01x\x01y"], Some("x: y\r\n"));
        check(&[b"\x10\x01x\x01y"], Some("x: y\r\n"));
        check(&[b"\x0f\x09\x01y"], Some("cache-control: y\r\n"));
        check(&[b"\x40\x01x\x01y", b"\xbe\x7e\x01z", b"\xbe\xbf"], Some("x: z\r\nx: y\r\n"));
        check(&[b"\x40\x01x\x01y", b"\x20", b"\xbe"], None);
        check(&[b"\x40\x01x\x01y", b"\x20\x3f\xe1\x1f\x82"], Some(":method: GET\r\n"));
    }

    #[test]
    fn what_is_no_block() {
        for block in [
            &b"\x80"[..],
            b"\xbe",
            b"\xff",
            b"\xff\xff\xff\xff\xff\xff\x01",
            b"\x82\x20",
            b"\x3f\xe2\x1f",
            b"\x00",
            b"\x00\x01",
            b"\x00\x01x",
            b"\x00\x01x\x02y",
            b"\x00\x01x\x82\xff\xff",
            b"\x7f\x00\x01x",
        ] {
            check(&[block], None);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_octets_never_panic(blocks in proptest::collection::vec(
            proptest::collection::vec(proptest::num::u8::ANY, 0..100), 1..10)
        ) {
            let mut decoder = Decoder::default();
            for block in blocks {
                let _ = decoder.read(&block, &mut Got::default());
            }
        }

        /// What our own encoder writes reads as it was, whatever came before.
        #[test]
        fn encoded_fields_come_back(heads in proptest::collection::vec(
            proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,40}"), 0..8), 1..20)
        ) {
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            for head in heads {
                let mut block = crate::gate::buffer::WriteBuffer::default();
                encoder.begin(&mut block);
                let mut expected = String::new();
                for (name, value) in &head {
                    encoder.put(name.as_bytes(), value.as_bytes(), &mut block);
                    expected += &format!("{name}: {value}\r\n");
                }
                let text = read(&mut decoder, block.data());
                proptest::prop_assert_eq!(text, Some(expected));
            }
        }
    }
}
