//! How clients may come in, by a listener or to a site.

use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;

/// What becomes of allowed requests that come without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InClear {
    /// They are forwarded like others.
    #[default]
    Served,
    /// They are told to come over TLS.
    Redirected(ToHttps),
}

/// How requests in clear are told to come over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToHttps {
    /// 301, 302, 307 or 308.
    pub status: u16,
    /// Where clients find TLS; 443 is not written out.
    pub port: u16,
}

impl Default for ToHttps {
    fn default() -> Self {
        Self { status: 308, port: 443 }
    }
}

/// Which addresses are let in: the longest network that holds an address decides about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    /// By the length of their prefix, the longest first: whether they are let in.
    levels: Vec<(u8, HashMap<IpAddr, bool>)>,
    /// What none of them holds is let in nevertheless: no network was allowed by name.
    is_open: bool,
}

impl Networks {
    /// Of those that are let in and those that are not; where the first are none, all others are let in.
    #[must_use]
    pub fn new(allowed: &[IpNet], denied: &[IpNet]) -> Self {
        let mut networks = Self { levels: Vec::new(), is_open: allowed.is_empty() };
        let both = [(allowed, true), (denied, false)];
        for (net, is_allowed) in both.iter().flat_map(|(nets, is)| nets.iter().map(move |net| (net, *is))) {
            let length = net.prefix_len();
            let at = networks.levels.iter().position(|(it, _)| *it == length).unwrap_or_else(|| {
                networks.levels.push((length, HashMap::new()));
                networks.levels.len() - 1
            });
            networks.levels[at].1.insert(net.network(), is_allowed);
        }
        networks.levels.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        networks
    }

    /// Whether all are let in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Whether this address is let in; an IPv4 address in IPv6 is that IPv4 address.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let known = |(length, networks): &(u8, HashMap<IpAddr, bool>)| {
            // A length beyond the family's is none of its networks'.
            let net = IpNet::new(address, *length).ok()?.trunc();
            networks.get(&net.network()).copied()
        };
        self.levels.iter().find_map(known).unwrap_or(self.is_open || self.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_network_decides() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        #[track_caller]
        fn check(networks: &Networks, admitted: &[&str], refused: &[&str]) {
            for (texts, expected) in [(admitted, true), (refused, false)] {
                for text in texts {
                    assert_eq!(networks.admits(text.parse().unwrap()), expected, "{text}");
                }
            }
        }
        check(&Networks::default(), &["192.0.2.1", "::1"], &[]);
        let denied = Networks::new(&[], &nets(&["10.0.0.0/8", "2001:db8::/32"]));
        check(
            &denied,
            &["11.0.0.1", "::1", "2001:db9::1"],
            &["10.1.2.3", "::ffff:10.1.2.3", "2001:db8:1::1"],
        );
        let but_one = Networks::new(&nets(&["10.1.2.0/24"]), &nets(&["10.0.0.0/8", "10.1.2.3/32"]));
        check(&but_one, &["10.1.2.4"], &["10.1.2.3", "10.1.3.1", "11.0.0.1", "::1"]);
        // The same octets in the other family are another network.
        check(&Networks::new(&[], &nets(&["0.0.0.0/0"])), &["::1"], &["1.2.3.4"]);
    }
}
