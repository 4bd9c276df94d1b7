//! Where body octets come from, whichever protocol they arrive by.

use crate::gate::buffer::BUFFER_BYTES;
use crate::gate::reject::Reject;
use std::task::{Context, Poll};

/// A body being read: octets are looked at where they lie and used up as they are passed on, so that the
/// reader's pace is the sender's.
pub trait BodySource {
    /// Waits for octets: `true` when `data` has some, `false` when the body is whole.
    ///
    /// # Errors
    /// The body ended early or is malformed, or its sender is gone.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Reject>>;

    /// The octets that are there.
    fn data(&self) -> &[u8];

    /// Uses up octets from the front of `data`.
    fn consume(&mut self, octets: usize);

    /// What followed the body and may be passed on, once it is whole; taken once.
    fn take_trailers(&mut self) -> Option<http::HeaderMap> {
        None
    }

    /// Whether the sender has said that it sends nothing more, ever: it may be gone, or wait for its answer.
    fn has_hung_up(&self) -> bool {
        false
    }

    /// Octets of its answer that the sender's connection has room for now.
    fn room(&self) -> usize {
        BUFFER_BYTES
    }

    /// Notices a sender that is gone while nothing is read from it; takes no octet from anybody.
    ///
    /// # Errors
    /// `ClientGone`.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Result<(), Reject>;
}
