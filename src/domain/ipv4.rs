//! The IPv4 forms that clients accept as a host: dotted, short, decimal, octal, hex.
//!
//! Follows the WHATWG URL Standard ("ends in a number", "IPv4 parser"), since what a browser
//! would connect to by address must be judged as an address here. Knows nothing of names.

use std::net::Ipv4Addr;

/// Whether a host must be an IPv4 address: its last label, one trailing dot aside, is a number.
pub(super) fn is_expected(host: &[u8]) -> bool {
    let host = host.strip_suffix(b".").unwrap_or(host);
    let last = host.rsplit(|&byte| byte == b'.').next().unwrap_or(host);
    // Names seldom start their last label with a digit: the common case ends here.
    match last.first() {
        Some(first) if first.is_ascii_digit() => {
            last.iter().all(u8::is_ascii_digit) || number(last).is_some()
        }
        _ => false,
    }
}

/// Parses an address in any of the forms; one trailing dot is allowed, as the standard has it.
pub(super) fn parse(host: &[u8]) -> Option<Ipv4Addr> {
    let host = host.strip_suffix(b".").unwrap_or(host);
    let mut value: u32 = 0;
    let mut parts = host.split(|&byte| byte == b'.').peekable();
    for index in 0..4_u32 {
        let part = number(parts.next()?)?;
        if parts.peek().is_some() {
            // Any part but the last is one octet.
            let octet = u8::try_from(part).ok()?;
            value |= u32::from(octet) << (24 - 8 * index);
        } else {
            // The last part fills all the octets that are left.
            let limit = 1_u64 << (32 - 8 * index);
            if part >= limit {
                return None;
            }
            return Some(Ipv4Addr::from(value | u32::try_from(part).ok()?));
        }
    }
    None
}

/// One part: decimal, octal after `0`, hex after `0x` (where no digits at all are zero).
fn number(part: &[u8]) -> Option<u64> {
    let (digits, radix) = match part {
        [] => return None,
        [b'0', b'x' | b'X', rest @ ..] => (rest, 16),
        [b'0', rest @ ..] if !rest.is_empty() => (rest, 8),
        _ => (part, 10),
    };
    digits.iter().try_fold(0_u64, |value, &byte| {
        let digit = char::from(byte).to_digit(radix)?;
        // However many digits, it stays a number: one that fits no address.
        Some(value.saturating_mul(u64::from(radix)).saturating_add(u64::from(digit)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &str, expected: Option<[u8; 4]>) {
        assert_eq!(parse(host.as_bytes()), expected.map(Ipv4Addr::from), "{host}");
    }

    #[test]
    fn every_form() {
        check("192.0.2.1", Some([192, 0, 2, 1]));
        check("192.0.2.1.", Some([192, 0, 2, 1]));
        check("192.0.513", Some([192, 0, 2, 1]));
        check("192.513", Some([192, 0, 2, 1]));
        check("3221225985", Some([192, 0, 2, 1]));
        check("0300.0.02.01", Some([192, 0, 2, 1]));
        check("030000001001", Some([192, 0, 2, 1]));
        check("0xC0.0x0.0X2.0x1", Some([192, 0, 2, 1]));
        check("0xc0000201", Some([192, 0, 2, 1]));
        check("0x", Some([0, 0, 0, 0]));
        check("0", Some([0, 0, 0, 0]));
        check("4294967295", Some([255, 255, 255, 255]));
        check(&format!("{}1.2.3.4", "0".repeat(90)), Some([1, 2, 3, 4]));
    }

    #[test]
    fn what_is_no_address() {
        for host in [
            "",
            ".",
            "256.0.0.1",
            "1.2.3.256",
            "1.2.3.4.5",
            "1..2",
            ".1",
            "1.2.3.4..",
            "4294967296",
            "08.0.0.1",
            "1.2.3.0xg",
            "1.2.3.+4",
            "1.2.3.4 ",
            "99999999999999999999999",
            "0xc01c5020201c201c2061",
            "1.0x10000000000000001",
        ] {
            check(host, None);
        }
    }

    #[test]
    fn when_an_address_is_expected() {
        for (host, expected) in [
            ("1.2.3.4", true),
            ("example.1", true),
            ("example.0x1f.", true),
            ("example.0xc01c5020201c201c2061", true),
            ("example.0xg", false),
            ("example.09", true),
            ("1.2.3.4..", false),
            ("1.example", false),
            ("4u.example", false),
            ("example.4u", false),
            (".", false),
        ] {
            assert_eq!(is_expected(host.as_bytes()), expected, "{host}");
        }
    }
}
