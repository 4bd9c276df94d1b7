//! A registry over HTTP: no proxy, no redirect, its token in every request.

use super::pace::Pace;
use super::stream::{Ask, Failure, Registry, Reply};
use super::{FollowError, FollowOptions};
use crate::feed::MEDIA_TYPE;
use crate::link::secured;
use futures_util::future::BoxFuture;
use futures_util::stream::{StreamExt, TryStreamExt};
use reqwest::{Client, Method, Response, Url, header, redirect};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the feed is, and how to ask.
#[derive(Debug)]
pub(super) struct HttpRegistry {
    client: Client,
    /// Each up to and with `/v1/feed/`.
    pub(super) bases: Vec<Url>,
    /// Which of them is asked: counted on, whoever they are.
    turn: AtomicUsize,
    /// Never logged: marked as sensitive.
    authorization: Option<header::HeaderValue>,
    provider: Box<str>,
}

impl HttpRegistry {
    pub(super) fn new(options: &FollowOptions, pace: &Pace) -> Result<Self, FollowError> {
        let bases = options.urls.iter().map(|url| base_of(url)).collect::<Result<Vec<_>, _>>()?;
        if bases.is_empty() {
            return Err(FollowError::Url(String::new()));
        }
        let authorization = match &options.token {
            None => None,
            Some(token) => {
                let value = header::HeaderValue::from_str(&format!("Bearer {token}"));
                let mut value = value.map_err(|_| FollowError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        // No proxy from the environment, and no redirect that a token would follow.
        let client =
            Client::builder().no_proxy().redirect(redirect::Policy::none()).connect_timeout(pace.connect);
        let client = secured(client, &options.trust)?.build().map_err(FollowError::Client)?;
        let provider = options.provider.as_str().into();
        Ok(Self { client, bases, turn: AtomicUsize::new(0), authorization, provider })
    }

    fn base(&self) -> &Url {
        &self.bases[self.turn.load(Ordering::Relaxed) % self.bases.len()]
    }

    fn request(&self, ask: Ask) -> reqwest::RequestBuilder {
        let mut url = self.base().clone();
        let (method, what) = match &ask {
            Ask::Snapshot(_) => (Method::GET, "snapshot"),
            Ask::Changes(_) => (Method::GET, "changes"),
            Ask::Repair(_) => (Method::POST, "repair"),
            Ask::Acknowledge(_) => (Method::POST, "acknowledgements"),
        };
        url.set_path(&format!("{}{what}", url.path()));
        if !matches!(ask, Ask::Acknowledge(_)) {
            url.query_pairs_mut().append_pair("provider", &self.provider);
        }
        if let Ask::Changes(after) = &ask {
            let (epoch, seq) = (after.epoch.to_string(), after.seq.to_string());
            url.query_pairs_mut().append_pair("epoch", &epoch).append_pair("after", &seq);
        }
        let mut request = self.client.request(method, url);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.clone());
        }
        match ask {
            Ask::Snapshot(Some(rest)) => request
                .header(header::ACCEPT, MEDIA_TYPE)
                .header(header::RANGE, format!("bytes={}-", rest.from))
                .header(header::IF_RANGE, &*rest.etag),
            Ask::Snapshot(None) | Ask::Changes(_) => request.header(header::ACCEPT, MEDIA_TYPE),
            Ask::Repair(body) => {
                request.header(header::ACCEPT, MEDIA_TYPE).header(header::CONTENT_TYPE, MEDIA_TYPE).body(body)
            }
            Ask::Acknowledge(body) => request.header(header::CONTENT_TYPE, "application/json").body(body),
        }
    }
}

impl Registry for HttpRegistry {
    fn ask(&self, ask: Ask) -> BoxFuture<'static, Result<Reply, Failure>> {
        let request = self.request(ask);
        Box::pin(async move { request.send().await.map(reply).map_err(|error| unreachable(&error)) })
    }

    fn turn_to_next(&self) {
        if self.bases.len() > 1 {
            self.turn.fetch_add(1, Ordering::Relaxed);
            let base = self.base();
            tracing::info!(host = base.host_str(), port = base.port(), "turning to another registry");
        }
    }
}

fn base_of(url: &str) -> Result<Url, FollowError> {
    let unusable = || FollowError::Url(url.to_owned());
    let mut base = Url::parse(url).map_err(|_| unusable())?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(unusable());
    }
    base.set_path(&format!("{}/v1/feed/", base.path().trim_end_matches('/')));
    base.set_query(None);
    base.set_fragment(None);
    Ok(base)
}

fn reply(response: Response) -> Reply {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    // A weak one does not promise the same octets.
    let etag = text(header::ETAG).filter(|etag| etag.starts_with('"')).map(Into::into);
    let starts_at = text(header::CONTENT_RANGE)
        .and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    let status = response.status();
    let body = response.bytes_stream().map_err(|error| unreachable(&error)).boxed();
    Reply { status, etag, starts_at, body }
}

/// The error's causes, without the URL (it is in the config) or anything of the request.
fn unreachable(error: &reqwest::Error) -> Failure {
    let mut text = String::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    Failure::Unreachable(if text.is_empty() { "request failed".into() } else { text })
}
