//! `/v1/feed`: a provider's whole state at one position, and what changed after a position.

use super::base::{Base, BaseError};
use super::changes::Follower;
use super::extract::Params;
use super::hold::Hold;
use super::problem::Problem;
use super::routes::{Api, ended};
use super::rules;
use super::store::now_ms;
use super::view::{Layers, Repair};
use crate::feed::{
    Digest, Frame, FrameReader, HEARTBEAT_INTERVAL, MAX_SNAPSHOT_FRAME_ENTRIES, MEDIA_TYPE, Position, Summary,
};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};

/// Octets of a snapshot that are read at once.
const PIECE_BYTES: usize = 256 << 10;
/// The longest body that asks for a repair: a frame of all ranges has 73,791 octets.
const MAX_REPAIR_BYTES: usize = 80 << 10;
/// Ranges of a repair whose entries are read before they are sent.
const RANGES_AT_ONCE: usize = 16;
/// Frames of a repair that wait to be sent.
const QUEUED_FRAMES: usize = 4;

/// `?provider=`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotQuery {
    provider: String,
}

/// `?provider=&epoch=&after=`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    provider: String,
    epoch: u64,
    after: u64,
}

/// `GET /v1/feed/snapshot`
pub(super) async fn snapshot(
    State(api): State<Api>,
    Params(SnapshotQuery { provider }): Params<SnapshotQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    hold(&api, &provider).await?;
    let base = api.registry.feed.snapshot(&provider, now_ms()).ok_or_else(being_made)?;
    let (start, length) = (rest_of(&headers, &base).unwrap_or_default(), base.length());
    if start >= length {
        return Err(Problem::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range_not_satisfiable",
            format!("the snapshot has {length} octets"),
            "请求的范围超出快照长度",
        ));
    }
    let etag = base.etag().to_owned();
    let mut response = octets(Body::from_stream(stream::try_unfold((base, start), piece)));
    let headers = response.headers_mut();
    let value = |text: String| HeaderValue::try_from(text).expect("digits and quotes are a value");
    headers.insert(header::ETAG, value(etag));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length - start));
    if start > 0 {
        headers.insert(header::CONTENT_RANGE, value(format!("bytes {start}-{}/{length}", length - 1)));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Where to go on in this very file, if that is what is asked for (RFC 9110 §13.1.5, §14.1.2).
fn rest_of(headers: &HeaderMap, base: &Base) -> Option<u64> {
    if headers.get(header::IF_RANGE)?.as_bytes() != base.etag().as_bytes() {
        return None;
    }
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

async fn piece((base, at): (Arc<Base>, u64)) -> io::Result<Option<(Bytes, (Arc<Base>, u64))>> {
    if at >= base.length() {
        return Ok(None);
    }
    let read = tokio::task::spawn_blocking(move || (base.octets(at, PIECE_BYTES), base)).await;
    let (octets, base) = read.map_err(io::Error::other)?;
    let octets = octets.map_err(io::Error::other)?;
    let next = at + octets.len() as u64;
    Ok(Some((octets.into(), (base, next))))
}

/// `POST /v1/feed/repair`
pub(super) async fn repair(
    State(api): State<Api>,
    Params(SnapshotQuery { provider }): Params<SnapshotQuery>,
    body: Body,
) -> Result<Response, Problem> {
    rules::provider(&provider)?;
    let body = axum::body::to_bytes(body, MAX_REPAIR_BYTES).await.map_err(|_| {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("a frame of all ranges has less than {MAX_REPAIR_BYTES} octets"),
            "请求内容过大",
        )
    })?;
    let Some((epoch, theirs)) = ranges_in(&body) else {
        return Err(Problem::bad_request(
            "malformed_frame",
            "the body is not one whole frame of ranges",
            "请求内容不是一个完整的区间帧",
        ));
    };
    hold(&api, &provider).await?;
    let found = api.registry.feed.repair(&provider, epoch, &theirs, now_ms()).ok_or_else(retry)?;
    let Ok(Repair { summary, ranges, layers }) = found else {
        return Err(Problem::new(
            StatusCode::GONE,
            "too_different",
            "too little is the same: begin with a snapshot",
            "差异过大，请重新获取快照",
        ));
    };
    let (send, frames) = mpsc::channel(QUEUED_FRAMES);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write_repair(summary, ranges, &layers.sorted(), &send) {
            tracing::error!(%error, "a repair broke off");
            // The body ends as one that is not whole.
            let _ = send.blocking_send(Err(io::Error::other(error)));
        }
    });
    let frames = stream::unfold(frames, async |mut frames| Some((frames.recv().await?, frames)));
    Ok(octets(Body::from_stream(frames)))
}

