//! `/v1/orders`: orders opened, shown, listed, and moved through their stages.
//!
//! What an order does is found in `life`; here it is asked for over HTTP, done in one transaction, and answered.

use super::batch::of_json;
use super::extract::{Named, Params, Write};
use super::ledger::Ledger;
use super::life::book::Order;
use super::life::{self, Deed, Done, Here, Opening, Stop, SubjectInput};
use super::orders::{Intent, Step};
use super::problem::{Problem, by_weight};
use super::records::{Kind, Recorded, Row};
use super::routes::Api;
use super::rules::Refusal;
use super::store::{Reach, RecordFilter};
use super::versions::version;
use super::{Registry, Size, StoreError};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The longest body of an order or a record, in octets.
const MAX_BODY_BYTES: usize = 64 << 10;
const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

/// What a write comes to where it is not done.
enum Undone {
    Dry(Value),
    Stopped(Stop),
}

impl Write {
    /// Finds what is to be done and does it, in one transaction; where it is a dry run, says what would be.
    pub(super) async fn enact(
        self,
        act: impl Fn(&Ledger, &Here) -> Result<Deed, Stop> + Send + Sync + 'static,
    ) -> Result<Response, Problem> {
        let Self { api, here, is_dry_run } = self;
        let who = here.who.clone();
        let act = Arc::new(move |ledger: &Ledger| act(ledger, &here));
        let asked = act.clone();
        let plan = Box::new(move |ledger: &mut Ledger| match asked(ledger) {
            Err(Stop::Wanted(wanted)) => Some(wanted),
            Ok(_) | Err(_) => None,
        });
        let work = move |ledger: &mut Ledger| {
            let deed = act(ledger).map_err(Undone::Stopped)?;
            if is_dry_run {
                return Err(Undone::Dry(deed.answer));
            }
            deed.done(ledger).map_err(|refusal| Undone::Stopped(Stop::Refused(refusal)))
        };
        let done = api.registry.commit(&who, Size::Few, Reach::Planned(plan), work).await?;
        match done {
            Ok(Done { answer, version, is_new }) => {
                let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
                Ok(answered(status, answer, version.as_deref()))
            }
            Err(Undone::Dry(answer)) => Ok(answered(StatusCode::OK, dry(true, answer, &[]), None)),
            Err(Undone::Stopped(stop)) => stopped(stop, is_dry_run),
        }
    }
}

/// An answer, with the version of what it shows where that has one.
pub(super) fn answered(status: StatusCode, answer: Value, version: Option<&str>) -> Response {
    let mut response = (status, [(header::CACHE_CONTROL, "no-cache")], Json(answer)).into_response();
    if let Some(version) = version.and_then(|it| HeaderValue::try_from(it).ok()) {
        response.headers_mut().insert(header::ETAG, version);
    }
    response
}

fn stopped(stop: Stop, is_dry_run: bool) -> Result<Response, Problem> {
    match stop {
        Stop::Refused(refusal) | Stop::Stale(refusal) if is_dry_run => {
            let answer = json!({ "refusals": [life::said(&refusal)] });
            Ok(answered(StatusCode::OK, dry(false, answer, &[]), None))
        }
        Stop::Found(found) if is_dry_run => {
            Ok(answered(StatusCode::OK, dry(false, Value::Object(by_weight(&found)), &[]), None))
        }
        other => Err(other.into()),
    }
}

impl From<Stop> for Problem {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Missing(refusal) => Self::Status(StatusCode::NOT_FOUND, refusal),
            Stop::Stale(refusal) => Self::Status(StatusCode::PRECONDITION_FAILED, refusal),
            Stop::Wanted(wanted) => StoreError::Corrupt(format!("{wanted:?} was not loaded")).into(),
            Stop::Refused(refusal) => refusal.into(),
            Stop::Found(found) => Self::Found(found),
        }
    }
}

/// What a dry run answers: whether it would be done, and what every rule said.
pub(super) fn dry(is_accepted: bool, answer: Value, nothing: &[Value]) -> Value {
    let mut said = match answer {
        Value::Object(said) => said,
        _ => Map::new(),
    };
    for key in ["refusals", "needs", "notes"] {
        said.entry(key).or_insert_with(|| json!(nothing));
    }
    said.insert("dry_run".to_owned(), true.into());
    said.insert("accepted".to_owned(), is_accepted.into());
    Value::Object(said)
}

/// A body that is a JSON object.
pub(super) async fn object(body: Body) -> Result<Map<String, Value>, Problem> {
    let octets = axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("a body has at most {MAX_BODY_BYTES} octets"),
            "请求内容过大",
        )
    })?;
    words_of(&octets)
}

