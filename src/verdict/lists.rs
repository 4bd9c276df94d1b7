//! The operator's own lists: exceptions, block list, addresses with a number.
//!
//! Indexed once, so that 100,000 entries cost a request a few hash look-ups. Knows hosts and days;
//! refuses to know what a match means.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use jiff::civil::Date;

use crate::domain::{DomainName, HostForm, NameError};
use crate::filing::FilingNumber;

/// A host pattern of the operator's lists: exact name, `*.name` (names below it), address or CIDR.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "names are held inline; patterns are built at start only")]
pub enum HostPattern {
    /// This name and no other.
    Exact(DomainName),
    /// Names below this one, at any depth; not itself.
    Below(DomainName),
    /// An address, or all of a network.
    Net(IpNet),
}

/// Why text is no host pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Neither a name nor an address.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `*.com`, `*.gov.cn`.
    #[error("`*.` must be followed by a registrable domain or a name below one, not by a public suffix")]
    PublicSuffix,
    /// Has a slash, but is no network.
    #[error("a network looks like 10.0.0.0/8 or 2001:db8::/32")]
    Network,
}

impl HostPattern {
    /// Parses `host`, `*.host`, an address in any form, or a CIDR; a port would be a mistake.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.contains('/') {
            let net = text.parse().map_err(|_| PatternError::Network)?;
            return Ok(Self::Net(canonical_net(net)));
        }
        if let Some(parent) = text.strip_prefix("*.") {
            let parent = DomainName::from_user(parent)?;
            if parent.is_public_suffix() {
                return Err(PatternError::PublicSuffix);
            }
            return Ok(Self::Below(parent));
        }
        Ok(match HostForm::from_user_portless(text)? {
            HostForm::Name(name) => Self::Exact(name),
            HostForm::Ip(ip) => Self::Net(IpNet::from(ip)),
        })
    }

    /// Whether it is for this host; `Lists` answers the same for many patterns at once.
    pub fn matches(&self, host: &HostForm) -> bool {
        match (self, host) {
            (Self::Exact(name), HostForm::Name(host)) => host == name,
            (Self::Below(parent), HostForm::Name(host)) => host != parent && host.is_within(parent.as_str()),
            (Self::Net(net), HostForm::Ip(ip)) => net.contains(ip),
            _ => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
        }
    }
}

/// Hosts arrive as IPv4 where IPv6 maps it, so networks must be held that way too.
fn canonical_net(net: IpNet) -> IpNet {
    if let (IpAddr::V4(ip), Some(prefix)) = (net.addr().to_canonical(), net.prefix_len().checked_sub(96))
        && let Ok(net) = Ipv4Net::new(ip, prefix)
    {
        return IpNet::V4(net.trunc());
    }
    net.trunc()
}

/// An entry of `exceptions`, `block_list` or `ip_filings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// Whom it is for.
    pub pattern: HostPattern,
    /// The last day (UTC+8) on which it holds; for ever without.
    pub until: Option<Date>,
    /// Why it is there.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// The number that the authority issued (`ip_filings`).
    pub number: Option<FilingNumber>,
}

impl ListEntry {
    /// Whether its last day is over.
    pub fn is_expired(&self, today: Date) -> bool {
        self.until.is_some_and(|until| until < today)
    }
}

/// One list with its indexes. Each maps to places in `entries`, in the order of the config.
#[derive(Debug, Clone, Default)]
pub(super) struct List {
    entries: Vec<ListEntry>,
    exact: HashMap<Box<str>, Vec<usize>>,
    below: HashMap<Box<str>, Vec<usize>>,
    nets: HashMap<IpNet, Vec<usize>>,
    /// The prefix lengths in use, longest first: what an address must be cut to and asked for.
    v4_prefixes: Vec<u8>,
    v6_prefixes: Vec<u8>,
}

