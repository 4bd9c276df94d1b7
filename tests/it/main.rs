//! The whole product from outside: the real binary, a registry, a recording upstream, raw bytes.
//!
//! `World` (world.rs) starts everything on port 0 in a directory of its own; each other file holds one
//! concern. The judge is what the upstream saw.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "one binary: visibility inside it says nothing")]

// What fuzz targets call: here each becomes a function of any octets (fuzz.rs).
extern crate self as libfuzzer_sys;

/// A fuzz target's body as `run`.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: &[u8]| $body:block) => {
        pub fn run($input: &[u8]) {
            $body
        }
    };
    (|$input:ident: &str| $body:block) => {
        pub fn run(octets: &[u8]) {
            if let Ok($input) = std::str::from_utf8(octets) {
                $body
            }
        }
    };
}

mod admin;
mod api_tls;
mod audit;
mod backup;
mod block;
mod client_certificates;
mod clock;
mod commands;
mod compression;
mod console;
mod cut;
mod deploy;
mod distribution;
mod docs;
mod door;
mod footers;
mod fuzz;
mod hand_over;
mod hostile;
mod house;
mod import;
mod judge;
mod killed;
mod lookup;
mod pages;
mod proxy;
mod races;
mod reload;
mod replay;
mod routes;
mod seen;
mod sites;
mod sockets;
mod sync;
mod treatment;
mod tutorial;
mod walkthrough;
mod warnings;
mod world;
