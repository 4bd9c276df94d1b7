//! `/v1/filings`: what covers a name, its document put and deleted, the listing.

use super::batch::of_json;
use super::extract::{DryRun, Named, Params};
use super::life::said;
use super::model::{Action, Edit, PutBody, Stored, Who};
use super::order_api::dry;
use super::problem::Problem;
use super::routes::Api;
use super::store::{PageFilter, Reach, SubjectKey};
use super::versions::Conditions;
use super::{Found, Outcome, Refusal, Registry, Size, rules};
use crate::filing::{Filing, FilingNumber, FilingState, Status};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The longest body of a PUT, in octets.
const MAX_PUT_BYTES: usize = 64 << 10;
const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;
/// Rows that one listing call looks at for a status; the cursor leads on from there.
const MAX_SCANNED: usize = 20_000;

/// `?provider=`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AsSeenFrom {
    pub(super) provider: Option<String>,
}

/// `?purge=&dry_run=&reason=`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteQuery {
    #[serde(default)]
    purge: bool,
    #[serde(default)]
    dry_run: bool,
    reason: Option<String>,
}

/// The listing's parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    subject: Option<String>,
    status: Option<String>,
    provider: Option<String>,
    prefix: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

/// `GET /v1/filings/{domain}`
pub(super) async fn get(
    State(api): State<Api>,
    Named(domain): Named,
    Params(AsSeenFrom { provider }): Params<AsSeenFrom>,
) -> Result<Response, Problem> {
    if let Some(provider) = &provider {
        rules::provider(provider)?;
    }
    let name = rules::name(&domain)?;
    let found = api.registry.covering(&name, provider.as_deref().unwrap_or_default()).await?;
    let Some(Found { decided_by, filing, covering, stored }) = found else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "unfiled",
            format!("no filing covers `{name}`"),
            "没有备案覆盖该域名",
        ));
    };
    let status = provider.map(|_| covering.record.status);
    Ok(document(StatusCode::OK, name.as_str(), &decided_by, &filing, &stored, status))
}

/// `PUT /v1/filings/{domain}`
pub(super) async fn put(
    State(api): State<Api>,
    who: Who,
    Named(domain): Named,
    Params(DryRun { dry_run, reason }): Params<DryRun>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let who = who.because(reason)?;
    let name = rules::filed_name(&domain);
    let body = axum::body::to_bytes(body, MAX_PUT_BYTES).await.map_err(|_| too_large())?;
    let conditions = Conditions::of(&headers);
    if dry_run {
        let body: PutBody = of_json(&body)?;
        let mut broken: Vec<Refusal> = name.as_ref().err().cloned().into_iter().collect();
        broken.extend(rules::broken(&body));
        let edit = if broken.is_empty() { name.and_then(|name| rules::put(&name, body)).ok() } else { None };
        return tried(&api.registry, &who, broken, edit, conditions).await;
    }
    let name = name?;
    let edit = rules::put(&name, of_json(&body)?)?;
    let outcome = edit_one(&api.registry, &who, edit, conditions).await?;
    let status = if outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    exactly(&api.registry, name.as_str(), status).await
}

/// `DELETE /v1/filings/{domain}`
pub(super) async fn delete(
    State(api): State<Api>,
    who: Who,
    Named(domain): Named,
    Params(DeleteQuery { purge, dry_run, reason }): Params<DeleteQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let who = who.because(reason)?;
    let action = if purge { Action::Purge } else { Action::Deregister };
    let name = rules::name(&domain)?;
    let edit = Edit { domain: name.as_str().into(), action };
    if dry_run {
        return tried(&api.registry, &who, Vec::new(), Some(edit), Conditions::of(&headers)).await;
    }
    edit_one(&api.registry, &who, edit, Conditions::of(&headers)).await?;
    exactly(&api.registry, name.as_str(), StatusCode::OK).await
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        format!("a document has at most {MAX_PUT_BYTES} octets"),
        "请求内容过大",
    )
}

async fn edit_one(
    registry: &Registry,
    who: &Who,
    edit: Edit,
    conditions: Conditions,
) -> Result<Outcome, Problem> {
    let reach = Reach::of(std::slice::from_ref(&edit));
    let work = move |ledger: &mut super::Ledger| edited(ledger, edit, &conditions);
    registry.commit(who, Size::Few, reach, work).await?
}

/// What a dry run answers: every rule that is broken, or what would become of the name. Nothing is changed.
async fn tried(
    registry: &Registry,
    who: &Who,
    mut broken: Vec<Refusal>,
    edit: Option<Edit>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let mut answer = json!({});
    if let Some(edit) = edit {
        let reach = Reach::of(std::slice::from_ref(&edit));
        let work = move |ledger: &mut super::Ledger| Err::<(), _>(edited(ledger, edit, &conditions));
        match registry.commit(who, Size::Few, reach, work).await? {
            Ok(()) => {}
            Err(Ok(outcome)) => answer["outcome"] = outcome.as_str().into(),
            Err(Err(Problem::Status(_, refusal) | Problem::Refused(refusal))) => broken.push(refusal),
            Err(Err(other)) => return Err(other),
        }
    }
    answer["refusals"] = broken.iter().map(said).collect();
    let answer = dry(broken.is_empty(), answer, &[]);
    Ok(([(header::CACHE_CONTROL, "no-cache")], Json(answer)).into_response())
}

