//! A response body that reaches its reader changed, or looked at: the same questions, answered through a `Transform`.

use super::Forward;
use crate::gate::reject::Reject;
use crate::gate::transform::Transform;
use std::task::{Context, Poll};

impl Forward {
    /// From here on the body is read through `transform`; nothing of it may have been read yet.
    pub fn change_body(&mut self, transform: Transform) {
        if !self.is_done() {
            self.transform = Some(Box::new(transform));
        }
    }

    /// Response body octets that are there.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.transform.as_ref().map_or_else(|| self.own_data(), |transform| transform.data())
    }

    /// Uses up response body octets.
    pub fn consume(&mut self, octets: usize) {
        match &mut self.transform {
            Some(transform) => transform.consume(octets),
            None => self.consume_own(octets),
        }
    }

    /// As `poll_data`, through the transform.
    pub(super) fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Reject>> {
        loop {
            let Some(transform) = &self.transform else { return self.poll_own_data(cx) };
            if !transform.data().is_empty() {
                return Poll::Ready(Ok(true));
            }
            if transform.has_ended() {
                return Poll::Ready(Ok(false));
            }
            let polled = self.poll_own_data(cx)?;
            let Some(mut transform) = self.transform.take() else { continue };
            let done = match polled {
                Poll::Ready(true) => transform.push(self.own_data()).map(|taken| self.consume_own(taken)),
                Poll::Ready(false) => transform.end(),
                Poll::Pending => transform.flush(),
            };
            let is_waiting = polled.is_pending() && transform.data().is_empty();
            self.transform = Some(transform);
            done?;
            if is_waiting {
                return Poll::Pending;
            }
        }
    }
}
