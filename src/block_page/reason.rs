//! Why the gate answers itself, by the names of the wire.

use crate::verdict::Verdict;

/// Why the gate answers itself: the wire names of `beian-verdict` (contract, "What the gate answers itself").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the contract's")]
pub enum Reason {
    Unfiled,
    NotConnected,
    AccessCancelled,
    Pending,
    Deregistered,
    IpLiteral,
    Restricted,
    OperatorBlock,
    Unavailable,
    MalformedHost,
    MalformedRequest,
    Misdirected,
    MethodRefused,
    TooLarge,
    RequestTimeout,
    RateLimited,
    Loop,
    Redirect,
    NoSite,
    UpstreamError,
    UpstreamTimeout,
    Overloaded,
}

/// The verdict forwards traffic, so there is nothing for the gate to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the verdict {0:?} forwards and has no page")]
pub struct Forwarded(pub Verdict);

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Reason; 22] = [
        Self::Unfiled,
        Self::NotConnected,
        Self::AccessCancelled,
        Self::Pending,
        Self::Deregistered,
        Self::IpLiteral,
        Self::Restricted,
        Self::OperatorBlock,
        Self::Unavailable,
        Self::MalformedHost,
        Self::MalformedRequest,
        Self::Misdirected,
        Self::MethodRefused,
        Self::TooLarge,
        Self::RequestTimeout,
        Self::RateLimited,
        Self::Loop,
        Self::Redirect,
        Self::NoSite,
        Self::UpstreamError,
        Self::UpstreamTimeout,
        Self::Overloaded,
    ];

    /// The name on the wire (`beian-verdict`), in logs, in metrics and in `texts.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unfiled => "unfiled",
            Self::NotConnected => "not_connected",
            Self::AccessCancelled => "access_cancelled",
            Self::Pending => "pending",
            Self::Deregistered => "deregistered",
            Self::IpLiteral => "ip_literal",
            Self::Restricted => "restricted",
            Self::OperatorBlock => "operator_block",
            Self::Unavailable => "unavailable",
            Self::MalformedHost => "malformed_host",
            Self::MalformedRequest => "malformed_request",
            Self::Misdirected => "misdirected",
            Self::MethodRefused => "method_refused",
            Self::TooLarge => "too_large",
            Self::RequestTimeout => "request_timeout",
            Self::RateLimited => "rate_limited",
            Self::Loop => "loop",
            Self::Redirect => "redirect",
            Self::NoSite => "no_site",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Overloaded => "overloaded",
        }
    }

    /// Whether it is a block verdict, answered with 451 or 403 (filing rules, "Verdicts").
    pub fn is_blocked(self) -> bool {
        matches!(
            self,
            Self::Unfiled
                | Self::NotConnected
                | Self::AccessCancelled
                | Self::Pending
                | Self::Deregistered
                | Self::IpLiteral
                | Self::Restricted
                | Self::OperatorBlock
        )
    }
}

impl TryFrom<Verdict> for Reason {
    type Error = Forwarded;

    fn try_from(verdict: Verdict) -> Result<Self, Forwarded> {
        match verdict {
            Verdict::Allow | Verdict::Exempt | Verdict::Unverified => Err(Forwarded(verdict)),
            Verdict::Unfiled => Ok(Self::Unfiled),
            Verdict::NotConnected => Ok(Self::NotConnected),
            Verdict::AccessCancelled => Ok(Self::AccessCancelled),
            Verdict::Pending => Ok(Self::Pending),
            Verdict::Deregistered => Ok(Self::Deregistered),
            Verdict::IpLiteral => Ok(Self::IpLiteral),
            Verdict::Restricted => Ok(Self::Restricted),
            Verdict::OperatorBlock => Ok(Self::OperatorBlock),
            Verdict::Unavailable => Ok(Self::Unavailable),
            Verdict::MalformedHost => Ok(Self::MalformedHost),
            Verdict::Misdirected => Ok(Self::Misdirected),
            Verdict::NoSite => Ok(Self::NoSite),
        }
    }
}
