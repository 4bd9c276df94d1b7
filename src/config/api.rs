//! The admin API and the registry towards their callers: who may call, and over what.

use super::certificates::{CertificateError, read_chain};
use super::{Role, Token};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `[admin]`
#[derive(Debug, Clone)]
pub struct Admin {
    /// Port 0 is any free port.
    pub address: SocketAddr,
    /// A bearer token that may do everything.
    pub token: Option<String>,
    /// Further ones, each with its role: `reader` or `operator`.
    pub tokens: Vec<Token>,
    /// In the clear without it.
    pub tls: Option<ApiTls>,
    /// What callers may do by the certificates that they show. Where it is empty, all that their authority stands for.
    pub client_roles: Vec<ClientRole>,
}

/// `client_roles` of `[admin.tls]`: what the holder of a certificate may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRole {
    /// Which.
    pub certificate: CertificateId,
    /// `reader` or `operator`.
    pub role: Role,
}

/// What tells a certificate from others of its authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateId {
    /// The SHA-256 of the whole, in hexadecimal.
    Sha256(String),
    /// Whom it is for, as RFC 4514 writes it.
    Subject(String),
}

/// `[admin.tls]`, `[registry.embedded.tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTls {
    /// PEM, the whole chain.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// Callers must show a certificate of one of its authorities.
    pub clients: Option<ClientAuthorities>,
}

/// Whose certificates callers may show.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientAuthorities {
    /// PEM: the authorities.
    pub ca_file: PathBuf,
    /// PEM: what they have revoked.
    pub crl_file: Option<PathBuf>,
}

/// Whether who shows no certificate may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Demand {
    /// It may; a certificate that is shown must be good.
    Optional,
    /// It may not.
    Required,
}

/// `[site.client_certificates]`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificates {
    /// Whose.
    pub authorities: ClientAuthorities,
    /// From everybody, or from those who have one.
    pub demand: Demand,
}

/// Octets of a file of revocation lists.
const MAX_CRL_BYTES: u64 = 64 * 1024 * 1024;

impl ClientAuthorities {
    /// What judges certificates by these files, as they are now.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn verifier(
        &self,
        demand: Demand,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
        let wrong = |path: &Path, reason: String| CertificateError::File { path: path.to_owned(), reason };
        let mut roots = RootCertStore::empty();
        for certificate in read_chain(&self.ca_file)? {
            roots.add(certificate).map_err(|error| wrong(&self.ca_file, error.to_string()))?;
        }
        let lists = match &self.crl_file {
            Some(path) => revoked(path).map_err(|reason| wrong(path, reason))?,
            None => Vec::new(),
        };
        // Where there are lists, one that has expired is none, and who has no list is not believed. Authorities
        // publish lists of the certificates of people, seldom of those between.
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .with_crls(lists)
            .enforce_revocation_expiration()
            .only_check_end_entity_revocation();
        if demand == Demand::Optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().map_err(|error| wrong(&self.ca_file, error.to_string()))
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca_file].into_iter().chain(&self.crl_file)
    }
}

fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let octets = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if octets > MAX_CRL_BYTES {
        return Err(format!("it has {octets} octets; at most {MAX_CRL_BYTES} are read"));
    }
    let lists: Result<Vec<_>, _> =
        CertificateRevocationListDer::pem_file_iter(path).and_then(Iterator::collect);
    match lists {
        Ok(lists) if lists.is_empty() => {
            Err("there is no revocation list in PEM (X509 CRL) in it".to_owned())
        }
        Ok(lists) => Ok(lists),
        Err(error) => Err(format!("these are no revocation lists in PEM: {error}")),
    }
}

impl ApiTls {
    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert, &self.key].into_iter().chain(self.clients.iter().flat_map(ClientAuthorities::files))
    }
}
