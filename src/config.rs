//! TOML → parsed types; the only reader of config files and of the tokens that they name.
//!
//! What the rest of the product sees is parsed: names are names, durations are durations, and whatever
//! could not be right was refused here with file, line, column, key and remedy.

pub mod certificates;
pub mod check;
mod error;
mod load;
mod parse;
mod raw;
mod value;
mod words;

pub(crate) use error::text_width;
pub use error::{ConfigError, Problem};
pub use load::{ConfigSource, DEFAULT_PATH};

use crate::domain::DomainName;
use crate::verdict::{PolicyParts, Region, Scenario};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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
    pub sites: Vec<Site>,
    /// Where allowed hosts go that no site names.
    pub default_site: Option<SiteTarget>,
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
    /// Metrics, health, API, console; none where the section is left out.
    pub admin: Option<Admin>,
    /// What visitors read.
    pub block_page: BlockPage,
    /// Certificates and a demo upstream for trying things out, on loopback.
    pub development: Option<Development>,
    /// Where this config was read.
    pub source: ConfigSource,
}

/// `[[listener]]`
#[derive(Debug, Clone)]
pub struct Listener {
    /// Port 0 is any free port.
    pub address: SocketAddr,
    /// What is spoken here.
    pub protocol: Protocol,
    /// For hosts without a site of their own.
    pub scenario: Scenario,
    /// For hosts without a site of their own.
    pub region: Region,
    /// Whether connections open with a PROXY header; only from `trusted_peers`.
    pub proxy_protocol: ProxyProtocol,
    /// Whose PROXY headers and `X-Forwarded-*` are believed.
    pub trusted_peers: Vec<ipnet::IpNet>,
    /// Answered by the gate itself, without a verdict; starts with a slash.
    pub health_path: Option<String>,
    /// `tls_passthrough` only.
    pub upstreams: Vec<Upstream>,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Cleartext HTTP.
    Http,
    /// HTTP over TLS, with our certificates.
    Https,
    /// TLS forwarded unopened, by the name in its hello.
    TlsPassthrough,
}

/// Whether connections open with a PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// No header is read.
    Off,
    /// A header is read where there is one.
    Optional,
    /// Connections without one are closed.
    Required,
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
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2
    V1_2,
    /// TLS 1.3
    V1_3,
}

/// `[[site]]`
#[derive(Debug, Clone)]
pub struct Site {
    /// Never empty.
    pub hosts: Vec<HostRule>,
    /// Else the listener's.
    pub scenario: Option<Scenario>,
    /// Else the listener's.
    pub region: Option<Region>,
    /// Where it goes.
    pub target: SiteTarget,
}

/// A host that a site names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostRule {
    /// This name.
    Exact(DomainName),
    /// `*.name`: names below it.
    Below(DomainName),
    /// This address.
    Ip(IpAddr),
}

impl std::fmt::Display for HostRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Where a site's traffic goes.
#[derive(Debug, Clone)]
pub struct SiteTarget {
    /// Never empty; all tcp or none.
    pub upstreams: Vec<Upstream>,
    /// How one is chosen.
    pub balance: Balance,
    /// The site's own servers are here: access here is required whatever the scenario.
    pub origin_here: bool,
    /// This site only; else that of `[enforcement]`.
    pub mode: Option<Mode>,
    /// Towards its upstreams.
    pub timeouts: SiteTimeouts,
}

/// One server that traffic is forwarded to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// What it speaks.
    pub scheme: UpstreamScheme,
    /// A name (A-labels) or an address, without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamScheme {
    /// Cleartext HTTP/1.1
    Http,
    /// HTTP over TLS.
    Https,
    /// Cleartext HTTP/2
    H2c,
    /// Octets, for passthrough.
    Tcp,
}

/// How an upstream is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The less busy of two chosen at random.
    P2c,
    /// One after the other.
    RoundRobin,
    /// The least busy.
    LeastConnections,
    /// The same client to the same upstream.
    Hash,
}

