//! `[limits]` and `[overload]`.

use super::optional;
use crate::config::raw::{Section, Value};
use crate::config::{Limits, Overload, Rate, SiteLimits};

/// What no count of a second passes.
const MAX_RATE: usize = 1_000_000;
/// More than any request sends.
const MAX_BODY_BYTES: usize = 1 << 50;

pub(super) fn limits(section: Option<Section<'_>>, overload: Option<Section<'_>>) -> Limits {
    let mut limits =
        Limits { overload: overload.map(self::overload).unwrap_or_default(), ..Limits::default() };
    let Some(mut section) = section else { return limits };
    let counts: [(_, &mut usize, _); 3] = [
        ("connections", &mut limits.connections, 10_000_000),
        ("connections_per_client", &mut limits.connections_per_client, 10_000_000),
        ("headers", &mut limits.headers, 10_000),
    ];
    for (key, slot, most) in counts {
        if let Some(count) = optional(&mut section, key, |value| value.integer(1..=most)) {
            *slot = count;
        }
    }
    if let Some(octets) = optional(&mut section, "header_bytes", |value| value.size(1024..=16 << 20)) {
        limits.header_bytes = octets;
    }
    if let Some(octets) = optional(&mut section, "min_rate", |value| value.size(0..=1 << 30)) {
        limits.min_rate = octets;
    }
    if let Some(octets) = body_bytes(&mut section) {
        limits.body_bytes = octets;
    }
    limits.request_rate = rate(&mut section, "requests_per_second", "request_burst");
    limits.connection_rate = rate(&mut section, "connections_per_second", "connection_burst");
    clients(&mut section, &mut limits);
    let timeouts = [
        ("header_timeout", &mut limits.header_timeout),
        ("idle_timeout", &mut limits.idle_timeout),
        ("body_timeout", &mut limits.body_timeout),
    ];
    for (key, slot) in timeouts {
        if let Some(timeout) = optional(&mut section, key, Value::duration) {
            *slot = timeout;
        }
    }
    if let Some(timeout) = optional(&mut section, "drain_timeout", Value::duration_or_zero) {
        limits.drain_timeout = timeout;
    }
    section.finish();
    limits
}

/// Who is one client, and how long a connection of one may last.
fn clients(section: &mut Section<'_>, limits: &mut Limits) {
    let widths =
        [("client_prefix_v4", &mut limits.client.v4, 32), ("client_prefix_v6", &mut limits.client.v6, 128)];
    for (key, slot, most) in widths {
        if let Some(bits) = optional(section, key, |value| value.integer(1..=most)) {
            *slot = u8::try_from(bits).unwrap_or(*slot);
        }
    }
    limits.connection_age = optional(section, "connection_age", Value::duration);
    limits.connection_requests = number(section, "requests_per_connection").filter(|it| *it > 0);
}

fn number(section: &mut Section<'_>, key: &'static str) -> Option<u32> {
    optional(section, key, |value| value.integer(0..=MAX_RATE)).and_then(|it| u32::try_from(it).ok())
}

/// `[site.limits]`
pub(super) fn of_site(mut section: Section<'_>) -> SiteLimits {
    let body_bytes = body_bytes(&mut section);
    let request_rate = rate(&mut section, "requests_per_second", "request_burst");
    section.finish();
    SiteLimits { body_bytes, request_rate }
}

/// `[site.route.limits]`
pub(super) fn of_route(mut section: Section<'_>) -> Option<u64> {
    let body_bytes = body_bytes(&mut section);
    section.finish();
    body_bytes
}

fn body_bytes(section: &mut Section<'_>) -> Option<u64> {
    optional(section, "body_bytes", |value| value.size(1..=MAX_BODY_BYTES)).map(|octets| octets as u64)
}

/// So many of one client, and at once; 0 is no limit.
fn rate(section: &mut Section<'_>, per_second: &'static str, burst: &'static str) -> Option<Rate> {
    let limit = number(section, per_second);
    let burst = section.value(burst);
    if let (Some(burst), None | Some(0)) = (&burst, limit) {
        burst.refuse_key(format!("a burst goes with {per_second}; add it, or leave this out"));
    }
    let per_second = limit.filter(|it| *it > 0)?;
    let burst = burst.and_then(|value| value.integer(1..=MAX_RATE)).and_then(|it| u32::try_from(it).ok());
    Some(Rate { per_second, burst: burst.unwrap_or(per_second) })
}

fn overload(mut section: Section<'_>) -> Overload {
    let share = |value: &Value<'_>| value.fraction(0.01..=1.0);
    let overload = Overload {
        connections: optional(&mut section, "connections", share),
        descriptors: optional(&mut section, "descriptors", share),
        lag: optional(&mut section, "lag", Value::duration),
    };
    section.finish();
    overload
}
