//! What gates say that they enforce, and what that makes of a name's latest change.

use super::acknowledged::{Acknowledged, Gate};
use super::batch::of_json;
use super::extract::{Named, Params};
use super::filings::AsSeenFrom;
use super::problem::Problem;
use super::routes::Api;
use super::{Refusal, Registry, StoreError, rules};
use crate::domain::DomainName;
use crate::feed::{Digest, Position};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Instant;

/// The longest acknowledgement, in octets.
const MAX_ACKNOWLEDGEMENT_BYTES: usize = 1 << 10;

/// A gate's word, as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    provider: Box<str>,
    gate: Box<str>,
    epoch: u64,
    seq: u64,
    digest: String,
    lag_ms: u64,
}

/// `POST /v1/feed/acknowledgements`
pub(super) async fn acknowledge(State(api): State<Api>, body: Body) -> Result<StatusCode, Problem> {
    let body = axum::body::to_bytes(body, MAX_ACKNOWLEDGEMENT_BYTES).await.map_err(|_| {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("an acknowledgement has at most {MAX_ACKNOWLEDGEMENT_BYTES} octets"),
            "请求内容过大",
        )
    })?;
    let Said { provider, gate, epoch, seq, digest, lag_ms } = of_json(&body)?;
    rules::provider(&provider)?;
    rules::gate(&gate)?;
    let digest = rules::digest(&digest)?;
    let said = Acknowledged {
        position: Position { epoch, seq },
        digest: Digest(digest),
        lag_ms,
        heard: Instant::now(),
    };
    api.registry.feed.gates().hear(Gate { provider, name: gate }, said);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/feed/followers`
pub(super) async fn list(
    State(api): State<Api>,
    Params(params): Params<AsSeenFrom>,
) -> Result<Json<Value>, Problem> {
    let provider = provider_in(params)?;
    let gates = api.registry.feed.gates().list(provider.as_deref());
    let now = Instant::now();
    let shown: Vec<_> = gates.iter().map(|(gate, said)| shown(&api.registry, gate, said, now)).collect();
    Ok(Json(json!({ "followers": shown })))
}

fn provider_in(AsSeenFrom { provider }: AsSeenFrom) -> Result<Option<String>, Refusal> {
    provider.as_deref().map(rules::provider).transpose()?;
    Ok(provider)
}

fn shown(registry: &Registry, gate: &Gate, said: &Acknowledged, now: Instant) -> Value {
    let Position { epoch, seq } = said.position;
    let known = registry.feed.compare(&gate.provider, said.position);
    let there = known.and_then(|(there, _)| there);
    let behind = known
        .map(|(_, now)| now.position)
        .filter(|it| it.epoch == epoch)
        .and_then(|it| it.seq.checked_sub(seq));
    json!({
        "gate": gate.name,
        "provider": gate.provider,
        "epoch": epoch,
        "seq": seq,
        "behind": behind,
        "lag_ms": said.lag_ms,
        "heard_seconds_ago": now.saturating_duration_since(said.heard).as_secs(),
        "in_step": there.map(|it| it.digest == said.digest),
    })
}

/// `GET /v1/filings/{domain}/in-force`
pub(super) async fn in_force(
    State(api): State<Api>,
    Named(domain): Named,
    Params(params): Params<AsSeenFrom>,
) -> Result<Json<Value>, Problem> {
    let provider = provider_in(params)?;
    let name = rules::name(&domain)?;
    let Position { epoch, seq } = api.registry.last_change(&name).await?;
    let (gates, now) = (api.registry.feed.gates().list(provider.as_deref()), Instant::now());
    let heard: Vec<_> = gates.iter().filter(|(_, said)| said.is_recent(now)).collect();
    let missing: Vec<_> = heard
        .iter()
        .filter(|(_, said)| !said.has(epoch, seq))
        .map(|(gate, said)| shown(&api.registry, gate, said, now))
        .collect();
    Ok(Json(json!({
        "domain": name.as_str(),
        "epoch": epoch,
        "seq": seq,
        "in_force": !heard.is_empty() && missing.is_empty(),
        "gates": heard.len(),
        "missing": missing,
    })))
}

impl Registry {
    /// The latest change of any filing that may decide for `name`, or a later position.
    async fn last_change(&self, name: &DomainName) -> Result<Position, StoreError> {
        let candidates: Vec<&str> = name.filing_candidates().collect();
        let epoch = self.store.meta().await?.epoch;
        let stored: HashMap<_, _> = self.store.documents(&candidates).await?.into_iter().collect();
        let last = |name: &&str| match stored.get(*name) {
            Some(stored) => stored.seq,
            // Without a document: when it was forgotten is in a view, if that is not long ago.
            None => self.feed.last_change(name).unwrap_or_default(),
        };
        Ok(Position { epoch, seq: candidates.iter().map(last).max().unwrap_or_default() })
    }
}
