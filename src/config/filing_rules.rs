//! What filing orders are held against where it differs by province or changes over time, and the working calendar:
//! data that an operator may replace, with a copy in the binary.
//!
//! Pure but for nothing: text in, values out; whoever names the file reads it.

use crate::filing::Province;
use jiff::civil::{Date, Weekday};
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toml::Spanned;

const SHIPPED_RULES: &str = include_str!("../../config/filing-rules.toml");
/// Days ahead in which a clock that begins today may end: 20 working days and a long holiday.
const AHEAD_DAYS: i64 = 60;
const SHIPPED_DAYS: &str = include_str!("../../config/working-days.toml");

/// Both, as the registry needs them.
#[derive(Debug, Clone)]
pub struct FilingRules {
    /// What orders are held against.
    pub limits: Arc<FilingLimits>,
    /// Which days are worked.
    pub calendar: Arc<WorkingDays>,
}

impl Default for FilingRules {
    fn default() -> Self {
        let limits = FilingLimits::parse(SHIPPED_RULES).expect("a test parses the built-in rules");
        let calendar = WorkingDays::parse(SHIPPED_DAYS).expect("a test parses the built-in calendar");
        Self { limits: Arc::new(limits), calendar: Arc::new(calendar) }
    }
}

/// `config/filing-rules.toml`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilingLimits {
    #[serde(default)]
    province: Vec<Spanned<ProvinceRow>>,
    /// What sites may be called.
    pub site_name: SiteNames,
    /// Which domains may be filed.
    pub domain: DomainLimits,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvinceRow {
    name: ProvinceName,
    from: Option<Date>,
    until: Option<Date>,
    residence_permit: Option<bool>,
    representative_office: Option<bool>,
    holder_with_proof: Option<bool>,
    correction_days: Option<u16>,
    max_sites: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
enum ProvinceName {
    One(Province),
    Every,
}

impl TryFrom<String> for ProvinceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if name == "*" {
            return Ok(Self::Every);
        }
        let read: Result<_, serde::de::value::Error> = Province::deserialize(StrDeserializer::new(&name));
        read.map(Self::One).map_err(|_| {
            format!("{name:?} is no province; write one like \"inner_mongolia\" or \"shaanxi\", or \"*\" for every one")
        })
    }
}

/// What holds in one province on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvinceLimits {
    /// Individuals of other provinces may file with a residence permit.
    pub residence_permit: bool,
    /// A foreign company may file with its representative office's registration.
    pub representative_office: bool,
    /// The domain's holder may be a shareholder or senior manager, with proof.
    pub holder_with_proof: bool,
    /// Working days in which untrue data must be corrected.
    pub correction_days: u16,
    /// Sites that one subject may have.
    pub max_sites: Option<u32>,
}

/// What sites may be called.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteNames {
    /// The shortest name, in characters.
    pub min_chars: usize,
    /// The longest.
    pub max_chars: usize,
    /// Words in nobody's.
    pub forbidden: Vec<String>,
    /// Words in no individual's.
    pub forbidden_for_individuals: Vec<String>,
}

/// Which domains may be filed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainLimits {
    /// Approved top-level domains, in Unicode or ASCII form.
    pub suffixes: Vec<String>,
    /// Approved registrars; empty: any.
    pub registrars: Vec<String>,
}

