//! `/v1/due`: what is due and when, by the working calendar, and which sites are empty shells since when.
//!
//! One list of several tables: what has a day, by day, then by kind, then by id; then empty shells, the oldest first. A
//! cursor is the place of the last row that was looked at.

use super::Registry;
use super::extract::Params;
use super::life::book::{Order, SiteNote};
use super::orders::Stage;
use super::problem::Problem;
use super::records::{Kind, Row};
use super::routes::{Api, ended};
use super::store::{DueFilter, StoreError};
use crate::config::WorkingDays;
use axum::Json;
use axum::extract::State;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;

const DEFAULT_ITEMS: u32 = 1000;
const MAX_ITEMS: u32 = 10_000;
/// Registrations that end later are not worth a word, unless asked for.
const REGISTRATION_DAYS: i64 = 90;
/// How often the log says that the calendar lacks a year.
const WARNED_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Later than anything is due.
const EVER: Date = jiff::civil::date(9999, 12, 31);
/// After every id.
const LAST_ID: &str = "\u{10ffff}";

/// What kinds of things fall due by a day, in the order in which one day's are listed.
const DATED: [Dated; 5] = [
    Dated::of("provider_review", Kind::Order, "due_on", Some(Stage::ProviderReview)),
    Dated::of("authority_review", Kind::Order, "due_on", Some(Stage::AuthorityReview)),
    Dated::of("public_security_filing", Kind::SiteNote, "due_on", None),
    Dated::of("correction", Kind::SiteNote, "correction_due_on", None),
    Dated::of(DOMAIN_REGISTRATION, Kind::SiteNote, "registration_expires_on", None),
];
const DOMAIN_REGISTRATION: &str = "domain_registration";
/// Without a day.
const EMPTY_SHELL: &str = "empty_shell";

/// Where one kind is found.
#[derive(Debug, Clone, Copy)]
struct Dated {
    name: &'static str,
    table: Kind,
    day: &'static str,
    stage: Option<Stage>,
}

