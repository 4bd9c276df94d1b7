//! The PROXY header reader: a verdict on the beginning of a connection never changes as more arrives, lengths lie
//! within the input, and an address that it names survives being written and read again.

#![no_main]

use beian_gate::gate::proxy_header::{self, MAX_HEADER_BYTES, Start};
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, SocketAddr};

fuzz_target!(|input: &[u8]| {
    let whole = proxy_header::parse(input);
    let mut told = Start::Incomplete;
    for end in 0..=input.len() {
        told = proxy_header::parse(&input[..end]);
        if told != Start::Incomplete {
            break;
        }
    }
    assert_eq!(whole, told, "what is told early is told at the end");
    assert!(
        whole != Start::Incomplete || input.len() < MAX_HEADER_BYTES,
        "no header is waited for without end"
    );
    let Start::Header(length, client) = whole else { return };
    assert!(length <= input.len());
    assert_eq!(proxy_header::parse(&input[..length]), whole);
    if let Some(client) = client {
        for header in [version1(client), version2(client)] {
            assert_eq!(proxy_header::parse(&header), Start::Header(header.len(), Some(client)));
        }
    }
});

fn version1(client: SocketAddr) -> Vec<u8> {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (ip, port) = (client.ip(), client.port());
    format!("PROXY {family} {ip} {ip} {port} 443\r\n").into_bytes()
}

fn version2(client: SocketAddr) -> Vec<u8> {
    let (family, octets) = match client.ip() {
        IpAddr::V4(ip) => (0x11, ip.octets().to_vec()),
        IpAddr::V6(ip) => (0x21, ip.octets().to_vec()),
    };
    let addresses = [&octets[..], &octets, &client.port().to_be_bytes(), &443_u16.to_be_bytes()].concat();
    let length = u16::try_from(addresses.len()).expect("at most 36").to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family], &length, &addresses].concat()
}
