//! Certificates of clients: what a site asks for, and what its upstreams are told of what was shown.

use crate::config::certificates::CertificateError;
use crate::config::{ClientCertificates, Demand};
use crate::hexadecimal::hexadecimal;
use crate::subject;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use std::fmt::Write as _;
use std::sync::Arc;

/// The longest head lines about one certificate, in octets: who comes with more is not let in.
const MAX_LINES_BYTES: usize = 4096;
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
        ("subject", subject::text(parsed.subject())),
        ("issuer", subject::text(parsed.issuer())),
        ("serial", hexadecimal(parsed.raw_serial())),
        ("sha256", hexadecimal(digest.as_ref())),
    ] {
        // Writing to a String can't fail.
        let _ = write!(lines, "x-client-cert-{name}: {value}\r\n");
    }
    (lines.len() <= MAX_LINES_BYTES).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

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
