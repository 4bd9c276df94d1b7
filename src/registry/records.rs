//! Records of the filing life cycle beside filings: accounts, subjects, orders, service codes, servers, notes on sites,
//! counters. Each is a document with a few keys that it can be found by.
//!
//! Pure: a cabinet holds what was loaded and says in the end what differs. What was not loaded is asked for by
//! `Wanted`, which whoever loads brings, inside the same transaction.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A table of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Account,
    Subject,
    Order,
    ServiceCode,
    Server,
    SiteNote,
    Counter,
}

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::Account,
        Self::Subject,
        Self::Order,
        Self::ServiceCode,
        Self::Server,
        Self::SiteNote,
        Self::Counter,
    ];

    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Account => "accounts",
            Self::Subject => "subjects",
            Self::Order => "orders",
            Self::ServiceCode => "service_codes",
            Self::Server => "servers",
            Self::SiteNote => "site_notes",
            Self::Counter => "counters",
        }
    }

    /// What the change log calls it; none where it is no record of anybody's.
    pub(super) fn logged_as(self) -> Option<&'static str> {
        match self {
            Self::Account => Some("account"),
            Self::Subject => Some("subject"),
            Self::Order => Some("order"),
            Self::ServiceCode => Some("service_code"),
            Self::Server => Some("server"),
            Self::SiteNote => Some("site"),
            Self::Counter => None,
        }
    }

    /// Columns beside `id` that records are found by.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Account => &["subject"],
            Self::Subject => &["number", "name", "certificate"],
            Self::Order => &["account", "domain", "subject", "stage", "service_code", "due_on"],
            Self::ServiceCode => &["server", "account", "used_by"],
            Self::Server => &["account"],
            Self::SiteNote => &["account", "due_on", "correction_due_on", "registration_expires_on"],
            Self::Counter => &[],
        }
    }
}

/// What can be kept as a record.
pub(super) trait Recorded: Serialize + DeserializeOwned {
    const KIND: Kind;
    fn id(&self) -> &str;
    /// In the order of `Kind::keys`.
    fn keys(&self) -> Vec<Option<String>>;
}

/// A record as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) keys: Vec<Option<String>>,
    pub(super) body: String,
}

/// A record that is new, or another than it was.
#[derive(Debug)]
pub(super) struct RecordDifference {
    pub(super) kind: Kind,
    /// As it was loaded; none of what is new.
    pub(super) before: Option<Row>,
    pub(super) now: Row,
}

/// Something that is not loaded yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// The record of this id.
    Record(Kind, String),
    /// The records with this in a key.
    Found(Kind, &'static str, String),
    /// The document of a name, and of all names of its site.
    Domain(Arc<str>),
    /// All documents of a subject's number, deregistered ones too.
    OfNumber(String),
    /// All documents of a subject's name.
    OfName(String),
    /// The highest serial of numbers that begin like this (`京ICP备2026`) and go on with six digits.
    LastSerial(String),
}

/// Records at hand, before and after.
#[derive(Debug, Default)]
pub(super) struct Cabinet {
    loaded: HashSet<Wanted>,
    rows: BTreeMap<(Kind, String), Slot>,
    found: HashMap<(Kind, &'static str, String), Vec<String>>,
    names_of_number: HashMap<String, Vec<Arc<str>>>,
    names_of_name: HashMap<String, Vec<Arc<str>>>,
    last_serials: HashMap<String, u64>,
}

#[derive(Debug, Default)]
struct Slot {
    before: Option<Row>,
    now: Option<Row>,
}

/// What was brought for a `Wanted`.
#[derive(Debug)]
pub(super) enum Brought {
    Rows(Vec<Row>),
    Names(Vec<Arc<str>>),
    Serial(u64),
}

/// A record that can't be read: written by another version, or by hand.
fn read<T: Recorded>(row: &Row) -> Option<T> {
    match serde_json::from_str(&row.body) {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::error!(table = T::KIND.table(), id = row.id, %error, "a record can't be read and is left out");
            None
        }
    }
}

impl Cabinet {
    /// Takes what was brought.
    pub(super) fn bring(&mut self, wanted: Wanted, brought: Brought) {
        match (&wanted, brought) {
            (Wanted::Record(kind, _), Brought::Rows(rows)) => self.load(*kind, rows),
            (Wanted::Found(kind, key, value), Brought::Rows(rows)) => {
                let ids = rows.iter().map(|it| it.id.clone()).collect();
                self.found.insert((*kind, key, value.clone()), ids);
                self.load(*kind, rows);
            }
            (Wanted::OfNumber(number), Brought::Names(names)) => {
                self.names_of_number.insert(number.clone(), names);
            }
            (Wanted::OfName(name), Brought::Names(names)) => {
                self.names_of_name.insert(name.clone(), names);
            }
            (Wanted::LastSerial(head), Brought::Serial(serial)) => {
                self.last_serials.insert(head.clone(), serial);
            }
            (_, Brought::Rows(_) | Brought::Names(_) | Brought::Serial(_)) => {}
        }
        self.loaded.insert(wanted);
    }

