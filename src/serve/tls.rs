//! TLS of the admin API and the registry: one certificate, and whose certificates callers may show.
//!
//! Its files are looked at for every connection, and read again where they are others: a renewed certificate needs no
//! reload. While the new ones are no good, the old ones serve.

use crate::config::certificates::{CertificateError, Pair};
use crate::config::{ApiTls, Demand};
use crate::hexadecimal::hexadecimal;
use crate::subject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, ServerConnection, SignatureScheme,
    client::danger::HandshakeSignatureValid,
};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What they are together.
    #[error(transparent)]
    Config(#[from] rustls::Error),
}

/// How TLS is spoken with callers.
#[derive(Debug)]
pub struct Tls {
    files: ApiTls,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    stamps: Vec<Stamp>,
    config: Arc<ServerConfig>,
    own: CertificateDer<'static>,
}

/// Whose certificate a caller has shown.
#[derive(Debug, Clone)]
pub struct CallerCertificate {
    /// SHA-256 of the whole, in hexadecimal.
    pub sha256: String,
    /// Whom it is for, as RFC 4514 writes it.
    pub subject: String,
    /// It is the API's own: a command on this machine.
    pub is_own: bool,
}

/// What a file is, wherever symlinks lead: inode, size, time.
type Stamp = Option<(u64, u64, i64, i64)>;

fn stamps(files: &ApiTls) -> Vec<Stamp> {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
    };
    files.files().map(|path| stamp(path)).collect()
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn load(files: &ApiTls) -> Result<Self, TlsError> {
        let stamps = stamps(files);
        let (config, own) = server_config(files)?;
        Ok(Self { files: files.clone(), held: Mutex::new(Held { stamps, config, own }) })
    }

    /// Whether callers must show a certificate.
    #[must_use]
    pub fn asks_for_certificates(&self) -> bool {
        self.files.clients.is_some()
    }

    /// Whose certificate was shown; `None`: nobody's that can be named.
    pub(super) fn caller(&self, connection: &ServerConnection) -> Option<CallerCertificate> {
        let certificate = connection.peer_certificates()?.first()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        Some(CallerCertificate {
            sha256: hexadecimal(digest.as_ref()),
            subject: subject::text(parsed.subject()),
            is_own: held.own == *certificate,
        })
    }

    /// As the files are now.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let stamps = stamps(&self.files);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.stamps != stamps {
            match server_config(&self.files) {
                Ok((config, own)) => (held.config, held.own) = (config, own),
                Err(error) => tracing::error!("the old certificate stays in force: {error}"),
            }
            held.stamps = stamps;
        }
        Arc::clone(&held.config)
    }
}

/// With the API's own certificate.
fn server_config(files: &ApiTls) -> Result<(Arc<ServerConfig>, CertificateDer<'static>), TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pair = Pair { name: String::new(), cert: files.cert.clone(), key: files.key.clone() };
    let key = pair.load(&provider)?.key;
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let own = key.cert.first().cloned().ok_or(rustls::Error::NoCertificatesPresented)?;
    let builder = match &files.clients {
        Some(clients) => {
            let others = clients.verifier(Demand::Required, &provider)?;
            builder.with_client_cert_verifier(Arc::new(OrOwn { own: own.clone(), others }))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), own))
}

/// Besides the callers that an authority stands for, lets in who has our own certificate's key: commands on this
/// machine, and the gate whose registry this is.
#[derive(Debug)]
struct OrOwn {
    own: CertificateDer<'static>,
    others: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for OrOwn {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.others.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.own == *end_entity {
            return Ok(ClientCertVerified::assertion());
        }
        self.others.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.others.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.others.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.others.supported_verify_schemes()
    }
}
