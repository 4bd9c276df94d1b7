//! `/v1/filings/{domain}/history`: the change log of exactly one name: who, when, why, what before and after.

use super::filings::{path, query};
use super::problem::Problem;
use super::routes::Api;
use super::rules;
use super::store::Logged;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// Changes before this one.
    cursor: Option<u64>,
    limit: Option<u32>,
}

/// `GET /v1/filings/{domain}/history`
pub(super) async fn get(
    State(api): State<Api>,
    domain: Result<Path<String>, PathRejection>,
    params: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let params = query(params)?;
    let name = rules::name(&path(domain)?)?;
    let limit = params.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let before = params.cursor.unwrap_or(u64::MAX >> 1);
    let mut changes = api.registry.store.history(name.as_str(), before, limit.saturating_add(1)).await?;
    let has_more = changes.len() > limit as usize;
    changes.truncate(limit as usize);
    let next_cursor = changes.last().filter(|_| has_more).map(|it| it.seq);
    let shown: Vec<Value> = changes.iter().map(shown).collect();
    Ok(Json(json!({ "domain": name.as_str(), "changes": shown, "next_cursor": next_cursor })))
}

fn shown(change: &Logged) -> Value {
    let document = |it: &Option<String>| it.as_deref().and_then(|it| serde_json::from_str::<Value>(it).ok());
    json!({
        "seq": change.seq,
        "at": jiff::Timestamp::from_millisecond(change.at_ms).unwrap_or_default(),
        "who": change.who,
        "why": change.why,
        "before": document(&change.before),
        "after": document(&change.after),
    })
}
