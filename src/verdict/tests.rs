//! The whole table, cell by cell, and what must hold of every verdict.

use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::filing::{Filing, PublicSecurityNumber, covering};

const TODAY: Date = date(2026, 6, 30);

/// Filings of a test: filed name and record; or a state in which nothing is known.
struct Held(Vec<(&'static str, FilingRecord)>);

impl Filings for Held {
    fn coverage(&self, name: &DomainName) -> Coverage {
        let find = |asked: &str| {
            let found = self.0.iter().find(|(filed, _)| *filed == asked);
            found.map(|(_, record)| record.clone())
        };
        covering(name, find).map_or(Coverage::Unfiled, Coverage::Filed)
    }
}

struct Always(Coverage);

impl Filings for Always {
    fn coverage(&self, _: &DomainName) -> Coverage {
        self.0.clone()
    }
}

fn record(status: Status, connected_elsewhere: bool) -> FilingRecord {
    FilingRecord {
        status,
        connected_elsewhere,
        access_under_review: false,
        number: FilingNumber::parse("京ICP备12345678号-1").ok(),
    }
}

fn entry(pattern: &str) -> ListEntry {
    ListEntry {
        pattern: HostPattern::parse(pattern).unwrap(),
        until: None,
        reason: String::new(),
        owner: String::new(),
        number: None,
    }
}

fn question(host: &HostForm, scenario: Scenario, region: Region) -> Question<'_> {
    Question { host, scenario, region, origin_here: false, today: TODAY }
}

fn web(host: &str, policy: &Policy, filings: &impl Filings) -> Verdict {
    let host = HostForm::from_user(host).unwrap();
    decide(&question(&host, Scenario::Web, Region::Mainland), policy, filings).verdict
}

/// Every status, without and with another provider's active access; then unfiled.
const COLUMNS: [&str; 13] = [
    "connected",
    "connected+",
    "not_connected",
    "not_connected+",
    "access_cancelled",
    "access_cancelled+",
    "restricted",
    "restricted+",
    "pending",
    "pending+",
    "deregistered",
    "deregistered+",
    "unfiled",
];

/// A row of verdicts under `COLUMNS`; `.` is allow, `o` exempt, `x` blocked by the column's own name.
fn expected(row: &str, column: usize) -> Verdict {
    match row.as_bytes()[column] {
        b'.' => Verdict::Allow,
        b'o' => Verdict::Exempt,
        _ => COLUMNS[column].trim_end_matches('+').parse().unwrap(),
    }
}

#[track_caller]
fn check_row(policy: &Policy, scenario: Scenario, region: Region, origin_here: bool, row: &str) {
    let host = HostForm::from_user("www.example.com").unwrap();
    for (column, name) in COLUMNS.iter().enumerate() {
        let held = match name.trim_end_matches('+').parse() {
            Ok(status) => Held(vec![("example.com", record(status, name.ends_with('+')))]),
            Err(_) => Held(Vec::new()),
        };
        let question = Question { origin_here, ..question(&host, scenario, region) };
        let decision = decide(&question, policy, &held);
        let expected = expected(row, column);
        assert_eq!(decision.verdict, expected, "{scenario} {region} {origin_here} {name}");
        let is_filing_seen = expected != Verdict::Exempt && *name != "unfiled";
        assert_eq!(decision.covering.is_some(), is_filing_seen);
    }
}

const ACCESS_HERE: &str = "..xxxxxxxxxxx";
const NUMBER: &str = "....x.xxxxxxx";
const EXEMPT: &str = "ooooooooooooo";

#[test]
fn the_whole_table() {
    use Scenario::*;
    let policy = Policy::new(PolicyParts::default());
    for scenario in Scenario::ALL {
        let within = match scenario {
            Web | Shop | SiteBuilder | Mail => ACCESS_HERE,
            Oss | Cdn | Waf | Ddos => NUMBER,
        };
        check_row(&policy, scenario, Region::Mainland, false, within);
        check_row(&policy, scenario, Region::Global, false, within);
        check_row(&policy, scenario, Region::Overseas, false, EXEMPT);
        for region in Region::ALL {
            check_row(&policy, scenario, region, true, ACCESS_HERE);
        }
    }
}

fn overridden(scenario: Scenario, change: ScenarioOverride) -> Policy {
    Policy::new(PolicyParts { scenarios: vec![(scenario, change)], ..PolicyParts::default() })
}

#[test]
fn a_cancelled_access_under_a_number_is_the_operators_choice() {
    for (policy, row) in [
        (CancelledPolicy::Allow, "......xxxxxxx"),
        (CancelledPolicy::Block, "....xxxxxxxxx"),
        (CancelledPolicy::IfConnectedElsewhere, NUMBER),
    ] {
        let access_cancelled = Some(policy);
        let change = ScenarioOverride { access_cancelled, ..ScenarioOverride::default() };
        for scenario in [Scenario::Oss, Scenario::Cdn, Scenario::Waf, Scenario::Ddos] {
            let policy = overridden(scenario, change);
            check_row(&policy, scenario, Region::Mainland, false, row);
            check_row(&policy, scenario, Region::Mainland, true, ACCESS_HERE);
        }
        check_row(&overridden(Scenario::Mail, change), Scenario::Mail, Region::Mainland, false, ACCESS_HERE);
    }
}

#[test]
fn some_scenarios_always_block_a_cancelled_access() {
    let change = ScenarioOverride {
        mainland: Some(Requirement::Number),
        access_cancelled: Some(CancelledPolicy::Allow),
        ..ScenarioOverride::default()
    };
    for scenario in [Scenario::Web, Scenario::Shop, Scenario::SiteBuilder] {
        let policy = overridden(scenario, change);
        check_row(&policy, scenario, Region::Mainland, false, "....xxxxxxxxx");
        check_row(&policy, scenario, Region::Global, false, ACCESS_HERE);
    }
}

#[test]
fn cells_can_be_overridden() {
    let change = ScenarioOverride {
        mainland: Some(Requirement::NumberAndAccess),
        global: Some(Requirement::None),
        overseas: Some(Requirement::Number),
        ..ScenarioOverride::default()
    };
    let policy = overridden(Scenario::Cdn, change);
    check_row(&policy, Scenario::Cdn, Region::Mainland, false, ACCESS_HERE);
    check_row(&policy, Scenario::Cdn, Region::Global, false, EXEMPT);
    check_row(&policy, Scenario::Cdn, Region::Overseas, false, NUMBER);
    check_row(&policy, Scenario::Waf, Region::Mainland, false, NUMBER);

    let change = ScenarioOverride { origin_here: true, ..ScenarioOverride::default() };
    let policy = overridden(Scenario::Cdn, change);
    for region in Region::ALL {
        check_row(&policy, Scenario::Cdn, region, false, ACCESS_HERE);
    }
    let printed = policy.table()[5].to_string();
    let words: Vec<_> = printed.split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "cdn mainland=number_and_access global=number_and_access overseas=number_and_access \
         access_cancelled=if_connected_elsewhere"
    );
}

