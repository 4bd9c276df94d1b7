//! The wait for a response head: how long for, and what ends it early.

use super::{Tries, Worker};
use crate::gate::body::BodySource;
use crate::gate::exchange::Failure;
use crate::gate::forward::Forward;
use crate::gate::grpc;
use crate::gate::pace::Pace;
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, RequestHead};
use crate::gate::route::Target;
use crate::gate::watch::{Expired, Watch};
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How long a client that sends nothing more is taken to wait for its answer: some say so when their request is
/// out, but most are gone.
const HUNG_UP_GRACE: Duration = Duration::from_secs(5);

impl Worker {
    pub(super) async fn response_head(
        &self,
        exchange: &mut Forward,
        (head, body): (&RequestHead, &mut impl BodySource),
        (watch, target): (&Watch, &Target),
        tries: &mut Tries,
    ) -> Result<(), Failure> {
        let (body_timeout, mut pace) = {
            let limits = &self.rules().limits;
            // What comes message by message has no pace.
            let has_none = head.body == BodyLength::None || head.is_grpc();
            let rate = if has_none { 0 } else { limits.min_rate };
            (limits.body_timeout, Pace::new(rate, limits.body_timeout))
        };
        let deadline = grpc::timeout(head).map(|time| self.clock.now() + time);
        let left = |deadline: Instant| deadline.saturating_duration_since(self.clock.now());
        let within = |limit: Duration| watch.within(deadline.map_or(limit, |it| left(it).min(limit)));
        within(tries.left(self.clock.now(), target.timeouts.response));
        let mut seen = 0;
        poll_fn(|cx| {
            if let Err(expired) = watch.check(cx) {
                // The client's own deadline is nobody's fault.
                let is_over = deadline.is_some_and(|it| left(it).is_zero());
                let late = match expired {
                    Expired::Cut => Reject::Cut,
                    _ if tries.has_hung_up => Reject::ClientGone,
                    _ if is_over || exchange.waits_for_client() => Reject::RequestTimeout,
                    _ => {
                        exchange.overdue();
                        Reject::UpstreamTimeout
                    }
                };
                return Poll::Ready(Err(late.into()));
            }
            let polled = exchange.poll_head(cx, head, body);
            if polled.is_pending() && exchange.body_octets() != seen {
                seen = exchange.body_octets();
                if !pace.keeps(self.clock.now(), exchange.waits_for_client(), seen) {
                    return Poll::Ready(Err(Reject::RequestTimeout.into()));
                }
                within(if exchange.waits_for_client() { body_timeout } else { target.timeouts.response });
            }
            if !tries.has_hung_up && body.has_hung_up() {
                watch.within(tries.hung_up(self.clock.now(), HUNG_UP_GRACE.min(target.timeouts.response)));
                let _ = watch.check(cx);
            }
            polled
        })
        .await
    }
}
