//! Octets as text for ids, keys and digests that people copy.

use std::fmt::Write as _;

/// Two lower-case digits an octet.
#[must_use]
pub fn hexadecimal(octets: &[u8]) -> String {
    let mut text = String::with_capacity(2 * octets.len());
    for octet in octets {
        // Writing to a String can't fail.
        let _ = write!(text, "{octet:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_each() {
        assert_eq!(hexadecimal(&[]), "");
        assert_eq!(hexadecimal(&[0, 0x0a, 0xff]), "000aff");
    }
}
