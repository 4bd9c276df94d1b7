//! Upstreams as operators see them, and their word on which are used.

use super::{Admin, problem};
use crate::gate::endpoint::Endpoint;
use crate::gate::route::standing::{Checked, Wish};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// `GET /v1/upstreams`
pub(super) async fn list(State(admin): State<Admin>) -> Json<Value> {
    let shared = &admin.0.shared;
    let now_ms = shared.endpoints.millis(Instant::now());
    let upstreams: Vec<Value> =
        shared.rules.load().endpoints.load().iter().map(|endpoint| shown(endpoint, now_ms)).collect();
    Json(json!({ "upstreams": upstreams }))
}

fn shown(endpoint: &Endpoint, now_ms: u64) -> Value {
    let standing = &endpoint.standing;
    let counts = standing.counts();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "upstream": &*endpoint.label,
        "state": standing.wish().as_str(),
        "healthy": standing.is_well(now_ms),
        "check": match standing.checked() {
            Checked::Unknown => "unknown",
            Checked::Well => "passing",
            Checked::Ill => "failing",
        },
        "ejected_for_ms": standing.ejected_until(now_ms).map_or(0, |until| until - now_ms),
        "share_percent": standing.share(endpoint.way.slow_start, now_ms),
        "addresses": [endpoint.place()],
        "active": standing.active(),
        "requests": standing.total(),
        "connections": read(&counts.connections),
        "failures": read(&counts.failures),
        "ejections": read(&counts.ejections),
        "checks_passed": read(&counts.checks_passed),
        "checks_failed": read(&counts.checks_failed),
    })
}

/// The operator's word, in the query or as the body.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Word {
    state: Option<String>,
}

/// `POST /v1/upstreams/{upstream}`: `{"state": "drain"}` or `?state=drain`.
pub(super) async fn say(
    State(admin): State<Admin>,
    Path(upstream): Path<String>,
    Query(asked): Query<Word>,
    body: Bytes,
) -> Response {
    let written = match (asked.state, body.is_empty()) {
        (Some(state), true) => Some(state),
        (None, false) => serde_json::from_slice::<Word>(&body).ok().and_then(|word| word.state),
        _ => None,
    };
    let named = |state: String| Wish::NAMES.iter().find(|(name, _)| *name == state).map(|(_, wish)| *wish);
    let Some(wish) = written.and_then(named) else {
        return problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "say {\"state\": \"up\"}, \"drain\" (nothing new but what a cookie binds) or \"down\"",
        );
    };
    if !admin.0.shared.endpoints.wish(&upstream, wish) {
        return problem(
            StatusCode::NOT_FOUND,
            "no such upstream; GET /v1/upstreams lists them as they are named here, like http://10.0.0.1:8080",
        );
    }
    tracing::info!("upstream {upstream}: the operator says {}", wish.as_str());
    Json(json!({ "upstream": upstream, "state": wish.as_str() })).into_response()
}
