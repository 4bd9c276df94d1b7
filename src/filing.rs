//! What a filing is: numbers, accesses, and its status as seen from one provider.
//!
//! Pure: knows no clock, no socket, no database. Source: filing-rules, "Which filing covers a host"
//! and "Status of a domain".

mod number;
mod province;
mod public_security;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::DomainName;

pub use number::{FilingNumber, NUMBER_BITS, NumberError, ServiceKind};
pub use province::Province;
pub use public_security::PublicSecurityNumber;

/// Status of a filing as seen from one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /** 已接入 */
    Connected,
    /** 未接入 */
    NotConnected,
    /** 取消接入 */
    AccessCancelled,
    /** 限制接入或责令关闭 */
    Restricted,
    /** 备案中 */
    Pending,
    /** 已注销 */
    Deregistered,
}

impl Status {
    /// Every status; the order is that of the packed codes, which count from 1: append only.
    pub const ALL: [Status; 6] = [
        Self::Connected,
        Self::NotConnected,
        Self::AccessCancelled,
        Self::Restricted,
        Self::Pending,
        Self::Deregistered,
    ];

    /// The name in APIs, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::NotConnected => "not_connected",
            Self::AccessCancelled => "access_cancelled",
            Self::Restricted => "restricted",
            Self::Pending => "pending",
            Self::Deregistered => "deregistered",
        }
    }

    fn code(self) -> u64 {
        match self {
            Self::Connected => 1,
            Self::NotConnected => 2,
            Self::AccessCancelled => 3,
            Self::Restricted => 4,
            Self::Pending => 5,
            Self::Deregistered => 6,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that names no status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a status is connected, not_connected, access_cancelled, restricted, pending or deregistered")]
pub struct StatusError;

impl FromStr for Status {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(StatusError)
    }
}

/// What a gate holds of one filing: one provider's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilingRecord {
    /// Status here.
    pub status: Status,
    /// Whether any other provider's access is active.
    pub connected_elsewhere: bool,
    /// Whether an order for access here is under review (shown on the page).
    pub access_under_review: bool,
    /// The site number (none while `pending`).
    pub number: Option<FilingNumber>,
}

/// A record as 64 bits; `ODD` set means that the number is odd and travels as text beside it.
///
/// From the highest bit: odd 1, access under review 1, connected elsewhere 1, status 3 (from 1, so that
/// no record is 0), unused 1, number 57 (0: none, or odd).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedRecord(
    /// The bits; 0 is no record (deleted).
    pub u64,
);

impl PackedRecord {
    /// Set where the number is odd.
    pub const ODD: u64 = 1 << 63;
    const UNDER_REVIEW: u64 = 1 << 62;
    const ELSEWHERE: u64 = 1 << 61;
    const STATUS_AT: u32 = 58;
    const STATUS: u64 = 0b111 << Self::STATUS_AT;
    /// The bits that hold the number, or are the holder's to use in an odd record.
    pub const NUMBER: u64 = (1 << NUMBER_BITS) - 1;
    const UNUSED: u64 = 1 << NUMBER_BITS;

    /// The record's number is odd: not in the bits.
    pub fn is_odd(self) -> bool {
        self.0 & Self::ODD != 0
    }

    /// The status; `None` for bits that no record packs to.
    pub fn status(self) -> Option<Status> {
        let code = (self.0 & Self::STATUS) >> Self::STATUS_AT;
        Status::ALL.into_iter().find(|it| it.code() == code)
    }
}

impl FilingRecord {
    /// Packs; the text is there exactly where the number is odd. Never 0 bits. The low 57 bits of an odd record are free for the holder's side-table index and are 0 here.
    pub fn pack(&self) -> (PackedRecord, Option<Box<str>>) {
        let mut bits = self.status.code() << PackedRecord::STATUS_AT;
        if self.connected_elsewhere {
            bits |= PackedRecord::ELSEWHERE;
        }
        if self.access_under_review {
            bits |= PackedRecord::UNDER_REVIEW;
        }
        let Some(number) = &self.number else {
            return (PackedRecord(bits), None);
        };
        match number.pack() {
            Some(number) => (PackedRecord(bits | number), None),
            None => (PackedRecord(bits | PackedRecord::ODD), Some(number.to_string().into())),
        }
    }

