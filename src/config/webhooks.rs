//! `[[webhook]]` and `[webhooks]`: who is warned, of what, how early, and for how long it is tried.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What is warned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WarningKind {
    /// A host that is served here is told something else than before.
    VerdictChanged,
    /// An order under review will end an access or a filing.
    FilingEnding,
    /// A number has no access left (空壳网站).
    EmptyShell,
    /// The registration of a domain ends.
    RegistrationLapsing,
    /// A public-security filing is due.
    PublicSecurityDue,
    /// Untrue data has to be corrected.
    CorrectionDue,
    /// A certificate ends.
    CertificateExpiring,
    /// An exception of the operator's ends.
    ExceptionExpiring,
    /// No verdict rests on filings any more, or they can be relied on again.
    FilingsStale,
    /// An update waits for an operator, was refused, or no longer waits.
    FlipsHeld,
    /// Nothing: an operator tries the way.
    Test,
}

impl WarningKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::VerdictChanged,
        Self::FilingEnding,
        Self::EmptyShell,
        Self::RegistrationLapsing,
        Self::PublicSecurityDue,
        Self::CorrectionDue,
        Self::CertificateExpiring,
        Self::ExceptionExpiring,
        Self::FilingsStale,
        Self::FlipsHeld,
        Self::Test,
    ];

    /// The name in config, events and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VerdictChanged => "verdict_changed",
            Self::FilingEnding => "filing_ending",
            Self::EmptyShell => "empty_shell",
            Self::RegistrationLapsing => "registration_lapsing",
            Self::PublicSecurityDue => "public_security_due",
            Self::CorrectionDue => "correction_due",
            Self::CertificateExpiring => "certificate_expiring",
            Self::ExceptionExpiring => "exception_expiring",
            Self::FilingsStale => "filings_stale",
            Self::FlipsHeld => "flips_held",
            Self::Test => "test",
        }
    }

    /// Its place in `ALL`.
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|&it| it == self).unwrap_or_default()
    }
}

/// What events are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(/** Octets. */ pub Vec<u8>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// `[[webhook]]`
#[derive(Debug, Clone)]
pub struct Webhook {
    /// In metrics and status.
    pub name: String,
    /// Where events are sent.
    pub url: String,
    /// What they are signed with.
    pub secret: WebhookSecret,
    /// Which.
    pub events: Vec<WarningKind>,
    /// The only authorities that are believed, where given (PEM).
    pub ca_file: Option<PathBuf>,
}

/// `[webhooks]`, and all of `[[webhook]]`.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Whom to tell.
    pub hooks: Vec<Webhook>,
    /// Days before something ends on which it is said, the earliest first.
    pub remind_days: Vec<u16>,
    /// How often what is due is looked at.
    pub look_every: Duration,
    /// How old an event may grow before it is given up.
    pub give_up_after: Duration,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            hooks: Vec::new(),
            remind_days: vec![30, 14, 7, 3, 1],
            look_every: Duration::from_mins(10),
            give_up_after: Duration::from_hours(24),
        }
    }
}
