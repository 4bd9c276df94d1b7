//! An address in decimal: written for every request, so without `fmt` where it is IPv4. Pure.

use std::io::Write as _;
use std::net::IpAddr;

/// An address as text, without `fmt`.
pub(super) struct IpText {
    text: [u8; IpText::MOST],
    len: usize,
}

/// The decimal digits of every octet, and how many there are.
const DECIMAL: [([u8; 3], usize); 256] = {
    let mut table = [([0; 3], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "digits")]
        let (a, b, c) = ((octet / 100) as u8, (octet / 10 % 10) as u8, (octet % 10) as u8);
        table[octet] = match octet {
            100.. => ([b'0' + a, b'0' + b, b'0' + c], 3),
            10.. => ([b'0' + b, b'0' + c, 0], 2),
            _ => ([b'0' + c, 0, 0], 1),
        };
        octet += 1;
    }
    table
};

impl IpText {
    /// The longest: IPv6 with an IPv4 tail.
    const MOST: usize = 45;

    pub(super) fn of(ip: IpAddr) -> Self {
        let mut it = Self { text: [0; Self::MOST], len: 0 };
        let IpAddr::V4(v4) = ip else {
            let mut rest = &mut it.text[..];
            let _ = write!(rest, "{ip}");
            it.len = Self::MOST - rest.len();
            return it;
        };
        for octet in v4.octets() {
            let (digits, count) = DECIMAL[usize::from(octet)];
            it.text[it.len..it.len + 3].copy_from_slice(&digits);
            it.text[it.len + count] = b'.';
            it.len += count + 1;
        }
        it.len -= 1;
        it
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}