fn ranges_in(body: &[u8]) -> Option<(u64, Vec<(u16, Digest)>)> {
    let mut reader = FrameReader::default();
    reader.push(body);
    let frame = reader.next_frame().ok()??;
    reader.finish().ok()?;
    match frame {
        Frame::Ranges { summary, ranges } => Some((summary.position.epoch, ranges)),
        _ => None,
    }
}

/// Sends the answer's frames; nobody to send them to is no error. Blocks.
fn write_repair(
    summary: Summary,
    ranges: Vec<(u16, Digest)>,
    layers: &Layers,
    to: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), BaseError> {
    let send = |frame: Frame| to.blocking_send(Ok(frame.to_bytes())).is_ok();
    let numbers: Vec<_> = ranges.iter().map(|(range, _)| usize::from(*range)).collect();
    let mut is_heard = send(Frame::Ranges { summary, ranges });
    let mut entries = Vec::new();
    for run in numbers.chunks(RANGES_AT_ONCE) {
        if !is_heard {
            return Ok(());
        }
        layers.each(run.iter().copied(), |entry| {
            entries.push(entry);
            if entries.len() == MAX_SNAPSHOT_FRAME_ENTRIES {
                is_heard &= send(Frame::Entries(std::mem::take(&mut entries)));
            }
            Ok::<_, BaseError>(())
        })?;
        if !entries.is_empty() {
            is_heard &= send(Frame::Entries(std::mem::take(&mut entries)));
        }
    }
    send(Frame::End);
    Ok(())
}

/// `GET /v1/feed/changes`
pub(super) async fn changes(
    State(api): State<Api>,
    Params(ChangesQuery { provider, epoch, after }): Params<ChangesQuery>,
) -> Result<Response, Problem> {
    if !api.registry.feed.is_vouched() {
        return Err(database_away());
    }
    hold(&api, &provider).await?;
    let permit = api.registry.feed.streams.clone().try_acquire_owned().map_err(|_| too_many())?;
    let position = Position { epoch, seq: after };
    let mut opened = api.registry.feed.follow(&provider, position, now_ms()).ok_or_else(retry)?;
    if opened.is_err() {
        api.registry.hear_log().await;
        // Another registry of this database may have told the follower of what was not heard here yet.
        opened = api.registry.feed.follow(&provider, position, now_ms()).ok_or_else(retry)?;
    }
    let Ok((follower, summary)) = opened else {
        api.registry.renew_if_put_back(position).await?;
        return Err(Problem::new(
            StatusCode::GONE,
            "position_not_kept",
            "changes after this position are not kept: begin with a snapshot",
            "该位置之后的变更已不再保留，请重新获取快照",
        ));
    };
    let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let first = Some(Frame::Heartbeat(summary).to_bytes());
    let open = Open { first, follower, ticks, shutdown: api.shutdown.clone(), _permit: permit };
    Ok(octets(Body::from_stream(stream::unfold(open, next))))
}

/// An open stream of changes.
struct Open {
    first: Option<Bytes>,
    follower: Follower,
    ticks: Interval,
    shutdown: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

async fn next(mut open: Open) -> Option<(Result<Bytes, Infallible>, Open)> {
    if let Some(first) = open.first.take() {
        return Some((Ok(first), open));
    }
    loop {
        if *open.shutdown.borrow() {
            return None;
        }
        if let Some(step) = open.follower.step().ok()? {
            open.ticks.reset();
            return Some((Ok(step.octets), open));
        }
        tokio::select! {
            () = open.follower.rung() => {}
            () = ended(open.shutdown.clone()) => return None,
            _ = open.ticks.tick() => {
                if !open.follower.is_vouched() {
                    return None;
                }
                let summary = open.follower.heartbeat(now_ms()).ok()?;
                return Some((Ok(Frame::Heartbeat(summary).to_bytes()), open));
            }
        }
    }
}

async fn hold(api: &Api, provider: &str) -> Result<(), Problem> {
    rules::provider(provider)?;
    match api.registry.hold_view(provider).await? {
        Hold::Held => Ok(()),
        Hold::TooMany => Err(too_many()),
        Hold::BeingMade => Err(being_made()),
    }
}

fn octets(body: Body) -> Response {
    ([(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

fn retry() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "new_epoch",
        "a new epoch has just begun: ask again",
        "新的数据周期刚刚开始，请重试",
    )
}

fn being_made() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "snapshot_being_made",
        "the snapshot is being made: ask again",
        "快照正在生成，请稍后重试",
    )
}

fn database_away() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "database_away",
        "this registry's database can't be reached, so it does not know whether it is current: ask another",
        "注册库的数据库无法访问，无法确认数据是否最新；请改用其他注册库",
    )
}

fn too_many() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_followers",
        "as many providers or streams are followed as this registry has room for",
        "订阅数量已达上限",
    )
}
