//! Certificates on disk: which pairs a config names, and what is inside them.
//!
//! For whoever serves them, `config check`, and the maker of development certificates. Knows files and
//! X.509; refuses to know connections.

use super::Tls;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use x509_parser::extensions::GeneralName;

/// A certificate chain and its key, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The file's stem: NAME of `NAME.crt`; what `default_certificate` means.
    pub name: String,
    /// PEM, the whole chain, the server's own first.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// A pair, read and understood.
#[derive(Debug)]
pub struct Loaded {
    /// As rustls serves it.
    pub key: CertifiedKey,
    /// DNS names of the certificate, lower-case, `*.` included.
    pub names: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The end of its validity, Unix seconds.
    pub not_after: i64,
}

/// Octets of an OCSP response: it goes into every handshake.
const MAX_OCSP_BYTES: usize = 16 * 1024;

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The directory can't be listed.
    #[error("can't list {}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Half of a pair.
    #[error("{} has no {} beside it", found.display(), missing.display())]
    Half {
        /// The file that is there.
        found: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// A file can't be read, or holds something else.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The pairs of `tls.directory` in the order of their names, then those named one by one; and what is wrong
/// with the rest. A directory that does not exist holds none.
pub fn pairs(tls: &Tls) -> (Vec<Pair>, Vec<CertificateError>) {
    let (mut pairs, errors) = match stems(&tls.directory) {
        Ok(stems) => in_directory(&tls.directory, stems),
        Err(error) => (Vec::new(), vec![error]),
    };
    pairs.extend(tls.certificates.iter().map(|(cert, key)| Pair {
        name: cert.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
        cert: cert.clone(),
        key: key.clone(),
    }));
    (pairs, errors)
}

/// Which halves there are.
#[derive(Debug, Default, Clone, Copy)]
struct Halves {
    cert: bool,
    key: bool,
}

fn stems(directory: &Path) -> Result<BTreeMap<String, Halves>, CertificateError> {
    let failed = |source| CertificateError::Directory { path: directory.to_owned(), source };
    let listing = match std::fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut stems: BTreeMap<String, Halves> = BTreeMap::new();
    for entry in listing {
        let path = entry.map_err(failed)?.path();
        let (Some(stem), Some(extension)) = (path.file_stem(), path.extension().and_then(OsStr::to_str))
        else {
            continue;
        };
        let stem = stem.to_string_lossy().into_owned();
        match extension {
            "crt" => stems.entry(stem).or_default().cert = true,
            "key" => stems.entry(stem).or_default().key = true,
            _ => {}
        }
    }
    Ok(stems)
}

fn in_directory(directory: &Path, stems: BTreeMap<String, Halves>) -> (Vec<Pair>, Vec<CertificateError>) {
    let (mut pairs, mut errors) = (Vec::new(), Vec::new());
    for (name, halves) in stems {
        let cert = directory.join(format!("{name}.crt"));
        let key = directory.join(format!("{name}.key"));
        match halves {
            Halves { cert: true, key: true } => pairs.push(Pair { name, cert, key }),
            Halves { cert: true, .. } => errors.push(CertificateError::Half { found: cert, missing: key }),
            Halves { .. } => errors.push(CertificateError::Half { found: key, missing: cert }),
        }
    }
    (pairs, errors)
}

impl Pair {
    /// Reads both files; the key must be the certificate's.
    pub fn load(&self, provider: &CryptoProvider) -> Result<Loaded, CertificateError> {
        let chain = read_chain(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| wrong(&self.key, format!("this is no private key in PEM: {error}")))?;
        let (names, addresses, not_after) = inside(&chain[0]).map_err(|reason| wrong(&self.cert, reason))?;
        let mut key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                wrong(&self.key, format!("this is not the key of {}", self.cert.display()))
            }
            other => wrong(&self.key, other.to_string()),
        })?;
        key.ocsp = self.staple()?;
        Ok(Loaded { key, names, addresses, not_after })
    }

    /// The OCSP response in `NAME.ocsp` beside the certificate, where there is one.
    fn staple(&self) -> Result<Option<Vec<u8>>, CertificateError> {
        let path = self.cert.with_extension("ocsp");
        let response = match std::fs::read(&path) {
            Ok(response) => response,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(&path, error.to_string())),
        };
        if response.len() > MAX_OCSP_BYTES || !is_successful(&response) {
            let remedy =
                "this is no successful OCSP response in DER; make one with `openssl ocsp … -respout`";
            return Err(wrong(&path, remedy.to_owned()));
        }
        Ok(Some(response))
    }
}

/// Whether it begins as `OCSPResponse` with the status `successful` does, and is as long as it says (RFC 6960, 4.2.1).
fn is_successful(response: &[u8]) -> bool {
    let length = match response {
        [0x30, short @ 0..=0x7f, ..] => 2 + usize::from(*short),
        [0x30, 0x81, length, ..] => 3 + usize::from(*length),
        [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => return false,
    };
    let head = if response[1] < 0x80 { 2 } else { 2 + usize::from(response[1] & 0x7f) };
    response.len() == length && response[head..].starts_with(&[0x0a, 1, 0])
}

/// The certificates of a PEM file; at least one.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match chain {
        Ok(chain) if chain.is_empty() => Err(wrong(path, "there is no certificate in PEM in it".to_owned())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(wrong(path, format!("these are no certificates in PEM: {error}"))),
    }
}

fn wrong(path: &Path, reason: String) -> CertificateError {
    CertificateError::File { path: path.to_owned(), reason }
}

/// Names, addresses and end of validity of one certificate.
fn inside(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, Vec<IpAddr>, i64), String> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| format!("no X.509: {error}"))?;
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let alternative = parsed.subject_alternative_name().map_err(|error| format!("no X.509: {error}"))?;
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match *name {
            GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => addresses.extend(address(octets)),
            _ => {}
        }
    }
    Ok((names, addresses, parsed.validity().not_after.timestamp()))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| Ipv6Addr::from(octets).into())).ok()
}
