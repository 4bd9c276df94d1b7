//! `[enforcement]`: what is asked of names, and what befalls those that lack it.

use crate::verdict::PolicyParts;
use std::time::Duration;

/// `[enforcement]`
#[derive(Debug, Clone)]
pub struct Enforcement {
    /// Enforce, or count and log only.
    pub mode: Mode,
    /// 451 or 403.
    pub status: u16,
    /// The URI of `link: <…>; rel="blocked-by"`.
    pub blocked_by: String,
    /// Filings older than this are stale.
    pub stale_after: Duration,
    /// What then.
    pub when_stale: WhenStale,
    /// What until the first filings arrive.
    pub when_never_synced: WhenNeverSynced,
    /// What TLS clients of blocked names get.
    pub tls_blocked: TlsBlocked,
    /// Scenario overrides, lists, IP filings.
    pub policy: PolicyParts,
    /// `/.well-known/acme-challenge/` of blocked names goes to the upstream, logged.
    pub acme_passthrough: bool,
}

/// Whether verdicts are enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Blocked names are blocked.
    Enforce,
    /// Everything is forwarded; what would have been blocked is counted and logged.
    Monitor,
}

/// What stale filings mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenStale {
    /// Keep the last verdicts.
    Serve,
    /// Answer 503.
    Block,
}

/// What no filings mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenNeverSynced {
    /// Answer 503.
    Block,
    /// Forward, counted and logged as `unverified`.
    Forward,
}

/// What TLS clients of blocked names get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsBlocked {
    /// The block page where a certificate matches, else the alert.
    Page,
    /// The fatal alert `unrecognized_name`.
    Alert,
    /// A TCP reset.
    Reset,
}