impl FilingLimits {
    /// Reads the file's text.
    ///
    /// # Errors
    /// Where it is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut limits: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for row in &limits.province {
            row.get_ref().check().map_err(|problem| at_line(text, row.span().start, &problem))?;
        }
        let SiteNames { min_chars, max_chars, .. } = limits.site_name;
        if min_chars > max_chars || max_chars == 0 {
            return Err(format!(
                "site_name.min_chars ({min_chars}) is more than site_name.max_chars ({max_chars})"
            ));
        }
        if limits.domain.suffixes.is_empty() {
            return Err(
                "domain.suffixes is empty: no domain could be filed; write those that the ministry approved"
                    .to_owned(),
            );
        }
        for suffix in &mut limits.domain.suffixes {
            *suffix = idna::domain_to_ascii(suffix).map_err(|_| {
                format!("{suffix:?} in domain.suffixes is no top-level domain; write one like \"cn\"")
            })?;
        }
        Ok(limits)
    }

    /// What holds in a province on a day.
    #[must_use]
    pub fn province(&self, province: Province, day: Date) -> ProvinceLimits {
        let mut found = ProvinceLimits {
            residence_permit: false,
            representative_office: false,
            holder_with_proof: false,
            correction_days: 20,
            max_sites: None,
        };
        for row in self.province.iter().map(Spanned::get_ref).filter(|it| it.is_for(province, day)) {
            found.residence_permit = row.residence_permit.unwrap_or(found.residence_permit);
            found.representative_office = row.representative_office.unwrap_or(found.representative_office);
            found.holder_with_proof = row.holder_with_proof.unwrap_or(found.holder_with_proof);
            found.correction_days = row.correction_days.unwrap_or(found.correction_days);
            found.max_sites = row.max_sites.or(found.max_sites);
        }
        found
    }
}