    /// The reverse; `odd` is the text where `is_odd`. `None` for bits that no record packs to.
    pub fn unpack(packed: PackedRecord, odd: Option<&str>) -> Option<Self> {
        let bits = packed.0;
        if bits & PackedRecord::UNUSED != 0 {
            return None;
        }
        let number = match (packed.is_odd(), bits & PackedRecord::NUMBER) {
            (true, _) => {
                let number = FilingNumber::parse(odd?).ok()?;
                // A common number as text would be a second way to write the same record.
                if number.pack().is_some() {
                    return None;
                }
                Some(number)
            }
            (false, 0) => None,
            (false, bits) => Some(FilingNumber::unpack(bits)?),
        };
        Some(Self {
            status: packed.status()?,
            connected_elsewhere: bits & PackedRecord::ELSEWHERE != 0,
            access_under_review: bits & PackedRecord::UNDER_REVIEW != 0,
            number,
        })
    }
}

/// The access of a site at one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessState {
    /** 已接入 */
    Active,
    /** 已取消 */
    Cancelled,
    /** 接入审核中 */
    UnderReview,
}

impl AccessState {
    /// The name in APIs and imports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cancelled => "cancelled",
            Self::UnderReview => "under_review",
        }
    }
}

/// Text that names no access state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an access is active, cancelled or under_review")]
pub struct AccessStateError;

impl FromStr for AccessState {
    type Err = AccessStateError;

    fn from_str(text: &str) -> Result<Self, AccessStateError> {
        let all = [Self::Active, Self::Cancelled, Self::UnderReview];
        let found = all.into_iter().find(|it| it.as_str() == text);
        found.ok_or(AccessStateError)
    }
}

/// What the registry knows of a filing itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum FilingState {
    /** 已备案 */
    #[default]
    Filed,
    /** 备案中，尚无备案号 */
    Pending,
    /** 责令关闭或限制接入 */
    Restricted,
    /** 已注销 */
    Deregistered,
}

impl FilingState {
    /// The name in APIs and imports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filed => "filed",
            Self::Pending => "pending",
            Self::Restricted => "restricted",
            Self::Deregistered => "deregistered",
        }
    }
}

/// Text that names no filing state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a state is filed, pending, restricted or deregistered")]
pub struct FilingStateError;

impl FromStr for FilingState {
    type Err = FilingStateError;

    fn from_str(text: &str) -> Result<Self, FilingStateError> {
        let all = [Self::Filed, Self::Pending, Self::Restricted, Self::Deregistered];
        let found = all.into_iter().find(|it| it.as_str() == text);
        found.ok_or(FilingStateError)
    }
}

/// A filing as the registry holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filing {
    /// The filed name.
    pub domain: DomainName,
    /// The site number; none while pending.
    pub number: Option<FilingNumber>,
    /// State at the ministry.
    pub state: FilingState,
    /// Accesses by provider id.
    pub access: BTreeMap<String, AccessState>,
}

impl Filing {
    /// The record that a gate of `provider` holds of it.
    pub fn seen_from(&self, provider: &str) -> FilingRecord {
        let here = self.access.get(provider).copied();
        let status = match (self.state, here) {
            (FilingState::Restricted, _) => Status::Restricted,
            (FilingState::Deregistered, _) => Status::Deregistered,
            (FilingState::Pending, _) => Status::Pending,
            // Nothing is filed before there is a number.
            (FilingState::Filed, _) if self.number.is_none() => Status::Pending,
            (FilingState::Filed, Some(AccessState::Active)) => Status::Connected,
            (FilingState::Filed, Some(AccessState::Cancelled)) => Status::AccessCancelled,
            (FilingState::Filed, Some(AccessState::UnderReview) | None) => Status::NotConnected,
        };
        FilingRecord {
            status,
            connected_elsewhere: self
                .access
                .iter()
                .any(|(id, access)| id != provider && *access == AccessState::Active),
            access_under_review: here == Some(AccessState::UnderReview),
            number: self.number.clone().filter(|_| status != Status::Pending),
        }
    }

    /// An empty shell (空壳网站): it has a number and no active access anywhere.
    pub fn is_empty_shell(&self) -> bool {
        let is_live = matches!(self.state, FilingState::Filed | FilingState::Restricted);
        let is_active = |access: &AccessState| *access == AccessState::Active;
        is_live && self.number.is_some() && !self.access.values().any(is_active)
    }
}