impl List {
    pub(super) fn new(entries: Vec<ListEntry>) -> Self {
        fn add<K: Hash + Eq>(index: &mut HashMap<K, Vec<usize>>, key: K, place: usize) {
            index.entry(key).or_default().push(place);
        }
        let mut list = Self::default();
        let mut prefixes = [BTreeSet::new(), BTreeSet::new()];
        for (place, entry) in entries.iter().enumerate() {
            match &entry.pattern {
                HostPattern::Exact(name) => add(&mut list.exact, name.as_str().into(), place),
                HostPattern::Below(name) => add(&mut list.below, name.as_str().into(), place),
                HostPattern::Net(net) => {
                    let net = canonical_net(*net);
                    prefixes[usize::from(net.addr().is_ipv6())].insert(net.prefix_len());
                    add(&mut list.nets, net, place);
                }
            }
        }
        let [v4, v6] = prefixes.map(|lengths| lengths.into_iter().rev().collect());
        list.entries = entries;
        list.v4_prefixes = v4;
        list.v6_prefixes = v6;
        list
    }

    pub(super) fn entries(&self) -> &[ListEntry] {
        &self.entries
    }

    /// The most specific entry in force for a host.
    pub(super) fn find(&self, host: &HostForm, today: Date) -> Option<&ListEntry> {
        match host {
            HostForm::Name(name) => self.find_name(name, today),
            HostForm::Ip(ip) => self.find_ip(*ip, today),
        }
    }

    fn find_name(&self, name: &DomainName, today: Date) -> Option<&ListEntry> {
        if self.exact.is_empty() && self.below.is_empty() {
            return None;
        }
        let exact = self.exact.get(name.as_str());
        if let Some(entry) = self.first_in_force(exact, today) {
            return Some(entry);
        }
        // Most deployments have no wildcards: then nothing is walked.
        if self.below.is_empty() {
            return None;
        }
        name.parents().find_map(|parent| self.first_in_force(self.below.get(parent), today))
    }

    fn find_ip(&self, ip: IpAddr, today: Date) -> Option<&ListEntry> {
        let prefixes = match ip {
            IpAddr::V4(_) => &self.v4_prefixes,
            IpAddr::V6(_) => &self.v6_prefixes,
        };
        prefixes.iter().find_map(|&prefix| {
            let net = IpNet::new(ip, prefix).ok()?.trunc();
            self.first_in_force(self.nets.get(&net), today)
        })
    }

