//! `[log]`: where the access log goes, and what its lines say.

use super::optional;
use crate::config::raw::{Section, Value};
use crate::config::{AccessLog, Log};
use crate::telemetry::{LogField, LogLayout, LogStyle};

pub(super) fn log(section: Option<Section<'_>>) -> Log {
    let mut log = Log { access: AccessLog::Stdout, layout: LogLayout::default() };
    let Some(mut section) = section else { return log };
    if let Some(path) = optional(&mut section, "access", Value::path) {
        log.access = match path.to_str() {
            Some("off") => AccessLog::Off,
            Some("stdout") => AccessLog::Stdout,
            _ => AccessLog::File(path),
        };
    }
    let styles = [("json", LogStyle::Json), ("combined", LogStyle::Combined)];
    if let Some(style) = optional(&mut section, "format", |value| value.choice("a log format", &styles)) {
        log.layout.style = style;
        if style == LogStyle::Combined {
            log.layout.fields.clear();
        }
    }
    if let Some(written) = section.value("fields") {
        log.layout.fields = fields(&written);
    }
    section.finish();
    log
}

fn fields(written: &Value<'_>) -> Vec<LogField> {
    let mut fields = Vec::new();
    if written.is_empty_list() {
        written.refuse("lines that say nothing are no log; name a field, or set access = \"off\"");
    }
    for value in written.items() {
        let Some(field) = value.choice("a field", &LogField::ALL.map(|field| (field.as_str(), field))) else {
            continue;
        };
        if fields.contains(&field) {
            value.refuse(format!("{:?} is named twice", field.as_str()));
        }
        fields.push(field);
    }
    fields
}
