//! Who ended a request, and in which phase of it: the two letters that the access log gives, after HAProxy's. Pure.

use crate::gate::reject::Reject;

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its head is read and judged.
    Request,
    /// It waits for a place at an upstream that bears no more.
    Queue,
    /// A connection to an upstream is made.
    Connect,
    /// It is on its way to the upstream, whose head is waited for.
    Head,
    /// The answer is on its way to the client.
    Data,
    /// Protocols were switched: octets go both ways.
    Tunnel,
}

/// Who ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The client went away.
    Client,
    /// The client was too slow.
    ClientTime,
    /// The upstream refused, broke off, or did not speak HTTP.
    Upstream,
    /// The upstream was too slow.
    UpstreamTime,
    /// The gate: what was asked is blocked, refused or malformed.
    Gate,
    /// The gate answered by itself, as it is meant to.
    Local,
    /// Out of a resource that has a limit.
    Resource,
    /// The name stopped being allowed.
    Cut,
}

impl By {
    /// Who it was that a request failed by.
    #[must_use]
    pub fn of(reject: &Reject) -> Self {
        match reject {
            Reject::ClientGone => Self::Client,
            Reject::ClientStalled | Reject::RequestTimeout => Self::ClientTime,
            Reject::UpstreamError(_) => Self::Upstream,
            Reject::UpstreamTimeout => Self::UpstreamTime,
            Reject::Redirect(_) => Self::Local,
            Reject::Overloaded | Reject::Shed => Self::Resource,
            Reject::Cut => Self::Cut,
            Reject::MalformedHost
            | Reject::MalformedRequest(_)
            | Reject::UnknownCoding
            | Reject::ExpectationFailed
            | Reject::HeadTooLarge
            | Reject::MethodRefused
            | Reject::Misdirected
            | Reject::Blocked(_)
            | Reject::Unavailable
            | Reject::NoSite
            | Reject::Loop
            | Reject::Denied
            | Reject::RateLimited
            | Reject::BodyTooLarge => Self::Gate,
        }
    }
}

/// The two letters; `--`: it went to its end.
#[must_use]
pub fn code(by: Option<By>, phase: Phase) -> &'static str {
    let Some(by) = by else { return "--" };
    let phases = match by {
        By::Client => ["CR", "CQ", "CC", "CH", "CD", "CT"],
        By::ClientTime => ["cR", "cQ", "cC", "cH", "cD", "cT"],
        By::Upstream => ["SR", "SQ", "SC", "SH", "SD", "ST"],
        By::UpstreamTime => ["sR", "sQ", "sC", "sH", "sD", "sT"],
        By::Gate => ["PR", "PQ", "PC", "PH", "PD", "PT"],
        By::Local => ["LR", "LQ", "LC", "LH", "LD", "LT"],
        By::Resource => ["RR", "RQ", "RC", "RH", "RD", "RT"],
        By::Cut => ["KR", "KQ", "KC", "KH", "KD", "KT"],
    };
    phases[phase as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;

    #[test]
    fn failures_by_phase() {
        #[track_caller]
        fn check(reject: &Reject, phase: Phase, expected: &str) {
            assert_eq!(code(Some(By::of(reject)), phase), expected, "{reject:?} {phase:?}");
        }
        check(&Reject::Blocked(Verdict::Unfiled), Phase::Request, "PR");
        check(&Reject::RequestTimeout, Phase::Request, "cR");
        check(&Reject::Overloaded, Phase::Queue, "RQ");
        check(&Reject::UpstreamError(""), Phase::Connect, "SC");
        check(&Reject::UpstreamTimeout, Phase::Head, "sH");
        check(&Reject::BodyTooLarge, Phase::Head, "PH");
        check(&Reject::ClientStalled, Phase::Data, "cD");
        check(&Reject::Cut, Phase::Tunnel, "KT");
        assert_eq!(code(None, Phase::Data), "--");
    }
}
