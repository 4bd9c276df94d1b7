//! `Authority::from_wire`: its canonical text parses back to itself, and no address is ever taken for a name.
//!
//! Oracles: std's dotted IPv4, and the `url` crate's host parser (WHATWG), which is what browsers agree on.

#![no_main]

use beian_gate::domain::{Authority, HostForm};
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

fuzz_target!(|input: &[u8]| {
    let parsed = Authority::from_wire(input);
    if let Ok(authority) = &parsed {
        parses_back(authority);
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let host = HostForm::from_wire(input).ok();
        agrees_with_std(text, host.as_ref());
        agrees_with_url(text, host.as_ref());
        let _ = HostForm::from_user(text);
    }
});

fn parses_back(authority: &Authority) {
    let text = match authority.port {
        Some(port) => format!("{}:{port}", authority.host),
        None => authority.host.to_string(),
    };
    assert_eq!(Authority::from_wire(text.as_bytes()).as_ref(), Ok(authority), "{text}");
    let HostForm::Name(name) = &authority.host else { return };
    assert!(
        name.as_str().bytes().all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
    );
    assert_eq!(HostForm::from_user(name.as_str()).as_ref(), Ok(&authority.host), "an operator's spelling");
    for candidate in name.filing_candidates() {
        assert!(name.is_within(candidate), "{candidate} covers {name}");
    }
    assert!(name.filing_candidates().count() <= 8);
}

fn agrees_with_std(text: &str, host: Option<&HostForm>) {
    // std takes no leading zeros: what it takes has one reading.
    if let Ok(ip) = Ipv4Addr::from_str(text) {
        assert_eq!(host, Some(&HostForm::Ip(IpAddr::V4(ip))));
    }
}

fn agrees_with_url(text: &str, host: Option<&HostForm>) {
    // The gate refuses characters that a URL may hold in other ways (percent, Unicode, tabs); refusing is always right.
    let Some(host) = host else { return };
    match (host, url::Host::parse(text)) {
        (HostForm::Ip(IpAddr::V4(ours)), Ok(url::Host::Ipv4(theirs))) => assert_eq!(*ours, theirs),
        // An IPv4-mapped address is judged as its IPv4 twin.
        (HostForm::Ip(ours), Ok(url::Host::Ipv6(theirs))) => {
            assert_eq!(*ours, IpAddr::V6(theirs).to_canonical())
        }
        (HostForm::Name(ours), Ok(url::Host::Domain(theirs))) => {
            assert_eq!(ours.as_str(), theirs.strip_suffix('.').unwrap_or(&theirs));
        }
        (ours, theirs) => panic!("{text}: {ours:?} but {theirs:?}"),
    }
}
