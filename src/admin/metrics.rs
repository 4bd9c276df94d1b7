//! Prometheus text: what the workers counted, what the follower holds, which certificates end when.

mod apart;
mod audit;
mod upstreams;
mod warnings;

use super::Told;
use crate::config::TrustKind;
use crate::follow::{FollowStats, Refused};
use crate::gate::record::Outcome;
use crate::gate::worker::Shared;
use crate::telemetry::{Counters, DURATION_BOUNDS_MS, FooterSighting, STATUS_CLASSES, Totals};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Everything, in the text format.
pub(super) fn render(shared: &Shared, counters: &Counters, stats: &FollowStats, told: &Told) -> String {
    let mut text = Text(String::new());
    let totals = counters.totals();
    requests(&mut text, &totals);
    apart::render(&mut text, counters);
    connections(&mut text, &totals);
    filings(&mut text, shared, stats);
    certificates(&mut text, shared);
    upstreams::render(&mut text, shared, counters);
    life(&mut text, shared);
    footers(&mut text, shared);
    audit::render(&mut text, shared.audit.as_ref(), told);
    warnings::render(&mut text, &told.warnings);
    sent_away(&mut text, told);
    text.0
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String can't fail, here and below.
        let _ = writeln!(self.0, "# HELP beian_gate_{name} {help}\n# TYPE beian_gate_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "beian_gate_{name}{labels} {value}");
    }

    /// A histogram of durations, with these labels before its own.
    fn durations(&mut self, name: &str, labels: &str, (counts, sum_us): (&[u64], u64)) {
        let mut sum = 0;
        let bounds = DURATION_BOUNDS_MS.iter().map(|bound_ms| (*bound_ms as f64 / 1000.0).to_string());
        let (bucket, comma) = (format!("{name}_bucket"), if labels.is_empty() { "" } else { "," });
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            sum += count;
            self.sample(&bucket, &format!("{{{labels}{comma}le=\"{bound}\"}}"), sum);
        }
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        self.sample(&format!("{name}_sum"), &labels, sum_us as f64 / 1e6);
        self.sample(&format!("{name}_count"), &labels, sum);
    }

    /// Answers by the class of their status; classes that never were have no series.
    fn classes(&mut self, name: &str, labels: &str, counts: &[u64]) {
        for (class, count) in STATUS_CLASSES.iter().zip(counts).filter(|(_, count)| **count > 0) {
            self.sample(name, &format!("{{{labels},status=\"{class}\"}}"), count);
        }
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }
}

fn requests(text: &mut Text, totals: &Totals) {
    text.family("requests_total", "counter", "Requests by what they came to.");
    for (index, name) in Outcome::names().into_iter().enumerate() {
        text.sample(
            "requests_total",
            &format!("{{verdict=\"{name}\"}}"),
            totals.outcomes.get(&index).copied().unwrap_or(0),
        );
    }
    text.family("request_duration_seconds", "histogram", "From a request's head to the end of its response.");
    text.durations("request_duration_seconds", "", (&totals.durations, totals.duration_sum_us));
    text.one("request_body_bytes_total", "counter", "Octets of request bodies forwarded.", totals.bytes_in);
    text.one(
        "response_body_bytes_total",
        "counter",
        "Octets of response bodies given to clients.",
        totals.bytes_out,
    );
    text.one(
        "would_block_total",
        "counter",
        "Requests that monitor mode forwarded although they would have been blocked.",
        totals.would_block,
    );
    text.one(
        "cut_total",
        "counter",
        "Transfers and tunnels ended because their name, or their client, stopped being allowed.",
        totals.cut,
    );
    text.one("compressed_total", "counter", "Answers compressed.", totals.compressed);
    text.one(
        "not_compressed_total",
        "counter",
        "Answers passed as they came because as many as may be were being compressed.",
        totals.not_compressed,
    );
    text.one(
        "access_log_dropped_total",
        "counter",
        "Access log lines lost because the writer was behind.",
        totals.log_dropped,
    );
}

