//! The fuzz targets as ordinary tests: each runs over its seeds, and over as many inputs made of them as a moment
//! allows, the same ones each time (or others: `FUZZ_SEED=7 cargo test --test it -- fuzz`).
//!
//! For hours of it, with coverage as a guide: fuzz/README.md. The targets are the very files that cargo-fuzz builds;
//! here `fuzz_target!` makes a function of each (main.rs).
#![allow(
    unused_attributes,
    unused_imports,
    clippy::drop_non_drop,
    reason = "each target is a crate of its own to cargo-fuzz"
)]

#[path = "../../fuzz/fuzz_targets/authority.rs"]
mod authority;
#[path = "../../fuzz/fuzz_targets/client_hello.rs"]
mod client_hello;
#[path = "../../fuzz/fuzz_targets/config.rs"]
mod config;
#[path = "../../fuzz/fuzz_targets/feed_frames.rs"]
mod feed_frames;
#[path = "../../fuzz/fuzz_targets/filing_number.rs"]
mod filing_number;
#[path = "../../fuzz/fuzz_targets/greeting.rs"]
mod greeting;
#[path = "../../fuzz/fuzz_targets/http1_body.rs"]
mod http1_body;
#[path = "../../fuzz/fuzz_targets/http1_request.rs"]
mod http1_request;
#[path = "../../fuzz/fuzz_targets/http1_response.rs"]
mod http1_response;
#[path = "../../fuzz/fuzz_targets/http2_frames.rs"]
mod http2_frames;
#[path = "../../fuzz/fuzz_targets/proxy_header.rs"]
mod proxy_header;
#[path = "../../fuzz/fuzz_targets/saved_state.rs"]
mod saved_state;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long each target goes on.
const TIME: Duration = Duration::from_millis(500);
/// The longest input that is made.
const MAX_BYTES: usize = 8 * 1024;
/// Octets that mean something to one of the targets.
const TELLING: &[u8] = b"\0\r\n \t:;,.@%[]/*#0fF\x80\xff\x16\x01";

/// Numbers that look like chance (xorshift64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn span(&mut self, of: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(of.len() + 1);
        start..start + self.below((of.len() - start).min(64) + 1)
    }

    /// Changes an input in one place.
    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len());
        match self.below(6) {
            0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            1 if !input.is_empty() => input[at] = TELLING[self.below(TELLING.len())],
            2 => input.insert(at, TELLING[self.below(TELLING.len())]),
            3 => drop(input.drain(self.span(&input.clone()))),
            4 => {
                let piece = input[self.span(input)].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                let other = &seeds[self.below(seeds.len())];
                let piece = other[self.span(other)].to_vec();
                input.splice(at..at, piece);
            }
        }
        input.truncate(MAX_BYTES);
    }
}

#[track_caller]
fn check(name: &str, target: fn(&[u8])) {
    let directory = format!("{}/fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let run = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
            eprintln!("{name} fails on {:?}", input.escape_ascii().to_string());
            std::panic::resume_unwind(panic);
        }
    };
    seeds.iter().for_each(|seed| run(seed));
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (mut chance, since) = (Chance(seed), Instant::now());
    while since.elapsed() < TIME {
        let mut input = seeds[chance.below(seeds.len())].clone();
        for _ in 0..=chance.below(6) {
            chance.change(&mut input, &seeds);
        }
        run(&input);
    }
}

#[test]
fn authority() {
    check("authority", authority::run);
}

#[test]
fn client_hello() {
    check("client_hello", client_hello::run);
}

#[test]
fn config() {
    check("config", config::run);
}

#[test]
fn feed_frames() {
    check("feed_frames", feed_frames::run);
}

#[test]
fn filing_number() {
    check("filing_number", filing_number::run);
}

#[test]
fn greeting() {
    check("greeting", greeting::run);
}

#[test]
fn http1_body() {
    check("http1_body", http1_body::run);
}

#[test]
fn http1_request() {
    check("http1_request", http1_request::run);
}

#[test]
fn http1_response() {
    check("http1_response", http1_response::run);
}

#[test]
fn http2_frames() {
    check("http2_frames", http2_frames::run);
}

#[test]
fn proxy_header() {
    check("proxy_header", proxy_header::run);
}

#[test]
fn saved_state() {
    check("saved_state", saved_state::run);
}
