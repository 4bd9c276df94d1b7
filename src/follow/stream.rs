//! One request to a registry's feed, its answer as frames, and what can go wrong with that.

use super::pace::Pace;
use super::stats::Refused;
use crate::cache::{AssemblyError, Refusal};
use crate::feed::{Frame, FrameError, FrameReader, MEDIA_TYPE};
use reqwest::{Client, Response, StatusCode, Url, header};
use std::time::Duration;
use tokio::time::timeout;

/// Why following stopped for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the registry can't be reached: {}", chain(.0))]
    Http(reqwest::Error),
    #[error("the registry answered {0}")]
    Status(StatusCode),
    #[error("changes after the held position are no longer kept")]
    Gone,
    #[error("the registry was silent for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("the registry ended the stream")]
    Ended,
    #[error("the stream ended before its end")]
    Truncated,
    #[error("a frame that does not belong in a stream of changes")]
    Order,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    #[error(transparent)]
    Refusal(#[from] Refusal),
}

impl Failure {
    /// The kind, where something the registry sent was refused.
    pub(super) fn refused(&self) -> Option<Refused> {
        Some(match self {
            Self::Http(_) | Self::Status(_) | Self::Gone | Self::Silent(_) | Self::Ended => return None,
            Self::Truncated | Self::Frame(FrameError::Truncated) => Refused::Truncated,
            Self::Frame(_) => Refused::Frame,
            Self::Order | Self::Assembly(AssemblyError::Order) => Refused::Order,
            Self::Assembly(AssemblyError::Provider(_)) => Refused::Provider,
            Self::Assembly(AssemblyError::Digest | AssemblyError::Duplicate) => Refused::Digest,
            Self::Refusal(Refusal::Digest) => Refused::Digest,
            Self::Refusal(Refusal::Epoch { .. }) => Refused::Epoch,
            Self::Refusal(Refusal::Position { .. } | Refusal::NeverSynced) => Refused::Position,
            Self::Refusal(Refusal::Held(_)) => Refused::Held,
        })
    }

    /// Whether changes can't lead from what is held to what the registry holds.
    pub(super) fn needs_snapshot(&self) -> bool {
        match self {
            Self::Gone => true,
            Self::Refusal(refusal) => !matches!(refusal, Refusal::Held(_)),
            _ => false,
        }
    }
}

/// The error with its causes, without the URL (it is in the config) or anything of the request.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    if text.is_empty() { "request failed".into() } else { text }
}

/// Where the feed is, and how to ask.
pub(super) struct Feed {
    pub(super) client: Client,
    /// Up to and with `/v1/feed/`.
    pub(super) base: Url,
    /// Never logged: marked as sensitive.
    pub(super) authorization: Option<header::HeaderValue>,
    pub(super) provider: Box<str>,
}

impl Feed {
    /// Asks, and gives the answer's frames.
    pub(super) async fn open(
        &self,
        what: &str,
        parameters: &[(&str, u64)],
        pace: &Pace,
    ) -> Result<Frames, Failure> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{what}", self.base.path()));
        url.query_pairs_mut().append_pair("provider", &self.provider);
        for (name, value) in parameters {
            url.query_pairs_mut().append_pair(name, &value.to_string());
        }
        let mut request = self.client.get(url).header(header::ACCEPT, MEDIA_TYPE);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.clone());
        }
        let answer = timeout(pace.response, request.send()).await;
        let response = answer.map_err(|_| Failure::Silent(pace.response))?.map_err(Failure::Http)?;
        match response.status() {
            StatusCode::OK => Ok(Frames { response, reader: FrameReader::default() }),
            StatusCode::GONE => Err(Failure::Gone),
            status => Err(Failure::Status(status)),
        }
    }
}

/// An answer's frames as they arrive.
#[derive(Debug)]
pub(super) struct Frames {
    response: Response,
    reader: FrameReader,
}

impl Frames {
    /// The next frame; none at the end. No more than `silence` passes between octets.
    pub(super) async fn next(&mut self, silence: Duration) -> Result<Option<Frame>, Failure> {
        loop {
            if let Some(frame) = self.reader.next_frame()? {
                return Ok(Some(frame));
            }
            let chunk = timeout(silence, self.response.chunk()).await;
            match chunk.map_err(|_| Failure::Silent(silence))? {
                Ok(Some(octets)) => self.reader.push(&octets),
                Ok(None) => {
                    self.reader.finish()?;
                    return Ok(None);
                }
                Err(_) if self.reader.finish().is_err() => return Err(Failure::Truncated),
                Err(error) => return Err(Failure::Http(error)),
            }
        }
    }
}
