//! `/v1/sites`: what is filed, by number: its domains, its accesses, and what is known and due beside that.

use super::extract::{Named, Params, Write};
use super::ledger::Ledger;
use super::life::book::{Correction, SiteNote};
use super::life::{Deed, Here, Stop, live_documents, unbroken};
use super::model::{Action, Document, Edit};
use super::order_api::{ListQuery, answered, malformed, object};
use super::problem::Problem;
use super::routes::Api;
use super::rules::{self, Refusal};
use super::versions::version;
use crate::filing::{AccessState, FilingNumber};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Days from a site's opening in which its public-security filing is due.
const PUBLIC_SECURITY_DAYS: i64 = 30;
/// Working days in which untrue data is corrected, where the number is of no province.
const CORRECTION_DAYS: u16 = 20;

/// `GET /v1/sites`
pub(super) async fn list(
    State(api): State<Api>,
    Params(params): Params<ListQuery>,
) -> Result<Response, Problem> {
    params.only(|it| std::ptr::eq(it, &params.subject))?;
    let limit = params.limit();
    let subject = match &params.subject {
        Some(text) => Some(number(text)?.subject().to_string()),
        None => None,
    };
    let after = params.cursor.as_deref().unwrap_or_default();
    let store = &api.registry.store;
    let mut numbers = store.site_numbers(after, subject.as_deref(), limit.saturating_add(1)).await?;
    let has_more = numbers.len() > limit as usize;
    numbers.truncate(limit as usize);
    let next_cursor = numbers.last().filter(|_| has_more).cloned();
    let mut sites = Vec::with_capacity(numbers.len());
    for number in numbers {
        sites.push(api.consult(move |ledger| shown(ledger, &number)).await?);
    }
    Ok(Json(json!({ "sites": sites, "next_cursor": next_cursor })).into_response())
}

fn number(text: &str) -> Result<FilingNumber, Refusal> {
    FilingNumber::parse(text).map_err(|error| {
        Refusal::new("invalid_number", error.to_string(), "不是有效的备案号；正确的如 京ICP备12345678号-1")
    })
}

/// The site's live documents.
fn documents(ledger: &Ledger, site: &str) -> Result<Vec<(Arc<str>, Document)>, Stop> {
    let subject = number(site)?.subject().to_string();
    let mut live = live_documents(ledger, &subject)?;
    live.retain(|(_, it)| it.site().is_some_and(|number| **number == *site));
    if live.is_empty() {
        let detail = format!("there is no live site `{site}`");
        return Err(Stop::Missing(Refusal::new("not_found", detail, "没有该网站")));
    }
    Ok(live)
}

fn shown(ledger: &Ledger, site: &str) -> Result<Value, Stop> {
    let live = documents(ledger, site)?;
    let note = ledger.cabinet.record::<SiteNote>(site)?.unwrap_or_default();
    Ok(shown_of(&number(site)?, &live, &note))
}

fn shown_of(site: &FilingNumber, live: &[(Arc<str>, Document)], note: &SiteNote) -> Value {
    let (_, first) = &live[0];
    let is_active = |it: &AccessState| *it == AccessState::Active;
    let public_security = live.iter().find_map(|(_, it)| it.about.public_security_number.as_deref());
    json!({
        "number": site.to_string(),
        "subject_number": site.subject().to_string(),
        "subject": first.about.subject,
        "name": first.about.site_name,
        "state": first.state,
        "domains": live.iter().map(|(name, _)| &**name).collect::<Vec<_>>(),
        "access": *first.access,
        "empty_shell": !first.access.0.values().any(is_active),
        "account": note.account,
        "platform": note.platform,
        "opened_on": note.opened_on,
        "public_security_number": public_security,
        "public_security_due_on": note.public_security_due_on.filter(|_| public_security.is_none()),
        "registration_expires_on": note.registration_expires_on,
        "correction": note.correction,
    })
}

