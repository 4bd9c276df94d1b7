//! What binds requests to a server: what `hash_on` names. Pure.

use crate::config::{Balance, Choice, HashOn};
use crate::gate::client::Client;
use crate::gate::request::{Known, RequestHead};
use crate::gate::route::choose::hash;
use std::net::IpAddr;

/// The hash that a request is placed by; 0 where the site does not place by hash.
#[must_use]
pub fn key(choice: &Choice, client: &Client, head: Option<&RequestHead>) -> u64 {
    if choice.balance != Balance::Hash {
        return 0;
    }
    let named = head.and_then(|head| match &choice.hash_on {
        HashOn::Client => None,
        HashOn::Path => Some(head.path()),
        HashOn::Header(name) => header(head, name),
        HashOn::Cookie(name) => cookie(head, name),
    });
    match (named, client.address.ip().to_canonical()) {
        (Some(octets), _) => hash(octets),
        (None, IpAddr::V4(ip)) => hash(&ip.octets()),
        (None, IpAddr::V6(ip)) => hash(&ip.octets()),
    }
}

fn header<'h>(head: &'h RequestHead, name: &str) -> Option<&'h [u8]> {
    let mut fields = head.fields.iter().map(|field| head.field(field));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
}

/// The value of a cookie (RFC 6265, 4.2.1), the first where there are several.
#[must_use]
pub fn cookie<'h>(head: &'h RequestHead, name: &str) -> Option<&'h [u8]> {
    let fields = head.fields.of(Known::Other).map(|field| head.field(field));
    let cookies = fields.filter(|(known, _)| known.eq_ignore_ascii_case(b"cookie"));
    let mut pairs = cookies.flat_map(|(_, value)| value.split(|octet| *octet == b';'));
    pairs.find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