/// The record that decides for a name, and the filed name that it was found under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covering {
    /// The record.
    pub record: FilingRecord,
    /// Octets of the name's tail that are the filed name: `name[name.len() - filed_len ..]`.
    pub filed_len: u8,
}

impl Covering {
    /// The filed name, given the name that it covers.
    pub fn filed_name<'n>(&self, name: &'n DomainName) -> &'n str {
        let name = name.as_str();
        let start = name.len().saturating_sub(usize::from(self.filed_len));
        &name[start..]
    }
}

/// Finds the filing that covers `name`: the most specific one decides; a pending one does not shadow its parent's.
pub fn covering(name: &DomainName, mut find: impl FnMut(&str) -> Option<FilingRecord>) -> Option<Covering> {
    let mut pending = None;
    for candidate in name.filing_candidates() {
        let Some(record) = find(candidate) else {
            continue;
        };
        let found = Covering {
            record,
            filed_len: u8::try_from(candidate.len()).expect("a name has at most 253 octets"),
        };
        // A unit that is filing for the first time ran lawfully under its parent so far.
        if found.record.status != Status::Pending {
            return Some(found);
        }
        pending = pending.or(Some(found));
    }
    pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filing(state: FilingState, number: &str, access: &[(&str, AccessState)]) -> Filing {
        let access = access.iter().map(|(id, state)| ((*id).to_owned(), *state));
        Filing {
            domain: DomainName::from_user("example.com").unwrap(),
            number: FilingNumber::parse(number).ok(),
            state,
            access: access.collect(),
        }
    }

    fn record(status: Status) -> FilingRecord {
        FilingRecord { status, connected_elsewhere: false, access_under_review: false, number: None }
    }

    /// `expected`: status, connected elsewhere, under review, empty shell.
    #[track_caller]
    fn check(state: FilingState, access: &[(&str, AccessState)], expected: (Status, bool, bool, bool)) {
        let filing = filing(state, "京ICP备12345678号-1", access);
        let seen = filing.seen_from("us");
        let shown =
            (seen.status, seen.connected_elsewhere, seen.access_under_review, filing.is_empty_shell());
        assert_eq!(shown, expected, "{state:?} {access:?}");
        assert_eq!(seen.number.is_none(), seen.status == Status::Pending);
    }

    #[test]
    fn status_as_seen_from_here() {
        use AccessState::*;
        use Status::{AccessCancelled, Connected, Deregistered, NotConnected, Pending, Restricted};
        let filed = FilingState::Filed;
        check(filed, &[("us", Active)], (Connected, false, false, false));
        check(filed, &[("us", Active), ("them", Active)], (Connected, true, false, false));
        check(filed, &[], (NotConnected, false, false, true));
        check(filed, &[("them", Active)], (NotConnected, true, false, false));
        check(filed, &[("them", Active), ("us", UnderReview)], (NotConnected, true, true, false));
        check(filed, &[("them", UnderReview)], (NotConnected, false, false, true));
        check(filed, &[("us", Cancelled)], (AccessCancelled, false, false, true));
        check(filed, &[("us", Cancelled), ("them", Active)], (AccessCancelled, true, false, false));
        check(FilingState::Restricted, &[("us", Active)], (Restricted, false, false, false));
        check(FilingState::Pending, &[("us", Active)], (Pending, false, false, false));
        check(FilingState::Deregistered, &[("us", Active)], (Deregistered, false, false, false));
    }

    #[test]
    fn nothing_is_filed_without_a_number() {
        let filing = filing(FilingState::Filed, "", &[("us", AccessState::Active)]);
        assert_eq!(filing.seen_from("us").status, Status::Pending);
        assert!(!filing.is_empty_shell());
    }

    #[track_caller]
    fn check_covering(name: &str, held: &[(&str, Status)], expected: Option<(&str, Status)>) {
        let name = DomainName::from_user(name).unwrap();
        let find = |asked: &str| {
            let found = held.iter().find(|(filed, _)| *filed == asked);
            found.map(|(_, status)| record(*status))
        };
        let found = covering(&name, find);
        let found = found.map(|it| (it.filed_name(&name).to_owned(), it.record.status));
        let expected = expected.map(|(filed, status)| (filed.to_owned(), status));
        assert_eq!(found, expected, "{name} {held:?}");
    }

    #[test]
    fn the_most_specific_filing_decides() {
        use Status::*;
        let com = [("example.com", Connected)];
        check_covering("example.com", &com, Some(("example.com", Connected)));
        check_covering("a.b.example.com", &com, Some(("example.com", Connected)));
        check_covering("evilexample.com", &com, None);
        check_covering("example.com.evil.example", &com, None);
        // Neither a public suffix nor a name below an ordinary domain is ever asked for.
        check_covering("www.example.com", &[("www.example.com", Connected)], None);
        check_covering("com", &[("com", Connected)], None);
        check_covering("a.gov.cn", &[("gov.cn", Connected)], None);

        let unit = |status| [("a.gov.cn", Connected), ("b1.a.gov.cn", status)];
        for status in [NotConnected, AccessCancelled, Restricted, Deregistered] {
            let expected = Some(("b1.a.gov.cn", status));
            check_covering("b1.a.gov.cn", &unit(status), expected);
            check_covering("x.b1.a.gov.cn", &unit(status), expected);
            check_covering("b2.a.gov.cn", &unit(status), Some(("a.gov.cn", Connected)));
            check_covering("a.gov.cn", &unit(status), Some(("a.gov.cn", Connected)));
        }
    }

    #[test]
    fn a_pending_unit_does_not_shadow_its_parent() {
        use Status::*;
        let pending = ("b1.a.gov.cn", Pending);
        let parent = |status| [("a.gov.cn", status), pending];
        let name = "x.b1.a.gov.cn";
        check_covering(name, &parent(Connected), Some(("a.gov.cn", Connected)));
        check_covering(name, &parent(Deregistered), Some(("a.gov.cn", Deregistered)));
        check_covering(name, &parent(Pending), Some(pending));
        check_covering(name, &[pending], Some(pending));
        check_covering("example.com", &[("example.com", Pending)], Some(("example.com", Pending)));
    }

    #[test]
    fn names_of_states() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            let json = serde_json::to_string(&status).unwrap();
            assert_eq!(json, format!("\"{status}\""));
        }
        assert_eq!("under_review".parse(), Ok(AccessState::UnderReview));
        assert_eq!("restricted".parse(), Ok(FilingState::Restricted));
        assert!("Filed".parse::<FilingState>().is_err() && "".parse::<Status>().is_err());
    }

    proptest! {
        #[test]
        fn records_survive_packing(
            status in proptest::sample::select(Status::ALL.to_vec()),
            connected_elsewhere in any::<bool>(),
            access_under_review in any::<bool>(),
            number in "(京ICP备[0-9]{8}号(-[1-9][0-9]{0,4}[AXK]?)?|新ICP备20[0-9]{8}号|粤B2-[0-9]{8}-5|)",
        ) {
            let record = FilingRecord {
                status, connected_elsewhere, access_under_review,
                number: FilingNumber::parse(&number).ok(),
            };
            let (packed, odd) = record.pack();
            prop_assert_ne!(packed.0, 0);
            prop_assert_eq!(packed.is_odd(), odd.is_some());
            prop_assert_eq!(packed.status(), Some(status));
            if let Some(odd) = &odd {
                let with_index = PackedRecord(packed.0 | 12_345);
                prop_assert_eq!(packed.0 & PackedRecord::NUMBER, 0);
                prop_assert_eq!(FilingRecord::unpack(with_index, Some(odd)), Some(record.clone()));
                prop_assert_eq!(FilingRecord::unpack(packed, None), None);
            }
            prop_assert_eq!(FilingRecord::unpack(packed, odd.as_deref()), Some(record));
        }

        #[test]
        fn any_bits_unpack_to_what_packs_to_them(bits in any::<u64>()) {
            let Some(record) = FilingRecord::unpack(PackedRecord(bits), None) else { return Ok(()) };
            prop_assert_eq!(record.pack(), (PackedRecord(bits), None));
        }
    }

    #[test]
    fn zero_is_no_record() {
        assert_eq!(FilingRecord::unpack(PackedRecord(0), None), None);
    }
}
