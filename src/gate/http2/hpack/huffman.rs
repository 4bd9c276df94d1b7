//! Strings in Huffman's code (RFC 7541, 5.2 and appendix B). Pure.
//!
//! The code is canonical: how long each octet's code is says what it is.

use super::Malformed;

/// Bits of each octet's code; the code that ends a string, which never occurs in one, comes after them.
const BITS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];
const SYMBOLS: usize = 257;
/// The longest code.
const MOST_BITS: usize = 30;
/// Codes up to this length are found by one look.
const QUICK_BITS: usize = 8;

/// Octets by the first bits of what is to be read, with the length of their code; 0: it is longer.
const QUICK: [(u8, u8); 1 << QUICK_BITS] = quick();
/// Octets in the order of their codes.
const SORTED: [u16; SYMBOLS] = sorted();
/// Of each length: its first code, how many there are, and where they begin among the sorted.
const LENGTHS: [(u32, u32, u32); MOST_BITS + 1] = lengths();

const fn sorted() -> [u16; SYMBOLS] {
    let (mut sorted, mut at, mut bits) = ([0; SYMBOLS], 0, 0);
    while bits <= MOST_BITS {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if BITS[symbol] as usize == bits {
                #[allow(clippy::cast_possible_truncation, reason = "below 257")]
                let octet = symbol as u16;
                sorted[at] = octet;
                at += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    sorted
}

const fn lengths() -> [(u32, u32, u32); MOST_BITS + 1] {
    let (mut lengths, mut code, mut at, mut bits) = ([(0, 0, 0); MOST_BITS + 1], 0, 0, 1);
    while bits <= MOST_BITS {
        code <<= 1;
        let (mut count, mut symbol) = (0, 0);
        while symbol < SYMBOLS {
            if BITS[symbol] as usize == bits {
                count += 1;
            }
            symbol += 1;
        }
        lengths[bits] = (code, count, at);
        code += count;
        at += count;
        bits += 1;
    }
    lengths
}

const fn quick() -> [(u8, u8); 1 << QUICK_BITS] {
    let (mut quick, mut bits) = ([(0, 0); 1 << QUICK_BITS], 1);
    while bits <= QUICK_BITS {
        let (first, count, at) = LENGTHS[bits];
        let mut index = 0;
        while index < count {
            let spare = QUICK_BITS - bits;
            let (from, mut filled) = (((first + index) << spare) as usize, 0);
            while filled < 1 << spare {
                #[allow(clippy::cast_possible_truncation, reason = "an octet, and at most 8 bits")]
                let entry = (SORTED[(at + index) as usize] as u8, bits as u8);
                quick[from + filled] = entry;
                filled += 1;
            }
            index += 1;
        }
        bits += 1;
    }
    quick
}

/// Adds what the code stands for: at most 8/5 of its length.
///
/// # Errors
/// It ends within a code, is padded by anything but the beginning of the last code, or by eight bits and more.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.reserve(code.len() * 8 / 5);
    // The bits to be read, first ones highest, and how many there are.
    let (mut window, mut held) = (0_u64, 0);
    let mut octets = code.iter();
    loop {
        while held <= 56 {
            let Some(octet) = octets.next() else { break };
            window |= u64::from(*octet) << (56 - held);
            held += 8;
        }
        let (octet, bits) = QUICK[(window >> (64 - QUICK_BITS)) as usize];
        let bits = usize::from(bits);
        if bits != 0 && bits <= held {
            out.push(octet);
            (window, held) = (window << bits, held - bits);
            continue;
        }
        if bits == 0
            && let Some((octet, bits)) = long(window).filter(|(_, bits)| *bits <= held)
        {
            out.push(octet);
            (window, held) = (window << bits, held - bits);
            continue;
        }
        // What is left is padding.
        let is_padding = held < 8 && window == !(u64::MAX >> held);
        return if is_padding { Ok(()) } else { Err(Malformed) };
    }
}

/// An octet whose code is longer than one look.
fn long(window: u64) -> Option<(u8, usize)> {
    (QUICK_BITS + 1..=MOST_BITS).find_map(|bits| {
        let (first, count, at) = LENGTHS[bits];
        let code = u32::try_from(window >> (64 - bits)).ok()?;
        let index = code.checked_sub(first).filter(|index| *index < count)?;
        // The last of all ends a string, and has no octet.
        let octet = u8::try_from(SORTED[(at + index) as usize]).ok()?;
        Some((octet, bits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each octet's code as bits.
    fn code(symbol: usize) -> (u32, usize) {
        let bits = usize::from(BITS[symbol]);
        let (first, _, at) = LENGTHS[bits];
        let place = SORTED.iter().position(|one| usize::from(*one) == symbol).unwrap();
        (first + u32::try_from(place).unwrap() - at, bits)
    }

    fn encode(text: &[u8]) -> Vec<u8> {
        let bits: String = text
            .iter()
            .map(|octet| code(usize::from(*octet)))
            .map(|(code, bits)| format!("{code:0bits$b}"))
            .collect();
        let padded = format!("{bits}{}", "1".repeat((8 - bits.len() % 8) % 8));
        padded
            .as_bytes()
            .chunks(8)
            .map(|octet| u8::from_str_radix(std::str::from_utf8(octet).unwrap(), 2).unwrap())
            .collect()
    }

    #[track_caller]
    fn check(code: &[u8], expected: Option<&[u8]>) {
        let mut out = Vec::new();
        let decoded = decode(code, &mut out);
        assert_eq!(decoded.is_ok().then_some(&out[..]), expected, "{code:02x?}");
    }

    /// RFC 7541, C.4 and C.6.
    #[test]
    fn examples() {
        check(b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", Some(b"www.example.com"));
        check(b"\xa8\xeb\x10\x64\x9c\xbf", Some(b"no-cache"));
        check(b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", Some(b"custom-value"));
        check(b"\x64\x02", Some(b"302"));
        check(
            b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
            Some(b"Mon, 21 Oct 2013 20:13:21 GMT"),
        );
        check(b"", Some(b""));
    }

    /// Appendix B: the ends of the code.
    #[test]
    fn codes() {
        assert_eq!(code(usize::from(b'0')), (0, 5));
        assert_eq!(code(usize::from(b'&')), (0xf8, 8));
        assert_eq!(code(0), (0x1ff8, 13));
        assert_eq!(code(22), (0x3fff_fffe, 30));
        assert_eq!(code(256), (0x3fff_ffff, 30));
    }

    #[test]
    fn what_is_no_string() {
        check(b"\xff\xff\xff\xff", None);
        check(b"\xff", None);
        // `a` and padding of zeros, or of ones that are too many.
        check(b"\x18", None);
        check(b"\x1f", Some(b"a"));
        check(b"\x1f\xff", None);
    }

    proptest::proptest! {
        #[test]
        fn octets_come_back(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            check(&encode(&text), Some(&text));
        }

        #[test]
        fn any_octets_never_panic(code in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            let mut out = Vec::new();
            let _ = decode(&code, &mut out);
            proptest::prop_assert!(out.len() <= code.len() * 8 / 5);
        }
    }
}
