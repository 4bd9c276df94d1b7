//! The records of the life cycle, as they are kept and shown.

use crate::config::Due;
use crate::registry::orders::{Form, Intent, OrderType, Platform, Stage, SubjectForm};
use crate::registry::records::{Kind, Recorded};
use crate::registry::rules::limits::Product;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// The most steps that an order remembers.
pub(in crate::registry) const MAX_EVENTS: usize = 500;

/// One application (备案订单).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::registry) struct Order {
    pub(in crate::registry) id: String,
    pub(in crate::registry) intent: Intent,
    #[serde(rename = "type")]
    pub(in crate::registry) order_type: OrderType,
    pub(in crate::registry) why: String,
    pub(in crate::registry) why_zh: String,
    pub(in crate::registry) stage: Stage,
    /// The access provider that it is handed in at.
    pub(in crate::registry) provider: String,
    pub(in crate::registry) subject: SubjectForm,
    /// The subject's record, where there is one.
    pub(in crate::registry) subject_id: Option<String>,
    pub(in crate::registry) domain: Option<String>,
    pub(in crate::registry) details: Form,
    /// The site number that it is about, or that its approval issued.
    pub(in crate::registry) number: Option<String>,
    pub(in crate::registry) created_at: Timestamp,
    pub(in crate::registry) updated_at: Timestamp,
    /// The last day on which the stage's review is in time, by the working calendar.
    pub(in crate::registry) due_on: Option<Date>,
    /// Whether the calendar knows that year.
    pub(in crate::registry) due_by_calendar: bool,
    pub(in crate::registry) events: Vec<Event>,
    /// What it does not say yet, and what someone should know; as of when it was last opened, corrected or submitted.
    #[serde(default)]
    pub(in crate::registry) needs: Vec<serde_json::Value>,
    #[serde(default)]
    pub(in crate::registry) notes: Vec<serde_json::Value>,
    /// The document that the name had before this order made it pending: put back where the order ends otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) before: Option<serde_json::Value>,
    /// Whether this order made the name what it is meanwhile.
    #[serde(default)]
    pub(in crate::registry) is_marked: bool,
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::registry) struct Event {
    pub(in crate::registry) at: Timestamp,
    pub(in crate::registry) who: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) request: Option<String>,
    pub(in crate::registry) step: String,
    pub(in crate::registry) stage: Stage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) reason: Option<String>,
}

impl Order {
    pub(in crate::registry) fn due(&mut self, due: Option<Due>) {
        self.due_on = due.map(|it| it.on);
        self.due_by_calendar = due.is_none_or(|it| it.is_by_calendar);
    }
}

impl Recorded for Order {
    const KIND: Kind = Kind::Order;

    fn id(&self) -> &str {
        &self.id
    }

    fn keys(&self) -> Vec<Option<String>> {
        vec![
            self.details.account.clone(),
            self.domain.clone(),
            self.subject_id.clone(),
            Some(self.stage.as_str().to_owned()),
            self.details.service_code.clone(),
            self.due_on.map(|it| it.to_string()),
        ]
    }
}

/// Who files (主体), as the registry knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::registry) struct Subject {
    pub(in crate::registry) id: String,
    /// Everything that it said; `number` once it has one.
    pub(in crate::registry) subject: SubjectForm,
    pub(in crate::registry) created_at: Timestamp,
}

impl Recorded for Subject {
    const KIND: Kind = Kind::Subject;

    fn id(&self) -> &str {
        &self.id
    }

    fn keys(&self) -> Vec<Option<String>> {
        let certificate = self.subject.certificate.as_ref().map(|it| it.number.trim().to_owned());
        vec![self.subject.number.clone(), Some(self.subject.name.trim().to_owned()), certificate]
    }
}

/// An account of the provider's customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::registry) struct Account {
    pub(in crate::registry) id: String,
    /// The record of the one subject that it files for.
    pub(in crate::registry) subject: Option<String>,
}

impl Recorded for Account {
    const KIND: Kind = Kind::Account;

    fn id(&self) -> &str {
        &self.id
    }

    fn keys(&self) -> Vec<Option<String>> {
        vec![self.subject.clone()]
    }
}

/// What was bought here and may carry sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::registry) struct Server {
    pub(in crate::registry) id: String,
    pub(in crate::registry) product: Product,
    pub(in crate::registry) account: Option<String>,
    /// How many service codes it may have; renewal does not raise it.
    pub(in crate::registry) quota: u32,
}

impl Recorded for Server {
    const KIND: Kind = Kind::Server;

    fn id(&self) -> &str {
        &self.id
    }

    fn keys(&self) -> Vec<Option<String>> {
        vec![self.account.clone()]
    }
}

/// A service code (备案服务码).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::registry) struct ServiceCode {
    pub(in crate::registry) code: String,
    pub(in crate::registry) server: String,
    pub(in crate::registry) account: Option<String>,
    /// The order whose approval used it up.
    pub(in crate::registry) used_by: Option<String>,
}

impl Recorded for ServiceCode {
    const KIND: Kind = Kind::ServiceCode;

    fn id(&self) -> &str {
        &self.code
    }

    fn keys(&self) -> Vec<Option<String>> {
        vec![Some(self.server.clone()), self.account.clone(), self.used_by.clone()]
    }
}

/// What is known of a site beside its filing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::registry) struct SiteNote {
    /// The site's number.
    pub(in crate::registry) number: String,
    /// The account that its filing is in: never changed once there.
    pub(in crate::registry) account: Option<String>,
    /// Which platform it was taken over from.
    pub(in crate::registry) platform: Option<Platform>,
    /// When it opened.
    pub(in crate::registry) opened_on: Option<Date>,
    /// Until when its public-security filing is due.
    pub(in crate::registry) public_security_due_on: Option<Date>,
    /// Untrue data that is to be corrected.
    pub(in crate::registry) correction: Option<Correction>,
    /// The last day of the domain's registration, as it was last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) registration_expires_on: Option<Date>,
}

/// Untrue data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::registry) struct Correction {
    pub(in crate::registry) reason: String,
    pub(in crate::registry) due_on: Date,
    pub(in crate::registry) due_by_calendar: bool,
}

impl Recorded for SiteNote {
    const KIND: Kind = Kind::SiteNote;

    fn id(&self) -> &str {
        &self.number
    }

    fn keys(&self) -> Vec<Option<String>> {
        let correction = self.correction.as_ref().map(|it| it.due_on);
        let day = |it: Option<Date>| it.map(|it| it.to_string());
        vec![
            self.account.clone(),
            day(self.public_security_due_on),
            day(correction),
            day(self.registration_expires_on),
        ]
    }
}