impl Dated {
    const fn of(name: &'static str, table: Kind, day: &'static str, stage: Option<Stage>) -> Self {
        Self { name, table, day, stage }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DueQuery {
    /// Due on this day or before.
    before: Option<Date>,
    kind: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

/// The place of a row in the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// A day, a place in `DATED`, an id.
    Dated(String, usize, String),
    /// Since when, and a site's number.
    Shell(i64, String),
}

impl Place {
    fn parse(cursor: &str) -> Option<Self> {
        let (first, rest) = cursor.split_once(' ')?;
        let (second, id) = rest.split_once(' ')?;
        if first == EMPTY_SHELL {
            return Some(Self::Shell(second.parse().ok()?, id.to_owned()));
        }
        let day: Date = first.parse().ok()?;
        Some(Self::Dated(day.to_string(), second.parse().ok()?, id.to_owned()))
    }

    fn cursor(&self) -> String {
        match self {
            Self::Dated(day, kind, id) => format!("{day} {kind} {id}"),
            Self::Shell(since_ms, number) => format!("{EMPTY_SHELL} {since_ms} {number}"),
        }
    }

    /// After which day and id rows of a kind come after this place; `None` where none does.
    fn after(&self, kind: usize) -> Option<(&str, &str)> {
        match self {
            Self::Dated(day, of, id) => Some((
                day,
                match kind.cmp(of) {
                    std::cmp::Ordering::Less => LAST_ID,
                    std::cmp::Ordering::Equal => id,
                    std::cmp::Ordering::Greater => "",
                },
            )),
            Self::Shell(..) => None,
        }
    }
}

/// `GET /v1/due`
pub(super) async fn get(
    State(api): State<Api>,
    Params(params): Params<DueQuery>,
) -> Result<Json<Value>, Problem> {
    let is_wanted = |name: &str| params.kind.as_deref().is_none_or(|it| it == name);
    if !DATED.iter().any(|it| is_wanted(it.name)) && !is_wanted(EMPTY_SHELL) {
        let kinds = DATED.map(|it| it.name).join(", ");
        let detail = format!("`kind` is one of {kinds}, {EMPTY_SHELL}");
        return Err(Problem::bad_request("invalid_query", detail, "`kind` 的取值无效"));
    }
    let after = match params.cursor.as_deref().filter(|it| !it.is_empty()).map(Place::parse) {
        Some(None) => {
            let detail = "`cursor` is the `next_cursor` of the page before";
            return Err(Problem::bad_request("invalid_query", detail, "`cursor` 无效"));
        }
        Some(after) => after,
        None => None,
    };
    let today = crate::verdict::day(jiff::Timestamp::now());
    let until = params.before.unwrap_or(EVER).to_string();
    let lapse_until = params.before.unwrap_or_else(|| soon(today)).to_string();
    let limit = params.limit.unwrap_or(DEFAULT_ITEMS).clamp(1, MAX_ITEMS);
    let registry = &api.registry;
    let mut rows = Vec::new();
    for (kind, dated) in DATED.iter().enumerate().filter(|(_, it)| is_wanted(it.name)) {
        let place = after.as_ref().map_or(Some(("", "")), |it| it.after(kind));
        let Some(after) = place else { continue };
        let stage = dated.stage.map(Stage::as_str);
        let until = if dated.name == DOMAIN_REGISTRATION { &lapse_until } else { &until };
        let filter = DueFilter { day: dated.day, until, after, stage, limit: limit.saturating_add(1) };
        let found = registry.store.due(dated.table, &filter).await?;
        rows.extend(found.into_iter().filter_map(|row| Some((row_place(kind, &row)?, Some(row)))));
    }
    let mut shells = Vec::new();
    if rows.len() <= limit as usize && is_wanted(EMPTY_SHELL) {
        let after = match &after {
            Some(Place::Shell(since_ms, number)) => (*since_ms, number.as_str()),
            Some(Place::Dated(..)) | None => (i64::MIN, ""),
        };
        shells = registry.store.shells(after, limit.saturating_add(1)).await?;
        rows.extend(shells.iter().map(|it| (Place::Shell(it.since_ms, it.number.clone()), None)));
    }
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_cursor = rows.last().filter(|_| has_more).map(|(place, _)| place.cursor());
    let mut due = Vec::with_capacity(rows.len());
    for (place, row) in rows {
        match (place, row) {
            (Place::Dated(_, kind, _), Some(row)) => due.extend(item(registry, today, kind, &row).await?),
            (Place::Shell(since_ms, number), _) => {
                let domain = shells.iter().find(|it| it.number == number).map(|it| &it.domain);
                let since = jiff::Timestamp::from_millisecond(since_ms).unwrap_or_default();
                due.push(json!({
                    "kind": EMPTY_SHELL, "number": number, "domain": domain, "since": since, "due_on": null,
                    "overdue": false, "by_calendar": true,
                }));
            }
            (Place::Dated(..), None) => {}
        }
    }
    let calendar_missing = api.rules.calendar.missing_soon(today);
    Ok(Json(json!({
        "today": today, "calendar_missing": calendar_missing, "due": due, "next_cursor": next_cursor,
    })))
}

/// Says once a day in the log that clocks run, or soon run, by weekends alone; ends where the registry does.
pub(super) async fn warn_of_calendar(calendar: &WorkingDays, shutdown: watch::Receiver<bool>) {
    loop {
        if let Some(year) = calendar.missing_soon(crate::verdict::day(jiff::Timestamp::now())) {
            tracing::warn!(
                year,
                "the working calendar lacks a year: what falls due in it counts weekends alone; add it to \
                 `working_days` of [registry.embedded]"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(WARNED_EVERY) => {}
            () = ended(shutdown.clone()) => return,
        }
    }
}

/// Until when a registration ends that is worth a word.
fn soon(today: Date) -> Date {
    today.checked_add(jiff::Span::new().days(REGISTRATION_DAYS)).unwrap_or(EVER)
}

/// Where a row is, by the day that its table is ordered by.
fn row_place(kind: usize, row: &Row) -> Option<Place> {
    let column = DATED[kind].table.keys().iter().position(|it| *it == DATED[kind].day)?;
    Some(Place::Dated(row.keys.get(column)?.clone()?, kind, row.id.clone()))
}

/// What is shown of a row; nothing where it is no longer due.
async fn item(registry: &Registry, today: Date, kind: usize, row: &Row) -> Result<Option<Value>, StoreError> {
    let (mut shown, due_on, is_by_calendar) = match DATED[kind].table {
        Kind::Order => {
            let Ok(order) = serde_json::from_str::<Order>(&row.body) else { return Ok(None) };
            let (domain, subject) = (&order.domain, &order.subject.name);
            let shown =
                json!({ "order": order.id, "intent": order.intent, "domain": domain, "subject": subject });
            (shown, order.due_on, order.due_by_calendar)
        }
        _ => {
            let Ok(note) = serde_json::from_str::<SiteNote>(&row.body) else { return Ok(None) };
            let Some((domain, is_known)) = domain_of(registry, &note.number).await? else { return Ok(None) };
            let mut shown = json!({ "number": note.number, "domain": domain });
            match (DATED[kind].day, note.correction) {
                ("correction_due_on", Some(correction)) => {
                    shown["reason"] = correction.reason.into();
                    (shown, Some(correction.due_on), correction.due_by_calendar)
                }
                ("due_on", _) => (shown, note.public_security_due_on.filter(|_| !is_known), true),
                ("registration_expires_on", _) => (shown, note.registration_expires_on, true),
                _ => return Ok(None),
            }
        }
    };
    let Some(due_on) = due_on else { return Ok(None) };
    shown["kind"] = DATED[kind].name.into();
    shown["due_on"] = due_on.to_string().into();
    shown["overdue"] = (due_on < today).into();
    shown["by_calendar"] = is_by_calendar.into();
    Ok(Some(shown))
}

/// The first live domain of a site, and whether its public-security filing is known.
async fn domain_of(registry: &Registry, number: &str) -> Result<Option<(String, bool)>, StoreError> {
    let documents = registry.store.documents_of_site(number).await?;
    let is_known = documents.iter().any(|(_, it)| it.document.about.public_security_number.is_some());
    Ok(documents.first().map(|(name, _)| (name.to_string(), is_known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_from_its_cursor() {
        let places = [
            Place::Dated("2026-01-02".into(), 0, "order-2".into()),
            Place::Dated("2026-01-02".into(), 2, "京ICP备1号-1".into()),
            Place::Dated("2026-01-03".into(), 0, "a b".into()),
            Place::Shell(-5, "京ICP备1号-1".into()),
            Place::Shell(7, "京ICP备1号-1".into()),
        ];
        assert!(places.is_sorted());
        for place in places {
            assert_eq!(Place::parse(&place.cursor()), Some(place));
        }
        for wrong in ["x", "2026-01-02", "2026-13-02 0 a", "2026-01-02 x a", "empty_shell x a"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_kind_goes_on_after_the_place() {
        let place = Place::Dated("2026-01-02".into(), 1, "b".into());
        let after: Vec<_> = (0..DATED.len()).map(|kind| place.after(kind).unwrap().1).collect();
        assert_eq!(after, [LAST_ID, "b", "", "", ""]);
        assert_eq!(Place::Shell(1, String::new()).after(0), None);
    }
}
