//! `[[webhook]]`, `[webhooks]`: who is warned of what.

use super::{optional, token};
use crate::config::raw::{Section, Value};
use crate::config::{WarningKind, Webhook, WebhookSecret, Webhooks};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

/// Whom events are sent to, at most.
const MAX_HOOKS: usize = 16;
/// A shorter secret could be guessed.
const MIN_SECRET_BYTES: usize = 16;
/// Reminders of one thing, at most.
const MAX_REMINDERS: usize = 12;
/// A year and a day.
const MAX_REMIND_DAYS: usize = 366;

pub(super) fn webhooks(root: &mut Section<'_>) -> Webhooks {
    let mut webhooks = Webhooks::default();
    for section in root.sections("webhook") {
        let name = section.entries().find(|(key, _)| *key == "name").map(|(_, value)| value);
        let Some(hook) = webhook(section) else { continue };
        let is_taken = webhooks.hooks.iter().any(|it| it.name == hook.name);
        match name {
            Some(name) if is_taken => name.refuse("two webhooks have this name; give each its own"),
            Some(name) if webhooks.hooks.len() == MAX_HOOKS => {
                name.refuse(format!("there are more than {MAX_HOOKS} webhooks"));
            }
            _ => webhooks.hooks.push(hook),
        }
    }
    let Some(mut section) = root.section("webhooks") else { return webhooks };
    if let Some(days) = optional(&mut section, "remind_days", remind_days) {
        webhooks.remind_days = days;
    }
    let within = |least: Duration, value: &Value<'_>| {
        let found = value.duration()?;
        if found < least {
            value.refuse(format!("use at least \"{}s\"", least.as_secs()));
        }
        Some(found)
    };
    if let Some(time) = optional(&mut section, "look_every", |it| within(Duration::from_secs(1), it)) {
        webhooks.look_every = time;
    }
    if let Some(time) = optional(&mut section, "give_up_after", Value::duration) {
        webhooks.give_up_after = time;
    }
    section.finish();
    webhooks
}

fn webhook(mut section: Section<'_>) -> Option<Webhook> {
    let name = section.required("name", "name = \"ops\"").and_then(|it| it.parse(name));
    let url =
        section.required("url", "url = \"https://hooks.example.com/beian\"").and_then(|it| it.parse(url));
    let secret = section
        .required("secret_file", "secret_file = \"config/webhook.secret\"")
        .and_then(|value| secret(&value));
    let all: Vec<_> = WarningKind::ALL.map(|kind| (kind.as_str(), kind)).into();
    let events = section.value("events").map(|value| {
        if value.is_empty_list() {
            value.refuse("nothing would be sent; leave the key out for all events");
        }
        value.items().iter().filter_map(|it| it.choice("an event", &all)).collect()
    });
    let ca_file = optional(&mut section, "ca_file", Value::path);
    section.finish();
    Some(Webhook {
        name: name?,
        url: url?,
        secret: secret?,
        events: events.unwrap_or_else(|| WarningKind::ALL.to_vec()),
        ca_file,
    })
}

fn name(text: &str) -> Result<String, String> {
    let is_good = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    if (1..=32).contains(&text.len()) && text.bytes().all(is_good) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} can't name a webhook; use 1 to 32 letters, digits, `-`, `_` or `.`, like \"ops\""))
}

fn url(text: &str) -> Result<String, String> {
    // It is not repeated: some receivers know callers by a word in it.
    let wrong = || "not a URL to send to; write one like \"https://hooks.example.com/beian\"".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if is_http && uri.host().is_some_and(|host| !host.is_empty()) && !has_user {
        Ok(text.to_owned())
    } else {
        Err(wrong())
    }
}

/// A file's one word: `whsec_` and base64 of the key, or the key itself.
fn secret(value: &Value<'_>) -> Option<WebhookSecret> {
    let word = token(value)?;
    let octets = match word.strip_prefix("whsec_") {
        None => word.into_bytes(),
        Some(encoded) => match STANDARD.decode(encoded) {
            Ok(octets) => octets,
            Err(_) => {
                value.refuse("what follows `whsec_` in that file is no base64; make one with: echo whsec_$(openssl rand -base64 32)");
                return None;
            }
        },
    };
    if octets.len() < MIN_SECRET_BYTES {
        value.refuse(format!(
            "the secret in that file is shorter than {MIN_SECRET_BYTES} octets; make one with: echo whsec_$(openssl rand -base64 32)"
        ));
        return None;
    }
    Some(WebhookSecret(octets))
}

fn remind_days(value: &Value<'_>) -> Option<Vec<u16>> {
    let items = value.items();
    if items.is_empty() || items.len() > MAX_REMINDERS {
        value.refuse(format!("give 1 to {MAX_REMINDERS} numbers of days, like [30, 14, 7, 3, 1]"));
        return None;
    }
    let day = |it: &Value<'_>| it.integer(0..=MAX_REMIND_DAYS).and_then(|it| u16::try_from(it).ok());
    let mut days: Vec<u16> = items.iter().filter_map(day).collect();
    days.sort_unstable_by(|a, b| b.cmp(a));
    days.dedup();
    Some(days)
}
