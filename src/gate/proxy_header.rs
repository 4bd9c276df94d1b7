//! The PROXY protocol, versions 1 and 2: whom a trusted load balancer speaks for. Pure.
//!
//! Source: the PROXY protocol specification (haproxy.org), sections 2.1 and 2.2.

mod out;

pub use out::{Speaker, write};

use std::net::{IpAddr, SocketAddr};

/// The most octets of a header: version 1 has at most 107, version 2 16 and the addresses and TLVs that we take.
pub const MAX_HEADER_BYTES: usize = 16 + 1024;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_SIGNATURE: &[u8] = b"PROXY ";
/// Octets of the addresses of a Unix stream (section 2.2).
const UNIX_ADDRESSES: usize = 216;
const MAX_V1_BYTES: usize = 107;

/// What the start of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// More octets are needed to tell.
    Incomplete,
    /// No PROXY header.
    Absent,
    /// A header of so many octets; the client that it names, where it names one (`LOCAL`, `UNKNOWN`: none).
    Header(usize, Option<SocketAddr>),
    /// A header that follows no version of the protocol.
    Malformed,
}

/// Reads the start of a connection.
#[must_use]
pub fn parse(octets: &[u8]) -> Start {
    let common =
        |signature: &[u8]| octets.iter().zip(signature).take_while(|(one, other)| one == other).count();
    let is_begun = |signature: &[u8]| common(signature) == octets.len().min(signature.len());
    if is_begun(V2_SIGNATURE) {
        return if octets.len() < 16 { Start::Incomplete } else { version2(octets) };
    }
    if is_begun(V1_SIGNATURE) {
        return version1(octets);
    }
    Start::Absent
}

fn version1(octets: &[u8]) -> Start {
    let Some(end) = memchr::memchr(b'\n', &octets[..octets.len().min(MAX_V1_BYTES)]) else {
        return if octets.len() >= MAX_V1_BYTES { Start::Malformed } else { Start::Incomplete };
    };
    let line = octets[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let Some(line) = line else { return Start::Malformed };
    let parts: Vec<&str> = line.split(' ').collect();
    let client = match parts[1..] {
        ["UNKNOWN", ..] => return Start::Header(end + 1, None),
        ["TCP4" | "TCP6", source, destination, source_port, destination_port] => {
            let is_right = |ip: &IpAddr| ip.is_ipv4() == (parts[1] == "TCP4");
            let port = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
            let address = source.parse::<IpAddr>().ok().filter(is_right);
            let other = destination.parse::<IpAddr>().ok().filter(is_right);
            match (address, other, port(source_port), port(destination_port)) {
                (Some(address), Some(_), Some(port), Some(_)) => Some(SocketAddr::new(address, port)),
                _ => None,
            }
        }
        _ => None,
    };
    client.map_or(Start::Malformed, |client| Start::Header(end + 1, Some(client)))
}

fn version2(octets: &[u8]) -> Start {
    let length = 16 + usize::from(u16::from_be_bytes([octets[14], octets[15]]));
    if length > MAX_HEADER_BYTES || octets[12] >> 4 != 2 {
        return Start::Malformed;
    }
    if octets.len() < length {
        return Start::Incomplete;
    }
    let body = &octets[16..length];
    let client = match (octets[12] & 0xf, octets[13]) {
        // LOCAL, and families that are no TCP over IP: the connection's own address holds.
        (0, _) | (1, 0x00) => return Start::Header(length, None),
        (1, 0x11) => body.first_chunk::<12>().map(|a| {
            SocketAddr::new(IpAddr::from([a[0], a[1], a[2], a[3]]), u16::from_be_bytes([a[8], a[9]]))
        }),
        (1, 0x21) => body.first_chunk::<36>().map(|a| {
            let ip: [u8; 16] = std::array::from_fn(|i| a[i]);
            SocketAddr::new(IpAddr::from(ip), u16::from_be_bytes([a[32], a[33]]))
        }),
        // A stream of a Unix socket, with both its paths.
        (1, 0x31) if body.len() >= UNIX_ADDRESSES => return Start::Header(length, None),
        _ => None,
    };
    client.map_or(Start::Malformed, |client| Start::Header(length, Some(client)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(octets: &[u8], expected: Start) {
        assert_eq!(parse(octets), expected, "{:?}", String::from_utf8_lossy(octets));
    }

    #[test]
    fn version_1() {
        let client = Some("192.0.2.1:5".parse().unwrap());
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nGET", Start::Header(37, client));
        check(
            b"PROXY TCP6 2001:db8::1 2001:db8::2 5 80\r\n",
            Start::Header(41, Some("[2001:db8::1]:5".parse().unwrap())),
        );
        check(b"PROXY UNKNOWN\r\n", Start::Header(15, None));
        check(b"PRO", Start::Incomplete);
        check(b"PROXY TCP4 1", Start::Incomplete);
        check(b"GET / HTTP/1.1\r\n", Start::Absent);
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\n", Start::Malformed);
        check(b"PROXY TCP6 192.0.2.1 192.0.2.2 5 80\r\n", Start::Malformed);
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 80\r\n", Start::Malformed);
        check(&[&b"PROXY "[..], &[b'a'; 200]].concat(), Start::Malformed);
    }

    #[test]
    fn version_2() {
        let header = |command: u8, family: u8, body: &[u8]| {
            [&V2_SIGNATURE[..], &[command, family], &u16::try_from(body.len()).unwrap().to_be_bytes(), body]
                .concat()
        };
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0, 5, 0, 80];
        check(&header(0x21, 0x11, &v4), Start::Header(28, Some("192.0.2.1:5".parse().unwrap())));
        check(&header(0x20, 0, &[]), Start::Header(16, None));
        check(&header(0x21, 0x11, &v4[..8]), Start::Malformed);
        check(&header(0x11, 0x11, &v4), Start::Malformed);
        check(&header(0x21, 0x11, &v4)[..20], Start::Incomplete);
        check(&header(0x21, 0x11, &[0; 2000]), Start::Malformed);
        check(&header(0x21, 0x31, &[0; 216]), Start::Header(232, None));
        check(&header(0x21, 0x31, &[0; 215]), Start::Malformed);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_never_panic(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&octets);
            let _ = parse(&[&V2_SIGNATURE[..], &octets].concat());
            let _ = parse(&[V1_SIGNATURE, &octets].concat());
        }
    }
}
