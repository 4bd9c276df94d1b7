//! `[audit]`: what is recorded of verdicts, where, and for how long.

use super::optional;
use crate::config::Audit;
use crate::config::raw::{Section, Value};
use crate::telemetry::Rotation;
use std::path::PathBuf;
use std::time::Duration;

pub(super) fn audit(mut section: Section<'_>) -> Audit {
    let mut audit = Audit {
        file: PathBuf::from("data/audit.log"),
        rotation: Rotation { bytes: 100 << 20, age: Duration::from_hours(7 * 24), keep: 0 },
        hosts: 100_000,
    };
    if let Some(file) = optional(&mut section, "file", Value::path) {
        audit.file = file;
    }
    if let Some(octets) = optional(&mut section, "rotate_bytes", |value| value.size(64 << 10..=1 << 40)) {
        audit.rotation.bytes = octets as u64;
    }
    if let Some(age) = optional(&mut section, "rotate_after", Value::duration) {
        audit.rotation.age = age;
    }
    if let Some(files) = optional(&mut section, "keep", |value| value.integer(0..=100_000)) {
        audit.rotation.keep = files;
    }
    if let Some(hosts) = optional(&mut section, "hosts", |value| value.integer(1..=10_000_000)) {
        audit.hosts = hosts;
    }
    section.finish();
    audit
}
