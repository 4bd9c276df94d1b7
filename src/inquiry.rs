//! What registries know beside filings, asked when somebody wants to see it: all gates, a name's filing and history, what
//! is due.
//!
//! Registries of one database know the same of filings; each knows those gates that follow it. Knows nothing of who asks.

mod numbers;

pub use numbers::learn_numbers;

use crate::config::Trust;
use crate::link::{LinkError, secured};
use serde_json::{Value, json};
use std::time::Duration;

/// A registry on this machine or the next answers soon or not at all.
const PATIENCE: Duration = Duration::from_secs(3);
/// Octets of an answer.
const MAX_ANSWER: usize = 4 << 20;
/// What is due that is asked for at once.
const MAX_DUE: &str = "10000";

/// Why registries can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum InquiryError {
    /// Their TLS.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The client.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

/// Where the registries are.
#[derive(Debug, Clone)]
pub struct Registries {
    client: reqwest::Client,
    urls: Vec<String>,
    token: Option<String>,
    provider: String,
}

impl Registries {
    /// Of registries' base URLs.
    ///
    /// # Errors
    /// The files of `trust` are no good, or the system lends no client.
    pub fn new(
        urls: Vec<String>,
        token: Option<String>,
        provider: &str,
        trust: &Trust,
    ) -> Result<Self, InquiryError> {
        let client = secured(reqwest::Client::builder().no_proxy().timeout(PATIENCE), trust)?;
        Ok(Self { client: client.build()?, urls, token, provider: provider.to_owned() })
    }

    /// The gates that follow any of the registries for this provider (`gates`), each with the registry that heard of it
    /// last; and what became of asking each registry (`registries`).
    pub async fn gates(&self) -> Value {
        let query = [("provider", self.provider.as_str())];
        let asked = self.urls.iter().map(|url| self.ask_one(url, "/v1/feed/followers", &query));
        merged(&self.urls, futures_util::future::join_all(asked).await)
    }

    /// The filing that covers a name, as the registry has it.
    ///
    /// # Errors
    /// Why no registry gave it.
    pub async fn filing(&self, domain: &str) -> Result<Value, String> {
        self.ask(&format!("/v1/filings/{domain}"), &[("provider", &self.provider)]).await
    }

    /// What happened to a filed name.
    ///
    /// # Errors
    /// Why no registry gave it.
    pub async fn history(&self, domain: &str) -> Result<Value, String> {
        self.ask(&format!("/v1/filings/{domain}/history"), &[]).await
    }

    /// What is due up to a day.
    ///
    /// # Errors
    /// Why no registry gave it.
    pub async fn due(&self, before: jiff::civil::Date) -> Result<Value, String> {
        self.ask("/v1/due", &[("before", &before.to_string()), ("limit", MAX_DUE)]).await
    }

    /// Asks one after the other until one knows.
    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let mut said = "no registry is configured".to_owned();
        for url in &self.urls {
            match self.ask_one(url, path, query).await {
                Ok(answer) => return Ok(answer),
                Err(error) => said = error,
            }
        }
        Err(said)
    }

    async fn ask_one(&self, url: &str, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = reqwest::Url::parse_with_params(&format!("{url}{path}"), query)
            .map_err(|error| error.to_string())?;
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let without_url = |error: reqwest::Error| error.without_url().to_string();
        let mut response = request.send().await.map_err(without_url)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(without_url)? {
            if body.len() + piece.len() > MAX_ANSWER {
                return Err("the registry's answer is too large to show".to_owned());
            }
            body.extend_from_slice(&piece);
        }
        if !status.is_success() {
            return Err(format!("the registry answered {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}

/// Where a registry is, without what a path may say.
fn place(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest.split('/').next().unwrap_or(rest))
}

/// Answers of all registries as one: a gate that several heard of is shown as the latest word says.
fn merged(urls: &[String], answers: Vec<Result<Value, String>>) -> Value {
    let (mut gates, mut registries) = (Vec::<Value>::new(), Vec::new());
    for (url, answer) in urls.iter().zip(answers) {
        let followers = answer.as_ref().ok().and_then(|it| it["followers"].as_array());
        let heard_of = followers.map_or(0, Vec::len);
        registries.push(json!({ "registry": place(url), "gates": heard_of, "error": answer.as_ref().err() }));
        for follower in followers.into_iter().flatten() {
            let mut follower = follower.clone();
            follower["registry"] = place(url).into();
            let heard = |it: &Value| it["heard_seconds_ago"].as_u64().unwrap_or(u64::MAX);
            match gates.iter_mut().find(|it| it["gate"] == follower["gate"]) {
                Some(known) if heard(known) > heard(&follower) => *known = follower,
                Some(_) => {}
                None => gates.push(follower),
            }
        }
    }
    gates.sort_by(|a, b| a["gate"].as_str().cmp(&b["gate"].as_str()));
    json!({ "gates": gates, "registries": registries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registry_is_heard() {
        let urls = ["http://a:1/x", "http://b:2", "https://c"].map(str::to_owned);
        let follower = |gate: &str, ago: u64| json!({ "gate": gate, "heard_seconds_ago": ago });
        let answers = vec![
            Ok(json!({ "followers": [follower("two", 9), follower("one", 9)] })),
            Ok(json!({ "followers": [follower("two", 1), follower("three", 0)] })),
            Err("away".to_owned()),
        ];
        let all = merged(&urls, answers);
        let shown: Vec<_> =
            all["gates"].as_array().unwrap().iter().map(|it| (&it["gate"], &it["registry"])).collect();
        assert_eq!(json!(shown), json!([["one", "a:1"], ["three", "b:2"], ["two", "b:2"]]));
        assert_eq!(all["registries"][2], json!({ "registry": "c", "gates": 0, "error": "away" }));
    }
}
