//! TLS towards clients: certificates picked by the names inside them, and the handshake.
//!
//! Each certificate has a server config of its own, chosen by our own reading of the hello; tickets are
//! sealed by one process-wide ticketer that survives reloads. Early data is off.

use crate::config::certificates::{self, CertificateError, Loaded, Pair};
use crate::config::{self, TlsVersion};
use crate::domain::DomainName;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The names in a certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    exact: Vec<Box<str>>,
    /// `*.name`: exactly one label below (RFC 9525, 6.3).
    one_below: Vec<Box<str>>,
}

impl CertificateNames {
    fn of(loaded: &Loaded) -> Self {
        let mut names = Self::default();
        for name in &loaded.names {
            let (list, name) = match name.strip_prefix("*.") {
                Some(parent) => (&mut names.one_below, parent),
                None => (&mut names.exact, name.as_str()),
            };
            if let Ok(name) = DomainName::from_wire(name.as_bytes()) {
                list.push(name.as_str().into());
            }
        }
        names
    }

    /// Whether the certificate is good for `name`.
    #[must_use]
    pub fn cover(&self, name: &DomainName) -> bool {
        let name = name.as_str();
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.exact.iter().any(|it| **it == *name)
            || parent.is_some_and(|parent| self.one_below.iter().any(|it| **it == *parent))
    }
}

/// A certificate and how it is served.
#[derive(Debug)]
pub struct Served {
    /// Its names.
    pub names: Arc<CertificateNames>,
    /// With its key.
    pub config: Arc<ServerConfig>,
    /// Unix seconds after which it is no longer valid.
    pub not_after: i64,
    /// Where it came from.
    pub file: PathBuf,
}

/// Every certificate held, by name.
#[derive(Debug, Default)]
pub struct CertificateStore {
    exact: HashMap<Box<str>, Arc<Served>>,
    one_below: HashMap<Box<str>, Arc<Served>>,
    default: Option<Arc<Served>>,
    all: Vec<Arc<Served>>,
}

/// Why certificates can't be served.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// One can't be read, or is not what it should be.
    #[error("tls: {0}")]
    Certificate(#[from] CertificateError),
    /// rustls refuses one.
    #[error("tls: {}: {source}", file.display())]
    Refused {
        /// The certificate's file.
        file: PathBuf,
        /// rustls' word.
        source: rustls::Error,
    },
    /// `default_certificate` names none of them.
    #[error(
        "tls.default_certificate: `{0}` is no certificate here; add {0}.crt and {0}.key to tls.directory"
    )]
    NoDefault(String),
}

impl CertificateStore {
    /// Loads what the config names. A certificate without its key, or the reverse, is an error.
    ///
    /// # Errors
    /// `StoreError`, naming the file and the remedy.
    pub fn load(tls: &config::Tls, ticketer: &Arc<dyn ProducesTickets>) -> Result<Self, StoreError> {
        let (pairs, errors) = certificates::pairs(tls);
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        let mut store = Self::default();
        for pair in pairs {
            let served = Arc::new(serve(&pair, tls.min_version, ticketer)?);
            if tls.default_certificate.as_ref() == Some(&pair.name) {
                store.default = Some(Arc::clone(&served));
            }
            for name in &served.names.exact {
                store.exact.entry(name.clone()).or_insert_with(|| Arc::clone(&served));
            }
            for name in &served.names.one_below {
                store.one_below.entry(name.clone()).or_insert_with(|| Arc::clone(&served));
            }
            store.all.push(served);
        }
        match &tls.default_certificate {
            Some(name) if store.default.is_none() => Err(StoreError::NoDefault(name.clone())),
            _ => Ok(store),
        }
    }

    /// The certificate for what a client asked for: the exact name, else the wildcard, else the default (which
    /// only clients that name nothing get).
    #[must_use]
    pub fn find(&self, name: Option<&DomainName>) -> Option<&Arc<Served>> {
        let Some(name) = name else { return self.default.as_ref() };
        let parent = || name.as_str().split_once('.').and_then(|(_, parent)| self.one_below.get(parent));
        self.exact.get(name.as_str()).or_else(parent)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Arc<Served>] {
        &self.all
    }
}

fn serve(
    pair: &Pair,
    min_version: TlsVersion,
    ticketer: &Arc<dyn ProducesTickets>,
) -> Result<Served, StoreError> {
    let loaded = pair.load(&rustls::crypto::aws_lc_rs::default_provider())?;
    let (names, not_after) = (Arc::new(CertificateNames::of(&loaded)), loaded.not_after);
    let config = server_config(loaded.key, min_version, ticketer)
        .map_err(|source| StoreError::Refused { file: pair.cert.clone(), source })?;
    Ok(Served { names, config: Arc::new(config), not_after, file: pair.cert.clone() })
}

fn server_config(
    key: CertifiedKey,
    min_version: TlsVersion,
    ticketer: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::clone(ticketer);
    config.max_early_data_size = 0;
    // One is enough for the client's next connection, and each costs a handshake a sealing.
    config.send_tls13_tickets = 1;
    Ok(config)
}
