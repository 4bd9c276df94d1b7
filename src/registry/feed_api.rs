//! `/v1/feed`: a provider's whole state at one position, and what changed after a position.

use super::changes::Follower;
use super::filings::query;
use super::problem::Problem;
use super::routes::{Api, ended};
use super::rules;
use super::store::now_ms;
use crate::feed::{Entry, Frame, HEARTBEAT_INTERVAL, MAX_SNAPSHOT_FRAME_ENTRIES, MEDIA_TYPE, Position};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use std::convert::Infallible;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior};

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
    params: Result<Query<SnapshotQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let provider = query(params)?.provider;
    hold(&api, &provider).await?;
    let (head, entries) = api.registry.feed.snapshot(&provider, now_ms()).ok_or_else(retry)?;
    Ok(octets(Body::from_stream(stream::iter(frames(head, entries).map(Ok::<_, Infallible>)))))
}

/// The frames, each made when it is asked for.
fn frames(head: Frame, entries: Vec<Entry>) -> impl Iterator<Item = Bytes> {
    let mut entries = entries.into_iter();
    let runs = std::iter::from_fn(move || {
        let run: Vec<_> = entries.by_ref().take(MAX_SNAPSHOT_FRAME_ENTRIES).collect();
        if run.is_empty() { None } else { Some(Frame::Entries(run).to_bytes()) }
    });
    std::iter::once(head).map(|it| it.to_bytes()).chain(runs).chain(std::iter::once(Frame::End.to_bytes()))
}

/// `GET /v1/feed/changes`
pub(super) async fn changes(
    State(api): State<Api>,
    params: Result<Query<ChangesQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let ChangesQuery { provider, epoch, after } = query(params)?;
    hold(&api, &provider).await?;
    let permit = api.registry.feed.streams.clone().try_acquire_owned().map_err(|_| too_many())?;
    let position = Position { epoch, seq: after };
    let opened = api.registry.feed.follow(&provider, position, now_ms()).ok_or_else(retry)?;
    let Ok((follower, summary)) = opened else {
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
        if let Some(step) = open.follower.step(now_ms()).ok()? {
            open.ticks.reset();
            return Some((Ok(step.octets), open));
        }
        tokio::select! {
            () = open.follower.rung() => {}
            () = ended(open.shutdown.clone()) => return None,
            _ = open.ticks.tick() => {
                let summary = open.follower.heartbeat(now_ms()).ok()?;
                return Some((Ok(Frame::Heartbeat(summary).to_bytes()), open));
            }
        }
    }
}

async fn hold(api: &Api, provider: &str) -> Result<(), Problem> {
    rules::provider(provider)?;
    api.registry.hold_view(provider).await?.map_err(|_| too_many())
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

fn too_many() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_followers",
        "as many providers or streams are followed as this registry has room for",
        "订阅数量已达上限",
    )
}
