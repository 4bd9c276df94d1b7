//! `replay --host X --at T`: what X was told at that time and why, by two witnesses: the audit log, which says what this gate
//! decided, and the registry's change log, which says what was filed.
//!
//! What the audit log says is what was. Where it says nothing, the verdict is derived from the change log by the
//! rules of today's config, and said to be derived.

use super::super::ask::Asked as Registry;
use super::super::check::asked::{Asked, Basis};
use super::super::{FAILED, PastArguments, audit, block_on};
use crate::config::Config;
use crate::domain::{DomainName, HostForm};
use crate::filing::{FilingRecord, covering};
use crate::registry::logged_record;
use crate::telemetry::rotated;
use crate::verdict::{Coverage, Filings, Policy};
use anyhow::{Context, bail};
use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Changes of one name that are read at most.
const MAX_CHANGES: usize = 100_000;

pub(super) fn run(arguments: &PastArguments<'_>) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    config.require_provider()?;
    let at = time(arguments.at)?;
    let Ok(host) = HostForm::from_user(arguments.host) else {
        bail!("{:?} is neither a domain name nor an address", arguments.host);
    };
    let files = files(&config, arguments.audit);
    let told = if files.is_empty() { None } else { Some(Told::read(&files, &host, at)?) };
    let filed = host.name().map(|name| block_on(Filed::ask(&config, name, at)));
    let (filed, unasked) = match filed.transpose() {
        Ok(filed) => (filed, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let derived = filed.as_ref().map(|filed| filed.judge(&config, arguments.host, at));
    let answer = json!({
        "host": host.to_string(),
        "at": at.to_string(),
        "audit": told.as_ref().map(Told::shown),
        "change_log": filed.as_ref().map(|filed| &filed.shown),
        "change_log_error": unasked,
        "derived": derived,
    });
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{answer}")?;
    } else {
        print(&mut out, &answer)?;
    }
    let is_broken = told.as_ref().is_some_and(|told| told.broken.is_some());
    let knows = told.is_some_and(|told| told.verdict.is_some()) || filed.is_some();
    Ok(if knows && !is_broken { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// With a time zone, or in UTC+8; a day alone is its end.
fn time(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let here = Offset::constant(8);
    // A date would be read out of a longer text as well.
    if let (Ok(day), true) = (text.parse::<jiff::civil::Date>(), text.len() <= "2026-11-25".len()) {
        let next = here.to_timestamp(day.tomorrow()?.to_datetime(jiff::civil::Time::midnight()))?;
        return Ok(next.checked_sub(SignedDuration::from_millis(1))?);
    }
    let wrong = || {
        format!("{text:?} is no time; write one like 2026-11-25T12:00:00Z or \"2026-11-25 20:00\" (UTC+8)")
    };
    let at: DateTime = text.parse().with_context(wrong)?;
    Ok(here.to_timestamp(at)?)
}

/// The audit log's files: those given, else the configured one with its full ones.
fn files(config: &Config, given: &[PathBuf]) -> Vec<PathBuf> {
    if !given.is_empty() {
        return given.to_vec();
    }
    let Some(audit) = &config.audit else { return Vec::new() };
    let mut files = rotated(&audit.file);
    files.extend(audit.file.exists().then(|| audit.file.clone()));
    files
}

/// What the audit log says of one host up to a time.
#[derive(Default)]
struct Told {
    /// The last verdict on it; by scenario and region, for it may be asked for as several products.
    verdict: Option<Value>,
    others: Vec<Value>,
    /// The last line that says that its domain was turned away.
    blocked: Option<Value>,
    /// Whether filings could be relied on.
    filings: Option<Value>,
    /// The last config that came into force.
    config: Option<Value>,
    broken: Option<String>,
}

/// Whether a blocked domain is a host's own name, its registrable domain, or one between them that is filed.
fn is_of(blocked: &str, (name, registrable): (&str, &str)) -> bool {
    let above = name.strip_suffix(blocked);
    above.is_some_and(|above| above.is_empty() || above.ends_with('.')) && blocked.len() >= registrable.len()
}

impl Told {
    fn read(files: &[PathBuf], host: &HostForm, at: Timestamp) -> anyhow::Result<Self> {
        let mut told = Self::default();
        let name = host.to_string();
        let domain = host.name().and_then(DomainName::registrable).unwrap_or(&name).to_owned();
        let mut by_product: HashMap<(String, String), Value> = HashMap::new();
        let read = audit::read(
            files,
            None,
            |_, _| Ok(()),
            |line| {
                let Ok(line) = serde_json::from_slice::<Value>(line) else { return };
                let is_before = line["time"]
                    .as_str()
                    .and_then(|it| it.parse::<Timestamp>().ok())
                    .is_some_and(|it| it <= at);
                if !is_before {
                    return;
                }
                let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
                match line["event"].as_str().unwrap_or_default() {
                    "verdict" if line["host"] == name.as_str() => {
                        by_product.insert((text("scenario"), text("region")), line);
                    }
                    "blocked" | "blocked_again" if is_of(&text("domain"), (&name, &domain)) => {
                        told.blocked = Some(line)
                    }
                    "filings" => told.filings = Some(line),
                    "begin" => told.config = Some(line),
                    "reload" if line["refused"].is_null() => told.config = Some(line),
                    _ => {}
                }
            },
        )?;
        told.broken = read.err();
        let mut verdicts: Vec<_> = by_product.into_values().collect();
        verdicts.sort_by_key(|line| line["seq"].as_u64());
        told.verdict = verdicts.pop();
        told.others = verdicts;
        Ok(told)
    }

    fn shown(&self) -> Value {
        json!({
            "chain": self.broken.as_deref().unwrap_or("holds"),
            "verdict": self.verdict,
            "as_other_products": self.others,
            "blocked": self.blocked,
            "filings": self.filings,
            "config": self.config,
        })
    }
}

/// What the registry's change log says of the names that could decide.
struct Filed {
    records: HashMap<String, FilingRecord>,
    shown: Value,
}

impl Filed {
    async fn ask(config: &Config, name: &DomainName, at: Timestamp) -> anyhow::Result<Self> {
        let registry = Registry::of(config).await?;
        let (mut records, mut shown) = (HashMap::new(), Vec::new());
        for candidate in name.filing_candidates() {
            let (document, change) = at_time(&registry, candidate, at).await?;
            if document.is_null() && change.is_null() {
                continue;
            }
            if let Some(record) = logged_record(&document, candidate, &config.provider) {
                records.insert(candidate.to_owned(), record);
            }
            shown.push(json!({ "domain": candidate, "document": document, "change": change }));
        }
        Ok(Self { records, shown: Value::Array(shown) })
    }

    fn judge(&self, config: &Config, host: &str, at: Timestamp) -> Value {
        let policy = Policy::new(config.enforcement.policy.clone());
        let basis = Basis {
            filings: self,
            source: "change log, by today's rules",
            synced_at: None,
            today: crate::verdict::day(at),
        };
        serde_json::to_value(Asked::new(config, host, None, None).answer(&policy, &basis)).unwrap_or_default()
    }
}

impl Filings for Filed {
    fn coverage(&self, name: &DomainName) -> Coverage {
        let found = covering(name, |name| self.records.get(name).cloned());
        found.map_or(Coverage::Unfiled, Coverage::Filed)
    }
}

/// A name's document at a time, and the change that made it so. Both null where nothing is known; without a change
/// in the log the document of today, with a null change beside it.
async fn at_time(registry: &Registry, name: &str, at: Timestamp) -> anyhow::Result<(Value, Value)> {
    let path = format!("/v1/filings/{name}/history");
    let (mut cursor, mut read, mut first) = (None::<u64>, 0, Value::Null);
    loop {
        let from = cursor.map(|it| it.to_string());
        let pairs: Vec<_> =
            from.iter().map(|it| ("cursor", it.as_str())).chain([("limit", "1000")]).collect();
        let answer = registry.ask(Method::GET, &path, &pairs, None).await?;
        if answer.status != StatusCode::OK {
            bail!("the registry answered {} for the history of {name}", answer.status);
        }
        let changes = answer.body["changes"].as_array().cloned().unwrap_or_default();
        read += changes.len();
        for change in changes {
            let when = change["at"].as_str().and_then(|it| it.parse::<Timestamp>().ok());
            if when.is_some_and(|when| when <= at) {
                return Ok((change["after"].clone(), change));
            }
            first = change;
        }
        cursor = answer.body["next_cursor"].as_u64();
        if cursor.is_none() || read >= MAX_CHANGES {
            break;
        }
    }
    if !first.is_null() {
        return Ok((first["before"].clone(), Value::Null));
    }
    let answer = registry.ask(Method::GET, &format!("/v1/filings/{name}"), &[], None).await?;
    let is_it = answer.status == StatusCode::OK && answer.body["domain"] == name;
    let body = &answer.body;
    let document = json!({ "number": body["number"], "state": body["state"], "access": body["access"] });
    Ok((if is_it { document } else { Value::Null }, Value::Null))
}

fn print(out: &mut impl Write, answer: &Value) -> std::io::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    writeln!(out, "{} at {} 当时的结论", text(&answer["host"]), text(&answer["at"]))?;
    let audit = &answer["audit"];
    match &audit["verdict"] {
        Value::Null if audit.is_null() => writeln!(out, "audit log 审计日志: none is configured or given")?,
        Value::Null => writeln!(out, "audit log 审计日志: no verdict on it up to then")?,
        line => {
            writeln!(
                out,
                "audit log 审计日志: {} since {} (line {}); number {}, decided by {}",
                text(&line["verdict"]),
                text(&line["time"]),
                line["seq"],
                text(&line["number"]),
                text(&line["decided_by"])
            )?;
            writeln!(out, "  {}\n  {}", text(&line["because_zh"]), text(&line["because"]))?;
        }
    }
    if audit["filings"]["reliable"] == false {
        writeln!(out, "  no filings could be relied on since {}", text(&audit["filings"]["time"]))?;
    }
    if let Some(line) = audit["blocked"].as_object() {
        let (verdict, time) = (text(&line["verdict"]), text(&line["time"]));
        writeln!(
            out,
            "  its domain was turned away ({verdict}) last recorded at {time} (line {})",
            line["seq"]
        )?;
    }
    if !audit.is_null() && audit["chain"] != "holds" {
        writeln!(out, "  THE AUDIT LOG'S CHAIN IS BROKEN 链条断裂: {}", text(&audit["chain"]))?;
    }
    for filed in answer["change_log"].as_array().into_iter().flatten() {
        let change = &filed["change"];
        let (document, domain) = (&filed["document"], text(&filed["domain"]));
        let by = match change {
            Value::Null => "no change of it is logged up to then".to_owned(),
            _ => {
                format!("by change {} of {} at {}", change["seq"], text(&change["who"]), text(&change["at"]))
            }
        };
        let (state, number) = (text(&document["state"]), text(&document["number"]));
        writeln!(out, "change log 变更日志: {domain}: {state} {number} {} ({by})", document["access"])?;
    }
    if let Some(error) = answer["change_log_error"].as_str() {
        writeln!(out, "change log 变更日志: not asked: {error}")?;
    }
    if let Some(derived) = answer["derived"].as_object() {
        let because = &derived["because"];
        writeln!(out, "derived by today's rules 按现行规则推导: {}", text(&derived["verdict"]))?;
        writeln!(out, "  {}\n  {}", text(&because["zh"]), text(&because["en"]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_blocked_is_found_by_every_name_it_is_recorded_by() {
        let rows = [
            ("b.town.gov.cn", true),
            ("town.gov.cn", true),
            ("a.b.town.gov.cn", true),
            ("gov.cn", false),
            ("n.gov.cn", false),
            ("c.town.gov.cn", false),
            ("", false),
        ];
        for (blocked, expected) in rows {
            assert_eq!(is_of(blocked, ("a.b.town.gov.cn", "town.gov.cn")), expected, "{blocked}");
        }
    }

    #[test]
    fn times_are_of_china_unless_they_say_otherwise() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(time(text).unwrap().to_string(), expected, "{text}");
        }
        check("2026-11-25T12:00:00Z", "2026-11-25T12:00:00Z");
        check("2026-11-25T12:00:00+08:00", "2026-11-25T04:00:00Z");
        check("2026-11-25 20:00", "2026-11-25T12:00:00Z");
        check("2026-11-25", "2026-11-25T15:59:59.999Z");
        assert!(time("yesterday").unwrap_err().to_string().contains("is no time"));
    }
}
