//! The answer as `application/problem+json` (RFC 9457), for programs.
//!
//! Members beyond the RFC's are the contract's; `domain` is the ASCII form, `synced_at` UTC.

use bytes::Bytes;
use serde::Serialize;

use super::Reason;
use super::skeleton::{Slot, Values};
use super::texts::{LanguageTexts, Topic};

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    verdict: &'a str,
    verdict_id: &'a str,
    domain: Option<&'a str>,
    number: Option<&'a str>,
    next_step: Option<&'a str>,
    synced_at: Option<&'a str>,
}

/// What a problem says beside the page's values.
pub(super) struct Subject<'a> {
    pub(super) reason: Reason,
    pub(super) topic: Topic,
    pub(super) status: u16,
    /// The ASCII form, cleaned.
    pub(super) domain: Option<&'a str>,
    pub(super) texts: &'a LanguageTexts,
}

/// The JSON text.
pub(super) fn render(subject: &Subject<'_>, values: &Values<'_>) -> Bytes {
    let text = subject.texts.text(subject.topic);
    let verdict = subject.reason.as_str();
    let verdict_id = values.text(Slot::VerdictId);
    let labels = &subject.texts.labels;
    let detail = match values.known(Slot::OperatorReason) {
        Some(words) => &format!("{} {}{}{words}", text.summary, labels.operator_reason, labels.colon),
        None => &text.summary,
    };
    let problem = Problem {
        r#type: &format!("urn:beian-gate:verdict:{verdict}"),
        title: &text.title,
        status: subject.status,
        detail,
        instance: &format!("urn:beian-gate:verdict-id:{verdict_id}"),
        verdict,
        verdict_id,
        domain: subject.domain,
        number: values.known(Slot::Number),
        next_step: text.steps.first().map(String::as_str),
        synced_at: values.known(Slot::SyncedAtIso),
    };
    serde_json::to_vec(&problem).expect("strings and numbers always serialize").into()
}