    fn load(&mut self, kind: Kind, rows: Vec<Row>) {
        for row in rows {
            let id = row.id.clone();
            self.loaded.insert(Wanted::Record(kind, id.clone()));
            self.rows.entry((kind, id)).or_insert_with(|| Slot { before: Some(row.clone()), now: Some(row) });
        }
    }

    /// Whether it was brought.
    ///
    /// # Errors
    /// What to bring.
    pub(super) fn need(&self, wanted: Wanted) -> Result<(), Wanted> {
        if self.loaded.contains(&wanted) { Ok(()) } else { Err(wanted) }
    }

    /// The record of an id.
    ///
    /// # Errors
    /// What to bring.
    pub(super) fn record<T: Recorded>(&self, id: &str) -> Result<Option<T>, Wanted> {
        let key = (T::KIND, id.to_owned());
        let Some(slot) = self.rows.get(&key) else {
            self.need(Wanted::Record(key.0, key.1))?;
            return Ok(None);
        };
        Ok(slot.now.as_ref().and_then(read))
    }

    /// The records with this in a key, as of what was loaded.
    ///
    /// # Errors
    /// What to bring.
    pub(super) fn found<T: Recorded>(&self, key: &'static str, value: &str) -> Result<Vec<T>, Wanted> {
        let asked = (T::KIND, key, value.to_owned());
        let Some(ids) = self.found.get(&asked) else { return Err(Wanted::Found(asked.0, asked.1, asked.2)) };
        let row = |id: &String| self.rows.get(&(T::KIND, id.clone()))?.now.as_ref();
        Ok(ids.iter().filter_map(row).filter_map(read).collect())
    }

    /// The names under a subject's number.
    ///
    /// # Errors
    /// What to bring.
    pub(super) fn names_of_number(&self, number: &str) -> Result<&[Arc<str>], Wanted> {
        let names = self.names_of_number.get(number);
        names.map(Vec::as_slice).ok_or_else(|| Wanted::OfNumber(number.to_owned()))
    }

    /// The names under a subject's name.
    ///
    /// # Errors
    /// What to bring.
    pub(super) fn names_of_name(&self, name: &str) -> Result<&[Arc<str>], Wanted> {
        let names = self.names_of_name.get(name);
        names.map(Vec::as_slice).ok_or_else(|| Wanted::OfName(name.to_owned()))
    }

    /// The highest serial under a head, 0 where there is none.
    ///
    /// # Errors
    /// What to bring.
    pub(super) fn last_serial(&self, head: &str) -> Result<u64, Wanted> {
        self.last_serials.get(head).copied().ok_or_else(|| Wanted::LastSerial(head.to_owned()))
    }

    /// Keeps a record.
    pub(super) fn put(&mut self, kind: Kind, row: Row) {
        let id = row.id.clone();
        self.rows.entry((kind, id)).or_default().now = Some(row);
    }

    /// Every record that differs from what was loaded, or is new.
    pub(super) fn differences(self) -> Vec<RecordDifference> {
        let differs = |((kind, _), Slot { before, now }): ((Kind, String), Slot)| {
            let now = now?;
            (before.as_ref() != Some(&now)).then_some(RecordDifference { kind, before, now })
        };
        self.rows.into_iter().filter_map(differs).collect()
    }
}

impl Row {
    /// A record as a row.
    pub(super) fn of<T: Recorded>(record: &T) -> Self {
        let body = serde_json::to_string(record).expect("records are text, numbers and lists of them");
        Self { id: record.id().to_owned(), keys: record.keys(), body }
    }
}

/// How far something was counted: numbers are given once.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub(super) struct Counter {
    pub(super) id: String,
    pub(super) last: u64,
}

impl Recorded for Counter {
    const KIND: Kind = Kind::Counter;

    fn id(&self) -> &str {
        &self.id
    }

    fn keys(&self) -> Vec<Option<String>> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_loaded_is_asked_for_and_what_differs_is_written() {
        let mut cabinet = Cabinet::default();
        let wanted = cabinet.record::<Counter>("order").unwrap_err();
        assert_eq!(wanted, Wanted::Record(Kind::Counter, "order".into()));
        cabinet.bring(wanted, Brought::Rows(Vec::new()));
        assert!(cabinet.record::<Counter>("order").unwrap().is_none());
        let row = Row::of(&Counter { id: "site".into(), last: 7 });
        cabinet.bring(Wanted::Record(Kind::Counter, "site".into()), Brought::Rows(vec![row]));
        assert_eq!(cabinet.record::<Counter>("site").unwrap().unwrap().last, 7);
        cabinet.put(Kind::Counter, Row::of(&Counter { id: "order".into(), last: 2 }));
        let written = cabinet.differences();
        assert_eq!(written.len(), 1, "what was only read stays");
        assert_eq!(written[0].now.body, r#"{"id":"order","last":2}"#);
        assert_eq!(written[0].before, None, "it is new");
    }
}
