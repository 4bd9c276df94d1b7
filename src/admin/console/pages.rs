//! One function for each page.

use super::facts::{self, Host};
use super::{language, page};
use crate::admin::traffic::Step;
use crate::admin::{Admin, Asked, answer_for, status};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use minijinja::context;
use minijinja::value::Serde;
use serde::Deserialize;
use serde_json::Value;

/// The chart's size, in its own units.
const CHART: (f64, f64) = (720.0, 160.0);

#[derive(Debug, Deserialize)]
pub(super) struct Language {
    lang: Option<String>,
}

pub(super) async fn overview(
    State(admin): State<Admin>,
    Query(asked): Query<Language>,
    fields: HeaderMap,
) -> Response {
    let lang = language(&fields, asked.lang.as_deref());
    let blocked = facts::blocked(&admin);
    let top: Vec<_> = blocked["domains"].as_array().into_iter().flatten().take(10).cloned().collect();
    let steps = admin.0.traffic.steps();
    let expired = facts::lists(&admin);
    let certificates = facts::certificates(&admin);
    let is_due = |one: &&Value| one["days_left"].as_i64().is_some_and(|days| days < 30);
    let due: Vec<_> = certificates.as_array().into_iter().flatten().filter(is_due).cloned().collect();
    let status = status(State(admin)).await.0;
    let content = context! {
        status => Serde(&status), top => Serde(&top), chart => Serde(&chart(&steps)),
        lists => Serde(&expired), certificates => Serde(&due),
    };
    page("overview.html", lang, "/", content)
}

pub(super) async fn look_up(
    State(admin): State<Admin>,
    Query(asked): Query<Host>,
    fields: HeaderMap,
) -> Response {
    let lang = language(&fields, asked.lang.as_deref());
    let host = asked.host.trim();
    if host.is_empty() {
        return page("look_up.html", lang, "/console/look-up", context! { host });
    }
    let question = Asked { host: host.to_owned(), scenario: None, region: None };
    let answer = answer_for(&admin, &question);
    let table = facts::scenarios(&admin, host);
    let (mut filing, mut history) = (None, None);
    if let (Some(registries), Some(domain)) = (&admin.0.registries, answer.domain.as_deref()) {
        let filed = answer.decided_by.as_deref().unwrap_or(domain);
        let (one, other) = tokio::join!(registries.filing(domain), registries.history(filed));
        (filing, history) = (one.ok(), other.ok());
    }
    let pretty = filing.as_ref().and_then(|it| serde_json::to_string_pretty(it).ok());
    let content = context! {
        host, answer => Serde(&answer), table => Serde(&table), filing => pretty,
        history => Serde(&history.map(|it| entries(&it))),
    };
    page("look_up.html", lang, "/console/look-up", content)
}

/// The list within an answer, under whatever name it has there; each entry as one line of text.
fn entries(answer: &Value) -> Vec<String> {
    let list = answer.as_array().or_else(|| answer.as_object()?.values().find_map(Value::as_array));
    list.into_iter().flatten().map(ToString::to_string).collect()
}

pub(super) async fn blocked(
    State(admin): State<Admin>,
    Query(asked): Query<Language>,
    fields: HeaderMap,
) -> Response {
    let lang = language(&fields, asked.lang.as_deref());
    page("blocked.html", lang, "/console/blocked", context! { blocked => Serde(&facts::blocked(&admin)) })
}

pub(super) async fn lists(
    State(admin): State<Admin>,
    Query(asked): Query<Language>,
    fields: HeaderMap,
) -> Response {
    let lang = language(&fields, asked.lang.as_deref());
    let (lists, certificates) = (facts::lists(&admin), facts::certificates(&admin));
    let content = context! { lists => Serde(&lists), certificates => Serde(&certificates) };
    page("lists.html", lang, "/console/lists", content)
}

pub(super) async fn fleet(
    State(admin): State<Admin>,
    Query(asked): Query<Language>,
    fields: HeaderMap,
) -> Response {
    let lang = language(&fields, asked.lang.as_deref());
    let gates = match &admin.0.registries {
        Some(registries) => registries.gates().await,
        None => Value::Null,
    };
    let content =
        context! { gates => Serde(&gates), warnings => Serde(&admin.0.told.warnings.shown_whole()) };
    page("fleet.html", lang, "/console/fleet", content)
}

pub(super) async fn log(
    State(_): State<Admin>,
    Query(asked): Query<Language>,
    fields: HeaderMap,
) -> Response {
    let lang = language(&fields, asked.lang.as_deref());
    let verdicts = crate::gate::record::Outcome::names();
    page("log.html", lang, "/console/log", context! { verdicts })
}

/// Areas of the last hour's requests, one above the other, as SVG paths; and the highest sum in a second.
#[derive(Debug, serde::Serialize)]
struct Chart {
    width: f64,
    height: f64,
    /// Bottom to top: forwarded, blocked, other.
    areas: [String; 3],
    peak: f64,
}

fn chart(steps: &[Step]) -> Chart {
    let (width, height) = CHART;
    let sum = |step: &Step| step.forwarded + step.blocked + step.other;
    let peak = steps.iter().map(sum).max().unwrap_or(0).max(1) as f64;
    let x = |nth: usize| width * nth as f64 / (steps.len().max(2) - 1) as f64;
    let y = |count: u64| height - height * count as f64 / peak;
    let layer = |below: fn(&Step) -> u64, top: fn(&Step) -> u64| {
        let point = |nth: usize, count: u64| format!("{:.1},{:.1}", x(nth), y(count));
        let up = steps.iter().enumerate().map(|(nth, step)| point(nth, top(step)));
        let down = steps.iter().enumerate().rev().map(|(nth, step)| point(nth, below(step)));
        up.chain(down).collect::<Vec<_>>().join(" ")
    };
    let areas = [
        layer(|_| 0, |it| it.forwarded),
        layer(|it| it.forwarded, |it| it.forwarded + it.blocked),
        layer(|it| it.forwarded + it.blocked, |it| it.forwarded + it.blocked + it.other),
    ];
    Chart { width, height, areas, peak: peak / 10.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_stand_on_each_other() {
        let step = |at, forwarded, blocked| Step { at, forwarded, blocked, other: 0 };
        let chart = chart(&[step(0, 10, 0), step(10, 10, 30)]);
        assert_eq!(chart.areas[0], "0.0,120.0 720.0,120.0 720.0,160.0 0.0,160.0");
        assert_eq!(chart.areas[1], "0.0,120.0 720.0,0.0 720.0,120.0 0.0,120.0");
        assert_eq!(chart.peak, 4.0);
        assert_eq!(super::chart(&[]).areas[0], "");
    }
}
