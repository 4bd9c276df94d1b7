//! One event on its way to one receiver: signed, sent once, and what the receiver said.

use super::queue::Event;
use super::signature::signature;
use crate::config::Webhook;
use jiff::Timestamp;
use reqwest::{Certificate, Client, StatusCode, redirect};
use std::io;
use std::time::Duration;

/// From a connection's beginning to the end of the receiver's answer's head.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Before the second try; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Between two tries at most.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_mins(15);

/// A receiver.
#[derive(Debug)]
pub(super) struct Hook {
    pub(super) config: Webhook,
    client: Client,
    /// An event is under way.
    pub(super) is_busy: bool,
}

impl Hook {
    pub(super) fn new(config: Webhook) -> io::Result<Self> {
        let mut client = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(ANSWER_TIME);
        if let Some(path) = &config.ca_file {
            let wrong = |reason: String| {
                io::Error::other(format!("webhook.ca_file: can't use {}: {reason}", path.display()))
            };
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let found = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
            client = client.tls_certs_only(found);
        }
        let client = client.build().map_err(io::Error::other)?;
        Ok(Self { config, client, is_busy: false })
    }
}

/// Why an event was not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// It will never be taken.
    pub(super) is_final: bool,
}

/// Longer with each failure, and a little apart from others who fail at once.
pub(super) fn pause(failed: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failed.min(16)).min(LONGEST_PAUSE);
    let mut random = [0];
    // Without randomness the pause is only more regular.
    let _ = getrandom::fill(&mut random);
    longest - longest * u32::from(random[0]) / 1024
}

/// The event as it is sent now.
pub(super) fn request(hook: &Hook, event: &Event) -> reqwest::RequestBuilder {
    let at_s = Timestamp::now().as_second();
    hook.client
        .post(&hook.config.url)
        .header("content-type", "application/json")
        .header("user-agent", concat!("beian-gate/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", &event.id)
        .header("webhook-timestamp", at_s.to_string())
        .header("webhook-signature", signature(&hook.config.secret, &event.id, at_s, &event.body))
        .body(event.body.clone())
}

/// Sends it once.
pub(super) async fn deliver(request: reqwest::RequestBuilder) -> Result<(), Refusal> {
    let response = request.send().await.map_err(|error| {
        // Some receivers know callers by a word in the URL: it is told to nobody.
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Refusal { why: cause, is_final: false }
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    Err(Refusal { why: format!("answered {status}"), is_final: status == StatusCode::GONE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        for failed in 0..40 {
            let (pause, most) = (pause(failed), FIRST_PAUSE.saturating_mul(1 << failed.min(16)));
            assert!(
                pause <= most.min(LONGEST_PAUSE)
                    && pause >= most.min(LONGEST_PAUSE) * 3 / 4 - FIRST_PAUSE / 64
            );
        }
    }
}
