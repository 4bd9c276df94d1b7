//! Numbers and addresses as text without `fmt`, which costs ten times as much: they are written for every request. Pure.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// The longest there is: an IPv6 address with a scope and a port.
const MOST: usize = 64;
/// The digits of 0 to 99, two each.
const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut number = 0;
    while number < 100 {
        #[allow(clippy::cast_possible_truncation, reason = "digits")]
        let (tens, ones) = ((number / 10) as u8, (number % 10) as u8);
        (pairs[2 * number], pairs[2 * number + 1]) = (b'0' + tens, b'0' + ones);
        number += 1;
    }
    pairs
};

/// What one number or address looks like.
#[derive(Debug, Clone, Copy)]
pub struct Digits {
    text: [u8; MOST],
    start: usize,
    end: usize,
}

impl Digits {
    /// A number in decimal.
    #[inline]
    #[must_use]
    pub fn decimal(number: u64) -> Self {
        Self::padded(number, 1)
    }

    /// The same with zeros in front, where it has fewer digits than so many.
    #[inline]
    #[must_use]
    pub fn padded(number: u64, width: usize) -> Self {
        let (mut text, mut start, mut left) = ([b'0'; MOST], MOST, number);
        while left >= 10 {
            let pair = 2 * usize::try_from(left % 100).unwrap_or(0);
            text[start - 2..start].copy_from_slice(&PAIRS[pair..pair + 2]);
            (start, left) = (start - 2, left / 100);
        }
        if left > 0 {
            start -= 1;
            text[start] = PAIRS[2 * usize::try_from(left).unwrap_or(0) + 1];
        }
        Self { text, start: start.min(MOST - width.min(MOST)), end: MOST }
    }

    /// A number in lower-case hexadecimal: as many of its last digits.
    #[inline]
    #[must_use]
    pub fn hexadecimal(number: u128, digits: usize) -> Self {
        let (mut text, start) = ([0; MOST], MOST - digits.min(MOST));
        let mut left = number;
        for digit in text[start..].iter_mut().rev() {
            *digit = b"0123456789abcdef"[usize::try_from(left % 16).unwrap_or(0)];
            left /= 16;
        }
        Self { text, start, end: MOST }
    }

    /// An address.
    #[inline]
    #[must_use]
    pub fn ip(ip: IpAddr) -> Self {
        let mut it = Self { text: [0; MOST], start: 0, end: 0 };
        it.add_ip(ip);
        it
    }

    /// An address and a port.
    #[inline]
    #[must_use]
    pub fn socket(address: SocketAddr) -> Self {
        let mut it = Self { text: [0; MOST], start: 0, end: 0 };
        let SocketAddr::V4(v4) = address else {
            it.add_formatted(address);
            return it;
        };
        it.add_ip(IpAddr::V4(*v4.ip()));
        it.add(b":");
        it.add(Self::decimal(v4.port().into()).as_bytes());
        it
    }

    /// As octets.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..self.end]
    }

    fn add(&mut self, octets: &[u8]) {
        let end = self.end + octets.len();
        self.text[self.end..end].copy_from_slice(octets);
        self.end = end;
    }

    fn add_ip(&mut self, ip: IpAddr) {
        let IpAddr::V4(v4) = ip else { return self.add_formatted(ip) };
        for octet in v4.octets() {
            let (digits, count) = OCTETS[usize::from(octet)];
            self.text[self.end..self.end + 4].copy_from_slice(&digits);
            self.end += count;
        }
        self.end -= 1;
    }

    fn add_formatted(&mut self, what: impl std::fmt::Display) {
        let mut rest = &mut self.text[self.end..];
        let room = rest.len();
        // Whatever address there is has room.
        let _ = write!(rest, "{what}");
        self.end += room - rest.len();
    }
}

/// The decimal digits of every octet and a dot behind them, and how many they are.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut table = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "digits")]
        let (a, b, c) = ((octet / 100) as u8, (octet / 10 % 10) as u8, (octet % 10) as u8);
        table[octet] = match octet {
            100.. => ([b'0' + a, b'0' + b, b'0' + c, b'.'], 4),
            10.. => ([b'0' + b, b'0' + c, b'.', 0], 3),
            _ => ([b'0' + c, b'.', 0, 0], 2),
        };
        octet += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(digits: Digits, expected: &str) {
        assert_eq!(std::str::from_utf8(digits.as_bytes()), Ok(expected));
    }

    #[test]
    fn numbers() {
        let powers = (0..20).map(|exponent| 10_u64.pow(exponent));
        for number in powers.flat_map(|power| [power - 1, power, power + 1]).chain(0..2000).chain([u64::MAX])
        {
            check(Digits::decimal(number), &number.to_string());
            check(Digits::padded(number, 3), &format!("{number:03}"));
            check(Digits::padded(number, 8), &format!("{number:08}"));
            check(Digits::hexadecimal(number.into(), 16), &format!("{number:016x}"));
            check(Digits::hexadecimal(u128::from(number) << 64 | 7, 32), &format!("{number:016x}{:016x}", 7));
        }
    }

    #[test]
    fn addresses() {
        for octet in 0..=255_u8 {
            for ip in [IpAddr::from([octet, 1, 0, octet]), IpAddr::from([192, octet, octet, 10])] {
                check(Digits::ip(ip), &ip.to_string());
                check(
                    Digits::socket((ip, u16::from(octet) * 257).into()),
                    &SocketAddr::new(ip, u16::from(octet) * 257).to_string(),
                );
            }
        }
        for text in ["::", "2001:db8::1", "::ffff:192.0.2.1", "1111:2222:3333:4444:5555:6666:7777:8888"] {
            let ip: IpAddr = text.parse().unwrap();
            check(Digits::ip(ip), &ip.to_string());
            check(Digits::socket((ip, 65535).into()), &format!("[{ip}]:65535"));
        }
        let scoped: SocketAddr = "[fe80::1111:2222:3333:4444%4294967295]:65535".parse().unwrap();
        check(Digits::socket(scoped), &scoped.to_string());
    }
}
