//! The change log: who, when, why, in which request, what before and after; of exactly one name
//! (`/v1/filings/{domain}/history`), of all, or of the records beside filings (`/v1/changes`).
//!
//! Filings are numbered by the feed's positions, records by themselves, each in the order of commits.

use super::extract::{Named, Params};
use super::problem::Problem;
use super::records::Kind;
use super::routes::Api;
use super::rules;
use super::store::{ChangeFilter, Logged};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;
/// What is filed, among the kinds of what changes.
const FILING: &str = "filing";
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
    /// `filing`, or a kind of records.
    kind: Option<String>,
    domain: Option<String>,
    /// The id of a record of that kind.
    record: Option<String>,
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
    let query = ChangesQuery { domain: Some(domain), cursor, limit, ..ChangesQuery::default() };
    let mut page = page(&api, query).await?;
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

/// What the log calls the kind that is asked for; `None` where that is filings.
fn kind(params: &ChangesQuery) -> Result<Option<&'static str>, Problem> {
    let refused = |detail: String| Problem::bad_request("invalid_query", detail, "查询参数无效");
    let kinds = || Kind::ALL.into_iter().filter_map(Kind::logged_as);
    let kind = match params.kind.as_deref() {
        None | Some(FILING) => None,
        Some(asked) => {
            let wrong = || {
                let kinds = kinds().collect::<Vec<_>>().join(", ");
                refused(format!("`kind` is {FILING}, or one of {kinds}"))
            };
            Some(kinds().find(|it| *it == asked).ok_or_else(wrong)?)
        }
    };
    match kind {
        None if params.record.is_some() => {
            Err(refused("`record` is the id of a record: say its `kind` too".to_owned()))
        }
        Some(kind) if params.domain.is_some() => {
            Err(refused(format!("`domain` is of a filing; a {kind} is found by `record`")))
        }
        kind => Ok(kind),
    }
}

async fn page(api: &Api, params: ChangesQuery) -> Result<Value, Problem> {
    let kind = kind(&params)?;
    let name = params.domain.as_deref().map(rules::name).transpose()?;
    let limit = params.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let filter = ChangeFilter {
        before: params.cursor.unwrap_or(END).min(END),
        kind,
        of: name.as_ref().map(|it| it.as_str()).or(params.record.as_deref()),
        request: params.request.as_deref(),
        limit: limit.saturating_add(1),
    };
    let mut changes = api.registry.store.changes(&filter).await?;
    let has_more = changes.len() > limit as usize;
    changes.truncate(limit as usize);
    let next_cursor = changes.last().filter(|_| has_more).map(|it| it.seq);
    let shown: Vec<Value> = changes.iter().map(|it| shown(kind, it)).collect();
    Ok(json!({ "changes": shown, "next_cursor": next_cursor }))
}

fn shown(kind: Option<&str>, change: &Logged) -> Value {
    let document = |it: &Option<String>| it.as_deref().and_then(|it| serde_json::from_str::<Value>(it).ok());
    let mut shown = json!({
        "kind": kind.unwrap_or(FILING),
        "seq": change.seq,
        "at": jiff::Timestamp::from_millisecond(change.at_ms).unwrap_or_default(),
        "who": change.who,
        "request": change.request,
        "why": change.why,
        "before": document(&change.before),
        "after": document(&change.after),
    });
    shown[if kind.is_some() { "record" } else { "domain" }] = change.of.as_str().into();
    shown
}
