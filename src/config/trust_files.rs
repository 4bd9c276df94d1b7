//! Whom sites believe, clients and upstreams: which files say so, and when what they say ends. Whoever issues by an
//! authority that has ended, or whose list is older than it may be, is believed no more.

use super::Config;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustKind {
    /// A certificate's validity.
    Certificate,
    /// The time until which a revocation list may be relied on.
    RevocationList,
}

/// The first end in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustEnd {
    /// The file.
    pub file: PathBuf,
    /// What ends.
    pub kind: TrustKind,
    /// Unix time in seconds.
    pub not_after: i64,
}

impl Config {
    /// Files that say whom sites believe, clients and upstreams, and what these are shown.
    pub fn trust_files(&self) -> impl Iterator<Item = &PathBuf> {
        let targets = self.sites.iter().map(|site| &site.target).chain(&self.default_site);
        targets.flat_map(|target| {
            let of_clients = target.clients.iter().flat_map(|clients| clients.authorities.files());
            let ways = [&target.way].into_iter().chain(target.routes.iter().map(|route| &route.way));
            let of_upstreams = ways.flat_map(|way| {
                let shown = way.tls.client.iter().flat_map(|(certificate, key)| [certificate, key]);
                way.tls.ca_file.iter().chain(shown)
            });
            of_clients.chain(of_upstreams)
        })
    }

    /// The first end of each file's certificates and of its lists, as the files are now; nothing of what can't be read,
    /// which is told where it is put in force.
    #[must_use]
    pub fn trust_ends(&self) -> Vec<TrustEnd> {
        let files: BTreeSet<&PathBuf> = self.trust_files().collect();
        let end = |file: &Path, kind, not_after: Option<i64>| {
            not_after.map(|not_after| TrustEnd { file: file.to_owned(), kind, not_after })
        };
        let ends = files.into_iter().flat_map(|file| {
            [
                end(file, TrustKind::Certificate, certificates_end(file)),
                end(file, TrustKind::RevocationList, lists_end(file)),
            ]
        });
        ends.flatten().collect()
    }
}

fn certificates_end(file: &Path) -> Option<i64> {
    let all = CertificateDer::pem_file_iter(file).ok()?;
    let end = |certificate: CertificateDer<'_>| {
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        Some(parsed.validity().not_after.timestamp())
    };
    all.flatten().filter_map(end).min()
}

fn lists_end(file: &Path) -> Option<i64> {
    let all = CertificateRevocationListDer::pem_file_iter(file).ok()?;
    let end = |list: CertificateRevocationListDer<'_>| {
        let (_, parsed) = x509_parser::parse_x509_crl(&list).ok()?;
        Some(parsed.next_update()?.timestamp())
    };
    all.flatten().filter_map(end).min()
}
