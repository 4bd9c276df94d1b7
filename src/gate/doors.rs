//! What a listener's clients are judged by: its settings as the config in force has them, whenever they connected.
//!
//! A listener keeps its place as long as the process lives, so that a connection finds its settings in any rules
//! without looking for them. One that is gone from the config stays with what it said last, for the connections that
//! came by it.

use crate::config::{self, Alpn, InClear, Networks, Protocol, ProxyProtocol};
use crate::gate::client::{Defaults, Listener};
use crate::gate::request::RequestHead;
use crate::verdict::{Region, Scenario};
use std::net::IpAddr;

/// The settings of all listeners, each at its place.
#[derive(Debug, Default)]
pub struct Doors {
    /// Another for each config that was put in force.
    pub generation: u32,
    all: Vec<Door>,
}

/// A listener's settings.
#[derive(Debug, Clone)]
pub struct Door {
    /// What the config calls the listener (`config::Listener::keys`).
    key: String,
    /// No config in force names it any more: these are its last settings.
    pub is_gone: bool,
    /// What it speaks to who connects now.
    pub protocol: Protocol,
    /// What clients may agree on who connect now.
    pub alpn: Vec<Alpn>,
    /// Whether PROXY headers are expected of who connects now.
    pub proxy_protocol: ProxyProtocol,
    /// Default for the hosts that arrive here.
    scenario: Scenario,
    /// Default for the hosts that arrive here.
    region: Region,
    /// Whose PROXY headers and forwarding fields are believed.
    trusted_peers: Vec<ipnet::IpNet>,
    /// A path that is answered without a verdict.
    health_path: Option<String>,
    /// Which clients may ask.
    pub networks: Networks,
    /// What becomes of requests in clear, for hosts whose site does not say.
    pub in_clear: InClear,
}

impl Doors {
    /// Of a config's listeners, in their order.
    #[must_use]
    pub fn new(listeners: &[config::Listener]) -> Self {
        let keys = config::Listener::keys(listeners);
        let all = keys.into_iter().zip(listeners).map(|(key, from)| Door::new(key, from)).collect();
        Self { generation: 0, all }
    }

    /// The same with everybody at the place where `before` has them, and with those that are gone.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let mut named: Vec<Option<Door>> = self.all.into_iter().map(Some).collect();
        let mut kept = |door: &Door| {
            let is_it = |one: &&mut Option<Door>| one.as_ref().is_some_and(|one| one.key == door.key);
            let now = named.iter_mut().find(is_it).and_then(Option::take);
            now.unwrap_or_else(|| Door { is_gone: true, ..door.clone() })
        };
        let mut all: Vec<Door> = before.all.iter().map(&mut kept).collect();
        all.extend(named.into_iter().flatten());
        Self { generation: before.generation.wrapping_add(1), all }
    }

    /// Where the listener of that key has its place.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<usize> {
        self.all.iter().position(|door| door.key == key)
    }

    /// The settings of the listener at this place. It was there when clients came by it, and stays.
    #[must_use]
    pub fn at(&self, place: usize) -> &Door {
        &self.all[place]
    }

    /// The settings of a listener.
    #[must_use]
    pub fn of(&self, listener: &Listener) -> &Door {
        self.at(listener.place)
    }
}

impl Door {
    fn new(key: String, from: &config::Listener) -> Self {
        Self {
            key,
            is_gone: false,
            protocol: from.protocol,
            alpn: from.alpn.clone(),
            proxy_protocol: from.proxy_protocol,
            scenario: from.scenario,
            region: from.region,
            trusted_peers: from.trusted_peers.clone(),
            health_path: from.health_path.clone(),
            networks: from.networks.clone(),
            in_clear: from.in_clear,
        }
    }

    /// What holds where a host's site says nothing else.
    #[must_use]
    pub fn defaults(&self) -> Defaults {
        Defaults { scenario: self.scenario, region: self.region }
    }

    /// Whether this peer's word on whom it speaks for is believed.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_peers.iter().any(|net| net.contains(&peer))
    }

    /// Whether a request asks for the health path.
    #[must_use]
    pub fn is_health_check(&self, head: &RequestHead) -> bool {
        self.health_path
            .as_ref()
            .is_some_and(|path| head.path() == path.as_bytes() && matches!(head.method(), b"GET" | b"HEAD"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn doors(listeners: &[(&str, &str)]) -> Doors {
        let listener = |(address, region): &(&str, &str)| {
            format!("[[listener]]\naddress = \"{address}\"\nprotocol = \"http\"\nregion = \"{region}\"\n")
        };
        let text = "provider = \"p\"\n[registry]\nurl = \"http://127.0.0.1:9\"\n".to_owned();
        let text = text + &listeners.iter().map(listener).collect::<String>();
        Doors::new(&Config::parse(&text, "f.toml").unwrap().listeners)
    }

    #[test]
    fn who_stays_keeps_the_place_and_who_goes_the_last_settings() {
        let [a, b, c] = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];
        let first = doors(&[(a, "mainland"), (b, "mainland")]);
        assert_eq!([a, b, c].map(|key| first.place(key)), [Some(0), Some(1), None]);
        // Another order, another setting, one more.
        let second = doors(&[(c, "global"), (b, "overseas"), (a, "mainland")]).after(&first);
        assert_eq!([a, b, c].map(|key| second.place(key)), [Some(0), Some(1), Some(2)]);
        let regions = |doors: &Doors| [0, 1, 2].map(|place| doors.at(place).region);
        assert_eq!(regions(&second), [Region::Mainland, Region::Overseas, Region::Global]);
        let third = doors(&[(c, "mainland")]).after(&second);
        assert_eq!(regions(&third), [Region::Mainland, Region::Overseas, Region::Mainland]);
        assert_eq!([0, 1, 2].map(|place| third.at(place).is_gone), [true, true, false]);
        // Who comes again is who went.
        let fourth = doors(&[(b, "global")]).after(&third);
        assert_eq!(regions(&fourth), [Region::Mainland, Region::Global, Region::Mainland]);
        assert_eq!([0, 1, 2].map(|place| fourth.at(place).is_gone), [true, false, true]);
        assert_eq!(fourth.generation, 3);
    }
}
