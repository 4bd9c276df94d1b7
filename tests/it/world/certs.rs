//! Certificates for the names of a world, and a TLS client that believes any certificate.

use super::wire::{self, Wire};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption};
use rustls::client::{Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup, SignatureScheme, StreamOwned,
};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Makes one session store for all names: a ticket of one name is tried under the next.
#[derive(Clone)]
pub struct Client {
    tickets: Arc<AnyName>,
}

/// Certificates into `directory`/certs: F's shared one, one of its own, a wildcard.
pub fn make(directory: &Path) -> Client {
    let certs = directory.join("certs");
    std::fs::create_dir_all(&certs).unwrap();
    let shared = ["filed.cn", "*.filed.cn", "also-filed.cn", "unfiled-cert.cn"];
    for (file, names) in [("shared", &shared[..]), ("own", &["own-cert.cn"]), ("units", &["*.town.gov.cn"])] {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(certs.join(format!("{file}.crt")), made.cert.pem()).unwrap();
        std::fs::write(certs.join(format!("{file}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    Client { tickets: Arc::new(AnyName(ClientSessionMemoryCache::new(64))) }
}

impl Client {
    pub fn config(&self, alpn: &[&str]) -> ClientConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believe::default()))
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config.resumption = Resumption::disabled();
        config
    }

    /// As `config`, but resuming whatever session came last, under any name.
    pub fn resuming(&self, alpn: &[&str]) -> ClientConfig {
        let mut config = self.config(alpn);
        config.resumption = Resumption::store(Arc::clone(&self.tickets) as Arc<dyn ClientSessionStore>);
        config
    }

    /// A connection whose handshake is done; what the system says where there is none.
    pub fn connect(&self, address: SocketAddr, sni: Option<&str>, alpn: &[&str]) -> Result<Wire, String> {
        connect(self.config(alpn), address, sni)
    }
}

pub fn connect(config: ClientConfig, address: SocketAddr, sni: Option<&str>) -> Result<Wire, String> {
    let mut stream = wire::tcp(address);
    let connection = handshake(config, &mut stream, sni)?;
    Ok(Wire::over(Box::new(StreamOwned::new(connection, stream))))
}

pub fn client(mut config: ClientConfig, sni: Option<&str>) -> ClientConnection {
    config.enable_sni = sni.is_some();
    let name = ServerName::try_from(sni.unwrap_or("filed.cn").to_owned()).unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

pub fn handshake<S: Read + Write>(
    config: ClientConfig,
    stream: &mut S,
    sni: Option<&str>,
) -> Result<ClientConnection, String> {
    let mut connection = client(config, sni);
    while connection.is_handshaking() {
        connection.complete_io(stream).map_err(|e| e.to_string())?;
    }
    Ok(connection)
}

/// Believes any certificate, and says what it was shown.
#[derive(Debug)]
pub struct Believe {
    /// Signatures that it takes.
    pub schemes: Vec<SignatureScheme>,
    /// The OCSP response of the last handshake.
    pub staple: Mutex<Vec<u8>>,
}

impl Default for Believe {
    fn default() -> Self {
        let schemes = aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes();
        Self { schemes, staple: Mutex::default() }
    }
}

impl ServerCertVerifier for Believe {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.staple.lock().unwrap() = staple.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[derive(Debug)]
struct AnyName(ClientSessionMemoryCache);

fn any() -> ServerName<'static> {
    ServerName::try_from("any.cn").unwrap()
}

impl ClientSessionStore for AnyName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(any(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&any())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(any(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&any())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&any());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(any(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&any())
    }
}
