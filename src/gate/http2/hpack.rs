//! A second look at field blocks, beneath h2: whether one names a pseudo-field (RFC 7541, 6; RFC 9113, 8.1).
//!
//! h2 drops pseudo-fields of trailers before anybody sees them; a trailer that names one is malformed. Nothing is
//! decoded here: strings are stepped over, and of the dynamic table it is enough to know which entries are
//! pseudo-fields. Sizes and evictions needn't be: an index that has none ends the connection, in h2.

/// Entries that the dynamic table of 4,096 octets can have: each counts as 32 at least.
const TABLE_ENTRIES: u32 = 128;
/// Index of the newest entry.
const TABLE_BEGIN: u32 = 62;
/// Octets of a number beyond its prefix: as h2 takes them.
const MAX_NUMBER_BYTES: u32 = 4;
/// The first seven bits of a string that begins with a colon in Huffman's code (RFC 7541, appendix B).
const HUFFMAN_COLON: u8 = 0x5c;

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Indexed,
    /// Becomes an entry of the table.
    Inserted,
    Literal,
    TableSize,
}

/// A string's place in its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Name(Form),
    Value,
}

/// A number, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// An index, or a table's size.
    Of(Form),
    /// A string's length.
    Length(Part, Coding),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Plain,
    Huffman,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    Field,
    /// Within a number: what it is so far, and how many octets that took beyond the prefix.
    Number(Number, u32, u32),
    Length(Part),
    /// The first octet of a name of that many.
    Name(Form, Coding, u32),
    /// So many octets that are of no interest.
    String(Part, u32),
    /// No field block: h2 ends the connection over it.
    Broken,
}

/// Goes over the field blocks of one connection, in order.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Bit *k*: the entry at index 62 + *k* is a pseudo-field.
    table: u128,
    at: At,
    has_pseudo: bool,
}

impl Blocks {
    /// A field block begins.
    pub(super) fn begin(&mut self) {
        (self.at, self.has_pseudo) = (At::Field, false);
    }

    /// Whether the block, which is over, names a pseudo-field or makes no sense.
    pub(super) fn has_pseudo(&self) -> bool {
        self.has_pseudo || self.at != At::Field
    }

    /// Goes over octets of a block.
    pub(super) fn walk(&mut self, mut octets: &[u8]) {
        while let Some((&octet, rest)) = octets.split_first() {
            if let At::String(part, left) = self.at {
                let some = octets.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                octets = &octets[some..];
                self.at = after(part, left - u32::try_from(some).unwrap_or(left));
                continue;
            }
            octets = rest;
            self.at = self.octet(octet);
        }
    }

    fn octet(&mut self, octet: u8) -> At {
        match self.at {
            At::Field => {
                let (form, mask) = match octet {
                    0x80.. => (Form::Indexed, 0x7f),
                    0x40.. => (Form::Inserted, 0x3f),
                    0x20.. => (Form::TableSize, 0x1f),
                    _ => (Form::Literal, 0x0f),
                };
                self.number(Number::Of(form), octet, mask)
            }
            At::Length(part) => {
                let coding = if octet & 0x80 == 0 { Coding::Plain } else { Coding::Huffman };
                self.number(Number::Length(part, coding), octet, 0x7f)
            }
            At::Number(_, _, MAX_NUMBER_BYTES..) => At::Broken,
            At::Number(number, so_far, octets) => {
                let value = so_far + (u32::from(octet & 0x7f) << (7 * octets));
                if octet & 0x80 != 0 {
                    At::Number(number, value, octets + 1)
                } else {
                    self.found(number, value)
                }
            }
            At::Name(form, coding, length) => {
                let is_pseudo = match coding {
                    Coding::Plain => octet == b':',
                    Coding::Huffman => octet >> 1 == HUFFMAN_COLON,
                };
                self.note(form, is_pseudo);
                after(Part::Name(form), length - 1)
            }
            At::String(..) | At::Broken => At::Broken,
        }
    }

    fn number(&mut self, number: Number, octet: u8, mask: u8) -> At {
        let prefix = octet & mask;
        if prefix == mask { At::Number(number, prefix.into(), 0) } else { self.found(number, prefix.into()) }
    }

