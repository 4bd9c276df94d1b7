//! `/v1/due`: what is due and when, by the working calendar, and which sites are empty shells since when.

use super::filings::query;
use super::life::book::{Order, SiteNote};
use super::orders::Stage;
use super::problem::Problem;
use super::records::Kind;
use super::routes::Api;
use super::{Registry, StoreError};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};

const DEFAULT_ITEMS: u32 = 1000;
const MAX_ITEMS: u32 = 10_000;
/// Registrations that end later are not worth a word, unless asked for.
const REGISTRATION_DAYS: i64 = 90;
/// Later than anything is due.
const EVER: Date = jiff::civil::date(9999, 12, 31);

/// What kinds of things fall due, in the order in which they are asked for.
const KINDS: [&str; 6] = [
    "provider_review",
    "authority_review",
    "public_security_filing",
    "correction",
    "domain_registration",
    "empty_shell",
];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DueQuery {
    /// Due on this day or before.
    before: Option<Date>,
    kind: Option<String>,
    limit: Option<u32>,
}

/// `GET /v1/due`
pub(super) async fn get(
    State(api): State<Api>,
    params: Result<Query<DueQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let params = query(params)?;
    if let Some(kind) = &params.kind
        && !KINDS.contains(&kind.as_str())
    {
        let kinds = KINDS.join(", ");
        return Err(Problem::bad_request(
            "invalid_query",
            format!("`kind` is one of {kinds}"),
            "`kind` 的取值无效",
        ));
    }
    let today = crate::verdict::day(jiff::Timestamp::now());
    let until = params.before.unwrap_or(EVER);
    let limit = params.limit.unwrap_or(DEFAULT_ITEMS).clamp(1, MAX_ITEMS);
    let mut due = due(&api.registry, today, until, limit).await?;
    due.retain(|it| params.kind.as_deref().is_none_or(|kind| it["kind"] == kind));
    due.sort_by(|a, b| {
        (a["due_on"].as_str(), a["since"].as_str()).cmp(&(b["due_on"].as_str(), b["since"].as_str()))
    });
    due.truncate(limit as usize);
    Ok(Json(json!({ "today": today, "due": due })))
}

/// Until when a registration ends that is worth a word.
fn lapses(today: Date, until: Date) -> Date {
    let soon = today.checked_add(jiff::Span::new().days(REGISTRATION_DAYS)).unwrap_or(EVER);
    if until == EVER { soon } else { until }
}

async fn due(registry: &Registry, today: Date, until: Date, limit: u32) -> Result<Vec<Value>, StoreError> {
    let mut found = Vec::new();
    let last = until.to_string();
    for row in registry.store.due(Kind::Order, &last, limit).await? {
        let Ok(order) = serde_json::from_str::<Order>(&row.body) else { continue };
        let kind = match order.stage {
            Stage::ProviderReview => "provider_review",
            Stage::AuthorityReview => "authority_review",
            _ => continue,
        };
        let due = (kind, order.due_on, order.due_by_calendar);
        let subject = order.subject.name.clone();
        found.extend(item(
            today,
            due,
            json!({ "order": order.id, "intent": order.intent, "domain": order.domain, "subject": subject }),
        ));
    }
    for row in registry.store.due(Kind::SiteNote, &last, limit).await? {
        let Ok(note) = serde_json::from_str::<SiteNote>(&row.body) else { continue };
        let Some(domain) = domain_of(registry, &note.number).await? else { continue };
        let is_near = |day: &Date| *day <= until;
        if !domain.1 {
            let due = ("public_security_filing", note.public_security_due_on.filter(is_near), true);
            found.extend(item(today, due, json!({ "number": note.number, "domain": domain.0 })));
        }
        let lapse = note.registration_expires_on.filter(|day| *day <= lapses(today, until));
        let due = ("domain_registration", lapse, true);
        found.extend(item(today, due, json!({ "number": note.number, "domain": domain.0 })));
        if let Some(correction) = note.correction.filter(|it| is_near(&it.due_on)) {
            let due = ("correction", Some(correction.due_on), correction.due_by_calendar);
            let what = json!({ "number": note.number, "domain": domain.0, "reason": correction.reason });
            found.extend(item(today, due, what));
        }
    }
    for shell in registry.store.shells(limit).await? {
        let since = jiff::Timestamp::from_millisecond(shell.since_ms).unwrap_or_default();
        found.push(json!({
            "kind": "empty_shell", "number": shell.number, "domain": shell.domain, "since": since, "due_on": null,
            "overdue": false, "by_calendar": true,
        }));
    }
    Ok(found)
}

/// The first live domain of a site, and whether its public-security filing is known.
async fn domain_of(registry: &Registry, number: &str) -> Result<Option<(String, bool)>, StoreError> {
    let documents = registry.store.documents_of_site(number).await?;
    let is_known = documents.iter().any(|(_, it)| it.document.about.public_security_number.is_some());
    Ok(documents.first().map(|(name, _)| (name.to_string(), is_known)))
}

fn item(today: Date, due: (&str, Option<Date>, bool), what: Value) -> Option<Value> {
    let (kind, due_on, is_by_calendar) = due;
    let due_on = due_on?;
    let mut item = what;
    item["kind"] = kind.into();
    item["due_on"] = due_on.to_string().into();
    item["overdue"] = (due_on < today).into();
    item["by_calendar"] = is_by_calendar.into();
    Some(item)
}
