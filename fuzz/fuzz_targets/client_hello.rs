//! The ClientHello reader: a verdict on a hello's beginning never changes as more arrives, and where rustls takes
//! the hello too, both read the same server name.
//!
//! An input whose first octet is even is octets of a connection; an odd one begins a handshake message, cut into
//! records of the size that its second octet says.

#![no_main]

use beian_gate::gate::hello::{self, Alert, Hello};
use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;

fuzz_target!(|input: &[u8]| {
    match input {
        [kind, wire @ ..] if kind % 2 == 0 => check(wire),
        [_, size, body @ ..] => check(&records(body, usize::from(*size).max(1))),
        _ => {}
    }
});

fn records(body: &[u8], size: usize) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("inputs are short").to_be_bytes();
    let message = [&[1][..], &length[1..], body].concat();
    let record = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).expect("pieces are short").to_be_bytes();
        [&[22, 3, 1][..], &length, piece].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

fn check(wire: &[u8]) {
    let whole = hello::parse(wire);
    let mut told = Ok(None);
    for end in 0..=wire.len() {
        told = hello::parse(&wire[..end]);
        if told != Ok(None) {
            break;
        }
    }
    assert_eq!(whole, told, "what is told early is told at the end");
    if let Ok(Some(hello)) = &whole {
        agrees_with_rustls(wire, hello);
    }
    let _ = whole.map_err(Alert::record);
}

fn agrees_with_rustls(mut wire: &[u8], hello: &Hello) {
    let mut acceptor = Acceptor::default();
    loop {
        match acceptor.read_tls(&mut wire) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match acceptor.accept() {
            Ok(None) => {}
            Err(_) => return,
            Ok(Some(accepted)) => {
                let theirs = accepted.client_hello().server_name().map(|name| {
                    let name = name.to_ascii_lowercase();
                    name.strip_suffix('.').unwrap_or(&name).to_owned()
                });
                let ours = hello.server_name.as_ref().map(|name| name.as_str().to_owned());
                assert_eq!(ours, theirs);
                return;
            }
        }
    }
}