    fn first_in_force(&self, places: Option<&Vec<usize>>, today: Date) -> Option<&ListEntry> {
        places?.iter().filter_map(|&place| self.entries.get(place)).find(|entry| !entry.is_expired(today))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    const TODAY: Date = date(2026, 12, 31);

    fn entry(pattern: &str, until: Option<Date>) -> ListEntry {
        ListEntry {
            pattern: HostPattern::parse(pattern).unwrap(),
            until,
            reason: pattern.to_owned(),
            owner: String::new(),
            number: None,
        }
    }

    #[track_caller]
    fn check_pattern(text: &str, expected: Result<&str, PatternError>) {
        let parsed = HostPattern::parse(text).map(|it| it.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn patterns() {
        check_pattern("Example.COM.", Ok("example.com"));
        check_pattern("*.例子.中国", Ok("*.xn--fsqu00a.xn--fiqs8s"));
        check_pattern("*.a.example.com", Ok("*.a.example.com"));
        check_pattern("localhost", Ok("localhost"));
        check_pattern("192.0.2.1", Ok("192.0.2.1"));
        check_pattern("0xc0000201", Ok("192.0.2.1"));
        check_pattern("::ffff:192.0.2.1", Ok("192.0.2.1"));
        check_pattern("[2001:db8::1]", Ok("2001:db8::1"));
        check_pattern("192.0.2.77/24", Ok("192.0.2.0/24"));
        check_pattern("::ffff:192.0.2.0/120", Ok("192.0.2.0/24"));
        check_pattern("2001:db8::/32", Ok("2001:db8::/32"));
        check_pattern("*.com", Err(PatternError::PublicSuffix));
        check_pattern("*.gov.cn", Err(PatternError::PublicSuffix));
        check_pattern("*.政务", Err(PatternError::PublicSuffix));
        check_pattern("10.0.0.0/33", Err(PatternError::Network));
        check_pattern("example.com/x", Err(PatternError::Network));
        check_pattern("", Err(NameError::Empty.into()));
        check_pattern("*.", Err(NameError::Empty.into()));
        check_pattern("*", Err(NameError::BadCharacter('*').into()));
        check_pattern("a.*.com", Err(NameError::BadCharacter('*').into()));
        check_pattern("*.192.0.2.1", Err(NameError::AddressNotName.into()));
        check_pattern("example.com:80", Err(NameError::BadCharacter(':').into()));
    }

    #[track_caller]
    fn check_find(list: &List, host: &str, expected: Option<&str>) {
        let host = HostForm::from_user(host).unwrap();
        let found = list.find(&host, TODAY).map(|entry| &*entry.reason);
        assert_eq!(found, expected, "{host}");
    }

    #[test]
    fn the_most_specific_entry_in_force_is_found() {
        let list = List::new(vec![
            entry("*.example.com", None),
            entry("a.example.com", None),
            entry("*.b.example.com", None),
            entry("example.net", Some(date(2026, 12, 31))),
            entry("example.org", Some(date(2026, 12, 30))),
            entry("a.b.example.com", Some(date(2026, 1, 1))),
            entry("192.0.2.0/24", None),
            entry("192.0.2.1", None),
            entry("2001:db8::/32", None),
            entry("0.0.0.0/1", None),
        ]);
        check_find(&list, "example.com", None);
        check_find(&list, "x.example.com", Some("*.example.com"));
        check_find(&list, "x.y.example.com", Some("*.example.com"));
        check_find(&list, "a.example.com", Some("a.example.com"));
        check_find(&list, "sub.a.example.com", Some("*.example.com"));
        check_find(&list, "b.example.com", Some("*.example.com"));
        check_find(&list, "a.b.example.com", Some("*.b.example.com"));
        check_find(&list, "evilexample.com", None);
        check_find(&list, "a.example.com.evil.example", None);
        check_find(&list, "example.net", Some("example.net"));
        check_find(&list, "sub.example.net", None);
        check_find(&list, "example.org", None);
        check_find(&list, "192.0.2.1", Some("192.0.2.1"));
        check_find(&list, "192.0.2.2", Some("192.0.2.0/24"));
        check_find(&list, "3221225985", Some("192.0.2.1"));
        check_find(&list, "192.0.3.1", None);
        check_find(&list, "10.0.0.1", Some("0.0.0.0/1"));
        check_find(&list, "2001:db8::5", Some("2001:db8::/32"));
        check_find(&list, "2001:db9::5", None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = HostPattern::parse(&text);
        }

        #[test]
        fn the_index_finds_what_a_scan_finds(
            patterns in proptest::collection::vec(
                "(\\*\\.)?([ab]\\.){0,3}(a|b)\\.test|(10|11)\\.[01]\\.0\\.[01](/(8|15|16|31|32))?", 0..12),
            host in "([ab]\\.){0,4}(a|b)\\.test|(10|11)\\.[01]\\.0\\.[01]",
        ) {
            let entries: Vec<_> = patterns.iter().map(|it| entry(it, None)).collect();
            let host = HostForm::from_user(&host).unwrap();
            let scanned = entries.iter().any(|it| it.pattern.matches(&host));
            let list = List::new(entries);
            let found = list.find(&host, TODAY);
            prop_assert_eq!(found.is_some(), scanned);
            prop_assert!(found.is_none_or(|it| it.pattern.matches(&host)));
        }
    }
}