#[test]
fn the_first_that_applies_wins() {
    let number = FilingNumber::parse("京ICP备12345678号-2").ok();
    let policy = Policy::new(PolicyParts {
        block_list: vec![entry("blocked.example.com"), entry("192.0.2.3")],
        exceptions: vec![
            entry("blocked.example.com"),
            entry("*.exempt.test"),
            entry("192.0.2.2"),
            entry("192.0.2.3"),
        ],
        ip_filings: vec![
            ListEntry { number: number.clone(), ..entry("192.0.2.1") },
            ListEntry { number: number.clone(), ..entry("192.0.2.2") },
            ListEntry { number: number.clone(), until: Some(date(2026, 6, 29)), ..entry("192.0.2.4") },
            entry("192.0.2.5"),
        ],
        ..PolicyParts::default()
    });
    let held = Held(vec![("example.com", record(Status::Connected, false))]);
    for (host, expected) in [
        ("example.com", Verdict::Allow),
        ("blocked.example.com", Verdict::OperatorBlock),
        ("a.exempt.test", Verdict::Exempt),
        ("exempt.test", Verdict::Unfiled),
        ("192.0.2.1", Verdict::Allow),
        ("3221225985", Verdict::Allow),
        ("::ffff:192.0.2.1", Verdict::Allow),
        ("192.0.2.2", Verdict::Exempt),
        ("192.0.2.3", Verdict::OperatorBlock),
        ("192.0.2.4", Verdict::IpLiteral),
        ("192.0.2.5", Verdict::IpLiteral),
        ("2001:db8::1", Verdict::IpLiteral),
        ("localhost", Verdict::Unfiled),
        ("com", Verdict::Unfiled),
    ] {
        assert_eq!(web(host, &policy, &held), expected, "{host}");
        // Where an operator's word or an address decides, filings are not waited for.
        let is_from_filings = matches!(expected, Verdict::Unfiled) || host == "example.com";
        let unsynced = if is_from_filings { Verdict::Unavailable } else { expected };
        assert_eq!(web(host, &policy, &Always(Coverage::NeverSynced)), unsynced, "{host}");
    }
    let host = HostForm::from_user("192.0.2.1").unwrap();
    let decision = decide(&question(&host, Scenario::Web, Region::Mainland), &policy, &held);
    assert_eq!(decision.number(), number.as_ref());

    let blocked = HostForm::from_user("blocked.example.com").unwrap();
    for (host, expected) in [(&host, Verdict::Exempt), (&blocked, Verdict::OperatorBlock)] {
        let question = question(host, Scenario::Web, Region::Overseas);
        assert_eq!(decide(&question, &policy, &held).verdict, expected);
    }
}

