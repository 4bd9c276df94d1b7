//! The audit log, the hosts that are watched over, and site owners' look-ups. Zeros where nothing is recorded.

use super::Text;
use crate::admin::Told;
use crate::telemetry::AuditSink;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) fn render(text: &mut Text, audit: Option<&AuditSink>, told: &Told) {
    let (served, lookups) = (&told.served, &told.lookups);
    let state = audit.map(AuditSink::state);
    let read = |counter: Option<&AtomicU64>| counter.map_or(0, |it| it.load(Ordering::Relaxed));
    let lines = read(state.map(|it| &it.lines));
    text.one("audit_lines_total", "counter", "Lines of the audit log written.", lines);
    text.one(
        "audit_dropped_total",
        "counter",
        "Records that the audit log had no room for; their number is recorded in it.",
        read(state.map(|it| &it.dropped)),
    );
    text.one(
        "audit_write_errors_total",
        "counter",
        "Times that the audit log could not be written.",
        read(state.map(|it| &it.write_errors)),
    );
    text.one(
        "audit_unwritten",
        "gauge",
        "Lines of the audit log that wait for the disk.",
        read(state.map(|it| &it.unwritten)),
    );
    text.one(
        "audit_failing",
        "gauge",
        "1 while the audit log can't be written.",
        u8::from(state.is_some_and(|it| it.error().is_some())),
    );
    text.one(
        "audit_seq",
        "gauge",
        "Number of the audit log's last line.",
        state.and_then(|it| it.head()).map_or(0, |head| head.seq),
    );
    text.one("served_hosts", "gauge", "Hosts whose verdicts are watched.", read(Some(&served.hosts)));
    text.one(
        "served_unwatched_total",
        "counter",
        "Times that a host was served and found no room among those watched.",
        read(Some(&served.unwatched)),
    );
    text.family("lookups_total", "counter", "Look-ups of site owners, by what became of them.");
    for (result, counter) in [("answered", &lookups.answered), ("refused", &lookups.refused)] {
        text.sample("lookups_total", &format!("{{result=\"{result}\"}}"), read(Some(counter)));
    }
}
