//! One request to a registry's feed, its answer as frames, and what can go wrong with that. Knows no socket.

use super::pace::Pace;
use super::stats::Refused;
use crate::cache::{AssemblyError, Refusal};
use crate::feed::{Frame, FrameError, FrameReader, Position};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use http::StatusCode;
use std::time::Duration;
use tokio::time::timeout;

/// Why following stopped for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the registry can't be reached: {0}")]
    Unreachable(String),
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
    #[error("a frame that does not belong there")]
    Order,
    #[error("the ranges that the registry sent do not add up")]
    Ranges,
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
            Self::Unreachable(_) | Self::Status(_) | Self::Gone | Self::Silent(_) | Self::Ended => {
                return None;
            }
            Self::Truncated | Self::Frame(FrameError::Truncated) => Refused::Truncated,
            Self::Frame(_) => Refused::Frame,
            Self::Order | Self::Assembly(AssemblyError::Order) => Refused::Order,
            Self::Assembly(AssemblyError::Provider(_)) => Refused::Provider,
            Self::Ranges
            | Self::Assembly(AssemblyError::Digest | AssemblyError::Duplicate)
            | Self::Refusal(Refusal::Digest) => Refused::Digest,
            Self::Refusal(Refusal::Epoch { .. }) => Refused::Epoch,
            Self::Refusal(Refusal::Position { .. } | Refusal::NeverSynced) => Refused::Position,
            Self::Refusal(Refusal::Held(_)) => Refused::Held,
        })
    }

    /// Whether changes can't lead from what is held to what the registry holds.
    pub(super) fn ends_changes(&self) -> bool {
        match self {
            Self::Gone => true,
            Self::Refusal(refusal) => !matches!(refusal, Refusal::Held(_)),
            _ => false,
        }
    }

    /// Whether no repair can lead there either.
    pub(super) fn ends_repair(&self) -> bool {
        match self {
            Self::Refusal(refusal) => matches!(refusal, Refusal::Epoch { .. } | Refusal::NeverSynced),
            Self::Gone => true,
            // A registry that knows of no repair.
            Self::Status(status) => {
                matches!(*status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
            }
            _ => false,
        }
    }

    /// Whether another registry of the same database may do better.
    pub(super) fn is_of_one_registry(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Status(_) | Self::Silent(_) | Self::Ended | Self::Truncated
        )
    }

    /// Whether what had arrived before is as good as ever.
    pub(super) fn is_cut(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Status(_)
                | Self::Silent(_)
                | Self::Truncated
                | Self::Frame(FrameError::Truncated)
        )
    }
}

/// What a registry is asked for.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// The whole state, or the rest of one.
    Snapshot(Option<Rest>),
    /// The changes after a position.
    Changes(Position),
    /// What differs from these ranges: a frame.
    Repair(Bytes),
    /// To take note of what is in force here: JSON.
    Acknowledge(Bytes),
}

/// The rest of a snapshot that was cut.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    pub(super) from: u64,
    pub(super) etag: Box<str>,
}

/// An answer, its body yet to come.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// A strong one.
    pub(super) etag: Option<Box<str>>,
    /// Where in the whole a part begins.
    pub(super) starts_at: Option<u64>,
    pub(super) body: BoxStream<'static, Result<Bytes, Failure>>,
}

/// Whoever answers for the registry.
pub(super) trait Registry: Send + Sync {
    fn ask(&self, ask: Ask) -> BoxFuture<'static, Result<Reply, Failure>>;

    /// Asks another one from now on, where there is one.
    fn turn_to_next(&self) {}
}

/// Asks, and gives a good answer's frames.
pub(super) async fn open(registry: &dyn Registry, ask: Ask, pace: &Pace) -> Result<Frames, Failure> {
    let wanted = match &ask {
        Ask::Snapshot(rest) => rest.clone(),
        _ => None,
    };
    let reply = timeout(pace.response, registry.ask(ask)).await;
    let Reply { status, etag, starts_at, body } = reply.map_err(|_| Failure::Silent(pace.response))??;
    let from = match (status, wanted) {
        (StatusCode::OK, _) => 0,
        (StatusCode::PARTIAL_CONTENT, Some(rest))
            if starts_at == Some(rest.from) && etag.as_ref() == Some(&rest.etag) =>
        {
            rest.from
        }
        (StatusCode::PARTIAL_CONTENT, _) => return Err(Failure::Order),
        (StatusCode::GONE, _) => return Err(Failure::Gone),
        (status, _) => return Err(Failure::Status(status)),
    };
    Ok(Frames { from, etag, body, reader: FrameReader::default(), whole: from, taken: from })
}

/// An answer's frames as they arrive.
pub(super) struct Frames {
    /// Where in the whole this answer begins.
    pub(super) from: u64,
    pub(super) etag: Option<Box<str>>,
    /// Where the last frame that was given ended.
    pub(super) whole: u64,
    taken: u64,
    body: BoxStream<'static, Result<Bytes, Failure>>,
    reader: FrameReader,
}

impl Frames {
    /// The next frame; none at the end. No more than `silence` passes between octets. May be dropped and called
    /// again.
    pub(super) async fn next(&mut self, silence: Duration) -> Result<Option<Frame>, Failure> {
        loop {
            if let Some(frame) = self.reader.next_frame()? {
                let pending = u64::try_from(self.reader.pending()).unwrap_or(u64::MAX);
                self.whole = self.taken.saturating_sub(pending);
                return Ok(Some(frame));
            }
            let octets = timeout(silence, self.body.next()).await;
            match octets.map_err(|_| Failure::Silent(silence))? {
                Some(Ok(octets)) => {
                    self.taken += u64::try_from(octets.len()).unwrap_or(u64::MAX);
                    self.reader.push(&octets);
                }
                None => {
                    self.reader.finish()?;
                    return Ok(None);
                }
                Some(Err(_)) if self.reader.finish().is_err() => return Err(Failure::Truncated),
                Some(Err(failure)) => return Err(failure),
            }
        }
    }
}
