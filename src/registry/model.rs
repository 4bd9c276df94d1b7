//! What the registry holds of a filed name, and what can be asked to be done to it.
//!
//! Values only: knows no database, no HTTP and no clock.

use crate::domain::DomainName;
use crate::filing::{AccessState, Filing, FilingNumber, FilingRecord, FilingState};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Accesses by provider id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Access(/** The state at each provider. */ pub BTreeMap<String, AccessState>);

impl Access {
    /// What a site's accesses become when `wanted` replaces them: an active one that is left out is
    /// cancelled, and a cancelled one stays so (else a repeated document would change again).
    #[must_use]
    pub fn replaced_by(&self, wanted: &Self) -> Self {
        let mut merged = wanted.clone();
        for (provider, state) in &self.0 {
            if matches!(state, AccessState::Active | AccessState::Cancelled) {
                merged.0.entry(provider.clone()).or_insert(AccessState::Cancelled);
            }
        }
        merged
    }
}

/// What is known about a filing beside what decides; all optional, all free text but the last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, Serialize)]
pub struct About {
    /// Name of the person or organisation that filed (主体).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<str>>,
    /// What kind of person or organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_type: Option<Box<str>>,
    /// Name of the site (网站名称).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site_name: Option<Box<str>>,
    /// Number of the public-security filing (公安联网备案号), in canonical form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_security_number: Option<Box<str>>,
}

/// The whole document of one filed name. `access` is its site's, shared by all names of the site number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The site number in canonical form; none while pending; the former one once deregistered.
    #[serde(serialize_with = "number_as_text")]
    pub number: Option<Arc<str>>,
    /// State at the ministry.
    pub state: FilingState,
    /// Accesses of the site.
    #[serde(serialize_with = "access_as_map")]
    pub access: Arc<Access>,
    /// The rest.
    #[serde(flatten)]
    pub about: About,
}

// `Arc` is no `Serialize` without a feature that everyone would pay for.
fn number_as_text<S: Serializer>(number: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    number.as_deref().serialize(to)
}

fn access_as_map<S: Serializer>(access: &Arc<Access>, to: S) -> Result<S::Ok, S::Error> {
    (**access).serialize(to)
}

impl Document {
    /// The site that holds the name: there is none while pending or once deregistered.
    #[must_use]
    pub fn site(&self) -> Option<&Arc<str>> {
        match self.state {
            FilingState::Filed | FilingState::Restricted => self.number.as_ref(),
            FilingState::Pending | FilingState::Deregistered => None,
        }
    }

    /// The document that the change log holds as this.
    #[must_use]
    pub(super) fn as_logged(body: PutBody) -> Self {
        let about = About {
            subject: body.subject.map(Into::into),
            subject_type: body.subject_type.map(Into::into),
            site_name: body.site_name.map(Into::into),
            public_security_number: body.public_security_number.map(Into::into),
        };
        Self { number: body.number.map(Into::into), state: body.state, access: Arc::new(body.access), about }
    }

    /// As the filing that verdicts are made of; `None` where the stored text is no longer a valid name or number.
    #[must_use]
    pub fn filing(&self, domain: &str) -> Option<Filing> {
        let number = match &self.number {
            Some(number) => Some(FilingNumber::parse(number).ok()?),
            None => None,
        };
        let domain = DomainName::from_wire(domain.as_bytes()).ok()?;
        Some(Filing { domain, number, state: self.state, access: self.access.0.clone() })
    }
}

/// What a gate of `provider` holds of a name whose document the change log shows as this; `None` where it is none.
#[must_use]
pub fn logged_record(document: &serde_json::Value, domain: &str, provider: &str) -> Option<FilingRecord> {
    let body: PutBody = serde_json::from_value(document.clone()).ok()?;
    Some(Document::as_logged(body).filing(domain)?.seen_from(provider))
}

/// A document as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The document.
    pub document: Document,
    /// When it last changed: Unix milliseconds.
    pub updated_at_ms: i64,
    /// The change that made it what it is.
    pub seq: u64,
}

/// One thing to do to exactly one name; what `rules` lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    /// The name, in canonical form.
    pub(super) domain: Arc<str>,
    /// What to do.
    pub(super) action: Action,
}

/// What to do to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Replace its document.
    Put(Document),
    /// Drop it from its site and keep it as deregistered.
    Deregister,
    /// Forget it.
    Purge,
}

/// What an edit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The name is new.
    Created,
    /// The name's document is another one now.
    Updated,
    /// It was so already.
    Unchanged,
    /// The name is deregistered or forgotten.
    Deleted,
}

impl Outcome {
    /// The name in results.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// Who asks for a write, in which request, and why: for the change log.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) name: Arc<str>,
    /// The request's id; none of what no request asked for.
    pub(super) request: Option<Arc<str>>,
    /// What the caller says of why.
    pub(super) why: Option<Arc<str>>,
}

impl Who {
    /// Someone, in no request.
    #[must_use]
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.into(), request: None, why: None }
    }
}

/// One committed change of one name.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// Its place in the log.
    pub(super) seq: u64,
    /// The name.
    pub(super) domain: Arc<str>,
    /// What it was.
    pub(super) before: Option<Document>,
    /// What it is.
    pub(super) after: Option<Document>,
}

/// What callers send to say what a filing shall be; `rules::document` makes a `Document` of it.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutBody {
    /// Site number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<String>,
    /// State at the ministry.
    #[serde(default)]
    pub(super) state: FilingState,
    /// Accesses by provider.
    #[serde(default)]
    pub(super) access: Access,
    /// See `About`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// See `About`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject_type: Option<String>,
    /// See `About`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) site_name: Option<String>,
    /// See `About`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) public_security_number: Option<String>,
}

/// A line of a batch or of an NDJSON file: `PutBody` plus `domain`, or `domain` and `delete`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// The name.
    pub(super) domain: String,
    /// Delete it instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) delete: bool,
    /// With `delete`: forget it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) purge: bool,
    /// See `PutBody`, here and below (serde can't flatten and refuse unknown fields at once).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<String>,
    /// State; `filed` where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<FilingState>,
    /// Accesses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) access: Option<Access>,
    /// See `About`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// See `About`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject_type: Option<String>,
    /// See `About`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) site_name: Option<String>,
    /// See `About`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) public_security_number: Option<String>,
}

impl Line {
    /// Whether it holds anything that a deletion has no use for.
    #[must_use]
    pub(super) fn has_document(&self) -> bool {
        self.number.is_some()
            || self.state.is_some()
            || self.access.is_some()
            || self.subject.is_some()
            || self.subject_type.is_some()
            || self.site_name.is_some()
            || self.public_security_number.is_some()
    }

    /// The document part.
    #[must_use]
    pub(super) fn into_body(self) -> PutBody {
        PutBody {
            number: self.number,
            state: self.state.unwrap_or_default(),
            access: self.access.unwrap_or_default(),
            subject: self.subject,
            subject_type: self.subject_type,
            site_name: self.site_name,
            public_security_number: self.public_security_number,
        }
    }

    /// The line that puts this document back.
    #[must_use]
    pub(super) fn of(domain: &str, document: &Document) -> Self {
        let text = |it: &Option<Box<str>>| it.as_deref().map(str::to_owned);
        Self {
            domain: domain.to_owned(),
            number: document.number.as_deref().map(str::to_owned),
            state: Some(document.state),
            access: Some((*document.access).clone()),
            subject: text(&document.about.subject),
            subject_type: text(&document.about.subject_type),
            site_name: text(&document.about.site_name),
            public_security_number: text(&document.about.public_security_number),
            ..Self::default()
        }
    }
}
