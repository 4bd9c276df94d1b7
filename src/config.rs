//! TOML → parsed types; the only reader of config files and of the tokens that they name.
//!
//! What the rest of the product sees is parsed: names are names, durations are durations, and whatever
//! could not be right was refused here with file, line, column, key and remedy.

mod api;
mod block_page;
mod burden;
pub mod certificates;
pub mod check;
mod compression;
mod dns;
mod door;
mod enforcement;
mod error;
mod filing_rules;
mod footer;
mod limits;
mod listener;
mod load;
mod log;
mod parse;
mod raw;
mod registry;
mod secrets;
mod shown;
mod site;
mod treatment;
mod trust_files;
mod upstream;
mod value;
mod webhooks;
mod words;

pub use api::{Admin, ApiTls, CertificateId, ClientAuthorities, ClientCertificates, ClientRole, Demand};
pub use block_page::BlockPage;
pub use burden::{Breaker, Keep, Retries};
pub use compression::{
    Algorithm, Compression, CompressionKeys, DEFAULT_MIN_LENGTH, DEFAULT_STREAMS, DEFAULT_TYPES, Levels,
};
pub use dns::{Dns, DnsFamily};
pub use door::{InClear, Networks, ToHttps};
pub use enforcement::{Enforcement, Mode, TlsBlocked, WhenNeverSynced, WhenStale};
pub(crate) use error::text_width;
pub use error::{ConfigError, Problem};
pub use filing_rules::{
    DomainLimits, Due, FilingLimits, FilingRules, ProvinceLimits, SiteNames, WorkingDays,
};
pub use footer::{Footer, FooterMode, FooterRule, FooterRules, ShownNumber};
pub use limits::{ClientWidth, Limits, Overload, Rate};
pub use listener::{KeepAlive, Listener, LocalSocket, NO_ADDRESS, Protocol, ProxyProtocol, SocketOptions};
pub use load::{ConfigSource, DEFAULT_PATH, token_of_environment};
pub use log::{AccessLog, Log, Syslog};
pub use registry::{Database, EmbeddedRegistry, PostgresUrl, Registry, Role, Token, Trust};
pub use shown::{HIDDEN, Origin};
pub use site::{HostRule, PathRoute, Site, SiteLimits, SiteTarget, SiteTimeouts};
pub use treatment::{ErrorPage, FieldRules, Redirect, RedirectPath, Treatment};
pub use trust_files::{TrustEnd, TrustKind};
pub use upstream::{
    Alpn, Balance, Choice, Ejection, HashOn, Health, HealthKind, MAX_SERVERS, ProxyHeader, Server, Sticky,
    Upstream, UpstreamScheme, UpstreamTls, Way,
};
pub use webhooks::{WarningKind, Webhook, WebhookSecret, Webhooks};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// The whole config, parsed.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our id as an access provider; empty where a registry alone is configured.
    pub provider: String,
    /// Worker threads; 0 is one per core.
    pub workers: usize,
    /// Where clients connect; `run` needs one.
    pub listeners: Vec<Listener>,
    /// Certificates.
    pub tls: Tls,
    /// In the order of the file; a host is named once.
    pub sites: Vec<Arc<Site>>,
    /// Where allowed hosts go that no site names.
    pub default_site: Option<SiteTarget>,
    /// Who is asked for the addresses of upstreams.
    pub dns: Dns,
    /// Where filings come from.
    pub registry: Option<Registry>,
    /// What this gate is called towards the registry; its host's name where the config does not say.
    pub gate: Option<String>,
    /// The last good filings.
    pub cache: Cache,
    /// What is asked of names, and what befalls those that lack it.
    pub enforcement: Enforcement,
    /// Bounds on everything that a client can use up.
    pub limits: Limits,
    /// Logs.
    pub log: Log,
    /// Where logs go as well; nowhere where the section is left out.
    pub syslog: Option<Syslog>,
    /// Where spans go; nowhere where the section is left out.
    pub otlp: Option<crate::telemetry::OtlpOptions>,
    /// What is recorded of verdicts; none where the section is left out.
    pub audit: Option<Audit>,
    /// The public look-up page; none where the section is left out.
    pub lookup: Option<Lookup>,
    /// Who is warned, of what.
    pub webhooks: Webhooks,
    /// Metrics, health, API, console; none where the section is left out.
    pub admin: Option<Admin>,
    /// What visitors read.
    pub block_page: BlockPage,
    /// What the gate's own answers say, where it is not its own words.
    pub error_pages: Vec<ErrorPage>,
    /// Which answers are compressed, where a site does not say.
    pub compression: Option<CompressionKeys>,
    /// What the provinces want at the foot of a page.
    pub footer_rules: FooterRules,
    /// Certificates and a demo upstream for trying things out, on loopback.
    pub development: Option<Development>,
    /// Whether requests that name no trace get one.
    pub trace: bool,
    /// Whether the file is read again when it changes, and not at SIGHUP alone.
    pub reload_on_change: bool,
    /// What was read.
    pub text: Arc<str>,
    /// SHA-256 of it, in hexadecimal.
    pub digest: String,
    /// Where this config was read.
    pub source: ConfigSource,
}

/// `[tls]`
#[derive(Debug, Clone)]
pub struct Tls {
    /// `NAME.crt`/`NAME.key` pairs.
    pub directory: PathBuf,
    /// Certificate file, key file.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// The oldest version that clients may speak.
    pub min_version: TlsVersion,
    /// NAME of the pair for clients without SNI; without it they are refused.
    pub default_certificate: Option<String>,
    /// What session tickets are sealed with, for gates that share clients; else keys of this gate's own.
    pub ticket_keys: Option<PathBuf>,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2
    V1_2,
    /// TLS 1.3
    V1_3,
}

/// `[cache]`
#[derive(Debug, Clone)]
pub struct Cache {
    /// Holds the saved state.
    pub directory: PathBuf,
    /// The share (0 to 1) of filings that one change set may newly block before it waits for an operator.
    pub hold_flips_above: f64,
}

/// `[audit]`
#[derive(Debug, Clone)]
pub struct Audit {
    /// Where it is written; full files stand beside it.
    pub file: PathBuf,
    /// When a file is full, and how many full ones are kept.
    pub rotation: crate::telemetry::Rotation,
    /// Hosts whose verdicts are watched, at most.
    pub hosts: usize,
}

/// `[lookup]`
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Where it listens, for everybody.
    pub address: SocketAddr,
    /// Look-ups of one client in the long run.
    pub per_minute: u32,
    /// At once, after a pause.
    pub burst: u32,
    /// Whose `X-Forwarded-For` says who asks.
    pub trusted_peers: Vec<ipnet::IpNet>,
}

/// `[development]`: refused beside a listener that other machines reach.
#[derive(Debug, Clone, Default)]
pub struct Development {
    /// Names (`example.com`, `*.example.com`, A-labels) that the development certificate is made for, in `tls.directory`.
    pub certificates: Vec<String>,
    /// Where this process runs a demo upstream.
    pub upstream: Option<SocketAddr>,
}

#[cfg(test)]
mod tests;
