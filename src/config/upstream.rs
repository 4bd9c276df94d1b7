//! What a site's traffic goes to: servers, how one is chosen, and when one is left out.

use super::{Breaker, Keep, KeepAlive, Retries};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The most servers of one site.
pub const MAX_SERVERS: usize = 256;

/// One server that traffic is forwarded to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// What it speaks.
    pub scheme: UpstreamScheme,
    /// A name (A-labels) or an address, without brackets; or the whole path of a Unix socket.
    pub host: String,
    /// 0 with a path alone.
    pub port: u16,
}

impl Upstream {
    /// Whether its addresses are to be looked up.
    #[must_use]
    pub fn is_name(&self) -> bool {
        !self.is_local() && self.host.parse::<std::net::IpAddr>().is_err()
    }

    /// What TLS asks for, and checks, where nothing else is said: a socket's path is no name.
    #[must_use]
    pub fn server_name(&self) -> &str {
        if self.is_local() { "localhost" } else { &self.host }
    }

    /// Whether it is a Unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.host.starts_with('/')
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scheme, host) = (self.scheme.as_str(), &self.host);
        if self.is_local() {
            return match self.scheme {
                UpstreamScheme::Http => write!(f, "unix:{host}"),
                _ => write!(f, "{scheme}+unix:{host}"),
            };
        }
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{}", self.port)
        } else {
            write!(f, "{scheme}://{host}:{}", self.port)
        }
    }
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

impl UpstreamScheme {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Tcp => "tcp",
        }
    }
}

/// A server of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Which.
    pub upstream: Upstream,
    /// Its share of the traffic, 1 to 1000, against those of the site's other servers.
    pub weight: u32,
    /// Used only while none of the others can be.
    pub is_backup: bool,
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
    /// The same client (or whatever `hash_on` says) to the same upstream.
    Hash,
}

/// What `balance = "hash"` goes by. Where a request has none of it, by the client's address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HashOn {
    /// The client's address.
    #[default]
    Client,
    /// Path and query.
    Path,
    /// A header's first value; the name in lower case.
    Header(String),
    /// A cookie's value.
    Cookie(String),
}

/// `[site.sticky]`: a cookie of the gate's that brings a client back to the server it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: String,
    /// How long browsers keep it; until they are closed where this is left out.
    pub max_age: Option<Duration>,
}

/// How a site chooses among its servers.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// By what.
    pub balance: Balance,
    /// For `balance = "hash"`.
    pub hash_on: HashOn,
    /// A cookie that goes before it.
    pub sticky: Option<Sticky>,
    /// Where less than this share (0 to 1) of the servers can be used, all are: what is left could not bear it.
    pub panic_below: f64,
    /// `[site.retries]`
    pub retries: Retries,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            balance: Balance::P2c,
            hash_on: HashOn::Client,
            sticky: None,
            panic_below: 0.0,
            retries: Retries::default(),
        }
    }
}

/// How a server is dealt with: two sites with different ways to one server know nothing of each other's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Way {
    /// `[site.health]`
    pub health: Option<Health>,
    /// `[site.ejection]`
    pub ejection: Ejection,
    /// How long a server that comes back takes to get its whole share; zero: none.
    pub slow_start: Duration,
    /// `[site.tls]`
    pub tls: UpstreamTls,
    /// `[site.breaker]`
    pub breaker: Option<Breaker>,
    /// `[site.keep]`
    pub keep: Keep,
    /// What its connections open with.
    pub proxy_header: Option<ProxyHeader>,
    /// Whether the system asks now and then if it is still there.
    pub keep_alive: Option<KeepAlive>,
    /// How long what was sent to it may stay unacknowledged (TCP_USER_TIMEOUT).
    pub user_timeout: Option<Duration>,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyHeader {
    /// One line of text.
    V1,
    /// Octets, with the name that TLS was asked for.
    V2,
}

/// A protocol that is offered in a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/2
    Http2,
    /// HTTP/1.1
    Http1,
}

impl Alpn {
    /// HTTP/2 where the other side knows it.
    pub const BOTH: [Self; 2] = [Self::Http2, Self::Http1];

    /// Its name (RFC 7301).
    #[must_use]
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }
}

/// `[site.tls]`: TLS towards https upstreams.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// The authorities that are believed; else the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that is asked for and that the certificate must hold; else the upstream's own.
    pub server_name: Option<String>,
    /// Whether the certificate is looked at.
    pub verify: bool,
    /// The gate's own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// What is offered, the best first; never empty.
    pub alpn: Vec<Alpn>,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { ca_file: None, server_name: None, verify: true, client: None, alpn: vec![Alpn::Http1] }
    }
}

impl Default for Way {
    fn default() -> Self {
        Self {
            health: None,
            ejection: Ejection::default(),
            slow_start: Duration::ZERO,
            tls: UpstreamTls::default(),
            breaker: None,
            keep: Keep::default(),
            proxy_header: None,
            keep_alive: None,
            user_timeout: None,
        }
    }
}

/// What an active check does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthKind {
    /// A GET whose status counts.
    Http,
    /// A connection (and a TLS handshake, for https).
    Tcp,
}

/// `[site.health]`: active checks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    /// What is done.
    pub kind: HealthKind,
    /// What is asked for.
    pub path: String,
    /// The Host of the check; else the upstream's own.
    pub host: Option<String>,
    /// From the start of one check to the next.
    pub interval: Duration,
    /// For the whole check.
    pub timeout: Duration,
    /// Good checks in a row until a server is used again.
    pub healthy: u32,
    /// Bad checks in a row until it is not.
    pub unhealthy: u32,
    /// Statuses that are good.
    pub statuses: Vec<RangeInclusive<u16>>,
}

/// `[site.ejection]`: what requests themselves tell of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ejection {
    /// Failures in a row (no connection, no whole response head in time) until it is left out; 0: never.
    pub failures: u32,
    /// Answers of 500 and above in a row until it is left out; 0: never.
    pub server_errors: u32,
    /// For how long at first; twice as long each time after.
    pub time: Duration,
    /// The longest.
    pub max_time: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 5,
            server_errors: 0,
            time: Duration::from_secs(10),
            max_time: Duration::from_secs(300),
        }
    }
}
