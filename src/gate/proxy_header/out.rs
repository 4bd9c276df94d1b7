//! PROXY headers towards upstreams: whom a connection is made for.

use super::V2_SIGNATURE;
use crate::config::ProxyHeader;
use std::net::{IpAddr, SocketAddr};

/// Whom a connection is made for.
#[derive(Debug, Clone, Copy)]
pub struct Speaker<'a> {
    /// Who asks.
    pub client: SocketAddr,
    /// Where it came in.
    pub listener: SocketAddr,
    /// The name that it asked for in TLS.
    pub authority: Option<&'a str>,
    /// The protocol that was agreed on in TLS.
    pub agreed: Option<&'a [u8]>,
}

/// The protocol that was agreed on (section 2.2.1).
const TLV_ALPN: u8 = 1;
/// The name that was asked for (section 2.2.2).
const TLV_AUTHORITY: u8 = 2;
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
const TCP_OVER_V4: u8 = 0x11;
const TCP_OVER_V6: u8 = 0x21;

/// The header of a connection; without a speaker it is the gate's own, as its checks are.
#[must_use]
pub fn write(version: ProxyHeader, speaker: Option<&Speaker<'_>>) -> Vec<u8> {
    match (version, speaker) {
        (ProxyHeader::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyHeader::V1, Some(speaker)) => version_1(speaker),
        (ProxyHeader::V2, None) => [&V2_SIGNATURE[..], &[V2_LOCAL, 0, 0, 0]].concat(),
        (ProxyHeader::V2, Some(speaker)) => version_2(speaker),
    }
}

/// Both addresses in one family: that of the client where it can be.
fn addresses(speaker: &Speaker<'_>) -> (IpAddr, IpAddr) {
    let (client, listener) = (speaker.client.ip().to_canonical(), speaker.listener.ip().to_canonical());
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        v6 => v6,
    };
    if client.is_ipv4() == listener.is_ipv4() { (client, listener) } else { (wide(client), wide(listener)) }
}

fn version_1(speaker: &Speaker<'_>) -> Vec<u8> {
    let (client, listener) = addresses(speaker);
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (speaker.client.port(), speaker.listener.port());
    format!("PROXY {family} {client} {listener} {from} {to}\r\n").into_bytes()
}

fn version_2(speaker: &Speaker<'_>) -> Vec<u8> {
    let (client, listener) = addresses(speaker);
    let mut body = Vec::with_capacity(64);
    for ip in [client, listener] {
        match ip {
            IpAddr::V4(v4) => body.extend(v4.octets()),
            IpAddr::V6(v6) => body.extend(v6.octets()),
        }
    }
    body.extend(speaker.client.port().to_be_bytes());
    body.extend(speaker.listener.port().to_be_bytes());
    let authority = speaker.authority.map(str::as_bytes);
    for (kind, value) in [(TLV_ALPN, speaker.agreed), (TLV_AUTHORITY, authority)] {
        if let Some(value) = value
            && let Ok(length) = u16::try_from(value.len())
        {
            body.push(kind);
            body.extend(length.to_be_bytes());
            body.extend(value);
        }
    }
    let family = if client.is_ipv4() { TCP_OVER_V4 } else { TCP_OVER_V6 };
    let mut header = V2_SIGNATURE.to_vec();
    header.extend([V2_PROXY, family]);
    // A name has 253 octets at most.
    header.extend(u16::try_from(body.len()).unwrap_or(0).to_be_bytes());
    header.extend(body);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::proxy_header::{Start, parse};

    /// What is written is read as what was meant.
    #[test]
    fn both_versions_are_read_alike() {
        for (client, listener) in [
            ("192.0.2.1:5000", "198.51.100.1:443"),
            ("[2001:db8::1]:5000", "[2001:db8::2]:443"),
            ("[2001:db8::1]:5000", "198.51.100.1:443"),
        ] {
            let client = client.parse().unwrap();
            let (listener, authority) = (listener.parse().unwrap(), Some("a.example.com"));
            let speaker = Speaker { client, listener, authority, agreed: Some(b"h2") };
            for version in [ProxyHeader::V1, ProxyHeader::V2] {
                let header = write(version, Some(&speaker));
                assert_eq!(parse(&header), Start::Header(header.len(), Some(client)));
                let tlvs = b"\x01\0\x02h2\x02\0\x0da.example.com";
                assert_eq!(header.ends_with(tlvs), version == ProxyHeader::V2);
                let header = write(version, None);
                assert_eq!(parse(&header), Start::Header(header.len(), None));
            }
        }
    }
}
