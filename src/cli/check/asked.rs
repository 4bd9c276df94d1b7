//! One host with what it is asked for, from the command line and the config, and the answer by some filings.
//!
//! What the running gate's look-up does, for when there is no gate. Time and filings arrive from the caller.

use crate::admin::answer::{Because, VerdictAnswer};
use crate::config::{Config, HostRule, Listener, Site};
use crate::domain::{DomainName, HostForm, NameError};
use crate::verdict::{Filings, Policy, Question, Region, Scenario, decide};
use jiff::civil::Date;

/// Which host is asked for, and what for.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Asked {
    host: String,
    form: Result<HostForm, NameError>,
    scenario: Scenario,
    region: Region,
    /// What was asked for by name: the gate fills in the rest from the config that it runs with.
    said: (Option<Scenario>, Option<Region>),
    origin_here: bool,
}

/// The filings of a moment, and where they came from.
#[derive(Debug)]
pub(in crate::cli) struct Basis<'a, F> {
    pub(in crate::cli) filings: &'a F,
    pub(in crate::cli) source: &'static str,
    /// When last known to be current: Unix seconds.
    pub(in crate::cli) synced_at: Option<i64>,
    /// In UTC+8, by which the operator's lists run.
    pub(in crate::cli) today: Date,
}

impl Asked {
    /// What is left out is the site's that names the host, else the first listener's.
    pub(in crate::cli) fn new(
        config: &Config,
        host: &str,
        scenario: Option<Scenario>,
        region: Option<Region>,
    ) -> Self {
        Self::of(config, host, (scenario, region), config.listeners.first())
    }

    /// As a request that came by `listener`: its site says, else the listener.
    pub(in crate::cli) fn by(config: &Config, host: &str, listener: Option<&Listener>) -> Self {
        let listener = listener.or(config.listeners.first());
        let asked = Self::of(config, host, (None, None), listener);
        Self { said: (Some(asked.scenario), Some(asked.region)), ..asked }
    }

    fn of(
        config: &Config,
        host: &str,
        said: (Option<Scenario>, Option<Region>),
        listener: Option<&Listener>,
    ) -> Self {
        let form = HostForm::from_user(host.trim());
        let site = form.as_ref().ok().and_then(|form| site_of(config, form));
        let (scenario, region) = said;
        let scenario = scenario.or(site.and_then(|site| site.scenario)).or(listener.map(|it| it.scenario));
        let region = region.or(site.and_then(|site| site.region)).or(listener.map(|it| it.region));
        let target = site.map(|site| &site.target).or(config.default_site.as_ref());
        Self {
            host: host.to_owned(),
            form,
            scenario: scenario.unwrap_or(Scenario::Web),
            region: region.unwrap_or(Region::Mainland),
            said,
            origin_here: target.is_some_and(|target| target.origin_here),
        }
    }

    /// As the admin API is asked it.
    pub(super) fn query(&self) -> Vec<(&'static str, &str)> {
        let mut query = vec![("host", self.host.as_str())];
        query.extend(self.said.0.map(|scenario| ("scenario", scenario.as_str())));
        query.extend(self.said.1.map(|region| ("region", region.as_str())));
        query
    }

    /// The name whose filing decides; none for an address and for what is malformed.
    pub(in crate::cli) fn name(&self) -> Option<&DomainName> {
        self.form.as_ref().ok().and_then(HostForm::name)
    }

    /// The answer by `policy` and `basis`.
    pub(in crate::cli) fn answer<F: Filings>(&self, policy: &Policy, basis: &Basis<'_, F>) -> VerdictAnswer {
        let host = match &self.form {
            Ok(host) => host,
            Err(error) => return malformed(&self.host, *error, basis.source),
        };
        let Self { scenario, region, origin_here, .. } = *self;
        let question = Question { host, scenario, region, origin_here, today: basis.today };
        let decision = decide(&question, policy, basis.filings);
        VerdictAnswer::new(&self.host, &question, &decision, basis.source, basis.synced_at)
    }
}

/// As the gate says it, with what is wrong.
fn malformed(host: &str, error: NameError, source: &str) -> VerdictAnswer {
    let answer = VerdictAnswer::malformed(host, source);
    let because = Because { en: format!("{} ({error})", answer.because.en), ..answer.because };
    VerdictAnswer { because, ..answer }
}