fn connections(text: &mut Text, totals: &Totals) {
    text.one("connections_total", "counter", "Connections taken.", totals.connections);
    text.one("connections_open", "gauge", "Connections open now.", totals.open);
    text.one(
        "connections_silent",
        "gauge",
        "HTTP/1 connections of those that wait for a next request and hold next to nothing.",
        totals.silent,
    );
    text.one(
        "connections_refused_total",
        "counter",
        "Connections closed at once because a limit was reached.",
        totals.refused,
    );
    text.one(
        "connections_denied_total",
        "counter",
        "Connections closed at once because of their client's address.",
        totals.denied,
    );
    text.one(
        "connections_rate_limited_total",
        "counter",
        "Connections closed at once because their client makes them too fast.",
        totals.hurried,
    );
    text.one(
        "workers_shedding",
        "gauge",
        "Workers that refuse new work because there is too much to do.",
        totals.shedding,
    );
    text.one(
        "http2_floods_total",
        "counter",
        "HTTP/2 connections ended because their client sent more frames of a kind than it may.",
        totals.floods,
    );
    text.one("tls_handshakes_total", "counter", "TLS handshakes finished.", totals.handshakes);
    text.one(
        "tls_handshakes_failed_total",
        "counter",
        "TLS handshakes that failed or were refused.",
        totals.handshakes_failed,
    );
}

fn filings(text: &mut Text, shared: &Shared, stats: &FollowStats) {
    let status = shared.cache.status();
    text.one("filings", "gauge", "Filings held.", status.filings);
    text.one("feed_epoch", "gauge", "Epoch of the position held.", status.position.epoch);
    text.one("feed_seq", "gauge", "Number of the position held within its epoch.", status.position.seq);
    let saved = stats.saved().unwrap_or_default();
    text.one("saved_epoch", "gauge", "Epoch of the position saved.", saved.epoch);
    text.one("saved_seq", "gauge", "Number of the position saved within its epoch.", saved.seq);
    text.one(
        "feed_age_seconds",
        "gauge",
        "Since the registry last confirmed what is held.",
        status.age.as_secs_f64(),
    );
    text.one(
        "feed_lag_seconds",
        "gauge",
        "How far behind the registry's clock its last word came.",
        status.lag_ms as f64 / 1000.0,
    );
    text.one(
        "feed_stale",
        "gauge",
        "1 while what is held is older than the operator allows.",
        u8::from(status.is_stale),
    );
    text.one(
        "feed_connected",
        "gauge",
        "1 while the registry's changes are being followed.",
        u8::from(stats.is_connected()),
    );
    text.one(
        "feed_held",
        "gauge",
        "1 while an update waits for an operator's word.",
        u8::from(stats.held().is_some()),
    );
    text.one(
        "feed_held_newly_blocked",
        "gauge",
        "Filings that the waiting update would newly block.",
        stats.held().map_or(0, |held| held.effect.newly_blocked),
    );
    followed(text, stats);
}

fn followed(text: &mut Text, stats: &FollowStats) {
    let counters = [
        ("feed_batches_total", "Batches applied.", &stats.batches),
        ("feed_changes_total", "Changes applied.", &stats.changes),
        ("feed_snapshots_total", "Snapshots published.", &stats.snapshots),
        ("feed_resyncs_total", "Times that a whole state had to be asked for anew.", &stats.resyncs),
        ("feed_repairs_total", "Times that what differed from the registry was repaired.", &stats.repairs),
        ("feed_repaired_ranges_total", "Ranges of filings that repairs replaced.", &stats.repaired_ranges),
        ("feed_resumed_snapshots_total", "Snapshots gone on with after a cut.", &stats.resumed_snapshots),
        (
            "feed_enforced_ahead_total",
            "Cancellations enforced although an earlier update waits for an operator.",
            &stats.enforced_ahead,
        ),
        ("feed_acknowledgements_total", "Positions acknowledged as in force here.", &stats.acknowledgements),
        (
            "feed_acknowledgement_errors_total",
            "Acknowledgements that the registry did not take.",
            &stats.acknowledgement_errors,
        ),
        ("feed_reconnects_total", "Times that the registry had to be called again.", &stats.reconnects),
        ("saves_total", "States saved.", &stats.saves),
        ("save_errors_total", "States that could not be saved.", &stats.save_errors),
        ("load_errors_total", "Saved states that could not be used.", &stats.load_errors),
    ];
    for (name, help, counter) in counters {
        text.one(name, "counter", help, counter.load(Ordering::Relaxed));
    }
    text.family("feed_refused_total", "counter", "What the registry sent that was refused, by kind.");
    for kind in Refused::ALL {
        text.sample("feed_refused_total", &format!("{{kind=\"{}\"}}", kind.as_str()), stats.refused(kind));
    }
}

