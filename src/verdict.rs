//! The product: scenario × region → requirement; status → verdict. Pure.
//!
//! Source: filing-rules, "Scenarios" and "Verdicts". Time arrives as `today`, filings as a trait.

mod because;
mod lists;
mod table;

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::{Timestamp, tz};
use serde::{Deserialize, Serialize};

use crate::domain::{DomainName, HostForm};
use crate::filing::{Covering, FilingNumber, FilingRecord, Status};

use lists::List;
use table::Table;

pub use lists::{HostPattern, ListEntry, PatternError};
pub use table::{CancelledPolicy, Region, Requirement, Row, Scenario, ScenarioOverride, UnknownName};

/// The verdicts of filing-rules, by their wire names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "documented by filing-rules' table; the names are the documentation")]
pub enum Verdict {
    Allow,
    Exempt,
    Unfiled,
    NotConnected,
    AccessCancelled,
    Pending,
    Deregistered,
    IpLiteral,
    Restricted,
    OperatorBlock,
    Unavailable,
    MalformedHost,
    Misdirected,
    NoSite,
    Unverified,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Verdict; 15] = [
        Self::Allow,
        Self::Exempt,
        Self::Unfiled,
        Self::NotConnected,
        Self::AccessCancelled,
        Self::Pending,
        Self::Deregistered,
        Self::IpLiteral,
        Self::Restricted,
        Self::OperatorBlock,
        Self::Unavailable,
        Self::MalformedHost,
        Self::Misdirected,
        Self::NoSite,
        Self::Unverified,
    ];

    /// The name on the wire, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Exempt => "exempt",
            Self::Unfiled => "unfiled",
            Self::NotConnected => "not_connected",
            Self::AccessCancelled => "access_cancelled",
            Self::Pending => "pending",
            Self::Deregistered => "deregistered",
            Self::IpLiteral => "ip_literal",
            Self::Restricted => "restricted",
            Self::OperatorBlock => "operator_block",
            Self::Unavailable => "unavailable",
            Self::MalformedHost => "malformed_host",
            Self::Misdirected => "misdirected",
            Self::NoSite => "no_site",
            Self::Unverified => "unverified",
        }
    }

    /// Whether traffic is forwarded.
    pub fn is_forwarded(self) -> bool {
        matches!(self, Self::Allow | Self::Exempt | Self::Unverified)
    }

    /// Whether it is answered with a block page (451/403).
    pub fn is_blocked(self) -> bool {
        matches!(
            self,
            Self::Unfiled
                | Self::NotConnected
                | Self::AccessCancelled
                | Self::Pending
                | Self::Deregistered
                | Self::IpLiteral
                | Self::Restricted
                | Self::OperatorBlock
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that names no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of the verdicts that filing-rules lists")]
pub struct VerdictError;

impl FromStr for Verdict {
    type Err = VerdictError;

    fn from_str(text: &str) -> Result<Self, VerdictError> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(VerdictError)
    }
}

/// The day that it is at `at` in UTC+8, by which the operator's lists run.
pub fn day(at: Timestamp) -> Date {
    tz::Offset::constant(8).to_datetime(at).date()
}

/// One question: may this host be served, here and as this product?
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The host, parsed.
    pub host: &'a HostForm,
    /// The product.
    pub scenario: Scenario,
    /// Where.
    pub region: Region,
    /// The site's own servers are here: access here is required whatever the scenario.
    pub origin_here: bool,
    /// Today in UTC+8 (lists run to the end of their last day there).
    pub today: Date,
}

/// What the filings say of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// No data that may be relied on: never synced.
    NeverSynced,
    /// Older than the operator allows, and the operator asked to block then.
    Stale,
    /// Nothing covers the name.
    Unfiled,
    /// This filing decides.
    Filed(Covering),
}

/// Where filings come from: the gate's cache, or a table in a test.
pub trait Filings {
    /// What covers `name`.
    fn coverage(&self, name: &DomainName) -> Coverage;
}

/// The answer, with what decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'p> {
    /// The verdict.
    pub verdict: Verdict,
    /// The filing that decided, where one did.
    pub covering: Option<Covering>,
    /// What was required.
    pub requirement: Requirement,
    /// The operator's own entry (exception, block list, IP filing) that decided, where one did.
    pub entry: Option<&'p ListEntry>,
}

impl Decision<'_> {
    /// The number that the decision rests on: the filing's, or the one listed for an address.
    pub fn number(&self) -> Option<&FilingNumber> {
        let filed = self.covering.as_ref().map(|it| it.record.number.as_ref());
        filed.unwrap_or_else(|| self.entry.and_then(|it| it.number.as_ref()))
    }

    /// Why, in one sentence each: Chinese, then English.
    pub fn because(&self) -> (&'static str, &'static str) {
        because::sentences(self)
    }
}