    fn found(&mut self, number: Number, value: u32) -> At {
        match number {
            Number::Of(Form::TableSize) => At::Field,
            Number::Of(Form::Indexed) => {
                self.has_pseudo |= self.is_pseudo(value);
                At::Field
            }
            Number::Of(form) if value == 0 => At::Length(Part::Name(form)),
            Number::Of(form) => {
                self.note(form, self.is_pseudo(value));
                At::Length(Part::Value)
            }
            // No name: h2 refuses it.
            Number::Length(Part::Name(_), _) if value == 0 => At::Broken,
            Number::Length(Part::Name(form), coding) => At::Name(form, coding, value),
            Number::Length(Part::Value, _) => after(Part::Value, value),
        }
    }

    fn is_pseudo(&self, index: u32) -> bool {
        match index.checked_sub(TABLE_BEGIN) {
            Some(entry) => entry < TABLE_ENTRIES && self.table >> entry & 1 == 1,
            // RFC 7541, appendix A: `:authority` to `:status`.
            None => (1..=14).contains(&index),
        }
    }

    fn note(&mut self, form: Form, is_pseudo: bool) {
        self.has_pseudo |= is_pseudo;
        if form == Form::Inserted {
            self.table = self.table << 1 | u128::from(is_pseudo);
        }
    }
}

/// Where a string goes on, or what follows it.
fn after(part: Part, left: u32) -> At {
    match (part, left) {
        (Part::Name(_), 0) => At::Length(Part::Value),
        (Part::Value, 0) => At::Field,
        _ => At::String(part, left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of one connection, the last of which counts; however they are cut.
    #[track_caller]
    fn check(blocks: &[&[u8]], expected: bool) {
        for step in [1, 2, 1000] {
            let mut walk = Blocks::default();
            for block in blocks {
                walk.begin();
                block.chunks(step).for_each(|piece| walk.walk(piece));
            }
            assert_eq!(walk.has_pseudo(), expected, "{blocks:02x?} by {step}");
        }
    }

    #[test]
    fn forms() {
        check(&[b"\x82"], true);
        check(&[b"\x8e"], true);
        check(&[b"\x8f"], false);
        check(&[b"\xbd"], false);
        check(&[b"\x41\x01F"], true);
        check(&[b"\x01\x01F"], true);
        check(&[b"\x14\x01/"], true);
        check(&[b"\x0f\x00\x01x"], false);
        check(&[b"\x0f\x17\x01x"], false);
        check(&[b"\x00\x01x\x01:"], false);
        check(&[b"\x00\x05:path\x01/"], true);
        check(&[b"\x10\x05:path\x01/"], true);
        check(&[b"\x40\x01x\x00\x00\x02:a\x00"], true);
        check(&[b"\x20\x3f\xe1\x1f\x00\x01x\x01y"], false);
        // `:authority` and `x-a` in Huffman's code.
        check(&[b"\x00\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x01F"], true);
        check(&[b"\x00\x83\xf2\xb0\xff\x01F"], false);
        check(&[b"\x00\x00\x01F"], true);
        check(&[b"\xff\xff\xff\xff\xff\xff"], true);
        check(&[b""], false);
    }

    #[test]
    fn tables() {
        check(&[b"\x41\x01F", b"\xbe"], true);
        check(&[b"\x41\x01F\x40\x01x\x01y", b"\xbe"], false);
        check(&[b"\x41\x01F\x40\x01x\x01y", b"\xbf"], true);
        check(&[b"\x41\x01F\x40\x01x\x01y", b"\x0f\x30\x01z"], true);
        check(&[b"\x41\x01F", b"\x00\x01x\x01y", b"\xbe\x90"], true);
        check(&[b"\x41\x01F\x40\x01x\x00", b"\x00\x01x\x01y\xbe"], false);
        check(&[b"\x41\x01F", b"\x7e\x01G", b"\xbf"], true);
        check(&[b"\x01\x01F", b"\xbe"], false);
        let many = b"\x40\x01x\x00".repeat(127);
        check(&[b"\x41\x01F", &many, b"\xff\x3e"], true);
        check(&[b"\x41\x01F", &many, b"\x40\x01x\x00", b"\xff\x3f"], false);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_never_panic(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let mut walk = Blocks::default();
            octets.chunks(7).for_each(|piece| walk.walk(piece));
        }
    }
}