/// `[site.timeouts]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteTimeouts {
    /// Until connected; default 5s.
    pub connect: Duration,
    /// Until the response head; default 60s.
    pub response: Duration,
    /// Between octets; default 60s.
    pub idle: Duration,
}

/// `[registry]`
#[derive(Debug, Clone)]
pub enum Registry {
    /// Runs elsewhere and is followed.
    Remote {
        /// `http` or `https`, without a slash at its end.
        url: String,
        /// Bearer token.
        token: Option<String>,
        /// PEM file with the authorities to trust instead of the system's.
        ca_file: Option<PathBuf>,
    },
    /// Runs in this process.
    Embedded(EmbeddedRegistry),
}

/// `[registry.embedded]`
#[derive(Debug, Clone)]
pub struct EmbeddedRegistry {
    /// Port 0 is any free port.
    pub address: SocketAddr,
    /// Where it keeps filings.
    pub database: Database,
    /// Loaded when the database is empty.
    pub sample: Option<PathBuf>,
    /// The text of `sample`, where the config came out of the binary.
    pub sample_text: Option<&'static str>,
    /// Needed off loopback.
    pub token: Option<String>,
}

/// Where a registry keeps filings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// This file.
    Sqlite(PathBuf),
}

/// `[cache]`
#[derive(Debug, Clone)]
pub struct Cache {
    /// Holds the saved state.
    pub directory: PathBuf,
    /// The share (0 to 1) of filings that one change set may newly block before it waits for an operator.
    pub hold_flips_above: f64,
}

/// `[enforcement]`
#[derive(Debug, Clone)]
pub struct Enforcement {
    /// Enforce, or count and log only.
    pub mode: Mode,
    /// 451 or 403.
    pub status: u16,
    /// The URI of `link: <…>; rel="blocked-by"`.
    pub blocked_by: String,
    /// Filings older than this are stale.
    pub stale_after: Duration,
    /// What then.
    pub when_stale: WhenStale,
    /// What until the first filings arrive.
    pub when_never_synced: WhenNeverSynced,
    /// What TLS clients of blocked names get.
    pub tls_blocked: TlsBlocked,
    /// Scenario overrides, lists, IP filings.
    pub policy: PolicyParts,
    /// `/.well-known/acme-challenge/` of blocked names goes to the upstream, logged.
    pub acme_passthrough: bool,
}

/// Whether verdicts are enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Blocked names are blocked.
    Enforce,
    /// Everything is forwarded; what would have been blocked is counted and logged.
    Monitor,
}

/// What stale filings mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenStale {
    /// Keep the last verdicts.
    Serve,
    /// Answer 503.
    Block,
}

/// What no filings mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenNeverSynced {
    /// Answer 503.
    Block,
    /// Forward, counted and logged as `unverified`.
    Forward,
}

/// What TLS clients of blocked names get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsBlocked {
    /// The block page where a certificate matches, else the alert.
    Page,
    /// The fatal alert `unrecognized_name`.
    Alert,
    /// A TCP reset.
    Reset,
}

/// `[limits]`
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of all clients.
    pub connections: usize,
    /// Of one client address.
    pub connections_per_client: usize,
    /// Octets of a request head.
    pub header_bytes: usize,
    /// Fields of a request head.
    pub headers: usize,
    /// Until a request head is complete.
    pub header_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// How long requests in flight may take to finish when draining; may be zero.
    pub drain_timeout: Duration,
    /// The longest pause between octets of a request body; default 30s.
    pub body_timeout: Duration,
    /// Octets a second that a client must send of its body or take of its answer while it is waited for, over
    /// `body_timeout`; 0: any.
    pub min_rate: usize,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// Where it goes; JSON lines.
    pub access: AccessLog,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// None is written.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct Admin {
    /// Port 0 is any free port.
    pub address: SocketAddr,
    /// Bearer token; there is one wherever `address` is off loopback.
    pub token: Option<String>,
}

/// `[block_page]`
#[derive(Debug, Clone, Default)]
pub struct BlockPage {
    /// Operator's own templates.
    pub directory: Option<PathBuf>,
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