impl ProvinceRow {
    /// Whether it can ever mean something.
    fn check(&self) -> Result<(), String> {
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from > until
        {
            return Err(format!("from ({from}) is after until ({until}): the row is never in force"));
        }
        if self.correction_days == Some(0) {
            return Err("correction_days is 0: give at least 1 working day".to_owned());
        }
        if self.max_sites == Some(0) {
            return Err("max_sites is 0: no subject could file; leave it out for any number".to_owned());
        }
        let says_nothing = self.residence_permit.is_none()
            && self.representative_office.is_none()
            && self.holder_with_proof.is_none()
            && self.correction_days.is_none()
            && self.max_sites.is_none();
        if says_nothing {
            return Err(
                "the row says nothing; give it residence_permit, representative_office, holder_with_proof, \
                        correction_days or max_sites, or leave it out"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn is_for(&self, province: Province, day: Date) -> bool {
        let is_named = match self.name {
            ProvinceName::One(name) => name == province,
            ProvinceName::Every => true,
        };
        is_named && self.from.is_none_or(|from| from <= day) && self.until.is_none_or(|until| day <= until)
    }
}

/// `config/working-days.toml`
#[derive(Debug, Clone, Default)]
pub struct WorkingDays {
    years: BTreeMap<i16, Year>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct YearRows {
    off: Vec<Spanned<Date>>,
    worked: Vec<Spanned<Date>>,
}

/// The days of a year that are not as their weekday says.
#[derive(Debug, Clone, Default)]
struct Year {
    off: BTreeSet<Date>,
    worked: BTreeSet<Date>,
}

/// A problem with the line that it is in.
fn at_line(text: &str, octet: usize, problem: &str) -> String {
    let line = text.bytes().take(octet).filter(|it| *it == b'\n').count() + 1;
    format!("line {line}: {problem}")
}

fn is_weekend(day: Date) -> bool {
    matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
}

/// A day by which something is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The last day on which it is in time.
    pub on: Date,
    /// Whether the calendar knows the year: else weekends alone counted.
    pub is_by_calendar: bool,
}

impl Year {
    fn read(text: &str, year: i16, rows: &YearRows) -> Result<Self, String> {
        let mut read = Self::default();
        for (of, days, is_worked) in [("off", &rows.off, false), ("worked", &rows.worked, true)] {
            for spanned in days {
                let day = *spanned.get_ref();
                let wrong = |problem: String| Err(at_line(text, spanned.span().start, &problem));
                if day.year() != year {
                    return wrong(format!("{day} stands under [{year}]; put it under [{}]", day.year()));
                }
                if is_weekend(day) != is_worked {
                    let is = if is_worked { "no weekend day, and worked" } else { "a weekend day, and off" };
                    return wrong(format!("{day} in `{of}` is {is} without being named: leave it out"));
                }
                let named = if is_worked { &mut read.worked } else { &mut read.off };
                if !named.insert(day) {
                    return wrong(format!("{day} stands in `{of}` twice"));
                }
            }
        }
        if read.off.is_empty() {
            return Err(format!(
                "[{year}] has no day off: every year has public holidays, so the table is not whole"
            ));
        }
        Ok(read)
    }
}

impl WorkingDays {
    /// The first year, from a day's on, that the calendar does not know.
    #[must_use]
    pub fn first_missing(&self, from: Date) -> i16 {
        (from.year()..).find(|year| !self.years.contains_key(year)).unwrap_or(i16::MAX)
    }

    /// The same, where a clock that begins today may run into that year.
    #[must_use]
    pub fn missing_soon(&self, today: Date) -> Option<i16> {
        let ahead = today.checked_add(jiff::Span::new().days(AHEAD_DAYS)).unwrap_or(today);
        Some(self.first_missing(today)).filter(|it| *it <= ahead.year())
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// Where it is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let named: BTreeMap<String, YearRows> = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut years = BTreeMap::new();
        for (name, rows) in named {
            let number: i16 =
                name.parse().map_err(|_| format!("{name:?} is no year; write a table like [2026]"))?;
            years.insert(number, Year::read(text, number, &rows)?);
        }
        Ok(Self { years })
    }

    /// Whether a day is worked.
    #[must_use]
    pub fn is_worked(&self, day: Date) -> bool {
        match self.years.get(&day.year()) {
            Some(year) if is_weekend(day) => year.worked.contains(&day),
            Some(year) => !year.off.contains(&day),
            None => !is_weekend(day),
        }
    }

    /// The `days`th working day after a day.
    #[must_use]
    pub fn after(&self, day: Date, days: u16) -> Due {
        let (mut on, mut left) = (day, days);
        let mut is_by_calendar = self.years.contains_key(&day.year());
        while left > 0 {
            let Ok(next) = on.tomorrow() else { break };
            on = next;
            is_by_calendar &= self.years.contains_key(&on.year());
            if self.is_worked(on) {
                left -= 1;
            }
        }
        Due { on, is_by_calendar }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn rows_hold_by_province_and_day() {
        let text = "[[province]]\nname = \"*\"\nmax_sites = 9\n\
            [[province]]\nname = \"hubei\"\nmax_sites = 1\nuntil = \"2026-06-30\"\n\
            [[province]]\nname = \"hubei\"\nmax_sites = 2\nfrom = \"2027-01-01\"\n\
            [site_name]\nmin_chars = 1\nmax_chars = 9\nforbidden = []\nforbidden_for_individuals = []\n\
            [domain]\nsuffixes = [\"政务\"]\nregistrars = []\n";
        let limits = FilingLimits::parse(text).unwrap();
        assert_eq!(limits.domain.suffixes, ["xn--zfr164b"]);
        let rows = [
            (Province::Beijing, date(2026, 1, 1), 9),
            (Province::Hubei, date(2026, 6, 30), 1),
            (Province::Hubei, date(2026, 7, 1), 9),
            (Province::Hubei, date(2027, 1, 1), 2),
        ];
        for (province, day, expected) in rows {
            assert_eq!(limits.province(province, day).max_sites, Some(expected), "{province:?} {day}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let rest = "[site_name]\nmin_chars = 1\nmax_chars = 9\nforbidden = []\nforbidden_for_individuals = []\n\
            [domain]\nsuffixes = [\"cn\"]\nregistrars = []\n";
        #[track_caller]
        fn check(read: Result<(), String>, expected: &[&str]) {
            let problem = read.unwrap_err();
            assert!(expected.iter().all(|it| problem.contains(it)), "{problem}");
        }
        for (row, expected) in [
            ("name = \"hubei\"\nmax_site = 1", &["line 3", "max_site"][..]),
            ("name = \"atlantis\"\nmax_sites = 1", &["line 2", "\"atlantis\" is no province", "shaanxi"]),
            ("name = \"hubei\"\nmax_sites = 0", &["line 1", "max_sites is 0"]),
            ("name = \"hubei\"\nmax_sites = -1", &["line 3", "max_sites"]),
            ("name = \"hubei\"\ncorrection_days = 0", &["line 1", "correction_days is 0"]),
            ("name = \"hubei\"", &["line 1", "says nothing"]),
            (
                "name = \"hubei\"\nmax_sites = 1\nfrom = \"2026-02-01\"\nuntil = \"2026-01-31\"",
                &["line 1", "from (2026-02-01) is after until (2026-01-31)"],
            ),
            ("name = \"hubei\"\nmax_sites = 1\nfrom = \"2026-02-30\"", &["line 4", "from"]),
        ] {
            check(FilingLimits::parse(&format!("[[province]]\n{row}\n{rest}")).map(drop), expected);
        }
        check(FilingLimits::parse(&rest.replace("= 9", "= 0")).map(drop), &["min_chars", "max_chars"]);
        check(FilingLimits::parse(&rest.replace("\"cn\"", "")).map(drop), &["domain.suffixes is empty"]);
        for (text, expected) in [
            ("[2026]\noff = [\n\"2025-01-01\"]\nworked = []", &["line 3", "[2025]"][..]),
            ("[soon]\noff = []\nworked = []", &["\"soon\"", "year"]),
            ("[2026]\noff = []\nworked = []", &["[2026]", "no day off"]),
            ("[2026]\noff = [\"2026-01-03\"]\nworked = []", &["line 2", "2026-01-03", "weekend"]),
            ("[2026]\noff = [\"2026-01-01\"]\nworked = [\"2026-01-05\"]", &["line 3", "2026-01-05"]),
            ("[2026]\noff = [\"2026-01-01\", \"2026-01-01\"]\nworked = []", &["twice"]),
            ("[2026]\noff = [\"2026-01-32\"]\nworked = []", &["line 2", "off"]),
        ] {
            check(WorkingDays::parse(text).map(drop), expected);
        }
    }

    #[test]
    fn the_shipped_ones_are_right() {
        let shipped = FilingRules::default();
        let day = date(2026, 11, 25);
        assert_eq!(shipped.limits.province(Province::Hunan, day).max_sites, Some(1));
        assert_eq!(shipped.limits.province(Province::Guangdong, day).max_sites, None);
        assert!(shipped.limits.domain.suffixes.iter().any(|it| it == "cn"));
        assert_eq!(shipped.calendar.first_missing(date(2025, 6, 1)), 2027);
        assert_eq!(shipped.calendar.first_missing(date(2030, 6, 1)), 2030);
        for (today, missing) in
            [(date(2026, 11, 1), None), (date(2026, 11, 5), Some(2027)), (date(2027, 1, 1), Some(2027))]
        {
            assert_eq!(shipped.calendar.missing_soon(today), missing, "{today}");
        }
    }

    #[test]
    fn working_days_are_counted_over_holidays() {
        let calendar = FilingRules::default().calendar;
        #[track_caller]
        fn check(calendar: &WorkingDays, from: Date, days: u16, expected: Date, is_by_calendar: bool) {
            assert_eq!(calendar.after(from, days), Due { on: expected, is_by_calendar }, "{from} + {days}");
        }
        // A Wednesday; a Friday; over Spring Festival, whose Saturday before is worked; over the year's end.
        check(&calendar, date(2026, 11, 25), 1, date(2026, 11, 26), true);
        check(&calendar, date(2026, 11, 27), 1, date(2026, 11, 30), true);
        check(&calendar, date(2026, 2, 13), 1, date(2026, 2, 14), true);
        check(&calendar, date(2026, 2, 13), 2, date(2026, 2, 24), true);
        check(&calendar, date(2026, 9, 30), 3, date(2026, 10, 10), true);
        check(&calendar, date(2026, 12, 31), 1, date(2027, 1, 1), false);
    }
}
