//! `[syslog]` and `[otlp]`: where else logs and spans go.

use super::{optional, token};
use crate::config::raw::{Section, Value};
use crate::config::{Syslog, value};
use crate::telemetry::{OtlpOptions, Severity, SyslogTarget};
use std::time::Duration;

/// Facilities that are not an operating system's own (RFC 5424, table 1).
const FACILITIES: [(&str, u8); 11] = [
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

pub(super) fn syslog(mut section: Section<'_>) -> Option<Syslog> {
    let to = section.required("to", "to = \"udp://127.0.0.1:514\"").and_then(|value| value.parse(target));
    let facility = optional(&mut section, "facility", |value| value.choice("a facility", &FACILITIES));
    let access = optional(&mut section, "access", Value::boolean);
    let levels = [
        ("off", None),
        ("error", Some(Severity::Error)),
        ("warn", Some(Severity::Warning)),
        ("info", Some(Severity::Info)),
    ];
    let events = optional(&mut section, "events", |value| value.choice("a level", &levels));
    let app_name = optional(&mut section, "app_name", |value| value.parse(app_name));
    section.finish();
    Some(Syslog {
        target: to?,
        facility: facility.unwrap_or(16),
        access: access.unwrap_or(true),
        events: events.unwrap_or(Some(Severity::Info)),
        app_name: app_name.unwrap_or_else(|| "beian-gate".to_owned()),
    })
}

/// `udp://HOST[:514]`, `tcp://HOST[:514]`, `unix:///dev/log`.
fn target(text: &str) -> Result<SyslogTarget, String> {
    let wrong = || {
        format!(
            "{text:?} is no collector; write one like \"udp://127.0.0.1:514\", \"tcp://logs.example:601\" or \"unix:///dev/log\""
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    if scheme == "unix" {
        return if rest.starts_with('/') { Ok(SyslogTarget::Unix(rest.into())) } else { Err(wrong()) };
    }
    // A collector is written as an upstream is, but for its scheme and its port.
    let with_port = if value::upstream(&format!("tcp://{rest}")).is_ok() {
        rest.to_owned()
    } else {
        format!("{rest}:514")
    };
    value::upstream(&format!("tcp://{with_port}")).map_err(|_| wrong())?;
    match scheme {
        "udp" => Ok(SyslogTarget::Udp(with_port)),
        "tcp" => Ok(SyslogTarget::Tcp(with_port)),
        _ => Err(wrong()),
    }
}

fn app_name(text: &str) -> Result<String, String> {
    let is_name = (1..=48).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic());
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name for syslog; use 1 to 48 visible ASCII characters"))
    }
}

pub(super) fn otlp(mut section: Section<'_>) -> Option<OtlpOptions> {
    let endpoint = section
        .required("endpoint", "endpoint = \"http://127.0.0.1:4318/v1/traces\"")
        .and_then(|value| value.parse(endpoint));
    let token_file = section.value("token_file");
    let sample = optional(&mut section, "sample", |value| value.fraction(0.0..=1.0));
    let service = optional(&mut section, "service", Value::string);
    let timeout = optional(&mut section, "timeout", Value::duration);
    section.finish();
    Some(OtlpOptions {
        endpoint: endpoint?,
        token: token_file.as_ref().and_then(token),
        sample: sample.unwrap_or(1.0),
        service: service.unwrap_or("beian-gate").to_owned(),
        timeout: timeout.unwrap_or(Duration::from_secs(5)),
    })
}

fn endpoint(text: &str) -> Result<String, String> {
    let uri: Option<http::Uri> = text.parse().ok();
    let is_url =
        uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    if is_url {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no URL; write one like \"http://127.0.0.1:4318/v1/traces\""))
    }
}
