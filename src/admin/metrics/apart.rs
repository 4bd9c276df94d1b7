//! What was counted apart: by listener, and by the sites that the operator named. Never by host.

use super::Text;
use crate::gate::record::Outcome;
use crate::telemetry::Counters;

/// Adds the families of listeners and sites. Outcomes that never were have no series.
pub(super) fn render(text: &mut Text, counters: &Counters) {
    let names = Outcome::names();
    let listeners = counters.listeners();
    text.family("listener_connections_total", "counter", "Connections taken, by listener.");
    for listener in &listeners {
        text.sample("listener_connections_total", &of("listener", &listener.name), listener.connections);
    }
    text.family("listener_requests_total", "counter", "Requests by listener and by what they came to.");
    for listener in &listeners {
        outcomes(text, ("listener_requests_total", "listener", &listener.name), &names, &listener.outcomes);
    }
    let sites = counters.sites();
    text.family("site_requests_total", "counter", "Requests by named site and by what they came to.");
    for site in &sites {
        outcomes(text, ("site_requests_total", "site", &site.name), &names, &site.outcomes);
    }
    text.family(
        "site_request_duration_seconds",
        "histogram",
        "From a request's head to the end of its response, by named site.",
    );
    for site in &sites {
        let counted = (&site.durations[..], site.duration_sum_us);
        text.durations("site_request_duration_seconds", &format!("site=\"{}\"", site.name), counted);
    }
    text.family(
        "site_responses_total",
        "counter",
        "Answers to clients by named site and by class of status.",
    );
    for site in &sites {
        text.classes("site_responses_total", &format!("site=\"{}\"", site.name), &site.statuses);
    }
    text.family("site_request_body_bytes_total", "counter", "Octets of request bodies, by named site.");
    for site in &sites {
        text.sample("site_request_body_bytes_total", &of("site", &site.name), site.bytes_in);
    }
    text.family("site_response_body_bytes_total", "counter", "Octets of response bodies, by named site.");
    for site in &sites {
        text.sample("site_response_body_bytes_total", &of("site", &site.name), site.bytes_out);
    }
}

fn of(key: &str, name: &str) -> String {
    format!("{{{key}=\"{name}\"}}")
}

fn outcomes(text: &mut Text, (family, key, name): (&str, &str, &str), names: &[&str], counts: &[u64]) {
    for (verdict, count) in names.iter().zip(counts).filter(|(_, count)| **count > 0) {
        text.sample(family, &format!("{{{key}=\"{name}\",verdict=\"{verdict}\"}}"), count);
    }
}
