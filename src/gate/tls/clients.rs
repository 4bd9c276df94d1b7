//! Certificates of clients: what a site asks for, and what its upstreams are told of what was shown.

use crate::config::certificates::CertificateError;
use crate::config::{ClientCertificates, Demand};
use crate::hexadecimal::hexadecimal;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use std::fmt::Write as _;
use std::sync::Arc;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The longest head lines about one certificate, in octets: who comes with more is not let in.
const MAX_LINES_BYTES: usize = 4096;
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

/// What a site asks of its clients.
#[derive(Debug)]
pub struct Clients {
    /// As configured: connections serve sites that ask for the same.
    pub asked: ClientCertificates,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What a client has shown.
#[derive(Debug)]
pub struct Shown {
    /// Who asked.
    pub to: Arc<Clients>,
    /// What upstreams are told, as lines of an HTTP/1.1 head.
    pub lines: Box<[u8]>,
}

impl Clients {
    /// With the files as they are now.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn new(asked: &ClientCertificates) -> Result<Arc<Self>, CertificateError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = asked.authorities.verifier(asked.demand, &provider)?;
        Ok(Arc::new(Self { asked: asked.clone(), verifier }))
    }

    /// What judges certificates.
    #[must_use]
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Whether who shows none is served as well.
    #[must_use]
    pub fn is_optional(&self) -> bool {
        self.asked.demand == Demand::Optional
    }
}

impl Shown {
    /// What a handshake came to; `None` where it can't be told to an upstream.
    #[must_use]
    pub fn new(to: &Arc<Clients>, chain: Option<&[CertificateDer<'_>]>) -> Option<Self> {
        let lines = match chain.and_then(<[_]>::first) {
            Some(certificate) => lines(certificate)?,
            None => "x-client-cert-verify: none\r\n".to_owned(),
        };
        Some(Self { to: Arc::clone(to), lines: lines.into_bytes().into() })
    }
}

fn lines(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let mut lines = "x-client-cert-verify: success\r\n".to_owned();
    for (name, value) in [
        ("subject", name(parsed.subject())),
        ("issuer", name(parsed.issuer())),
        ("serial", hexadecimal(parsed.raw_serial())),
        ("sha256", hexadecimal(digest.as_ref())),
    ] {
        // Writing to a String can't fail.
        let _ = write!(lines, "x-client-cert-{name}: {value}\r\n");
    }
    (lines.len() <= MAX_LINES_BYTES).then_some(lines)
}

/// A distinguished name as RFC 4514 writes it: the last part first, and nothing but visible ASCII.
fn name(name: &X509Name<'_>) -> String {
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

    #[test]
    fn a_certificate_in_lines() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(
            rcgen::DnType::CommonName,
            rcgen::DnValue::BmpString(rcgen::string::BmpString::try_from("网关").unwrap()),
        );
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0xbc]));
        let certificate = params.self_signed(&key).unwrap();
        let lines = lines(certificate.der()).unwrap();
        let name = "CN=\\E7\\BD\\91\\E5\\85\\B3,O=Example\\, Inc.";
        for line in [
            "x-client-cert-verify: success",
            &format!("x-client-cert-subject: {name}"),
            &format!("x-client-cert-issuer: {name}"),
            "x-client-cert-serial: 0abc",
        ] {
            assert!(lines.split("\r\n").any(|it| it == line), "{line}: {lines}");
        }
        let long = "a".repeat(MAX_LINES_BYTES);
        params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, long);
        assert_eq!(super::lines(params.self_signed(&key).unwrap().der()), None);
    }
}
