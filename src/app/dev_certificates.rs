//! Development certificates: an authority of this machine's own, and one certificate for the names of the config.
//!
//! Made at first start, remade when the names differ or the end is near, never committed. The authority lies
//! in files that no `NAME.crt`/`NAME.key` pair is made of, so that it is never served.

use crate::config::certificates::{Pair, read_chain};
use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_hours(24);
const CERTIFICATE_DAYS: u32 = 365;
const AUTHORITY_DAYS: u32 = 3650;
/// How long before its end a certificate is made anew.
const MARGIN_DAYS: u32 = 30;
const AUTHORITY_CERT: &str = "dev-ca.pem";
const AUTHORITY_KEY: &str = "dev-ca-key.pem";
const NAME: &str = "development";

/// What `ensure` left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    /// The authority's certificate: what clients are told to trust (`curl --cacert`).
    pub(super) authority: PathBuf,
    /// Whether the certificate is new.
    pub(super) is_new: bool,
}

/// Sees to it that `directory` holds a certificate for exactly `names` (A-labels, `*.` allowed) that is good for a
/// month at least.
///
/// # Errors
/// Where the directory can't be written, or no certificate can be made for a name.
pub(super) fn ensure(directory: &Path, names: &[String]) -> Result<Made> {
    let authority = directory.join(AUTHORITY_CERT);
    if names.is_empty() || is_current(directory, names) {
        return Ok(Made { authority, is_new: false });
    }
    std::fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
    let issuer = match kept_issuer(directory) {
        Some(issuer) => issuer,
        None => new_issuer(directory)?,
    };
    issue(directory, names, &issuer)?;
    Ok(Made { authority, is_new: true })
}

fn pair(directory: &Path) -> Pair {
    Pair {
        name: NAME.to_owned(),
        cert: directory.join(format!("{NAME}.crt")),
        key: directory.join(format!("{NAME}.key")),
    }
}

/// Whether what lies there will do: for these names, with its key, from this authority, for long enough.
fn is_current(directory: &Path, names: &[String]) -> bool {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let Ok(loaded) = pair(directory).load(&provider) else { return false };
    let held: BTreeSet<&String> = loaded.names.iter().collect();
    held == names.iter().collect() && will_verify(directory, &names[0], provider).unwrap_or(false)
}

/// Whether a client that trusts the authority will believe the certificate when the margin begins.
fn will_verify(directory: &Path, name: &str, provider: rustls::crypto::CryptoProvider) -> Result<bool> {
    let mut roots = RootCertStore::empty();
    for root in read_chain(&directory.join(AUTHORITY_CERT))? {
        roots.add(root)?;
    }
    let chain = read_chain(&pair(directory).cert)?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider)).build()?;
    let host = name.strip_prefix("*.").map_or_else(|| name.to_owned(), |parent| format!("any.{parent}"));
    let then = SystemTime::now() + DAY * MARGIN_DAYS;
    let then = UnixTime::since_unix_epoch(then.duration_since(SystemTime::UNIX_EPOCH)?);
    Ok(verifier.verify_server_cert(&chain[0], &chain[1..], &ServerName::try_from(host)?, &[], then).is_ok())
}

/// The authority that is there, where it outlives a new certificate.
fn kept_issuer(directory: &Path) -> Option<Issuer<'static, KeyPair>> {
    let key = std::fs::read_to_string(directory.join(AUTHORITY_KEY)).ok()?;
    let key = KeyPair::from_pem(&key).ok()?;
    let certificate = read_chain(&directory.join(AUTHORITY_CERT)).ok()?.swap_remove(0);
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).ok()?;
    let needed = SystemTime::now() + DAY * CERTIFICATE_DAYS;
    let needed = i64::try_from(needed.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let is_its_key = rcgen::PublicKeyData::subject_public_key_info(&key) == parsed.public_key().raw;
    let is_usable = is_its_key && parsed.validity().not_after.timestamp() > needed;
    if is_usable { Issuer::from_ca_cert_der(&certificate, key).ok() } else { None }
}