/// Logs and spans that go elsewhere.
fn sent_away(text: &mut Text, told: &Told) {
    let (syslog, spans) = (&told.syslog, &told.spans);
    let counters = [
        ("syslog_sent_total", "Lines handed to the syslog collector.", &syslog.sent),
        ("syslog_dropped_total", "Lines for it that were lost.", &syslog.dropped),
        ("spans_sent_total", "Spans that the collector took.", &spans.sent),
        ("spans_dropped_total", "Spans that were lost.", &spans.dropped),
        ("span_export_errors_total", "Requests that the collector did not answer well.", &spans.errors),
    ];
    for (name, help, counter) in counters {
        text.one(name, "counter", help, counter.load(Ordering::Relaxed));
    }
}

fn life(text: &mut Text, shared: &Shared) {
    let life = &shared.life;
    text.family("reloads_total", "counter", "Reloads of config or certificates, by what they came to.");
    text.sample("reloads_total", "{result=\"in_force\"}", life.reloads());
    text.sample("reloads_total", "{result=\"refused\"}", life.reloads_refused());
    text.one(
        "reload_refused",
        "gauge",
        "1 while the last reload was refused, so that what is in force is older than what is configured.",
        u8::from(life.last_reload().is_some_and(|it| it.error.is_some())),
    );
    text.one(
        "hand_overs_failed_total",
        "counter",
        "New processes that did not take over.",
        life.hand_overs_failed(),
    );
    text.one(
        "accept_errors_total",
        "counter",
        "Times that no connection could be accepted, for want of descriptors or memory.",
        life.accept_errors(),
    );
}

fn footers(text: &mut Text, shared: &Shared) {
    let sites = shared.footers.summaries();
    text.family(
        "footer_pages_total",
        "counter",
        "Pages by what they showed of their filing number, or by why that is not known.",
    );
    for sighting in FooterSighting::ALL {
        let name = sighting.as_str();
        let pages: u64 = sites.iter().filter_map(|site| site.pages.get(name)).sum();
        text.sample("footer_pages_total", &format!("{{state=\"{name}\"}}"), pages);
    }
    text.one(
        "footer_pages_without_public_security_total",
        "counter",
        "Pages that showed no public-security number.",
        sites.iter().map(|site| site.without_public_security).sum::<u64>(),
    );
    text.one(
        "footer_hosts_lacking",
        "gauge",
        "Hosts whose last page without its linked filing number was not seen put right.",
        sites.iter().map(|site| site.lacking.len()).sum::<usize>(),
    );
}

/// When what stands in each of these files ends, Unix time.
fn ends<'a>(text: &mut Text, (name, help): (&str, &str), files: impl Iterator<Item = (&'a Path, i64)>) {
    text.family(name, "gauge", help);
    for (file, end) in files {
        let file = file.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        text.sample(name, &format!("{{file=\"{file}\"}}"), end);
    }
}

fn certificates(text: &mut Text, shared: &Shared) {
    let rules = shared.rules.load();
    let trust = |kind: TrustKind| {
        let ends = rules.trust_ends.iter().filter(move |end| end.kind == kind);
        ends.map(|end| (&*end.file, end.not_after))
    };
    let served = shared.certificates.load();
    ends(
        text,
        ("certificate_not_after_seconds", "End of each certificate's validity, Unix time."),
        served.all().iter().map(|served| (&*served.file, served.not_after)),
    );
    ends(
        text,
        (
            "trust_not_after_seconds",
            "First end among the certificates of a file by which clients or upstreams are believed, Unix time.",
        ),
        trust(TrustKind::Certificate),
    );
    ends(
        text,
        (
            "revocation_list_next_update_seconds",
            "Until when the revocation lists of a file may be relied on, Unix time.",
        ),
        trust(TrustKind::RevocationList),
    );
}
