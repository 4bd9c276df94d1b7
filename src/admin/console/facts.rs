//! What the console shows, as JSON: the same for its pages and for programs.

use super::super::Admin;
use crate::domain::HostForm;
use crate::gate::judge;
use crate::gate::route::Target;
use crate::verdict::{self, Question, Region, Scenario};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;

/// Domains of one page of those turned away.
pub(super) const BLOCKED_PAGE: usize = 200;
/// Lines of log in one answer.
const MAX_LINES: usize = 200;

/// Which host is asked about.
#[derive(Debug, Deserialize)]
pub(super) struct Host {
    #[serde(default)]
    pub(super) host: String,
}

/// After which line of the log, and of which kind.
#[derive(Debug, Deserialize)]
pub(super) struct Since {
    #[serde(default)]
    after: u64,
    /// Only lines that hold this text.
    #[serde(default)]
    containing: String,
    /// Only lines of this verdict.
    #[serde(default)]
    verdict: String,
}

fn time(seconds: i64) -> Option<String> {
    jiff::Timestamp::from_second(seconds).ok().map(|at| at.to_string())
}

/// The domains that were turned away most often, a page of them from a rank on.
pub(super) fn blocked(admin: &Admin, from: usize) -> Value {
    let rules = admin.0.shared.rules.load();
    let most = from.saturating_add(BLOCKED_PAGE).saturating_add(1);
    let (top, unnamed) = admin.0.shared.blocked.top(most, jiff::Timestamp::now().as_second());
    let domains: Vec<_> = top
        .iter()
        .skip(from)
        .take(BLOCKED_PAGE)
        .map(|one| {
            let host = HostForm::from_user(&one.turned.domain).ok();
            let site = host.as_ref().and_then(|host| judge::site(&rules, host));
            json!({
                "domain": &*one.turned.domain,
                "verdict": one.turned.verdict,
                "listener": one.turned.listener.to_string(),
                "has_site": site.is_some(),
                "upstreams": site.map(|site| labels(&site.target)),
                "requests": one.requests,
                "hours": one.hours,
                "first": time(one.first_s),
                "last": time(one.last_s),
            })
        })
        .collect();
    let next = (top.len() == most).then_some(from + BLOCKED_PAGE);
    json!({ "domains": domains, "from": from, "next": next, "requests_without_name": unnamed })
}

/// A site's upstreams as they are configured: the addresses of a name are one.
fn labels(target: &Target) -> Vec<String> {
    let mut labels: Vec<_> = target.servers.now().iter().map(|it| it.endpoint.label.to_string()).collect();
    labels.dedup();
    labels
}

/// The operator's own lists.
pub(super) fn lists(admin: &Admin) -> Value {
    let rules = admin.0.shared.rules.load();
    let today = verdict::day(jiff::Timestamp::now());
    let [exceptions, block_list, ip_filings] = rules.policy.lists().map(|entries| {
        let shown = entries.iter().map(|entry| {
            json!({
                "host": entry.pattern.to_string(),
                "until": entry.until.map(|day| day.to_string()),
                "expired": entry.is_expired(today),
                "days_left": entry.until.and_then(|day| today.until(day).ok()).map(|span| span.get_days()),
                "reason": entry.reason,
                "owner": entry.owner,
                "number": entry.number.as_ref().map(ToString::to_string),
            })
        });
        Value::Array(shown.collect())
    });
    json!({ "exceptions": exceptions, "block_list": block_list, "ip_filings": ip_filings })
}

/// Certificates, with the days that they have left.
pub(super) fn certificates(admin: &Admin) -> Value {
    let now_s = jiff::Timestamp::now().as_second();
    let certificates = admin.0.shared.certificates.load();
    let shown = certificates.all().iter().map(|served| {
        json!({
            "file": served.file.display().to_string(),
            "not_after": time(served.not_after),
            "days_left": (served.not_after - now_s).div_euclid(86_400),
        })
    });
    Value::Array(shown.collect())
}

/// What each product in each region says of a host; `None` where it is no host.
pub(super) fn scenarios(admin: &Admin, host: &str) -> Option<Value> {
    let form = HostForm::from_user(host).ok()?;
    let rules = admin.0.shared.rules.load();
    let filings = admin.cache().at(Instant::now());
    let today = verdict::day(jiff::Timestamp::now());
    let rows = Scenario::ALL.map(|scenario| {
        let cells = Region::ALL.map(|region| {
            let question = Question { host: &form, scenario, region, origin_here: false, today };
            let decision = verdict::decide(&question, &rules.policy, &filings);
            json!({ "region": region.as_str(), "verdict": decision.verdict })
        });
        json!({ "scenario": scenario.as_str(), "verdicts": cells })
    });
    Some(json!({ "host": host, "scenarios": rows }))
}

/// The access log's latest lines.
pub(super) fn log_lines(admin: &Admin, since: &Since) -> Value {
    let (lines, all) = admin.0.tail.after(since.after, usize::MAX);
    let verdict = format!("\"verdict\":\"{}\"", since.verdict);
    let fits = |line: &str| {
        line.contains(&since.containing) && (since.verdict.is_empty() || line.contains(&verdict))
    };
    let fitting: Vec<_> = lines.iter().filter(|line| fits(line)).collect();
    let latest = &fitting[fitting.len().saturating_sub(MAX_LINES)..];
    json!({ "seen": all, "lines": latest })
}