/// Does an edit of one name, where the conditions hold.
fn edited(ledger: &mut super::Ledger, edit: Edit, conditions: &Conditions) -> Result<Outcome, Problem> {
    if ledger.document(&edit.domain).is_none() && !matches!(edit.action, Action::Put(_)) {
        let refusal = rules::not_filed(&edit.domain);
        return Err(Problem::Status(StatusCode::NOT_FOUND, refusal));
    }
    let version = ledger.stored(&edit.domain).map(etag);
    let stale = |refusal| Problem::Status(StatusCode::PRECONDITION_FAILED, refusal);
    conditions.hold(version.as_deref()).map_err(stale)?;
    Ok(ledger.apply(edit)?)
}

/// The document of exactly this name; no content where it is gone.
async fn exactly(registry: &Registry, name: &str, status: StatusCode) -> Result<Response, Problem> {
    let found = registry.store.documents(&[name]).await?.pop();
    let found = found.and_then(|(_, stored)| Some((stored.document.filing(name)?, stored)));
    Ok(match found {
        Some((filing, stored)) => document(status, name, name, &filing, &stored, None),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

fn etag(stored: &Stored) -> String {
    format!("\"{}\"", stored.seq)
}

fn document(
    code: StatusCode,
    asked: &str,
    decided_by: &str,
    filing: &Filing,
    stored: &Stored,
    status: Option<Status>,
) -> Response {
    let body = shown(asked, decided_by, filing, stored, status);
    (code, [(header::ETAG, etag(stored)), (header::CACHE_CONTROL, "no-cache".to_owned())], Json(body))
        .into_response()
}

fn shown(asked: &str, decided_by: &str, filing: &Filing, stored: &Stored, status: Option<Status>) -> Value {
    let updated_at = jiff::Timestamp::from_millisecond(stored.updated_at_ms).unwrap_or_default();
    let about = &stored.document.about;
    let mut body = json!({
        "domain": asked,
        "decided_by": decided_by,
        "number": stored.document.number.as_deref(),
        "state": stored.document.state,
        "subject": about.subject,
        "subject_type": about.subject_type,
        "site_name": about.site_name,
        "public_security_number": about.public_security_number,
        "access": *stored.document.access,
        "empty_shell": filing.is_empty_shell(),
        "updated_at": updated_at.to_string(),
        "seq": stored.seq,
    });
    if let Some(status) = status {
        body["status"] = status.as_str().into();
    }
    body
}

/// What `status=` asks for.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Any,
    State(FilingState),
    Seen(Status),
    EmptyShell,
}

impl Wanted {
    fn parse(status: Option<&str>, has_provider: bool) -> Result<Self, Problem> {
        let Some(status) = status else { return Ok(Self::Any) };
        if let Ok(state) = status.parse() {
            return Ok(Self::State(state));
        }
        if status == "empty_shell" {
            return Ok(Self::EmptyShell);
        }
        match status.parse() {
            Ok(seen) if has_provider => Ok(Self::Seen(seen)),
            Ok(_) => Err(Problem::bad_request(
                "provider_missing",
                format!("`{status}` is a status as seen from a provider: add `provider=`"),
                "按接入状态筛选时须指定 `provider=`",
            )),
            Err(_) => Err(Problem::bad_request(
                "invalid_query",
                "`status` is filed, pending, restricted, deregistered, empty_shell, or with `provider` also \
                 connected, not_connected or access_cancelled",
                "`status` 的取值无效",
            )),
        }
    }

    fn takes(self, filing: &Filing, seen: Option<Status>) -> bool {
        match self {
            Self::Any | Self::State(_) => true,
            Self::Seen(status) => seen == Some(status),
            Self::EmptyShell => filing.is_empty_shell(),
        }
    }
}

/// A page of the listing.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    filings: Vec<Value>,
    next_cursor: Option<String>,
}

/// `GET /v1/filings`
pub(super) async fn list(
    State(api): State<Api>,
    Params(params): Params<ListQuery>,
) -> Result<Json<Page>, Problem> {
    if let Some(provider) = &params.provider {
        rules::provider(provider)?;
    }
    let wanted = Wanted::parse(params.status.as_deref(), params.provider.is_some())?;
    let state = match wanted {
        Wanted::State(state) => Some(state.as_str()),
        Wanted::Seen(_) | Wanted::EmptyShell | Wanted::Any => None,
    };
    let prefix = params.prefix.unwrap_or_default().to_ascii_lowercase();
    let limit = params.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let number = params.subject.as_deref().and_then(|it| FilingNumber::parse(it).ok());
    let number = number.map(|it| it.subject().to_string());
    let subject = match (&number, &params.subject) {
        (Some(number), _) => Some(SubjectKey::Number(number)),
        (None, Some(name)) => Some(SubjectKey::Name(name)),
        (None, None) => None,
    };
    let mut cursor = params.cursor.unwrap_or_default();
    let (mut filings, mut scanned) = (Vec::new(), 0);
    while scanned < MAX_SCANNED {
        let filter = PageFilter { cursor: &cursor, prefix: &prefix, subject, state, limit: MAX_PAGE };
        let rows = api.registry.store.page(&filter).await?;
        let is_last = rows.len() < MAX_PAGE as usize;
        scanned += rows.len();
        for (domain, stored) in &rows {
            cursor = domain.to_string();
            let Some(filing) = stored.document.filing(domain) else { continue };
            let seen = params.provider.as_deref().map(|it| filing.seen_from(it).status);
            if !wanted.takes(&filing, seen) {
                continue;
            }
            if filings.len() == limit as usize {
                // One more than a page: the cursor is the last that was given.
                let next_cursor = filings.last().and_then(|it: &Value| it["domain"].as_str()).map(Into::into);
                return Ok(Json(Page { filings, next_cursor }));
            }
            filings.push(shown(domain, domain, &filing, stored, seen));
        }
        if is_last {
            return Ok(Json(Page { filings, next_cursor: None }));
        }
    }
    Ok(Json(Page { filings, next_cursor: Some(cursor) }))
}
