//! What each upstream did, by its label. One that two sites deal with in two ways is shown as one.

use super::Text;
use crate::gate::breaker::Breaker;
use crate::gate::endpoint::Endpoint;
use crate::gate::route::standing::{Standing, Wish};
use crate::gate::worker::Shared;
use crate::telemetry::Counters;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Upstreams that have series of their own: beyond, a scrape would cost more than it tells.
const MAX_UPSTREAMS: usize = 5_000;

type Of<T> = fn(&Standing) -> T;

/// Adds the upstreams' families.
pub(super) fn render(text: &mut Text, shared: &Shared, counters: &Counters) {
    let now_ms = shared.endpoints.millis(Instant::now());
    let endpoints = shared.rules.load().endpoints.load_full();
    let mut by_label: BTreeMap<&str, Vec<&Arc<Endpoint>>> = BTreeMap::new();
    for endpoint in endpoints.iter() {
        by_label.entry(&endpoint.label).or_default().push(endpoint);
    }
    text.one("upstreams", "gauge", "Upstreams that the config names.", by_label.len());
    text.one("upstream_addresses", "gauge", "Addresses of upstreams that are used.", endpoints.len());
    look_ups(text, shared);
    let shown: Vec<_> = by_label.into_iter().take(MAX_UPSTREAMS).collect();
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&[&Arc<Endpoint>]) -> u64| {
        text.family(name, kind, help);
        for (label, endpoints) in &shown {
            text.sample(name, &format!("{{upstream=\"{label}\"}}"), value(endpoints));
        }
    };
    let is_up = |it: &&Arc<Endpoint>| it.standing.wish() == Wish::Up && it.standing.is_well(now_ms);
    family("upstream_up", "gauge", "1 while it is used: well, and not taken out by the operator.", &|all| {
        u64::from(all.iter().all(is_up))
    });
    let sums: [(&str, &str, &str, Of<u64>); 9] = [
        ("upstream_active", "gauge", "Exchanges and tunnels under way.", Standing::active),
        ("upstream_requests_total", "counter", "Exchanges and tunnels begun.", Standing::total),
        ("upstream_connections_total", "counter", "Connections made, those of checks among them.", |it| {
            it.counts().connections.load(Ordering::Relaxed)
        }),
        (
            "upstream_failures_total",
            "counter",
            "Connections that could not be made, and exchanges that broke before an answer.",
            |it| it.counts().failures.load(Ordering::Relaxed),
        ),
        ("upstream_retries_total", "counter", "Requests sent again to another after it failed them.", |it| {
            it.counts().retries.load(Ordering::Relaxed)
        }),
        ("upstream_retries_denied_total", "counter", "Retries that the budget did not allow.", |it| {
            it.counts().retries_denied.load(Ordering::Relaxed)
        }),
        ("upstream_ejections_total", "counter", "Times that it was left out for its failures.", |it| {
            it.counts().ejections.load(Ordering::Relaxed)
        }),
        ("upstream_checks_passed_total", "counter", "Checks that went well.", |it| {
            it.counts().checks_passed.load(Ordering::Relaxed)
        }),
        ("upstream_checks_failed_total", "counter", "Checks that did not go well.", |it| {
            it.counts().checks_failed.load(Ordering::Relaxed)
        }),
    ];
    let of_breakers = |all: &[&Arc<Endpoint>], of: fn(&Breaker) -> u64| {
        all.iter().filter_map(|endpoint| endpoint.breaker.as_ref()).map(of).sum()
    };
    family("upstream_pending", "gauge", "Requests that wait for a place at it.", &|all| {
        of_breakers(all, |breaker| breaker.pending() as u64)
    });
    family(
        "upstream_overflow_total",
        "counter",
        "Requests refused because too many waited, or too long.",
        &|all| of_breakers(all, |breaker| breaker.refused.load(Ordering::Relaxed)),
    );
    for (name, kind, help, of) in sums {
        family(name, kind, help, &|all| all.iter().map(|endpoint| of(&endpoint.standing)).sum());
    }
    answers(text, counters, shown.iter().map(|(label, _)| *label));
}

/// What they answered, and how fast; none of one that never did.
fn answers<'a>(text: &mut Text, counters: &Counters, labels: impl Iterator<Item = &'a str>) {
    let mut totals = counters.upstreams();
    let shown: Vec<_> =
        labels.filter_map(|label| Some((format!("upstream=\"{label}\""), totals.remove(label)?))).collect();
    text.family("upstream_responses_total", "counter", "Answers by upstream and by class of status.");
    for (label, totals) in &shown {
        text.classes("upstream_responses_total", label, &totals.answers);
    }
    text.family(
        "upstream_response_duration_seconds",
        "histogram",
        "From a request's head to the head of the upstream's answer, without the wait for a place or a connection.",
    );
    for (label, totals) in &shown {
        let counted = (&totals.durations[..], totals.duration_sum_us);
        text.durations("upstream_response_duration_seconds", label, counted);
    }
}

/// What became of the names of upstreams.
fn look_ups(text: &mut Text, shared: &Shared) {
    let looked_up = &shared.endpoints.addresses;
    let counts: [(&str, &str, &AtomicU64); 3] = [
        ("dns_lookups_total", "Names of upstreams looked up.", &looked_up.lookups),
        ("dns_failures_total", "Look-ups without a good answer: the last one holds on.", &looked_up.failures),
        ("dns_changes_total", "Look-ups that found other addresses than before.", &looked_up.changes),
    ];
    for (name, help, count) in counts {
        text.one(name, "counter", help, count.load(Ordering::Relaxed));
    }
}
