//! What becomes of the connection after an exchange.

use super::{Exchange, Sending};
use crate::gate::endpoint::Lease;
use crate::gate::pool::Pool;
use crate::gate::stream::Channel;
use std::time::Instant;

impl Exchange {
    /// Puts the connection back if nothing is left over on it.
    pub fn finish(mut self: Box<Self>, pool: &Pool, now: Instant) {
        let is_clean = self.is_done()
            && self.sending == Sending::Done
            && self.channel.is_flushed()
            && self.channel.input.is_empty()
            && !self.channel.is_input_closed;
        if is_clean && self.head.keep_alive && !self.is_switched && self.may_be_kept(now) {
            self.lease.end();
            self.channel.input.release();
            self.channel.output.release();
            pool.put(self, now);
        }
    }

    /// Whether the connection is young enough for another request, and nobody waits for its place.
    #[must_use]
    pub fn may_be_kept(&self, now: Instant) -> bool {
        let endpoint = self.endpoint();
        let keep = &endpoint.way.keep;
        // A PROXY header speaks for one client.
        endpoint.way.proxy_header.is_none()
            && keep.max_requests.is_none_or(|most| self.carried < most)
            && keep.max_age.is_none_or(|most| now.saturating_duration_since(self.made) < most)
            && !endpoint.breaker.as_ref().is_some_and(|breaker| breaker.wants_connections())
    }

    /// The count that it is under.
    pub fn lease_mut(&mut self) -> &mut Lease {
        &mut self.lease
    }

    /// The connection, for a tunnel, and the count that it is under.
    #[must_use]
    pub fn into_tunnel(self) -> (Channel, Lease) {
        (self.channel, self.lease)
    }
}