/// The words of a JSON object, which may end up in keys of the database: without a NUL, which PostgreSQL takes for a
/// fault.
fn words_of(octets: &[u8]) -> Result<Map<String, Value>, Problem> {
    let words: Map<String, Value> = of_json(octets)?;
    if words.iter().any(|(key, value)| key.contains('\0') || has_nul(value)) {
        let detail = "a text holds a NUL (U+0000), which is part of no name and no id";
        return Err(Refusal::new("invalid_text", detail, "文本不能包含空字符").into());
    }
    Ok(words)
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(values) => values.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

pub(super) fn malformed(rule: &'static str, error: &serde_json::Error) -> Problem {
    Refusal::new(rule, format!("not what is asked for: {error}"), "内容无效").into()
}

/// `POST /v1/orders`
pub(super) async fn open(write: Write, body: Body) -> Result<Response, Problem> {
    let opening = opening(object(body).await?)?;
    write.enact(move |ledger, here| life::open(ledger, here, &opening)).await
}

fn opening(mut words: Map<String, Value>) -> Result<Opening, Problem> {
    let rule = "malformed_order";
    let Some(intent) = words.remove("intent") else {
        return Err(Refusal::new(
            rule,
            "say the `intent`: file, change, cancel_access, deregister, claim or import",
            "请填写 `intent`：file、change、cancel_access、deregister、claim 或 import",
        )
        .into());
    };
    let intent: Intent = serde_json::from_value(intent).map_err(|error| malformed(rule, &error))?;
    let subject = match words.remove("subject") {
        None | Some(Value::Null) => SubjectInput::Unsaid,
        Some(Value::String(text)) => SubjectInput::Text(text),
        Some(form) => {
            SubjectInput::Form(serde_json::from_value(form).map_err(|error| malformed(rule, &error))?)
        }
    };
    let domain = words.remove("domain").filter(|it| !it.is_null());
    let domain = domain.map(serde_json::from_value).transpose().map_err(|error| malformed(rule, &error))?;
    let form = serde_json::from_value(Value::Object(words)).map_err(|error| malformed(rule, &error))?;
    Ok(Opening { intent, subject, domain, form })
}

/// `POST /v1/orders/{id}/{step}`
pub(super) async fn step(
    write: Write,
    Named((id, name)): Named<(String, String)>,
    body: Body,
) -> Result<Response, Problem> {
    let Some(step) = Step::ALL.into_iter().find(|it| it.as_str() == name) else {
        let steps = Step::ALL.map(Step::as_str).join(", ");
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no_such_step",
            format!("there is no step `{name}`; an order's steps are {steps}"),
            "没有该操作",
        ));
    };
    let octets = axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too long", "请求内容过大")
    })?;
    let words = if octets.trim_ascii().is_empty() { Map::new() } else { words_of(&octets)? };
    write.enact(move |ledger, here| life::step(ledger, here, (&id, step), &words)).await
}

/// `GET /v1/orders/{id}`
pub(super) async fn get(State(api): State<Api>, Named(id): Named) -> Result<Response, Problem> {
    let order: Order = one(&api.registry, &id, "order").await?;
    Ok(answered(StatusCode::OK, order.shown(), Some(&version(&order))))
}

/// The record of an id.
pub(super) async fn one<T: Recorded>(registry: &Registry, id: &str, what: &str) -> Result<T, Problem> {
    let filter = RecordFilter { cursor: "", keys: vec![("id", id)], limit: 1 };
    let row = registry.store.records(T::KIND, &filter).await?.pop();
    let read = row.and_then(|it| serde_json::from_str(&it.body).ok());
    read.ok_or_else(|| Problem::not_found(format!("there is no {what} `{id}`"), "没有该记录"))
}

/// A listing's parameters; each kind takes those that it has.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    pub(super) account: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) stage: Option<String>,
    pub(super) server: Option<String>,
    pub(super) name: Option<String>,
    pub(super) cursor: Option<String>,
    pub(super) limit: Option<u32>,
}

impl ListQuery {
    pub(super) fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE)
    }

    /// Whether a list that is narrowed by those of the parameters that are named here can heed all that are given.
    ///
    /// # Errors
    /// The first that it can't.
    pub(super) fn only<'p>(&'p self, heeded: impl Fn(&'p Option<String>) -> bool) -> Result<(), Problem> {
        let filters = [
            ("account", &self.account),
            ("domain", &self.domain),
            ("subject", &self.subject),
            ("stage", &self.stage),
            ("server", &self.server),
            ("name", &self.name),
        ];
        match filters.into_iter().find(|(_, it)| it.is_some() && !heeded(it)) {
            Some((name, _)) => {
                let detail = format!("this list has no filter `{name}`; see /openapi.json");
                Err(Problem::bad_request("invalid_query", detail, "此列表不支持该筛选参数"))
            }
            None => Ok(()),
        }
    }
}

/// A page of records, narrowed by those keys that are given.
pub(super) async fn page(
    registry: &Registry,
    kind: Kind,
    keys: &[(&'static str, &Option<String>)],
    params: &ListQuery,
) -> Result<(Vec<Row>, Option<String>), Problem> {
    params.only(|it| keys.iter().any(|(_, heeded)| std::ptr::eq(*heeded, it)))?;
    let keys = keys.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
    let cursor = params.cursor.as_deref().unwrap_or_default();
    let limit = params.limit();
    let mut rows =
        registry.store.records(kind, &RecordFilter { cursor, keys, limit: limit.saturating_add(1) }).await?;
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| has_more).map(|it| it.id.clone());
    Ok((rows, next))
}

/// `GET /v1/orders`
pub(super) async fn list(
    State(api): State<Api>,
    Params(params): Params<ListQuery>,
) -> Result<Response, Problem> {
    let keys = [
        ("account", &params.account),
        ("domain", &params.domain),
        ("subject", &params.subject),
        ("stage", &params.stage),
    ];
    let (rows, next_cursor) = page(&api.registry, Kind::Order, &keys, &params).await?;
    let orders: Vec<Value> =
        rows.iter().filter_map(|it| Some(serde_json::from_str::<Order>(&it.body).ok()?.shown())).collect();
    Ok(answered(StatusCode::OK, json!({ "orders": orders, "next_cursor": next_cursor }), None))
}
