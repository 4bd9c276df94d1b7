//! TLS towards a registry or the admin API of a gate: whom this process believes, and what it shows.
//!
//! For everybody who calls one. Knows nothing of what is asked.

use crate::config::Trust;
use crate::config::certificates::{self, CertificateError};
use reqwest::ClientBuilder;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError as Unbelieved, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A file of certificates.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What they are together.
    #[error("TLS towards the registry: {0}")]
    Config(#[from] rustls::Error),
}

/// A client that speaks TLS as `trust` says.
///
/// # Errors
/// What is wrong with its files.
pub fn secured(builder: ClientBuilder, trust: &Trust) -> Result<ClientBuilder, LinkError> {
    // The client's own way: the system's authorities, and nothing to show.
    if *trust == Trust::default() {
        return Ok(builder);
    }
    Ok(builder.tls_backend_preconfigured(config(trust)?))
}

fn config(trust: &Trust) -> Result<ClientConfig, LinkError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &trust.exactly {
        Some(file) => {
            let exactly = Exactly { file: file.clone(), provider: Arc::clone(&provider) };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(exactly))
        }
        None => builder.with_root_certificates(roots(trust.ca_file.as_deref())?),
    };
    let mut config = match &trust.shown {
        Some((cert, key)) => {
            let shown = read(cert, key, &provider)?;
            let (cert, key) = (cert.clone(), key.clone());
            builder.with_client_cert_resolver(Arc::new(Own { cert, key, provider, last: Mutex::new(shown) }))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, LinkError> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            for certificate in certificates::read_chain(file)? {
                roots.add(certificate)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

/// The certificate that is shown: read again for each handshake, so that a renewed one needs no restart.
#[derive(Debug)]
struct Own {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    /// Goes on being shown while the files are unreadable, or half replaced.
    last: Mutex<Arc<CertifiedKey>>,
}

fn read(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, CertificateError> {
    let wrong = |reason: String| CertificateError::File { path: key.to_owned(), reason };
    let chain = certificates::read_chain(cert)?;
    let read = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| wrong(format!("this is no private key in PEM: {error}")))?;
    let made = CertifiedKey::from_der(chain, read, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => wrong(format!("this is not the key of {}", cert.display())),
        other => wrong(other.to_string()),
    })?;
    Ok(Arc::new(made))
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(newest) = read(&self.cert, &self.key, &self.provider) {
            *last = newest;
        }
        last.key.choose_scheme(schemes).is_some().then(|| Arc::clone(&last))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes the one certificate that stands first in a file, whatever it says. Signatures are looked at all the same:
/// who answers has its key.
#[derive(Debug)]
struct Exactly {
    file: PathBuf,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = certificates::read_chain(&self.file)
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        if chain.first().is_some_and(|first| first == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Unbelieved::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
