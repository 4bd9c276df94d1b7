//! What comes up: certificates and exceptions that end, and what the registry's books say is due for the domains that are
//! served here. Looked at now and then; each thing is told once for each number of days that the config names, and once more
//! when its day is over.

use super::{Message, Warning, WarningSink, WarningState, words};
use crate::config::{WarningKind, Webhooks};
use crate::domain::DomainName;
use crate::gate::worker::Shared;
use crate::inquiry::Registries;
use jiff::civil::Date;
use jiff::{Span, Timestamp};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;

/// For how long after its day something is remembered as told.
const REMEMBERED_DAYS: i64 = 60;
/// As long for what has no day.
const REMEMBERED_WITHOUT_DAYS: i64 = 400;
/// What comes up that is shown and told of.
const MAX_UPCOMING: usize = 10_000;

/// Something that comes up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Upcoming {
    /// What it is.
    #[serde(serialize_with = "kind_as_text", rename = "event")]
    pub kind: WarningKind,
    /// The domain, the certificate's file, the exception's host.
    pub what: String,
    /// The last day, where there is one.
    pub due_on: Option<Date>,
    /// Until then; negative once it is over.
    pub days_left: Option<i32>,
    /// In words.
    pub message: Message,
    /// What the registry says of it.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub data: Value,
    /// Whether it concerns one gate alone.
    #[serde(skip)]
    is_local: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn kind_as_text<S: serde::Serializer>(kind: &WarningKind, to: S) -> Result<S::Ok, S::Error> {
    kind.as_str().serialize(to)
}

/// Looks at what comes up.
#[derive(Debug)]
pub struct Lookout {
    /// Where it is shown.
    pub state: Arc<WarningState>,
    /// Whom it is told.
    pub sink: Option<WarningSink>,
    /// The gate; none where a registry runs alone.
    pub gate: Option<Arc<Shared>>,
    /// Who is asked what is due; nobody where nobody is warned.
    pub registries: Option<Registries>,
    /// When and how often.
    pub config: Webhooks,
    /// What this gate is called.
    pub name: String,
}

impl Lookout {
    /// Looks until told to stop.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut due = Vec::new();
        loop {
            let today = crate::verdict::day(Timestamp::now());
            self.ask(today, &mut due).await;
            let upcoming = self.look(today, &due);
            self.state.set_upcoming(upcoming.clone());
            for one in upcoming {
                self.remind(one, today);
            }
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                () = tokio::time::sleep(self.config.look_every) => {}
            }
        }
    }

    /// Asks the registry; what it said before holds where it gives no answer.
    async fn ask(&self, today: Date, due: &mut Vec<Value>) {
        let Some(registries) = &self.registries else { return };
        match registries.due(after(today, self.horizon())).await {
            Ok(mut answer) => {
                if let Value::Array(items) = answer["due"].take() {
                    *due = items;
                }
                self.state.set_look_error(None);
            }
            Err(error) => self.state.set_look_error(Some(error)),
        }
    }

    fn horizon(&self) -> i64 {
        self.config.remind_days.first().copied().unwrap_or_default().into()
    }

    fn look(&self, today: Date, due: &[Value]) -> Vec<Upcoming> {
        let mut upcoming = Vec::new();
        if let Some(gate) = &self.gate {
            upcoming.extend(certificates(gate, today));
            upcoming.extend(exceptions(gate, today));
        }
        let served = self.gate.as_ref().and_then(|gate| served_here(gate));
        let is_served = |domain: &str| {
            let name = DomainName::from_user(domain).ok();
            let domain = name.as_ref().and_then(DomainName::registrable).unwrap_or(domain);
            served.as_ref().is_none_or(|served| served.contains(domain))
        };
        let of_registry = due.iter().filter_map(|item| said(item, today));
        upcoming.extend(of_registry.filter(|it| is_served(&it.what)));
        let horizon = self.horizon();
        upcoming.retain(|it| it.days_left.is_none_or(|left| i64::from(left) <= horizon));
        upcoming.sort_by(|a, b| {
            (a.days_left.is_none(), a.due_on, &a.what).cmp(&(b.days_left.is_none(), b.due_on, &b.what))
        });
        upcoming.truncate(MAX_UPCOMING);
        upcoming
    }

    fn remind(&self, one: Upcoming, today: Date) {
        let Some(sink) = &self.sink else { return };
        let Upcoming { kind, what, due_on, days_left, message, data, is_local } = one;
        let stage = match days_left {
            None => "once".to_owned(),
            Some(left) if left < 0 => "over".to_owned(),
            Some(left) => {
                let reached = self.config.remind_days.iter().filter(|days| i32::from(**days) >= left);
                let Some(stage) = reached.min() else { return };
                stage.to_string()
            }
        };
        let place = if is_local { self.name.as_str() } else { "" };
        let of = data["order"].as_str().or(data["since"].as_str()).unwrap_or_default();
        let day = due_on.map(|day| day.to_string()).unwrap_or_default();
        let key = [kind.as_str(), place, &what, of, &day, &stage].join("|");
        let until = match due_on {
            Some(day) => after(day.max(today), REMEMBERED_DAYS),
            None => after(today, REMEMBERED_WITHOUT_DAYS),
        };
        let mut told = serde_json::json!({ "what": what, "due_on": due_on, "days_left": days_left });
        if let (Value::Object(told), Value::Object(more)) = (&mut told, data) {
            told.extend(more);
        }
        sink.warn(Warning { kind, message, data: told, once: Some((key, until)) });
    }
}

