//! What the servers of a site may be burdened with: retries, limits, kept connections.

use super::optional;
use crate::config::raw::{Section, Value};
use crate::config::{Breaker, Keep, Retries};
use std::time::Duration;

/// The most that a limit of one server can be.
const MOST: usize = 1_000_000;
const MAX_PENDING: usize = 100_000;
const MAX_IDLE: usize = 10_000;
/// Connections of one server that a worker may open ahead.
const MAX_AHEAD: usize = 256;
/// Servers that one request can try, beyond the first.
const MAX_RETRIES: usize = 7;

/// `[site.retries]`
pub(super) fn retries(section: Option<Section<'_>>) -> Retries {
    let mut retries = Retries::default();
    let Some(mut section) = section else { return retries };
    if let Some(most) = optional(&mut section, "most", |value| value.integer(0..=MAX_RETRIES)) {
        retries.most = most;
    }
    if let Some(statuses) = section.value("statuses") {
        let status = |item: &Value<'_>| u16::try_from(item.integer(500..=599)?).ok();
        retries.statuses = statuses.items().iter().filter_map(status).collect();
    }
    if let Some(share) = optional(&mut section, "budget", |value| value.fraction(0.0..=1.0)) {
        retries.share = share;
    }
    if let Some(count) = optional(&mut section, "per_second", |value| value.integer(0..=MOST)) {
        retries.per_second = u32::try_from(count).unwrap_or(0);
    }
    section.finish();
    retries
}

/// `[site.breaker]`
pub(super) fn breaker(mut section: Section<'_>) -> Option<Breaker> {
    let connections = optional(&mut section, "connections", |value| value.integer(1..=MOST));
    let requests = optional(&mut section, "requests", |value| value.integer(1..=MOST));
    if connections.is_none() && requests.is_none() {
        section.refuse("a breaker needs a limit; add requests = 100 or connections = 100");
    }
    let pending = optional(&mut section, "pending", |value| value.integer(0..=MAX_PENDING));
    let timeout = optional(&mut section, "pending_timeout", Value::duration);
    section.finish();
    let (pending, pending_timeout) = (pending.unwrap_or(1024), timeout.unwrap_or(Duration::from_secs(1)));
    Some(Breaker { connections, requests, pending, pending_timeout })
}

/// `[site.keep]`
pub(super) fn keep(mut section: Section<'_>) -> Keep {
    let mut keep = Keep::default();
    if let Some(idle) = optional(&mut section, "idle", |value| value.integer(0..=MAX_IDLE)) {
        keep.idle = idle;
    }
    if let Some(value) = section.value("ahead")
        && let Some(ahead) = value.integer(0..=MAX_AHEAD)
    {
        keep.ahead = ahead;
        if ahead > keep.idle {
            value.refuse(format!("{ahead} could not be kept: idle is {}; use at most that", keep.idle));
        }
    }
    if let Some(timeout) = optional(&mut section, "idle_timeout", Value::duration) {
        keep.idle_timeout = timeout;
    }
    keep.max_age = optional(&mut section, "max_age", Value::duration);
    let requests = optional(&mut section, "max_requests", |value| value.integer(1..=MOST));
    keep.max_requests = requests.and_then(|count| u32::try_from(count).ok());
    section.finish();
    keep
}
