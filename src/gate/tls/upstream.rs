//! TLS towards upstreams: whom to believe, whom to ask for, and who the gate says it is.

use crate::config::certificates::{self, CertificateError};
use crate::config::{Alpn, UpstreamTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Why TLS towards an upstream can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    /// A file of certificates.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A key.
    #[error("{}: this is no private key in PEM: {source}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// What they are together.
    #[error("site.tls: {0}")]
    Config(#[from] rustls::Error),
    /// An upstream whose host TLS has no name for.
    #[error("upstream `{0}`: TLS can't ask for that name; set server_name in [site.tls]")]
    Name(String),
}

/// The configs made so far, by what they were made of: sites share them, and with them their sessions.
#[derive(Debug, Default)]
pub struct UpstreamTlsConfigs {
    made: Mutex<HashMap<UpstreamTls, Arc<ClientConfig>>>,
    system: OnceLock<Arc<RootCertStore>>,
}

impl UpstreamTlsConfigs {
    /// How TLS is spoken with `host`, and the name that its certificate must hold.
    ///
    /// # Errors
    /// What is wrong with the files or the name.
    pub fn link(
        &self,
        host: &str,
        how: &UpstreamTls,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), UpstreamTlsError> {
        let name = how.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|_| UpstreamTlsError::Name(host.to_owned()))?;
        // The name is not part of the config: connections by one config may have different ones.
        let key = UpstreamTls { server_name: None, ..how.clone() };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(&key) {
            return Ok((Arc::clone(config), name));
        }
        let config = Arc::new(self.config(how)?);
        made.insert(key, Arc::clone(&config));
        Ok((config, name))
    }

    /// Lets the files be read again.
    pub fn forget(&self) {
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|how, _| *how == UpstreamTls::default());
    }

    fn config(&self, how: &UpstreamTls) -> Result<ClientConfig, UpstreamTlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = if how.verify {
            builder.with_root_certificates(self.roots(how)?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        };
        let mut config = match &how.client {
            Some((certificate, key)) => {
                let chain = certificates::read_chain(certificate)?;
                let read = PrivateKeyDer::from_pem_file(key);
                let key = read.map_err(|source| UpstreamTlsError::Key { file: key.clone(), source })?;
                builder.with_client_auth_cert(chain, key)?
            }
            None => builder.with_no_client_auth(),
        };
        // Alone, HTTP/1.1 needs no word: some servers know none.
        if how.alpn.contains(&Alpn::Http2) {
            config.alpn_protocols = how.alpn.iter().map(|alpn| alpn.name().to_vec()).collect();
        }
        Ok(config)
    }

    fn roots(&self, how: &UpstreamTls) -> Result<Arc<RootCertStore>, UpstreamTlsError> {
        let Some(file) = &how.ca_file else {
            let system = self.system.get_or_init(|| {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Arc::new(roots)
            });
            return Ok(Arc::clone(system));
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates::read_chain(file)? {
            roots.add(certificate)?;
        }
        Ok(Arc::new(roots))
    }
}

/// Believes whoever answers: `verify = false`. Signatures are looked at all the same, so that the handshake is sound.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
