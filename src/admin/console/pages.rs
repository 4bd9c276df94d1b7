//! One function for each page.

use super::facts::{self, Host};
use super::page;
use super::viewer::Viewer;
use crate::admin::traffic::Step;
use crate::admin::{Admin, Asked, answer_for, status};
use axum::extract::{Query, State};
use axum::response::Response;
use minijinja::context;
use minijinja::value::Serde;
use serde::Deserialize;
use serde_json::Value;

/// The chart's size, in its own units.
const CHART: (f64, f64) = (720.0, 160.0);

/// Domains that the overview ranks.
const TOP_BLOCKED: usize = 25;
/// What comes up that the overview shows.
const TOP_UPCOMING: usize = 10;
/// Days ahead that the registry is asked for.
const DUE_DAYS: i64 = 90;

/// A page of a ranking.
#[derive(Debug, Deserialize)]
pub(super) struct Rank {
    #[serde(default)]
    from: usize,
}

pub(super) async fn overview(State(admin): State<Admin>, viewer: Viewer) -> Response {
    let blocked = facts::blocked(&admin, 0);
    let top: Vec<_> = blocked["domains"].as_array().into_iter().flatten().take(TOP_BLOCKED).collect();
    let steps = admin.0.traffic.steps();
    let verdicts = admin.0.traffic.by_verdict();
    let upcoming = admin.0.told.warnings.upcoming();
    let status = status(State(admin)).await.0;
    let content = context! {
        status => Serde(&status), top => Serde(&top), chart => Serde(&chart(&steps)),
        verdicts => Serde(&verdicts), upcoming => Serde(&upcoming[..upcoming.len().min(TOP_UPCOMING)]), more => upcoming.len(),
    };
    page("overview.html", &viewer, "/", content)
}

pub(super) async fn look_up(
    State(admin): State<Admin>,
    viewer: Viewer,
    Query(asked): Query<Host>,
) -> Response {
    let host = asked.host.trim();
    if host.is_empty() {
        return page("look_up.html", &viewer, "/console/look-up", context! { host });
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
    let changes = history.as_ref().map(|it: &Value| it["changes"].clone());
    let pretty = filing.as_ref().and_then(|it| serde_json::to_string_pretty(it).ok());
    let content = context! {
        host, answer => Serde(&answer), table => Serde(&table), filing => pretty,
        covering => Serde(&filing), history => Serde(&changes),
    };
    page("look_up.html", &viewer, "/console/look-up", content)
}

pub(super) async fn blocked(
    State(admin): State<Admin>,
    viewer: Viewer,
    Query(asked): Query<Rank>,
) -> Response {
    let blocked = facts::blocked(&admin, asked.from);
    page("blocked.html", &viewer, "/console/blocked", context! { blocked => Serde(&blocked) })
}

pub(super) async fn lists(State(admin): State<Admin>, viewer: Viewer) -> Response {
    let (lists, certificates) = (facts::lists(&admin), facts::certificates(&admin));
    let content = context! { lists => Serde(&lists), certificates => Serde(&certificates) };
    page("lists.html", &viewer, "/console/lists", content)
}

pub(super) async fn fleet(State(admin): State<Admin>, viewer: Viewer) -> Response {
    let gates = match &admin.0.registries {
        Some(registries) => registries.gates().await,
        None => Value::Null,
    };
    page("fleet.html", &viewer, "/console/fleet", context! { fleet => Serde(&gates) })
}

/// What comes up, who was told, and what the registry's books say is due.
pub(super) async fn due(State(admin): State<Admin>, viewer: Viewer) -> Response {
    let today = crate::verdict::day(jiff::Timestamp::now());
    let until = today.checked_add(jiff::Span::new().days(DUE_DAYS)).unwrap_or(today);
    let due = match &admin.0.registries {
        Some(registries) => registries.due(until).await,
        None => Err("no registry is configured".to_owned()),
    };
    let mut footers = admin.0.shared.footers.summaries();
    footers.retain(|site| !site.lacking.is_empty());
    let content = context! {
        footers => Serde(&footers), warnings => Serde(&admin.0.told.warnings.shown_whole()),
        due => Serde(&due.as_ref().ok()), error => due.as_ref().err(),
    };
    page("due.html", &viewer, "/console/due", content)
}

pub(super) async fn log(State(_): State<Admin>, viewer: Viewer) -> Response {
    let verdicts = crate::gate::record::Outcome::names();
    page("log.html", &viewer, "/console/log", context! { verdicts })
}

/// Areas of the last hour's requests, one above the other, as SVG paths; and the highest sum in a second.
#[derive(Debug, serde::Serialize)]
struct Chart {
    width: f64,
    height: f64,
    /// Bottom to top: forwarded, blocked, other.
    areas: [String; 3],
    peak: f64,
    /// The first and the last step's time.
    from: Option<String>,
    to: Option<String>,
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
    let time = |step: &Step| jiff::Timestamp::from_second(step.at).ok().map(|at| at.to_string());
    let (from, to) = (steps.first().and_then(time), steps.last().and_then(time));
    Chart { width, height, areas, peak: peak / 10.0, from, to }
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
