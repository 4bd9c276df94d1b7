//! One enum turns failure into a response, here and nowhere else.
//!
//! Every step of the data path fails into `Reject`. It knows the status, the name on the wire and whether the
//! connection may live on; what the visitor reads is block_page's.

use crate::block_page::Reason;
use crate::gate::redirect::Redirection;
use crate::verdict::Verdict;

/// Why a request is not forwarded, or was not to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reject {
    /// Host or authority missing, malformed or ambiguous.
    MalformedHost,
    /// The head or body follows no one reading of RFC 9112 or 9113; what about it, for the log.
    MalformedRequest(&'static str),
    /// A transfer coding that the gate does not know (RFC 9112, 6.1: 501).
    UnknownCoding,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
    /// A head beyond the limits.
    HeadTooLarge,
    /// CONNECT and TRACE.
    MethodRefused,
    /// SNI, certificate and Host do not belong together.
    Misdirected,
    /// The verdict blocks.
    Blocked(Verdict),
    /// No filing data that may be relied on.
    Unavailable,
    /// Allowed, but no site is configured.
    NoSite,
    /// Allowed, and elsewhere.
    Redirect(Redirection),
    /// The request came by this gate before.
    Loop,
    /// The client was too slow with its request.
    RequestTimeout,
    /// The upstream could not be reached or did not speak HTTP; what about it, for the log.
    UpstreamError(&'static str),
    /// The upstream was too slow.
    UpstreamTimeout,
    /// The name, or the client, stopped being allowed while it was being served.
    Cut,
    /// Out of a resource that has a limit.
    Overloaded,
    /// There is too much to do to begin anything new.
    Shed,
    /// The client's address is not one that the site answers.
    Denied,
    /// The client makes more requests than it may.
    RateLimited,
    /// A request body beyond the limit.
    BodyTooLarge,
    /// The client is gone: nobody to answer.
    ClientGone,
    /// The client took nothing of its answer, or too little: given up.
    ClientStalled,
}

/// Whether the connection can carry another request after the answer (HTTP/1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// The request was read right: only this answer is refused.
    KeepAlive,
    /// Where the next request begins can't be known.
    Close,
}

impl Reject {
    /// The reason, whose name is the wire's and the metrics'; `None` where nobody is there to be told.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::MalformedHost => Reason::MalformedHost,
            Self::MalformedRequest(_) | Self::UnknownCoding | Self::ExpectationFailed => {
                Reason::MalformedRequest
            }
            Self::HeadTooLarge | Self::BodyTooLarge => Reason::TooLarge,
            Self::RateLimited => Reason::RateLimited,
            Self::MethodRefused => Reason::MethodRefused,
            Self::Misdirected => Reason::Misdirected,
            Self::Blocked(verdict) => Reason::try_from(*verdict).unwrap_or(Reason::Unavailable),
            Self::Unavailable => Reason::Unavailable,
            // For a client that is denied there is none.
            Self::NoSite | Self::Denied => Reason::NoSite,
            Self::Redirect(_) => Reason::Redirect,
            Self::Loop => Reason::Loop,
            Self::RequestTimeout => Reason::RequestTimeout,
            Self::UpstreamError(_) => Reason::UpstreamError,
            Self::UpstreamTimeout => Reason::UpstreamTimeout,
            Self::Overloaded | Self::Shed => Reason::Overloaded,
            Self::Cut => Reason::Unavailable,
            Self::ClientGone | Self::ClientStalled => return None,
        })
    }

    /// The status code; `blocked` is the operator's choice for blocked names (451 or 403).
    #[must_use]
    pub fn status(&self, blocked: u16) -> u16 {
        match self {
            Self::MalformedHost | Self::MalformedRequest(_) => 400,
            Self::UnknownCoding => 501,
            Self::ExpectationFailed => 417,
            Self::HeadTooLarge => 431,
            Self::BodyTooLarge => 413,
            Self::RateLimited => 429,
            Self::MethodRefused => 405,
            Self::Misdirected => 421,
            Self::Blocked(_) => blocked,
            Self::NoSite | Self::Denied => 404,
            Self::Redirect(redirection) => redirection.status,
            Self::Loop => 508,
            Self::RequestTimeout => 408,
            Self::UpstreamError(_) | Self::ClientGone | Self::ClientStalled => 502,
            Self::UpstreamTimeout => 504,
            Self::Unavailable | Self::Overloaded | Self::Shed | Self::Cut => 503,
        }
    }

    /// Detail for the log: never shown to strangers.
    #[must_use]
    pub fn detail(&self) -> Option<&'static str> {
        match self {
            Self::MalformedRequest(why) | Self::UpstreamError(why) => Some(why),
            Self::Denied => Some("denied: the client's address"),
            Self::Shed => Some("shed: too much to do"),
            Self::Cut => Some("cut: no longer allowed"),
            Self::ClientStalled => Some("the client did not take its answer"),
            _ => None,
        }
    }

    /// What becomes of an HTTP/1 connection.
    #[must_use]
    pub fn afterwards(&self) -> Afterwards {
        match self {
            Self::Blocked(_)
            | Self::Unavailable
            | Self::NoSite
            | Self::Denied
            | Self::Misdirected
            | Self::Loop => Afterwards::KeepAlive,
            Self::UpstreamError(_) | Self::UpstreamTimeout | Self::Overloaded | Self::RateLimited => {
                Afterwards::KeepAlive
            }
            Self::Redirect(_) => Afterwards::KeepAlive,
            _ => Afterwards::Close,
        }
    }
}
