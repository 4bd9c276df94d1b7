//! Names in certificates as text: whom a certificate is for, and who says so.

use crate::hexadecimal::hexadecimal;
use std::fmt::Write as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// ASN.1 strings whose octets are UTF-8 or less: UTF8String, NumericString, PrintableString, IA5String, VisibleString.
const PLAIN_STRINGS: [u32; 5] = [12, 18, 19, 22, 26];
/// UTF-16, big end first.
const BMP_STRING: u32 = 30;
/// Types of attributes that have a short name (RFC 4514, section 3; RFC 2985), by their object identifiers.
const SHORT_NAMES: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// A distinguished name as RFC 4514 writes it: the last part first, and nothing but visible ASCII.
#[must_use]
pub fn text(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let identifier = attribute.attr_type().to_id_string();
    let kind = SHORT_NAMES.iter().find(|(id, _)| *id == identifier).map_or(&*identifier, |(_, name)| name);
    let (tag, octets) = (attribute.attr_value().header.tag().0, attribute.attr_value().data);
    let text = match tag {
        tag if PLAIN_STRINGS.contains(&tag) => std::str::from_utf8(octets).ok().map(str::to_owned),
        BMP_STRING if octets.len().is_multiple_of(2) => {
            let units = octets.as_chunks::<2>().0.iter().map(|unit| u16::from_be_bytes(*unit));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        }
        _ => None,
    };
    match text {
        Some(text) => format!("{kind}={}", escaped(&text)),
        None => format!("{kind}=#{}", hexadecimal(octets)),
    }
}

/// RFC 4514, 2.4; what is no visible ASCII by its octets, for it goes into a header field.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, octet) in text.bytes().enumerate() {
        let is_edge = (at == 0 && matches!(octet, b' ' | b'#')) || (at == last && octet == b' ');
        match octet {
            b'"' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(octet));
            }
            b' '..=b'~' if !is_edge => out.push(char::from(octet)),
            _ => {
                let _ = write!(out, "\\{octet:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_so_that_nobody_can_pose_as_another() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(escaped(text), expected);
        }
        check("gate-1", "gate-1");
        check("Example, Inc.", "Example\\, Inc.");
        check("a,CN=admin", "a\\,CN\\=admin");
        check(" a ", "\\20a\\20");
        check("#a", "\\23a");
        check("a\r\nx-client-cert-verify: success", "a\\0D\\0Ax-client-cert-verify: success");
        check("北京", "\\E5\\8C\\97\\E4\\BA\\AC");
        check("", "");
    }
}
