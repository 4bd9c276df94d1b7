//! The change log: who, when, why, in which request, what before and after; of exactly one name
//! (`/v1/filings/{domain}/history`), or of all (`/v1/changes`).

use super::extract::{Named, Params};
use super::problem::Problem;
use super::routes::Api;
use super::rules;
use super::store::{ChangeFilter, Logged};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;
/// After every change.
const END: u64 = u64::MAX >> 1;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// Changes before this one.
    cursor: Option<u64>,
    limit: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    domain: Option<String>,
    request: Option<String>,
    /// Changes before this one.
    cursor: Option<u64>,
    limit: Option<u32>,
}

/// `GET /v1/filings/{domain}/history`
pub(super) async fn get(
    State(api): State<Api>,
    Named(domain): Named,
    Params(HistoryQuery { cursor, limit }): Params<HistoryQuery>,
) -> Result<Json<Value>, Problem> {
    let name = rules::name(&domain)?;
    let mut page = page(&api, ChangesQuery { domain: Some(domain), request: None, cursor, limit }).await?;
    page["domain"] = name.as_str().into();
    Ok(Json(page))
}

/// `GET /v1/changes`
pub(super) async fn list(
    State(api): State<Api>,
    Params(params): Params<ChangesQuery>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(page(&api, params).await?))
}

async fn page(api: &Api, params: ChangesQuery) -> Result<Value, Problem> {
    let name = params.domain.as_deref().map(rules::name).transpose()?;
    let limit = params.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let filter = ChangeFilter {
        before: params.cursor.unwrap_or(END).min(END),
        domain: name.as_ref().map(|it| it.as_str()),
        request: params.request.as_deref(),
        limit: limit.saturating_add(1),
    };
    let mut changes = api.registry.store.changes(&filter).await?;
    let has_more = changes.len() > limit as usize;
    changes.truncate(limit as usize);
    let next_cursor = changes.last().filter(|_| has_more).map(|it| it.seq);
    let shown: Vec<Value> = changes.iter().map(shown).collect();
    Ok(json!({ "changes": shown, "next_cursor": next_cursor }))
}

fn shown(change: &Logged) -> Value {
    let document = |it: &Option<String>| it.as_deref().and_then(|it| serde_json::from_str::<Value>(it).ok());
    json!({
        "seq": change.seq,
        "at": jiff::Timestamp::from_millisecond(change.at_ms).unwrap_or_default(),
        "who": change.who,
        "request": change.request,
        "domain": change.domain,
        "why": change.why,
        "before": document(&change.before),
        "after": document(&change.after),
    })
}
