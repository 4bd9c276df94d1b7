//! The beginning of a connection that is passed through: whatever goes on of a client's octets, a server that looks at
//! nothing but the kinds of records and messages finds no hello in it that names another name than the first, however
//! the octets come in.
//!
//! An input's first octet is odd where the server has asked for a second hello, its second says in what pieces the
//! client's octets come, which are the rest; the first hello is behind them.

#![no_main]

use beian_gate::domain::DomainName;
use beian_gate::gate::hello;
use beian_gate::gate::passthrough::greeting::Greeting;
use libfuzzer_sys::fuzz_target;

const NAME: &[u8] = b"filed.cn";
const HANDSHAKE: u8 = 22;
/// The random that makes a ServerHello a HelloRetryRequest (RFC 8446, 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

fuzz_target!(|input: &[u8]| {
    let [asked, size, octets @ ..] = input else { return };
    let is_asked = asked % 2 == 1;
    let passed = passed(octets, usize::from(*size).max(1), is_asked);
    assert!(octets.starts_with(&passed), "it goes on as it came");
    let mut names = names_in(&passed);
    // A server asks once: behind the hello that it asked for there is no other.
    names.truncate(if is_asked { 1 } else { usize::MAX });
    assert!(names.iter().all(|name| name.as_deref() == Some("filed.cn")), "{names:?}");
});

/// What goes on of octets that come in pieces.
fn passed(octets: &[u8], size: usize, is_asked: bool) -> Vec<u8> {
    let name = DomainName::from_wire(NAME).expect("a name");
    let mut greeting = Greeting::new(name, 0);
    if is_asked {
        let hello = [&[2, 0, 0, 38, 3, 3][..], &RETRY_RANDOM, &[0; 4]].concat();
        greeting.hear(&[&[HANDSHAKE, 3, 3, 0, 42][..], &hello].concat());
    }
    let (mut held, mut passed) = (Vec::new(), Vec::new());
    for piece in octets.chunks(size) {
        held.extend_from_slice(piece);
        let Ok(octets) = greeting.pass(&held) else { break };
        passed.extend(held.drain(..octets));
        if greeting.is_over() {
            break;
        }
    }
    passed
}

/// The names that such a server finds; `None` for a message that is no hello, or one without a name.
fn names_in(mut octets: &[u8]) -> Vec<Option<String>> {
    let mut messages = Vec::new();
    while let Some((header, rest)) = octets.split_first_chunk::<5>() {
        let length = usize::from(u16::from_be_bytes([header[3], header[4]])).min(rest.len());
        if header[0] == HANDSHAKE {
            messages.extend_from_slice(&rest[..length]);
        }
        octets = &rest[length..];
    }
    let (mut names, mut rest) = (Vec::new(), &messages[..]);
    while let Some(head) = rest.first_chunk::<4>() {
        let length = 4 + (usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]));
        let (message, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        let records = message.chunks(16 * 1024).flat_map(|piece| {
            let length = u16::try_from(piece.len()).expect("pieces are short").to_be_bytes();
            [&[HANDSHAKE, 3, 1][..], &length, piece].concat()
        });
        let hello = hello::parse(&records.collect::<Vec<_>>()).ok().flatten();
        names.push(hello.and_then(|hello| hello.server_name).map(|name| name.as_str().to_owned()));
    }
    names
}