/// What `Policy::new` takes.
#[derive(Debug, Clone, Default)]
pub struct PolicyParts {
    /// `[scenario.NAME]` tables.
    pub scenarios: Vec<(Scenario, ScenarioOverride)>,
    /// Hosts that pass whatever their filing.
    pub exceptions: Vec<ListEntry>,
    /// Hosts that never pass.
    pub block_list: Vec<ListEntry>,
    /// Addresses with the number that the local authority issued.
    pub ip_filings: Vec<ListEntry>,
    /// `when_never_synced = "forward"`
    pub forward_when_never_synced: bool,
}

/// The rules in force: the scenario table with overrides and the operator's lists, indexed.
#[derive(Debug, Clone)]
pub struct Policy {
    table: Table,
    exceptions: List,
    block_list: List,
    ip_filings: List,
    forward_when_never_synced: bool,
}

impl Policy {
    /// Builds the indexes: exact names and suffixes in hash maps, so 100,000 entries cost a request nothing.
    pub fn new(parts: PolicyParts) -> Self {
        Self {
            table: Table::new(&parts.scenarios),
            exceptions: List::new(parts.exceptions),
            block_list: List::new(parts.block_list),
            ip_filings: List::new(parts.ip_filings),
            forward_when_never_synced: parts.forward_when_never_synced,
        }
    }

    /// What is required in one cell of the table.
    ///
    /// Servers of the provider's own are mainland servers, whatever area the product in front of them
    /// covers: `origin_here` asks for access here even where the cell asks for nothing.
    pub fn requirement(&self, scenario: Scenario, region: Region, origin_here: bool) -> Requirement {
        if origin_here { Requirement::NumberAndAccess } else { self.table.row(scenario).requirement(region) }
    }

    /// The table in force, one row per scenario; `Display` prints a row.
    pub fn table(&self) -> &[Row] {
        self.table.rows()
    }

    /// The operator's lists as configured: exceptions, block list, addresses with a number.
    pub fn lists(&self) -> [&[ListEntry]; 3] {
        [&self.exceptions, &self.block_list, &self.ip_filings].map(List::entries)
    }

    /// Entries of any list whose last day is over.
    pub fn expired(&self, today: Date) -> impl Iterator<Item = &ListEntry> {
        [&self.block_list, &self.exceptions, &self.ip_filings]
            .into_iter()
            .flat_map(List::entries)
            .filter(move |entry| entry.is_expired(today))
    }
}

/// Decides. The first that applies wins: block list → region exempt → exception → IP → data unavailable →
/// covering filing → status under the scenario. (Malformed and misdirected are found before a question can be asked,
/// `no_site` after.)
pub fn decide<'p>(question: &Question<'_>, policy: &'p Policy, filings: &impl Filings) -> Decision<'p> {
    let Question { host, today, .. } = *question;
    let requirement = policy.requirement(question.scenario, question.region, question.origin_here);
    let answer = |verdict, entry| Decision { verdict, covering: None, requirement, entry };

    if let Some(entry) = policy.block_list.find(host, today) {
        return answer(Verdict::OperatorBlock, Some(entry));
    }
    if requirement == Requirement::None {
        return answer(Verdict::Exempt, None);
    }
    if let Some(entry) = policy.exceptions.find(host, today) {
        return answer(Verdict::Exempt, Some(entry));
    }
    let name = match host {
        HostForm::Name(name) => name,
        // Filing by IP is the local authority's: its number is what lets an address pass.
        HostForm::Ip(_) => {
            let entry = policy.ip_filings.find(host, today);
            return match entry.filter(|entry| entry.number.is_some()) {
                Some(entry) => answer(Verdict::Allow, Some(entry)),
                None => answer(Verdict::IpLiteral, None),
            };
        }
    };
    match filings.coverage(name) {
        Coverage::NeverSynced if policy.forward_when_never_synced => answer(Verdict::Unverified, None),
        Coverage::NeverSynced | Coverage::Stale => answer(Verdict::Unavailable, None),
        Coverage::Unfiled => answer(Verdict::Unfiled, None),
        Coverage::Filed(covering) => {
            let cancelled = policy.table.row(question.scenario).access_cancelled;
            Decision {
                verdict: judge(&covering.record, requirement, cancelled),
                covering: Some(covering),
                requirement,
                entry: None,
            }
        }
    }
}

/// filing-rules, "Status of a domain", its two right-hand columns.
fn judge(record: &FilingRecord, requirement: Requirement, cancelled: CancelledPolicy) -> Verdict {
    let is_number_enough = requirement != Requirement::NumberAndAccess;
    match record.status {
        Status::Connected => Verdict::Allow,
        Status::NotConnected if is_number_enough => Verdict::Allow,
        Status::NotConnected => Verdict::NotConnected,
        Status::AccessCancelled if is_number_enough => match cancelled {
            CancelledPolicy::Allow => Verdict::Allow,
            CancelledPolicy::IfConnectedElsewhere if record.connected_elsewhere => Verdict::Allow,
            CancelledPolicy::IfConnectedElsewhere | CancelledPolicy::Block => Verdict::AccessCancelled,
        },
        Status::AccessCancelled => Verdict::AccessCancelled,
        Status::Restricted => Verdict::Restricted,
        Status::Pending => Verdict::Pending,
        Status::Deregistered => Verdict::Deregistered,
    }
}

#[cfg(test)]
mod tests;
