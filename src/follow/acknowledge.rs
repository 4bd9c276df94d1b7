//! Tells the registry what is in force here: the newest position only, one message at a time.

use super::pace::Pace;
use super::stats::{FollowStats, count};
use super::stream::{Ask, Registry};
use crate::cache::FilingCache;
use crate::feed::Position;
use http::StatusCode;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Sends acknowledgements.
pub(super) struct Acknowledger {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) cache: Arc<FilingCache>,
    pub(super) stats: Arc<FollowStats>,
    pub(super) provider: Box<str>,
    pub(super) gate: Box<str>,
    pub(super) pace: Pace,
    /// A word of the registry came true here.
    pub(super) wanted: Arc<Notify>,
}

impl Acknowledger {
    /// Sends as asked, forever.
    pub(super) async fn run(self) -> Infallible {
        let mut last: Option<(Position, Instant)> = None;
        loop {
            self.wanted.notified().await;
            let status = self.cache.status();
            let is_known = last
                .is_some_and(|(at, since)| at == status.position && since.elapsed() < self.pace.say_again);
            if status.position.epoch == 0 || is_known {
                continue;
            }
            let body = serde_json::json!({
                "provider": self.provider,
                "gate": self.gate,
                "epoch": status.position.epoch,
                "seq": status.position.seq,
                "digest": status.digest.to_string(),
                "lag_ms": status.lag_ms,
            });
            let asked = self.registry.ask(Ask::Acknowledge(body.to_string().into()));
            let pause = match timeout(self.pace.acknowledge, asked).await {
                Ok(Ok(reply)) if reply.status.is_success() => {
                    count(&self.stats.acknowledgements);
                    last = Some((status.position, Instant::now()));
                    self.pace.between_acknowledgements
                }
                // A registry that doesn't know of them.
                Ok(Ok(reply)) if reply.status == StatusCode::NOT_FOUND => self.pace.say_again,
                _ => {
                    count(&self.stats.acknowledgement_errors);
                    self.wanted.notify_one();
                    self.pace.acknowledge_retry
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}
