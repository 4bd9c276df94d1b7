//! `[enforcement]` and `[scenario.NAME]`: what the gate asks of names, and the operator's own lists.

use super::optional;
use super::site::MODES;
use crate::config::raw::{Section, Value};
use crate::config::{Enforcement, Mode, TlsBlocked, WhenNeverSynced, WhenStale, value};
use crate::filing::FilingNumber;
use crate::verdict::{CancelledPolicy, ListEntry, PolicyParts, Requirement, Scenario, ScenarioOverride};
use std::time::Duration;

const STALE: [(&str, WhenStale); 2] = [("serve", WhenStale::Serve), ("block", WhenStale::Block)];
const NEVER_SYNCED: [(&str, WhenNeverSynced); 2] =
    [("block", WhenNeverSynced::Block), ("forward", WhenNeverSynced::Forward)];
const TLS_BLOCKED: [(&str, TlsBlocked); 3] =
    [("page", TlsBlocked::Page), ("alert", TlsBlocked::Alert), ("reset", TlsBlocked::Reset)];

pub(super) fn enforcement(root: &mut Section<'_>, provider: &str) -> Enforcement {
    let mut enforcement = Enforcement {
        mode: Mode::Enforce,
        status: 451,
        blocked_by: format!("urn:beian-gate:provider:{provider}"),
        stale_after: Duration::from_hours(24),
        when_stale: WhenStale::Serve,
        when_never_synced: WhenNeverSynced::Block,
        tls_blocked: TlsBlocked::Page,
        policy: PolicyParts::default(),
        acme_passthrough: false,
    };
    if let Some(mut section) = root.section("enforcement") {
        behaviour(&mut section, &mut enforcement);
        let policy = &mut enforcement.policy;
        policy.ip_filings = section.sections("ip_filings").into_iter().filter_map(ip_filing).collect();
        policy.exceptions = section.sections("exceptions").into_iter().filter_map(list_entry).collect();
        policy.block_list = section.sections("block_list").into_iter().filter_map(list_entry).collect();
        section.finish();
    }
    enforcement.policy.forward_when_never_synced = enforcement.when_never_synced == WhenNeverSynced::Forward;
    if let Some(section) = root.section("scenario") {
        enforcement.policy.scenarios =
            section.entries().filter_map(|(name, value)| scenario(name, value)).collect();
    }
    enforcement
}

fn behaviour(section: &mut Section<'_>, enforcement: &mut Enforcement) {
    if let Some(mode) = optional(section, "mode", |value| value.choice("a mode", &MODES)) {
        enforcement.mode = mode;
    }
    if let Some(status) = optional(section, "status", status) {
        enforcement.status = status;
    }
    if let Some(url) = optional(section, "blocked_by", |value| value.parse(link_target)) {
        enforcement.blocked_by = url;
    }
    if let Some(age) = optional(section, "stale_after", Value::duration) {
        enforcement.stale_after = age;
    }
    if let Some(then) = optional(section, "when_stale", |value| value.choice("a way to go on", &STALE)) {
        enforcement.when_stale = then;
    }
    if let Some(then) = optional(section, "when_never_synced", |v| v.choice("a way to start", &NEVER_SYNCED))
    {
        enforcement.when_never_synced = then;
    }
    if let Some(answer) = optional(section, "tls_blocked", |value| value.choice("an answer", &TLS_BLOCKED)) {
        enforcement.tls_blocked = answer;
    }
    if let Some(passes) = optional(section, "acme_passthrough", Value::boolean) {
        enforcement.acme_passthrough = passes;
    }
}

fn status(value: &Value<'_>) -> Option<u16> {
    match value.integer(0..=999)? {
        451 => Some(451),
        403 => Some(403),
        other => {
            value.refuse(format!("{other} is not a status for blocked names; use 451 or 403"));
            None
        }
    }
}

/// A URI that fits between the angle brackets of a Link header.
fn link_target(text: &str) -> Result<String, String> {
    let is_uri = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
            && !rest.is_empty()
            && rest.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&b))
    });
    if is_uri {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a URI; write one like \"https://example.com/filing\""))
    }
}

fn ip_filing(mut section: Section<'_>) -> Option<ListEntry> {
    let address = section.required("address", "address = \"203.0.113.7\"");
    let number = section.required("number", "number = \"京ICP备12345678号-1\"");
    section.finish();
    let pattern = address.and_then(|value| value.parse(value::address_pattern));
    let number = number
        .and_then(|value| value.parse(|text| FilingNumber::parse(text).map_err(|error| error.to_string())));
    Some(ListEntry {
        pattern: pattern?,
        until: None,
        reason: String::new(),
        owner: String::new(),
        number: Some(number?),
    })
}

fn list_entry(mut section: Section<'_>) -> Option<ListEntry> {
    let host = section.required("host", "host = \"example.com\" (or *.host, an address, a CIDR)");
    let until = optional(&mut section, "until", Value::date);
    let reason = optional(&mut section, "reason", Value::string);
    let owner = optional(&mut section, "owner", Value::string);
    section.finish();
    Some(ListEntry {
        pattern: host?.parse(value::host_pattern)?,
        until,
        reason: reason.unwrap_or_default().to_owned(),
        owner: owner.unwrap_or_default().to_owned(),
        number: None,
    })
}

fn scenario(name: &str, value: Value<'_>) -> Option<(Scenario, ScenarioOverride)> {
    let Ok(scenario) = name.parse::<Scenario>() else {
        let known = Scenario::ALL.map(Scenario::as_str).join(", ");
        value.refuse_key(format!("{name:?} is not a scenario; use one of {known}"));
        return None;
    };
    let requirements = Requirement::ALL.map(|requirement| (requirement.as_str(), requirement));
    let policies = CancelledPolicy::ALL.map(|policy| (policy.as_str(), policy));
    let mut section = value.section()?;
    let mut requirement =
        |key| optional(&mut section, key, |value| value.choice("a requirement", &requirements));
    let requires = requirement("requires");
    let cells = ScenarioOverride {
        mainland: requirement("mainland").or(requires),
        global: requirement("global").or(requires),
        overseas: requirement("overseas"),
        access_cancelled: optional(&mut section, "access_cancelled", |value| {
            cancelled(value, scenario, &policies)
        }),
        origin_here: optional(&mut section, "origin_here", Value::boolean).unwrap_or(false),
    };
    section.finish();
    Some((scenario, cells))
}

/// What a cancelled access means; some scenarios leave no choice (filing-rules, footnote 1).
fn cancelled(
    value: &Value<'_>,
    scenario: Scenario,
    policies: &[(&str, CancelledPolicy)],
) -> Option<CancelledPolicy> {
    let policy = value.choice("a policy", policies)?;
    if scenario.always_blocks_cancelled() && policy != CancelledPolicy::Block {
        value.refuse(format!("{scenario} blocks a cancelled access always; leave the key out"));
        return None;
    }
    Some(policy)
}
