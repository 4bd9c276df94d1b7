//! The names of upstreams: looked up when rules are made, and again when what was said is too old.
//!
//! A name that has been found once never loses all its addresses: where nobody answers, or the answer is that there
//! are none, the last good ones hold. Knows nothing of sites; what a change means to them is `names::refresh`'s.

mod refresh;

pub use refresh::run;

use crate::config::{Dns, DnsFamily};
use futures_util::StreamExt as _;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses of one name that are used; of more, the first in their order.
pub const MAX_ADDRESSES: usize = 64;
/// Names that are looked up at once.
const MAX_LOOK_UPS: usize = 32;
/// How often a name server is asked before it counts as silent.
const ATTEMPTS: usize = 2;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In their order, each once; never none.
    pub addresses: Arc<[IpAddr]>,
    /// For how long that holds, within the bounds of `[dns]`.
    pub valid_for: Duration,
    /// Why some of them, or all, are those of an older answer.
    pub failure: Option<Unresolved>,
}

/// Why a name can't be looked up; for people.
pub type Unresolved = String;

/// The last good answers, over all reloads.
#[derive(Debug, Default)]
pub struct Addresses {
    last: Mutex<HashMap<String, Arc<[IpAddr]>>>,
    /// Names looked up.
    pub lookups: AtomicU64,
    /// Without a good answer.
    pub failures: AtomicU64,
    /// With another answer than before.
    pub changes: AtomicU64,
}

impl Addresses {
    /// The last good answer.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// A good answer. Says whether it differs from the last.
    pub fn found(&self, name: &str, addresses: &Arc<[IpAddr]>) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(name.to_owned(), Arc::clone(addresses)).is_none_or(|before| before != *addresses)
    }

    /// Forgets all but these.
    pub fn keep(&self, names: &BTreeSet<String>) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name));
    }
}

/// Asks name servers.
#[derive(Clone)]
pub struct Resolver {
    asked: TokioResolver,
    dns: Dns,
}

impl Resolver {
    /// One that asks as `[dns]` says; to be made and used within a runtime.
    ///
    /// # Errors
    /// The machine's own name servers aren't known.
    pub fn new(dns: &Dns) -> Result<Self, Unresolved> {
        let (config, mut options) = if dns.servers.is_empty() {
            let read = system_conf::read_system_conf();
            read.map_err(|error| format!("/etc/resolv.conf: {error}; name servers in [dns] do without it"))?
        } else {
            let servers = dns.servers.iter().map(|server| name_server(*server)).collect();
            let mut options = ResolverOpts::default();
            options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
            (ResolverConfig::from_name_servers(servers), options)
        };
        options.timeout = dns.timeout;
        options.attempts = ATTEMPTS;
        // What is asked for is wanted fresh.
        options.cache_size = 0;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let asked = builder.with_options(options).build().map_err(|error| error.to_string())?;
        Ok(Self { asked, dns: dns.clone() })
    }

    /// All addresses of a name. A family of addresses that nobody tells of stays as it was in `last`.
    ///
    /// # Errors
    /// There is none, or nobody tells.
    pub async fn look_up(&self, name: &str, last: &[IpAddr]) -> Result<Found, Unresolved> {
        let family = self.dns.family;
        let (v4, v6) = futures_util::future::join(
            self.of_family(name, RecordType::A, family != DnsFamily::Ipv6),
            self.of_family(name, RecordType::AAAA, family != DnsFamily::Ipv4),
        )
        .await;
        let (mut addresses, mut valid_for, mut failure) = (BTreeSet::new(), self.dns.max_ttl, None);
        for (answer, is_v4) in [(v4, true), (v6, false)] {
            match answer {
                Ok(None) => {}
                Ok(Some((found, ttl))) => {
                    addresses.extend(found);
                    valid_for = valid_for.min(ttl);
                }
                Err(error) => {
                    addresses.extend(last.iter().filter(|ip| ip.is_ipv4() == is_v4));
                    valid_for = self.dns.min_ttl;
                    failure = Some(error);
                }
            }
        }
        let failure = failure.map(|error| error.to_string());
        if addresses.is_empty() {
            return Err(failure.unwrap_or_else(|| "it has no address".to_owned()));
        }
        let addresses = addresses.into_iter().take(MAX_ADDRESSES).collect();
        Ok(Found { addresses, valid_for: valid_for.max(self.dns.min_ttl), failure })
    }

    /// The addresses of one family and their TTL; `None` where there is none.
    async fn of_family(
        &self,
        name: &str,
        kind: RecordType,
        is_wanted: bool,
    ) -> Result<Option<(Vec<IpAddr>, Duration)>, NetError> {
        if !is_wanted {
            return Ok(None);
        }
        match self.asked.lookup(name, kind).await {
            Ok(lookup) => {
                let address = |data: &RData| match data {
                    RData::A(v4) => Some(IpAddr::V4(v4.0)),
                    RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
                    _ => None,
                };
                let found: Vec<_> =
                    lookup.answers().iter().filter_map(|record| address(&record.data)).collect();
                let ttl = lookup.valid_until().saturating_duration_since(Instant::now());
                Ok((!found.is_empty()).then_some((found, ttl)))
            }
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Looks these names up, many at once, and waits for all: for starts, reloads and `config check`.
#[must_use]
pub fn look_up_all(
    dns: &Dns,
    names: &BTreeSet<String>,
    last: &Addresses,
) -> HashMap<String, Result<Found, Unresolved>> {
    if names.is_empty() {
        return HashMap::new();
    }
    let all = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let resolver = &Resolver::new(dns)?;
            let look_up = |name: &String| {
                let name = name.clone();
                async move {
                    let found = resolver.look_up(&name, &last.last(&name).unwrap_or_default()).await;
                    (name, found)
                }
            };
            let found = futures_util::stream::iter(names.iter().map(look_up).collect::<Vec<_>>());
            Ok(found.buffer_unordered(MAX_LOOK_UPS).collect().await)
        })
    };
    // On a thread of its own: whoever asks may be within a runtime.
    let found = std::thread::scope(|scope| scope.spawn(all).join());
    let found: Result<_, Unresolved> = found.unwrap_or_else(|_| Err("the look-up broke off".to_owned()));
    found.unwrap_or_else(|why| names.iter().map(|name| (name.clone(), Err(why.clone()))).collect())
}