#[test]
fn without_data_as_configured() {
    for (forward_when_never_synced, coverage, expected) in [
        (false, Coverage::NeverSynced, Verdict::Unavailable),
        (true, Coverage::NeverSynced, Verdict::Unverified),
        (false, Coverage::Stale, Verdict::Unavailable),
        (true, Coverage::Stale, Verdict::Unavailable),
    ] {
        let parts = PolicyParts { forward_when_never_synced, ..PolicyParts::default() };
        assert_eq!(web("example.com", &Policy::new(parts), &Always(coverage)), expected);
    }
}

#[test]
fn an_entry_holds_through_its_last_day() {
    let until = |last| ListEntry { until: Some(last), ..entry("example.com") };
    for (last, expected) in [(TODAY, Verdict::OperatorBlock), (date(2026, 6, 29), Verdict::Unfiled)] {
        let parts = PolicyParts { block_list: vec![until(last)], ..PolicyParts::default() };
        let policy = Policy::new(parts);
        assert_eq!(web("example.com", &policy, &Held(Vec::new())), expected);
        let expired = policy.expired(TODAY).count();
        assert_eq!(expired, usize::from(expected == Verdict::Unfiled));
    }
}

#[test]
fn government_units_are_judged_by_their_own_filing() {
    let policy = Policy::new(PolicyParts::default());
    let held = Held(vec![
        ("a.gov.cn", record(Status::Connected, false)),
        ("b1.a.gov.cn", record(Status::AccessCancelled, false)),
        ("b3.a.gov.cn", record(Status::Pending, false)),
    ]);
    for (host, expected) in [
        ("a.gov.cn", Verdict::Allow),
        ("b1.a.gov.cn", Verdict::AccessCancelled),
        ("www.b1.a.gov.cn", Verdict::AccessCancelled),
        ("b2.a.gov.cn", Verdict::Allow),
        ("b3.a.gov.cn", Verdict::Allow),
        ("c.gov.cn", Verdict::Unfiled),
    ] {
        assert_eq!(web(host, &policy, &held), expected, "{host}");
    }
}

#[test]
fn every_verdict_has_a_name_and_a_reason() {
    for verdict in Verdict::ALL {
        assert_eq!(verdict.as_str().parse(), Ok(verdict));
        assert_eq!(serde_json::to_string(&verdict).unwrap(), format!("\"{verdict}\""));
        let requirement = Requirement::NumberAndAccess;
        let (zh, en) = Decision { verdict, covering: None, requirement, entry: None }.because();
        assert!(!zh.is_ascii() && en.is_ascii() && !en.is_empty());
        assert!(!(verdict.is_blocked() && verdict.is_forwarded()));
    }
}

fn any_status() -> impl Strategy<Value = Status> {
    proptest::sample::select(Status::ALL.to_vec())
}

fn any_scenario() -> impl Strategy<Value = (Scenario, Region)> {
    let scenarios = proptest::sample::select(Scenario::ALL.to_vec());
    (scenarios, proptest::sample::select(Region::ALL.to_vec()))
}

