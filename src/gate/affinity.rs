//! What binds requests to a server: what `hash_on` names. Pure.

use crate::config::{Balance, Choice, HashOn};
use crate::gate::client::Client;
use crate::gate::request::{Known, RequestHead};
use crate::gate::route::choose::{Member, hash};
use std::net::IpAddr;

/// Hex digits of a server's id in a sticky cookie.
const COOKIE_DIGITS: usize = 16;

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

/// The server that a request's sticky cookie names.
#[must_use]
pub fn bound_to(choice: &Choice, head: Option<&RequestHead>) -> Option<u64> {
    let value = cookie(head?, &choice.sticky.as_ref()?.cookie)?;
    let is_plain = value.len() == COOKIE_DIGITS && value.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_plain)?;
    u64::from_str_radix(text, 16).ok()
}

/// The `Set-Cookie` that binds a client to a server; `None` where it is bound to that one already, or nobody is.
#[must_use]
pub fn binding(choice: &Choice, member: &Member, client: &Client, head: &RequestHead) -> Option<String> {
    let sticky = choice.sticky.as_ref()?;
    if bound_to(choice, Some(head)) == Some(member.id) {
        return None;
    }
    let mut text = format!("{}={:016x}; Path=/; HttpOnly; SameSite=Lax", sticky.cookie, member.id);
    if let Some(max_age) = sticky.max_age {
        text.push_str(&format!("; Max-Age={}", max_age.as_secs()));
    }
    if client.tls.is_some() {
        text.push_str("; Secure");
    }
    Some(text)
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