fn after(day: Date, days: i64) -> Date {
    day.checked_add(Span::new().days(days)).unwrap_or(Date::MAX)
}

fn days_until(today: Date, day: Date) -> Option<i32> {
    today.until(day).ok().map(|span| span.get_days())
}

fn new(kind: WarningKind, what: &str, due_on: Option<Date>, today: Date) -> Upcoming {
    let days_left = due_on.and_then(|day| days_until(today, day));
    let message = words::upcoming(kind, what, due_on, days_left);
    Upcoming { kind, what: what.to_owned(), due_on, days_left, message, data: Value::Null, is_local: false }
}

fn certificates(gate: &Shared, today: Date) -> Vec<Upcoming> {
    let certificates = gate.certificates.load();
    let ending = certificates.all().iter().filter_map(|served| {
        let day = crate::verdict::day(Timestamp::from_second(served.not_after).ok()?);
        let what = served.file.display().to_string();
        Some(Upcoming { is_local: true, ..new(WarningKind::CertificateExpiring, &what, Some(day), today) })
    });
    ending.collect()
}

fn exceptions(gate: &Shared, today: Date) -> Vec<Upcoming> {
    let rules = gate.rules.load();
    let [exceptions, _, _] = rules.policy.lists();
    let ending = exceptions.iter().filter_map(|entry| {
        let day = entry.until?;
        // What ended long ago was told of long ago.
        (i64::from(days_until(today, day)?) > -REMEMBERED_DAYS).then(|| {
            let what = entry.pattern.to_string();
            Upcoming { is_local: true, ..new(WarningKind::ExceptionExpiring, &what, Some(day), today) }
        })
    });
    ending.collect()
}

/// The registrable domains that sites name; none where every domain may be served.
fn served_here(gate: &Shared) -> Option<HashSet<String>> {
    let rules = gate.rules.load();
    if rules.routes.has_default() {
        return None;
    }
    let domain = |name: String| {
        let parsed = DomainName::from_user(&name).ok();
        parsed.as_ref().and_then(DomainName::registrable).map(str::to_owned)
    };
    Some(rules.routes.names().filter_map(domain).collect())
}

/// An item of `GET /v1/due`.
fn said(item: &Value, today: Date) -> Option<Upcoming> {
    let intent = item["intent"].as_str().unwrap_or_default();
    let kind = match item["kind"].as_str()? {
        "public_security_filing" => WarningKind::PublicSecurityDue,
        "correction" => WarningKind::CorrectionDue,
        "empty_shell" => WarningKind::EmptyShell,
        "domain_registration" => WarningKind::RegistrationLapsing,
        "provider_review" | "authority_review" if matches!(intent, "cancel_access" | "deregister") => {
            WarningKind::FilingEnding
        }
        _ => return None,
    };
    let due_on = item["due_on"].as_str().and_then(|day| day.parse().ok());
    // What ends is told of at once, and not by the days until its review is due.
    let due_on = due_on.filter(|_| kind != WarningKind::FilingEnding);
    Some(Upcoming { data: item.clone(), ..new(kind, item["domain"].as_str()?, due_on, today) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use serde_json::json;

    #[track_caller]
    fn check(item: &Value, expected: Option<(&str, Option<i32>)>) {
        let found = said(item, date(2026, 11, 26));
        let shown = found.as_ref().map(|it| (it.kind.as_str(), it.days_left));
        assert_eq!(shown, expected, "{item}");
    }

    #[test]
    fn what_the_registry_says() {
        let item = |kind: &str, day: &str| json!({ "kind": kind, "domain": "a.cn", "due_on": day });
        check(&item("public_security_filing", "2026-12-01"), Some(("public_security_due", Some(5))));
        check(&item("correction", "2026-11-20"), Some(("correction_due", Some(-6))));
        check(&item("domain_registration", "2026-11-26"), Some(("registration_lapsing", Some(0))));
        let shell = json!({ "kind": "empty_shell", "domain": "a.cn", "due_on": null, "since": "2026-01-01T00:00:00Z" });
        check(&shell, Some(("empty_shell", None)));
        check(&item("authority_review", "2026-11-30"), None);
        let mut ending = item("authority_review", "2026-11-30");
        ending["intent"] = "cancel_access".into();
        check(&ending, Some(("filing_ending", None)));
        check(&json!({ "kind": "correction", "due_on": "2026-11-30" }), None);
    }
}
