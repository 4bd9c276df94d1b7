//! `texts.toml`: every sentence of the gate's own pages, as data.
//!
//! Parsed once. A file that lacks a reason in a language, or names one that doesn't exist, is
//! refused with what is wrong, so a page can't turn out empty later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Language, Reason};

/// What a page is about: a reason, or the same with an order under review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Reason(Reason),
    /// Stands in for `not_connected` and `access_cancelled` while an access order is under review.
    AccessUnderReview,
}

impl Topic {
    /// How many there are.
    pub(super) const COUNT: usize = Reason::ALL.len() + 1;

    /// Every topic, at its own index.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Reason::ALL.into_iter().map(Self::Reason).chain([Self::AccessUnderReview])
    }

    /// What to talk about, given the reason and whether an access order is under review.
    pub(super) fn new(reason: Reason, access_under_review: bool) -> Self {
        match reason {
            Reason::NotConnected | Reason::AccessCancelled if access_under_review => Self::AccessUnderReview,
            _ => Self::Reason(reason),
        }
    }

    /// The key in the file.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Reason(reason) => reason.as_str(),
            Self::AccessUnderReview => "access_under_review",
        }
    }

    /// Its place among `all()`.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Reason(reason) => reason as usize,
            Self::AccessUnderReview => Reason::ALL.len(),
        }
    }

    /// Whether the page is worth another look: the site may open without its visitor's doing.
    pub(super) fn may_open(self) -> bool {
        self.is_blocked() || self == Self::Reason(Reason::Unavailable)
    }

    /// Whether a filing or block verdict stands behind it.
    pub(super) fn is_blocked(self) -> bool {
        match self {
            Self::Reason(reason) => reason.is_blocked(),
            Self::AccessUnderReview => true,
        }
    }
}

/// What one page says; see the head of `texts.toml`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    pub(super) title: String,
    pub(super) summary: String,
    pub(super) why: Option<String>,
    #[serde(default)]
    pub(super) law: bool,
    pub(super) steps: Vec<String>,
    pub(super) time: Option<String>,
    pub(super) note: Option<String>,
}

/// The fixed words of a language.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Labels {
    /// Between a label and what it labels, with the space that the language sets there.
    pub(super) colon: String,
    pub(super) brand: String,
    pub(super) why: String,
    pub(super) law: String,
    pub(super) law_text: String,
    pub(super) steps: String,
    pub(super) steps_short: String,
    pub(super) time: String,
    pub(super) visitor: String,
    pub(super) visitor_text: String,
    pub(super) ask: String,
    pub(super) ask_text: String,
    pub(super) facts: String,
    pub(super) domain: String,
    pub(super) number: String,
    pub(super) operator_reason: String,
    pub(super) verdict: String,
    pub(super) verdict_id: String,
    pub(super) synced_at: String,
    pub(super) synced_at_zone: String,
    /// Younger than the rest: files without them still hold.
    pub(super) recheck: Option<String>,
    pub(super) recheck_auto: Option<String>,
}

/// Everything in one language.
#[derive(Debug, Clone)]
pub(super) struct LanguageTexts {
    pub(super) labels: Labels,
    /// At `Topic::index`.
    texts: Vec<Text>,
}

/// Everything.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    chinese: LanguageTexts,
    english: LanguageTexts,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTexts {
    zh: RawLanguage,
    en: RawLanguage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLanguage {
    labels: Labels,
    reason: BTreeMap<String, Text>,
}

impl Texts {
    /// Parses the file; the error says what is wrong and, where TOML knows it, on which line.
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        let raw: RawTexts = toml::from_str(source).map_err(|error| error.to_string())?;
        Ok(Self { chinese: complete("zh", raw.zh)?, english: complete("en", raw.en)? })
    }

    pub(super) fn language(&self, language: Language) -> &LanguageTexts {
        match language {
            Language::Chinese => &self.chinese,
            Language::English => &self.english,
        }
    }
}

impl LanguageTexts {
    pub(super) fn text(&self, topic: Topic) -> &Text {
        &self.texts[topic.index()]
    }
}

fn complete(language: &str, mut raw: RawLanguage) -> Result<LanguageTexts, String> {
    let mut texts = Vec::with_capacity(Topic::COUNT);
    for topic in Topic::all() {
        let key = topic.as_str();
        let text = raw.reason.remove(key).ok_or_else(|| format!("[{language}.reason.{key}] is missing"))?;
        if text.steps.is_empty() {
            return Err(format!("[{language}.reason.{key}] needs at least one step"));
        }
        if topic.is_blocked() && text.why.is_none() {
            return Err(format!("[{language}.reason.{key}] blocks, so it needs a `why`"));
        }
        texts.push(text);
    }
    match raw.reason.keys().next() {
        Some(unknown) => Err(format!("[{language}.reason.{unknown}] is no reason; remove it")),
        None => Ok(LanguageTexts { labels: raw.labels, texts }),
    }
}
