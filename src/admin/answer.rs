//! The answer to "may this host be served?", as `check --json` and `/v1/verdict` give it.

use crate::verdict::{Decision, Question, Region, Requirement, Scenario, Verdict};
use serde::{Deserialize, Serialize};

/// One verdict, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictAnswer {
    /// As it was asked.
    pub host: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The canonical name or address that was judged.
    pub domain: Option<String>,
    /// The filed name, or the operator's entry, that decided.
    pub decided_by: Option<String>,
    /// The number that the decision rests on.
    pub number: Option<String>,
    /// The filing's status here.
    pub status: Option<String>,
    /// What the scenario asks for.
    pub requirement: Option<Requirement>,
    /// Why, in Chinese and English.
    pub because: Because,
    /// As which product.
    pub scenario: Option<Scenario>,
    /// Where.
    pub region: Option<Region>,
    /// What was asked: `gate`, `saved state`, `database`, or `none` where there was nothing to ask.
    pub source: String,
    /// When the filings were last known to be the registry's.
    pub synced_at: Option<String>,
}

/// A reason in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Because {
    /// 中文
    pub zh: String,
    /// English
    pub en: String,
}

impl VerdictAnswer {
    /// Of a decision. `synced_at` is Unix seconds.
    #[must_use]
    pub fn new(
        asked: &str,
        question: &Question<'_>,
        decision: &Decision<'_>,
        source: &str,
        synced_at: Option<i64>,
    ) -> Self {
        let (zh, en) = decision.because();
        let covering = decision.covering.as_ref();
        Self {
            host: asked.to_owned(),
            verdict: decision.verdict,
            domain: Some(question.host.to_string()),
            decided_by: match (covering.zip(question.host.name()), decision.entry) {
                (Some((covering, name)), _) => Some(covering.filed_name(name).to_owned()),
                (None, entry) => entry.map(|entry| entry.pattern.to_string()),
            },
            number: decision.number().map(ToString::to_string),
            status: covering.map(|covering| covering.record.status.as_str().to_owned()),
            requirement: Some(decision.requirement),
            because: Because { zh: zh.to_owned(), en: en.to_owned() },
            scenario: Some(question.scenario),
            region: Some(question.region),
            source: source.to_owned(),
            synced_at: synced_at
                .and_then(|at| jiff::Timestamp::from_second(at).ok())
                .map(|at| at.to_string()),
        }
    }

    /// Of what is neither a name nor an address.
    #[must_use]
    pub fn malformed(asked: &str, source: &str) -> Self {
        Self {
            host: asked.to_owned(),
            verdict: Verdict::MalformedHost,
            domain: None,
            decided_by: None,
            number: None,
            status: None,
            requirement: None,
            because: Because {
                zh: "这不是合法的域名或 IP 地址。".to_owned(),
                en: "This is neither a domain name nor an address.".to_owned(),
            },
            scenario: None,
            region: None,
            source: source.to_owned(),
            synced_at: None,
        }
    }
}