fn new_issuer(directory: &Path) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "beian-gate development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(AUTHORITY_DAYS);
    let certificate = params.self_signed(&key)?;
    write(&directory.join(AUTHORITY_KEY), &key.serialize_pem(), Readers::Owner)?;
    write(&directory.join(AUTHORITY_CERT), &certificate.pem(), Readers::Everyone)?;
    Ok(Issuer::new(params, key))
}

fn issue(directory: &Path, names: &[String], issuer: &Issuer<'_, KeyPair>) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "beian-gate development");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(CERTIFICATE_DAYS);
    let certificate = params.signed_by(&key, issuer)?;
    let pair = pair(directory);
    write(&pair.key, &key.serialize_pem(), Readers::Owner)?;
    write(&pair.cert, &certificate.pem(), Readers::Everyone)
}

/// From an hour ago, for clocks that run behind.
fn validity<T: From<SystemTime>>(days: u32) -> (T, T) {
    let now = SystemTime::now();
    ((now - Duration::from_hours(1)).into(), (now + DAY * days).into())
}

/// Who may read a file.
#[derive(Clone, Copy)]
enum Readers {
    Owner,
    Everyone,
}

/// Writes beside and renames, so that nobody reads half a file.
fn write(path: &Path, text: &str, readers: Readers) -> Result<()> {
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everyone => 0o644,
    };
    let beside = path.with_extension("new");
    let written = || {
        let _ = std::fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&beside, path)
    };
    written().with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn verifies(directory: &Path, name: &str) -> bool {
        will_verify(directory, name, rustls::crypto::aws_lc_rs::default_provider()).unwrap()
    }

    #[test]
    fn what_is_made_is_believed_for_its_names_alone() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("certs");
        let made =
            ensure(&directory, &names(&["example.com", "*.example.com", "xn--fsqu00a.xn--fiqs8s"])).unwrap();
        assert!(made.is_new && made.authority.ends_with("dev-ca.pem"));
        for (name, expected) in [
            ("example.com", true),
            ("*.example.com", true),
            ("www.example.com", true),
            ("xn--fsqu00a.xn--fiqs8s", true),
            ("a.b.example.com", false),
            ("example.net", false),
        ] {
            assert_eq!(verifies(&directory, name), expected, "{name}");
        }
    }

    #[test]
    fn the_authority_is_no_pair_and_keys_are_the_owners() {
        let directory = tempfile::tempdir().unwrap();
        ensure(directory.path(), &names(&["example.com"])).unwrap();
        let tls = crate::config::Tls {
            directory: directory.path().to_owned(),
            certificates: Vec::new(),
            min_version: crate::config::TlsVersion::V1_2,
            default_certificate: None,
            ticket_keys: None,
        };
        let (pairs, errors) = crate::config::certificates::pairs(&tls);
        assert!(errors.is_empty());
        assert_eq!(pairs.iter().map(|pair| pair.name.as_str()).collect::<Vec<_>>(), ["development"]);
        for key in ["dev-ca-key.pem", "development.key"] {
            let mode = std::fs::metadata(directory.path().join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn it_is_remade_for_other_names_only_and_by_the_same_authority() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
        assert!(ensure(directory, &names(&["a.example.com", "example.com"])).unwrap().is_new);
        let (authority, certificate) = (read("dev-ca.pem"), read("development.crt"));
        assert!(!ensure(directory, &names(&["example.com", "a.example.com"])).unwrap().is_new);
        assert_eq!(read("development.crt"), certificate);
        assert!(ensure(directory, &names(&["example.com"])).unwrap().is_new);
        assert_ne!(read("development.crt"), certificate);
        assert_eq!(read("dev-ca.pem"), authority);
        assert!(verifies(directory, "example.com"));
    }

    #[test]
    fn a_lost_half_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let names = names(&["example.com"]);
        for lost in ["development.key", "dev-ca-key.pem", "dev-ca.pem"] {
            ensure(directory.path(), &names).unwrap();
            std::fs::remove_file(directory.path().join(lost)).unwrap();
            ensure(directory.path(), &names).unwrap();
            assert!(verifies(directory.path(), "example.com"), "{lost}");
        }
    }

    #[test]
    fn no_names_no_files() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!ensure(directory.path(), &[]).unwrap().is_new);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