/// The site that names the host: exact beats wildcard, the longest wildcard wins.
fn site_of<'c>(config: &'c Config, host: &HostForm) -> Option<&'c Site> {
    let rules = config.sites.iter().flat_map(|site| site.hosts.iter().map(move |rule| (rule, &**site)));
    let fitting = rules.filter_map(|(rule, site)| match (rule, host) {
        (HostRule::Exact(exact), HostForm::Name(name)) => (exact == name).then_some((usize::MAX, site)),
        (HostRule::Below(parent), HostForm::Name(name)) => {
            (name != parent && name.is_within(parent.as_str())).then_some((parent.as_str().len(), site))
        }
        (HostRule::Ip(listed), HostForm::Ip(ip)) => (listed == ip).then_some((usize::MAX, site)),
        _ => None,
    });
    fitting.max_by_key(|(length, _)| *length).map(|(_, site)| site)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filing::{FilingNumber, FilingRecord, Status, covering};
    use crate::verdict::{Coverage, Verdict};

    /// One filing: example.com, connected.
    struct One;
    impl Filings for One {
        fn coverage(&self, name: &DomainName) -> Coverage {
            let record = || FilingRecord {
                status: Status::Connected,
                connected_elsewhere: false,
                access_under_review: false,
                number: FilingNumber::parse("京ICP备10000001号-1").ok(),
            };
            covering(name, |filed| (filed == "example.com").then(record))
                .map_or(Coverage::Unfiled, Coverage::Filed)
        }
    }

    const CONFIG: &str = r#"
        provider = "p"
        [[listener]]
        address = "127.0.0.1:0"
        region = "global"
        [[site]]
        hosts = ["*.example.com"]
        upstreams = ["http://a"]
        scenario = "cdn"
        [[site]]
        hosts = ["a.example.com", "*.b.example.com"]
        upstreams = ["http://a"]
        scenario = "mail"
        region = "overseas"
        [enforcement]
        block_list = [{ host = "*.bad.example", reason = "r", owner = "o" }]
    "#;

    fn answer(host: &str, region: Option<Region>) -> VerdictAnswer {
        let config = Config::parse(CONFIG, "f.toml").unwrap();
        let policy = Policy::new(config.enforcement.policy.clone());
        let today = jiff::civil::date(2026, 1, 1);
        let basis = Basis { filings: &One, source: "database", synced_at: Some(0), today };
        Asked::new(&config, host, None, region).answer(&policy, &basis)
    }

    #[test]
    fn the_site_says_what_the_question_leaves_out() {
        #[track_caller]
        fn check(host: &str, scenario: Scenario, region: Region) {
            let answer = answer(host, None);
            assert_eq!((answer.scenario, answer.region), (Some(scenario), Some(region)), "{host}");
        }
        check("example.com", Scenario::Web, Region::Global);
        check("www.example.com", Scenario::Cdn, Region::Global);
        check("A.example.com.:80", Scenario::Mail, Region::Overseas);
        check("b.example.com", Scenario::Cdn, Region::Global);
        check("x.b.example.com", Scenario::Mail, Region::Overseas);
        check("192.0.2.1", Scenario::Web, Region::Global);
    }

    #[test]
    fn an_answer_says_what_decided() {
        let answer = answer("WWW.Example.com:443", None);
        assert_eq!(
            serde_json::to_value(&answer).unwrap(),
            serde_json::json!({
                "host": "WWW.Example.com:443", "verdict": "allow", "domain": "www.example.com",
                "decided_by": "example.com", "number": "京ICP备10000001号-1", "status": "connected",
                "requirement": "number", "because": { "zh": answer.because.zh, "en": answer.because.en },
                "scenario": "cdn", "region": "global", "source": "database", "synced_at": "1970-01-01T00:00:00Z",
            })
        );
        assert!(!answer.because.zh.is_empty() && !answer.because.en.is_empty());
    }

    #[test]
    fn verdicts_and_deciders() {
        #[track_caller]
        fn check(host: &str, region: Option<Region>, verdict: Verdict, decided_by: Option<&str>) {
            let answer = answer(host, region);
            assert_eq!((answer.verdict, answer.decided_by.as_deref()), (verdict, decided_by), "{host}");
        }
        check("example.net", None, Verdict::Unfiled, None);
        check("example.net", Some(Region::Overseas), Verdict::Exempt, None);
        check("x.bad.example", None, Verdict::OperatorBlock, Some("*.bad.example"));
        check("127.1", None, Verdict::IpLiteral, None);
        check("a..b", None, Verdict::MalformedHost, None);
        check("a b", None, Verdict::MalformedHost, None);
        check("", None, Verdict::MalformedHost, None);
    }
}
