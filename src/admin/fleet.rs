//! The registry's word on all its gates, on a name's history and on what is due: asked when an operator asks.

use crate::config::Trust;
use crate::link::{LinkError, secured};
use serde_json::Value;
use std::time::Duration;

/// A registry on this machine or the next answers soon or not at all.
const PATIENCE: Duration = Duration::from_secs(3);
/// Octets of an answer.
const MAX_ANSWER: usize = 1 << 20;

/// Why the registry can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Its TLS.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The client.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

/// Where the registry is.
#[derive(Debug, Clone)]
pub struct Fleet {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
    provider: String,
}

impl Fleet {
    /// Of a registry's base URL.
    ///
    /// # Errors
    /// The files of `trust` are no good, or the system lends no client.
    pub fn new(url: &str, token: Option<String>, provider: &str, trust: &Trust) -> Result<Self, FleetError> {
        let client = secured(reqwest::Client::builder().no_proxy().timeout(PATIENCE), trust)?;
        Ok(Self { client: client.build()?, url: url.to_owned(), token, provider: provider.to_owned() })
    }

    /// The gates that follow the registry for this provider.
    pub(super) async fn gates(&self) -> Result<Value, String> {
        self.ask("/v1/feed/followers", &[("provider", &self.provider)]).await
    }

    /// The filing that covers a name, as the registry has it.
    pub(super) async fn filing(&self, domain: &str) -> Result<Value, String> {
        self.ask(&format!("/v1/filings/{domain}"), &[("provider", &self.provider)]).await
    }

    /// What happened to a filed name.
    pub(super) async fn history(&self, domain: &str) -> Result<Value, String> {
        self.ask(&format!("/v1/filings/{domain}/history"), &[]).await
    }

    /// What is due.
    pub(super) async fn due(&self) -> Result<Value, String> {
        self.ask("/v1/due", &[]).await
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url), query)
            .map_err(|error| error.to_string())?;
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let without_url = |error: reqwest::Error| error.without_url().to_string();
        let response = request.send().await.map_err(without_url)?;
        let status = response.status();
        if response.content_length().is_some_and(|octets| octets > MAX_ANSWER as u64) {
            return Err("the registry's answer is too large to show".to_owned());
        }
        let body = response.bytes().await.map_err(without_url)?;
        if !status.is_success() {
            return Err(format!("the registry answered {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}
