//! TLS towards clients: certificates picked by the names inside them, and the handshake.
//!
//! Each certificate has a server config of its own, chosen by our own reading of the hello: by the name, and where a
//! name has one with an ECDSA and one with an RSA key, by what the client takes. Early data is off.

pub mod clients;
pub mod upstream;

use crate::config::certificates::{self, CertificateError, Loaded, Pair};
use crate::config::{self, Alpn, TlsVersion};
use crate::domain::DomainName;
use crate::gate::hello::Hello;
use crate::gate::tickets::{KeyError, Tickets};
use clients::Clients;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig, SupportedProtocolVersion};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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
    /// With its key, for clients that the gate chooses the cipher for.
    config: Arc<ServerConfig>,
    /// The same for clients that choose: those without AES in hardware.
    config_by_client: Arc<ServerConfig>,
    /// Unix seconds after which it is no longer valid.
    pub not_after: i64,
    /// Where it came from.
    pub file: PathBuf,
    has_rsa_key: bool,
    /// For sites that ask for certificates and listeners that agree on other protocols: made when the first client
    /// comes to one.
    variants: Mutex<Vec<Variant>>,
    key: CertifiedKey,
    min_version: TlsVersion,
    tickets: Arc<Tickets>,
}

/// As `Served`, where clients are asked for a certificate, or offered other protocols than elsewhere.
#[derive(Debug)]
struct Variant {
    /// Gone with the rules that it was of.
    clients: Option<Weak<Clients>>,
    alpn: Vec<Alpn>,
    config: Arc<ServerConfig>,
    config_by_client: Arc<ServerConfig>,
}

/// What is served under one name.
#[derive(Debug, Clone, Default)]
struct Choice {
    /// And Ed25519.
    ecdsa: Option<Arc<Served>>,
    rsa: Option<Arc<Served>>,
}

impl Choice {
    /// The first of a kind stays.
    fn add(&mut self, served: &Arc<Served>) {
        let place = if served.has_rsa_key { &mut self.rsa } else { &mut self.ecdsa };
        place.get_or_insert_with(|| Arc::clone(served));
    }

    fn has(&self, served: &Arc<Served>) -> bool {
        [&self.ecdsa, &self.rsa].into_iter().flatten().any(|it| Arc::ptr_eq(it, served))
    }

    /// ECDSA where it will do: it costs us the least.
    fn pick(&self, takes_ecdsa: bool) -> Option<&Arc<Served>> {
        let (first, second) = if takes_ecdsa { (&self.ecdsa, &self.rsa) } else { (&self.rsa, &self.ecdsa) };
        first.as_ref().or(second.as_ref())
    }
}

/// Every certificate held, by name.
#[derive(Debug, Default)]
pub struct CertificateStore {
    exact: HashMap<Box<str>, Choice>,
    one_below: HashMap<Box<str>, Choice>,
    default: Option<Choice>,
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
    /// The file of ticket keys.
    #[error("tls.ticket_keys: {}: {reason}", file.display())]
    TicketKeys {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No key for tickets.
    #[error("tls: {0}")]
    Tickets(#[from] KeyError),
    /// `default_certificate` names none of them.
    #[error(
        "tls.default_certificate: `{0}` is no certificate here; add {0}.crt and {0}.key to tls.directory"
    )]
    NoDefault(String),
}

impl Served {
    /// How the client that said this is served.
    #[must_use]
    pub fn config_for(&self, hello: &Hello) -> &Arc<ServerConfig> {
        if hello.prefers_chacha { &self.config_by_client } else { &self.config }
    }

    /// The same where certificates are asked for, or other protocols agreed on. Sessions of who has shown a certificate
    /// are not resumed: what was good once may have been revoked.
    ///
    /// # Errors
    /// rustls' word.
    pub fn variant(
        &self,
        hello: &Hello,
        clients: Option<&Arc<Clients>>,
        alpn: &[Alpn],
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut variants = self.variants.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |one: &Variant| {
            one.alpn == alpn && one.clients.as_ref().map(Weak::as_ptr) == clients.map(Arc::as_ptr)
        };
        if !variants.iter().any(is_it) {
            variants.retain(|one| one.clients.as_ref().is_none_or(|clients| clients.strong_count() > 0));
            let resuming = clients.map_or(Resuming::By(&self.tickets), |clients| Resuming::Never(clients));
            let mut config = server_config(self.key.clone(), self.min_version, resuming)?;
            config.alpn_protocols = alpn.iter().map(|alpn| alpn.name().to_vec()).collect();
            let config_by_client = Arc::new(config.clone());
            config.ignore_client_order = true;
            let (clients, config) = (clients.map(Arc::downgrade), Arc::new(config));
            variants.push(Variant { clients, alpn: alpn.to_vec(), config, config_by_client });
        }
        let found = variants.iter().find(|one| is_it(one)).ok_or(rustls::Error::NoCertificatesPresented)?;
        Ok(Arc::clone(if hello.prefers_chacha { &found.config_by_client } else { &found.config }))
    }
}