/// `GET /v1/sites/{number}`
pub(super) async fn get(State(api): State<Api>, Named(site): Named) -> Result<Response, Problem> {
    let site = number(&site)?.to_string();
    let shown = api.consult(move |ledger| shown(ledger, &site)).await?;
    Ok(answered(StatusCode::OK, shown.clone(), Some(&version(&shown))))
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteBody {
    opened_on: Option<Date>,
    public_security_number: Option<String>,
    registration_expires_on: Option<Date>,
    correction: Option<CorrectionBody>,
    #[serde(default)]
    corrected: bool,
    reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CorrectionBody {
    reason: String,
}

/// `PUT /v1/sites/{number}`: when it opened, its public-security filing, until when its domain is registered, data that is to be corrected; what is left
/// out stays.
pub(super) async fn put(write: Write, Named(site): Named, body: Body) -> Result<Response, Problem> {
    let site = number(&site)?.to_string();
    let body: SiteBody = serde_json::from_value(Value::Object(object(body).await?))
        .map_err(|error| malformed("malformed_site", &error))?;
    write.enact(move |ledger, here| written(ledger, here, &site, &body)).await
}

fn written(ledger: &Ledger, here: &Here, site: &str, body: &SiteBody) -> Result<Deed, Stop> {
    let mut live = documents(ledger, site)?;
    let mut note = ledger.cabinet.record::<SiteNote>(site)?.unwrap_or_default();
    here.holds(Some(&version(&shown_of(&number(site)?, &live, &note))))?;
    site.clone_into(&mut note.number);
    let mut broken = Vec::new();
    let mut deed = Deed::default();
    match rules::text("reason", body.reason.clone()) {
        Ok(why) => deed.why = why.map(Into::into),
        Err(refusal) => broken.push(refusal),
    }
    if let Some(opened_on) = body.opened_on {
        note.opened_on = Some(opened_on);
        let due = opened_on.checked_add(jiff::Span::new().days(PUBLIC_SECURITY_DAYS));
        note.public_security_due_on = Some(due.unwrap_or(opened_on));
    }
    match body.public_security_number.as_deref().map(rules::public_security_number) {
        Some(Ok(number)) => {
            for (name, document) in &mut live {
                if document.about.public_security_number.as_ref() != Some(&number) {
                    document.about.public_security_number = Some(number.clone());
                    deed.edits.push(Edit { domain: name.clone(), action: Action::Put(document.clone()) });
                }
            }
            note.public_security_due_on = None;
        }
        Some(Err(refusal)) => broken.push(refusal),
        None => {}
    }
    note.registration_expires_on = body.registration_expires_on.or(note.registration_expires_on);
    if body.corrected {
        note.correction = None;
    }
    if let Some(correction) = &body.correction {
        match untrue(correction) {
            Ok(reason) => note.correction = Some(corrected_by(here, &number(site)?, reason)),
            Err(refusal) => broken.push(refusal),
        }
    }
    unbroken(broken)?;
    deed.keep(&note);
    deed.version = Some(version(&shown_of(&number(site)?, &live, &note)));
    deed.answer = json!({ "number": site, "note": note });
    Ok(deed)
}

/// What is untrue.
fn untrue(correction: &CorrectionBody) -> Result<Box<str>, Refusal> {
    let said = rules::text("correction.reason", Some(correction.reason.clone()))?;
    said.ok_or_else(|| {
        let detail = "say what is untrue, in `correction.reason`";
        Refusal::new("reason_needed", detail, "请说明不真实的内容")
    })
}

/// Untrue data, and by when it is to be corrected.
fn corrected_by(here: &Here, site: &FilingNumber, reason: Box<str>) -> Correction {
    let days = site
        .province()
        .map_or(CORRECTION_DAYS, |province| here.rules.limits.province(province, here.today).correction_days);
    let due = here.rules.calendar.after(here.today, days);
    Correction { reason: reason.into(), due_on: due.on, due_by_calendar: due.is_by_calendar }
}
