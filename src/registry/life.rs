//! The filing life cycle on a ledger: what orders do to filings and to the records beside them.
//!
//! Pure: what happens is found from what is loaded (`Deed`), and what is not loaded is asked for (`Stop::Wanted`), so
//! that all of it is read and written in one transaction.

pub(super) mod book;
mod effects;
mod steps;
mod survey;

pub(super) use steps::{Opening, open, said, step};
pub(super) use survey::{SubjectInput, is_live, live_documents};

use super::ledger::Ledger;
use super::model::{Edit, Who};
use super::records::{Cabinet, Counter, Kind, Recorded, Row, Wanted};
use super::rules::Refusal;
use super::rules::limits::{Finding, Weight};
use super::versions::Conditions;
use crate::config::FilingRules;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

/// Where, when and by which data.
#[derive(Debug, Clone)]
pub(super) struct Here {
    /// The access provider that orders are handed in at.
    pub(super) provider: String,
    pub(super) at: Timestamp,
    /// The day in UTC+8.
    pub(super) today: Date,
    pub(super) who: Who,
    /// On which the write is to be done.
    pub(super) conditions: Conditions,
    pub(super) rules: FilingRules,
}

/// Why a deed is not done.
#[derive(Debug)]
pub(super) enum Stop {
    /// Something is not loaded yet.
    Wanted(Wanted),
    /// One rule refuses it.
    Refused(Refusal),
    /// Rules refuse it; the first is the one that is named.
    Found(Vec<Finding>),
    /// There is no such record.
    Missing(Refusal),
    /// It is another version than the one that the write is for.
    Stale(Refusal),
}

impl From<Wanted> for Stop {
    fn from(wanted: Wanted) -> Self {
        Self::Wanted(wanted)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Goes on where no rule is broken.
///
/// # Errors
/// Every rule that is.
pub(super) fn unbroken(broken: Vec<Refusal>) -> Result<(), Stop> {
    if broken.is_empty() { Ok(()) } else { Err(Stop::refused(broken)) }
}

impl Stop {
    /// For every rule that is broken.
    pub(super) fn refused(broken: Vec<Refusal>) -> Self {
        let finding = |refusal| Finding { weight: Weight::Refused, refusal };
        Self::Found(broken.into_iter().map(finding).collect())
    }
}

/// What is to be done, all or nothing.
#[derive(Debug, Default)]
pub(super) struct Deed {
    pub(super) edits: Vec<Edit>,
    pub(super) rows: Vec<(Kind, Row)>,
    /// What the caller is told.
    pub(super) answer: Value,
    /// The version of what it leaves.
    pub(super) version: Option<String>,
    /// Whether something came to be that was not.
    pub(super) is_new: bool,
    /// For the change log.
    pub(super) why: Option<String>,
}

/// What the caller is told of a deed that is done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) answer: Value,
    pub(super) version: Option<String>,
    pub(super) is_new: bool,
}

impl Here {
    /// Whether the conditions hold for what has this version, or is not there.
    pub(super) fn holds(&self, version: Option<&str>) -> Result<(), Stop> {
        self.conditions.hold(version).map_err(Stop::Stale)
    }
}

impl Deed {
    pub(super) fn keep<T: Recorded>(&mut self, record: &T) {
        self.rows.push((T::KIND, Row::of(record)));
    }

    /// The next number of a counter, from 1.
    pub(super) fn count(&mut self, cabinet: &Cabinet, counter: &str) -> Result<u64, Wanted> {
        let next = cabinet.record::<Counter>(counter)?.map_or(1, |it| it.last + 1);
        self.keep(&Counter { id: counter.to_owned(), last: next });
        Ok(next)
    }

    /// Does it.
    pub(super) fn done(self, ledger: &mut Ledger) -> Result<Done, Refusal> {
        for edit in self.edits {
            ledger.apply(edit)?;
        }
        for (kind, row) in self.rows {
            ledger.cabinet.put(kind, row);
        }
        ledger.why = self.why;
        Ok(Done { answer: self.answer, version: self.version, is_new: self.is_new })
    }
}