impl CertificateStore {
    /// Loads what the config names. A certificate without its key, or the reverse, is an error.
    ///
    /// # Errors
    /// `StoreError`, naming the file and the remedy.
    pub fn load(tls: &config::Tls, tickets: &Arc<Tickets>) -> Result<Self, StoreError> {
        let (pairs, errors) = certificates::pairs(tls);
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        let (mut store, mut default) = (Self::default(), None);
        for pair in pairs {
            let served = Arc::new(serve(&pair, tls.min_version, tickets)?);
            if tls.default_certificate.as_ref() == Some(&pair.name) {
                default = Some(Arc::clone(&served));
            }
            for name in &served.names.exact {
                store.exact.entry(name.clone()).or_default().add(&served);
            }
            for name in &served.names.one_below {
                store.one_below.entry(name.clone()).or_default().add(&served);
            }
            store.all.push(served);
        }
        if let Some(name) = &tls.default_certificate {
            let served = default.ok_or_else(|| StoreError::NoDefault(name.clone()))?;
            store.default = Some(store.with_twin(&served));
        }
        // Last, so that keys stay as they are where anything else is wrong.
        match &tls.ticket_keys {
            Some(file) => take_keys(file, tickets)?,
            None => tickets.unshare()?,
        }
        Ok(store)
    }

    /// The certificate, and the one of the other kind that is served under its first name.
    fn with_twin(&self, served: &Arc<Served>) -> Choice {
        let first = served.names.exact.first().and_then(|name| self.exact.get(name));
        let found = first.or_else(|| self.one_below.get(served.names.one_below.first()?));
        found.filter(|choice| choice.has(served)).cloned().unwrap_or_else(|| {
            let mut alone = Choice::default();
            alone.add(served);
            alone
        })
    }

    /// The certificate for what a client asked for: the exact name, else the wildcard, else the default (which
    /// only clients that name nothing get).
    #[must_use]
    pub fn find(&self, name: Option<&DomainName>, takes_ecdsa: bool) -> Option<&Arc<Served>> {
        let parent = |name: &DomainName| {
            name.as_str().split_once('.').and_then(|(_, parent)| self.one_below.get(parent))
        };
        let choice = match name {
            Some(name) => self.exact.get(name.as_str()).or_else(|| parent(name)),
            None => self.default.as_ref(),
        };
        choice?.pick(takes_ecdsa)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Arc<Served>] {
        &self.all
    }
}

fn serve(pair: &Pair, min_version: TlsVersion, tickets: &Arc<Tickets>) -> Result<Served, StoreError> {
    let loaded = pair.load(&rustls::crypto::aws_lc_rs::default_provider())?;
    let (names, not_after) = (Arc::new(CertificateNames::of(&loaded)), loaded.not_after);
    let has_rsa_key = loaded.key.key.algorithm() == rustls::SignatureAlgorithm::RSA;
    let key = loaded.key;
    let mut config = server_config(key.clone(), min_version, Resuming::By(tickets))
        .map_err(|source| StoreError::Refused { file: pair.cert.clone(), source })?;
    let config_by_client = Arc::new(config.clone());
    config.ignore_client_order = true;
    let (config, file) = (Arc::new(config), pair.cert.clone());
    let (variants, tickets) = (Mutex::default(), Arc::clone(tickets));
    Ok(Served {
        names,
        config,
        config_by_client,
        not_after,
        file,
        has_rsa_key,
        variants,
        key,
        min_version,
        tickets,
    })
}

fn take_keys(file: &Path, tickets: &Tickets) -> Result<(), StoreError> {
    let wrong = |reason: String| StoreError::TicketKeys { file: file.to_owned(), reason };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    tickets.share(&text).map_err(|error| wrong(error.to_string()))
}

fn has_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

/// Whether sessions are resumed.
#[derive(Clone, Copy)]
enum Resuming<'a> {
    /// By these tickets.
    By(&'a Arc<Tickets>),
    /// Never, for each client shows a certificate.
    Never(&'a Clients),
}

fn server_config(
    key: CertifiedKey,
    min_version: TlsVersion,
    resuming: Resuming<'_>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // AES-128 first: a quarter cheaper for each octet, and a handshake's keys come by SHA-256, which processors know.
    provider.cipher_suites.sort_by_key(|suite| !has_aes_128(suite.suite()));
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions)?;
    let builder = match resuming {
        Resuming::By(_) => builder.with_no_client_auth(),
        Resuming::Never(clients) => builder.with_client_cert_verifier(clients.verifier()),
    };
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = Alpn::BOTH.iter().map(|alpn| alpn.name().to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    if let Resuming::By(tickets) = resuming {
        config.ticketer = Arc::<Tickets>::clone(tickets);
        // One is enough for the client's next connection, and each costs a handshake a sealing.
        config.send_tls13_tickets = 1;
    }
    Ok(config)
}
