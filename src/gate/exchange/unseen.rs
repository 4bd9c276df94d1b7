//! A large response body in clear, moved from socket to socket without being looked at.

use super::Exchange;
use crate::gate::reject::Reject;
use crate::gate::splice::{self, Splice};
use std::task::{Context, Poll};
use tokio::net::TcpStream;

impl Exchange {
    /// Octets of response body that may be moved unseen, from the socket itself: none are held here.
    #[must_use]
    pub fn unseen_octets(&self) -> u64 {
        let is_bare =
            self.found == 0 && self.channel.input.is_empty() && self.channel.stream.clear().is_some();
        if is_bare { self.decoder.plain_octets() } else { 0 }
    }

    /// Moves response body octets to `to` unseen. Ready when all `unseen_octets` have arrived.
    ///
    /// # Errors
    /// It broke off, or the client is gone.
    pub fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        splice: &mut Splice,
        to: &TcpStream,
    ) -> Poll<Result<(), Reject>> {
        let Some(from) = self.channel.stream.clear() else { return Poll::Ready(Ok(())) };
        let before = self.decoder.plain_octets();
        let mut left = before;
        let polled = splice.poll(cx, (from, to), &mut left);
        self.decoder.skip(before - left);
        polled.map(|result| match result {
            Ok(true) => Ok(()),
            Ok(false) | Err(splice::Failure::From(_)) => Err(Reject::UpstreamError("its response broke off")),
            Err(splice::Failure::To(_)) => Err(Reject::ClientGone),
        })
    }
}