proptest! {
    #[test]
    fn spelling_never_changes_a_verdict(
        label in "[a-z0-9]{1,6}",
        (apex, filed) in proptest::sample::select(vec![
            ("example.com", "example.com"), ("例子.中国", "xn--fsqu00a.xn--fiqs8s"),
            ("政府.政务", "xn--mxtq1m.xn--zfr164b"), ("evilexample.com", "example.com"),
        ]),
        status in any_status(),
        (scenario, region) in any_scenario(),
        tail in "\\.?(:[0-9]{0,3}[1-9]|:)?",
    ) {
        use crate::domain::Authority;
        let policy = Policy::new(PolicyParts::default());
        let held = Held(vec![(filed, record(status, false))]);
        let plain = HostForm::from_user(&format!("{label}.{apex}")).unwrap();
        let upper = format!("{}{tail}", plain.to_string().to_uppercase());
        let wire = Authority::from_wire(upper.as_bytes()).unwrap().host;
        let user = HostForm::from_user(&format!("{label}.{apex}{tail}")).unwrap();
        let decide = |host| decide(&question(host, scenario, region), &policy, &held).verdict;
        prop_assert_eq!(decide(&plain), decide(&wire));
        prop_assert_eq!(decide(&plain), decide(&user));
    }

    #[test]
    fn a_subdomain_is_judged_as_the_most_specific_filing_says(
        below in "([a-z0-9]{1,3}\\.){0,9}",
        parent in any_status(),
        unit in proptest::option::of(any_status()),
        (scenario, region) in any_scenario(),
    ) {
        let policy = Policy::new(PolicyParts::default());
        let mut held = vec![("a.gov.cn", record(parent, false))];
        let mut filed = "a.gov.cn";
        if let Some(unit) = unit {
            held.push(("b.a.gov.cn", record(unit, false)));
            filed = if unit == Status::Pending { "a.gov.cn" } else { "b.a.gov.cn" };
        }
        // A pending unit under a pending parent is judged by its own: the same verdict.
        let host = |text: &str| HostForm::from_user(text).unwrap();
        let held = Held(held);
        let verdict = |text| decide(&question(&host(text), scenario, region), &policy, &held).verdict;
        let deep = format!("{below}b.a.gov.cn");
        // Below eight labels a unit's filing is still found: the walk starts from the registrable domain.
        prop_assert_eq!(verdict(&deep), verdict(filed));
    }
}

/// The shipped sample as a gate of `example-cloud` sees it.
fn sample() -> Held {
    let file = include_str!("../../config/sample-filings.csv");
    let mut rows = csv::Reader::from_reader(file.as_bytes());
    let held = rows.records().map(|row| {
        let row = row.unwrap();
        let access = row[2].split_terminator(';').map(|it| {
            let (provider, state) = it.split_once('=').unwrap();
            (provider.to_owned(), state.parse().unwrap())
        });
        let filing = Filing {
            domain: row[0].parse().unwrap(),
            number: (!row[1].is_empty()).then(|| row[1].parse().unwrap()),
            state: row[3].parse().unwrap(),
            access: access.collect(),
        };
        assert_eq!(filing.number.as_ref().is_some_and(FilingNumber::is_site), row[1].contains("-"));
        assert!(filing.domain.registrable().is_some());
        assert!(row[7].is_empty() || PublicSecurityNumber::parse(&row[7]).is_ok());
        let name: &'static str = filing.domain.to_string().leak();
        (name, filing.seen_from("example-cloud"))
    });
    Held(held.collect())
}

#[test]
fn the_shipped_sample_shows_every_status() {
    let policy = Policy::new(PolicyParts::default());
    let held = sample();
    for (host, expected) in [
        ("example.com", Verdict::Allow),
        ("www.example.com", Verdict::Allow),
        ("shop-example.cn", Verdict::Allow),
        ("example.net", Verdict::NotConnected),
        ("example.org", Verdict::NotConnected),
        ("moved-example.cn", Verdict::AccessCancelled),
        ("shell-example.cn", Verdict::AccessCancelled),
        ("restricted-example.cn", Verdict::Restricted),
        ("pending-example.cn", Verdict::Pending),
        ("deregistered-example.cn", Verdict::Deregistered),
        ("www.example-city.gov.cn", Verdict::Allow),
        ("bureau.example-city.gov.cn", Verdict::AccessCancelled),
        ("www.示例.政务", Verdict::Allow),
        ("例子.中国", Verdict::Allow),
        ("old-example.cn", Verdict::Allow),
        ("old-example.com.cn", Verdict::Allow),
        ("example.com.cn", Verdict::Allow),
        ("licensed-example.cn", Verdict::Allow),
        ("unfiled-example.cn", Verdict::Unfiled),
    ] {
        assert_eq!(web(host, &policy, &held), expected, "{host}");
    }
    let statuses: std::collections::BTreeSet<_> = held.0.iter().map(|it| it.1.status).collect();
    assert_eq!(statuses.len(), Status::ALL.len());
}
