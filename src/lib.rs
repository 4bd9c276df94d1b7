//! beian-gate: an HTTP/HTTPS reverse proxy that enforces ICP filing status (备案).
//!
//! The code map, in reading order. Pure cores first (no clock, no socket), then what
//! carries filings from a registry to the gate, then the data path, then the people.

// Pure: names, filings, verdicts.
pub mod domain;
pub mod filing;
pub mod verdict;
// Filings on their way from a registry to this gate.
pub mod cache;
pub mod feed;
pub mod follow;
// The data path.
pub mod block_page;
pub mod gate;
// The registry server.
pub mod registry;
// Operators.
pub mod admin;
pub mod app;
pub mod bilingual;
pub mod cli;
pub mod config;
pub mod digits;
pub mod hexadecimal;
pub mod inquiry;
pub mod link;
pub mod lookup;
pub mod serve;
pub mod served;
pub mod subject;
pub mod telemetry;
pub mod warnings;
