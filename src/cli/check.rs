//! `check`: the verdict for each host, from the best source that there is.
//!
//! The running gate knows best; without one, what it saved; without that, the registry's database.

pub(super) mod asked;

use super::{CheckArguments, block_on, gate::Gate, table, today};
use crate::admin::answer::VerdictAnswer;
use crate::cache::{FilingCache, Staleness, saved};
use crate::config::{Config, Registry};
use crate::domain::DomainName;
use crate::registry;
use crate::verdict::{Coverage, Filings, Policy};
use asked::{Asked, Basis};
use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

/// `source` of an answer that the running gate gave; the admin API's word.
const GATE: &str = "gate";
const SAVED_STATE: &str = "saved state";
const DATABASE: &str = "database";
const NOWHERE: &str = "none";
const BLOCKED: u8 = 3;
const UNDECIDED: u8 = 4;

/// Answers, and what was in the way of better ones.
pub(super) struct Answers {
    pub(super) answers: Vec<VerdictAnswer>,
    pub(super) notes: Vec<String>,
}

pub(super) fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    config.require_provider()?;
    let asked: Vec<_> = arguments
        .hosts
        .iter()
        .map(|host| Asked::new(&config, host, arguments.scenario, arguments.region))
        .collect();
    let Answers { answers, notes } = block_on(async { Ok(ask(&config, &asked).await) })?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        for answer in &answers {
            writeln!(out, "{}", serde_json::to_string(answer)?)?;
        }
    } else {
        print(&mut out, &answers)?;
        let mut err = std::io::stderr().lock();
        for note in notes {
            writeln!(err, "{note}")?;
        }
        if let Some(answer) = answers.first() {
            writeln!(err, "{}", origin(answer))?;
        }
    }
    Ok(ExitCode::from(code(&answers)))
}

/// What cannot be decided outweighs what is blocked.
fn code(answers: &[VerdictAnswer]) -> u8 {
    let code_of = |answer: &VerdictAnswer| match answer.verdict {
        verdict if verdict.is_forwarded() => 0,
        verdict if verdict.is_blocked() => BLOCKED,
        _ => UNDECIDED,
    };
    answers.iter().map(code_of).max().unwrap_or(0)
}

/// The answers, in the order of the questions, all from one source.
pub(super) async fn ask(config: &Config, asked: &[Asked]) -> Answers {
    let mut notes = Vec::new();
    match ask_gate(config, asked).await {
        Ok(answers) => return Answers { answers, notes },
        Err(note) => notes.extend(note),
    }
    let policy = Policy::new(config.enforcement.policy.clone());
    let answers = match saved_state(config) {
        Ok(cache) => {
            let synced_at = cache.status().synced_at;
            answer_all(
                asked,
                &policy,
                &Basis { filings: &cache.at(Instant::now()), source: SAVED_STATE, synced_at, today: today() },
            )
        }
        Err(note) => {
            notes.extend(note);
            let (filings, source) = match database(config, asked).await {
                Ok(filings) => (filings, DATABASE),
                Err(note) => {
                    notes.extend(note);
                    (Fetched(None), NOWHERE)
                }
            };
            answer_all(asked, &policy, &Basis { filings: &filings, source, synced_at: None, today: today() })
        }
    };
    Answers { answers, notes }
}

fn answer_all<F: Filings>(asked: &[Asked], policy: &Policy, basis: &Basis<'_, F>) -> Vec<VerdictAnswer> {
    asked.iter().map(|asked| asked.answer(policy, basis)).collect()
}

/// Asks the running gate; without one `Err(None)`, or why its answer is no use.
async fn ask_gate(config: &Config, asked: &[Asked]) -> Result<Vec<VerdictAnswer>, Option<String>> {
    let failed = |error: anyhow::Error| Some(format!("{error:#}"));
    let gate = Gate::of(config).map_err(failed)?.ok_or(None)?;
    let address = gate.address;
    let mut answers = Vec::with_capacity(asked.len());
    for asked in asked {
        let request = gate.request(reqwest::Method::GET, "/v1/verdict", &asked.query()).map_err(failed)?;
        // Nobody there is no gate; somebody who answers something else is worth a word.
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Err(None),
            Err(error) => return Err(Some(format!("the gate at {address} did not answer: {error}"))),
        };
        let status = response.status();
        let answer = response.json::<VerdictAnswer>().await;
        answers
            .push(answer.map_err(|_| Some(format!("the gate at {address} gave no verdict, but {status}")))?);
    }
    Ok(answers)
}

/// The state that a gate saved; without one `Err(None)`, or why it is no use.
fn saved_state(config: &Config) -> Result<FilingCache, Option<String>> {
    let found = saved::read(&config.cache.directory, &config.provider);
    let (table, synced_at_ms) = found.map_err(|error| Some(error.to_string()))?.ok_or(None)?;
    let staleness =
        Staleness { stale_after: config.enforcement.stale_after, when_stale: config.enforcement.when_stale };
    let cache = FilingCache::new(staleness);
    cache.publish_saved(table, Instant::now(), synced_at_ms);
    Ok(cache)
}

/// What the database says of a few names; nothing where there is none.
struct Fetched(Option<HashMap<String, Coverage>>);

impl Filings for Fetched {
    fn coverage(&self, name: &DomainName) -> Coverage {
        match &self.0 {
            Some(fetched) => fetched.get(name.as_str()).cloned().unwrap_or(Coverage::Unfiled),
            None => Coverage::NeverSynced,
        }
    }
}

/// What the database of the config says; without one `Err(None)`, or why it is no use.
async fn database(config: &Config, asked: &[Asked]) -> Result<Fetched, Option<String>> {
    let Some(Registry::Embedded(embedded)) = &config.registry else { return Err(None) };
    let failed = |error: registry::StoreError| Some(error.to_string());
    let registry = registry::Registry::open_read_only(&embedded.database).await.map_err(failed)?;
    let mut fetched = HashMap::new();
    for name in asked.iter().filter_map(Asked::name) {
        if let Some(found) = registry.covering(name, &config.provider).await.map_err(failed)? {
            fetched.insert(name.as_str().to_owned(), Coverage::Filed(found.covering));
        }
    }
    Ok(Fetched(Some(fetched)))
}

fn print(out: &mut impl Write, answers: &[VerdictAnswer]) -> std::io::Result<()> {
    let mut rows =
        vec![["HOST 域名", "VERDICT 结论", "NUMBER 备案号", "DECIDED BY 依据", "STATUS 状态", "FOR 用途"]];
    let uses: Vec<_> = answers.iter().map(purpose).collect();
    for (answer, purpose) in answers.iter().zip(&uses) {
        rows.push([
            &answer.host,
            answer.verdict.as_str(),
            answer.number.as_deref().unwrap_or("-"),
            answer.decided_by.as_deref().unwrap_or("-"),
            answer.status.as_deref().unwrap_or("-"),
            purpose,
        ]);
    }
    table::write(out, &rows)?;
    for answer in answers {
        writeln!(
            out,
            "\n{}: {}\n  {}\n  {}",
            answer.host, answer.verdict, answer.because.zh, answer.because.en
        )?;
    }
    Ok(())
}

/// Product and region.
fn purpose(answer: &VerdictAnswer) -> String {
    let words = [answer.scenario.map(|it| it.as_str()), answer.region.map(|it| it.as_str())];
    let said: Vec<_> = words.into_iter().flatten().collect();
    if said.is_empty() { "-".to_owned() } else { said.join(" ") }
}

pub(super) fn origin(answer: &VerdictAnswer) -> String {
    let from = match answer.source.as_str() {
        GATE => "from the running gate 来自运行中的网关",
        SAVED_STATE => "from the state that a gate saved 来自网关保存的数据",
        DATABASE => "from the registry's database 来自备案数据库",
        _ => {
            return "there is no running gate, no saved state and no database to ask; start the gate or import filings \
                    没有可用的备案数据，请启动网关或导入备案"
                .to_owned();
        }
    };
    match &answer.synced_at {
        Some(at) => format!("{from}, {at}"),
        None => from.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::whereabouts;
    use crate::cli::gate::gate_address;
    use crate::verdict::Verdict;

    fn answers(verdicts: &[Verdict]) -> Vec<VerdictAnswer> {
        let config = Config::parse("provider = \"p\"\n", "f.toml").unwrap();
        let policy = Policy::new(config.enforcement.policy.clone());
        let basis = Basis { filings: &Fetched(None), source: NOWHERE, synced_at: None, today: today() };
        let answer = Asked::new(&config, "a.example.com", None, None).answer(&policy, &basis);
        verdicts.iter().map(|&verdict| VerdictAnswer { verdict, ..answer.clone() }).collect()
    }

    #[test]
    fn exit_codes() {
        #[track_caller]
        fn check(verdicts: &[Verdict], expected: u8) {
            assert_eq!(code(&answers(verdicts)), expected);
        }
        check(&[Verdict::Allow, Verdict::Exempt, Verdict::Unverified], 0);
        check(&[Verdict::Allow, Verdict::Unfiled], 3);
        check(&[Verdict::OperatorBlock, Verdict::IpLiteral], 3);
        check(&[Verdict::Unfiled, Verdict::Unavailable, Verdict::Allow], 4);
        check(&[Verdict::MalformedHost], 4);
    }

    #[test]
    fn people_read_both_languages() {
        let mut out = Vec::new();
        print(&mut out, &answers(&[Verdict::Unavailable])).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("a.example.com  unavailable") && text.contains("web mainland"), "{text}");
        assert!(text.lines().count() >= 6, "{text}");
    }

    #[test]
    fn a_gate_on_every_interface_is_asked_on_loopback() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "[admin]\naddress = \"127.0.0.1:0\"\n[cache]\ndirectory = \"{}\"\n",
            directory.path().display()
        );
        let config = Config::parse(&text, "f.toml").unwrap();
        let address = |config: &Config| gate_address(config, config.admin.as_ref().unwrap());
        assert_eq!(address(&config), None, "port 0, and nobody says where");
        whereabouts::publish(directory.path(), "0.0.0.0:9999".parse().unwrap()).unwrap();
        assert_eq!(address(&config), "127.0.0.1:9999".parse().ok());
    }

    #[tokio::test]
    async fn without_any_source_nothing_is_decided() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "provider = \"p\"\n[cache]\ndirectory = \"{0}\"\n[registry.embedded]\ndatabase = \"sqlite:{0}/no.db\"\n",
            directory.path().display()
        );
        let config = Config::parse(&text, "f.toml").unwrap();
        let asked = ["example.com", "a..b"].map(|host| Asked::new(&config, host, None, None));
        let Answers { answers, .. } = ask(&config, &asked).await;
        let said: Vec<_> = answers.iter().map(|answer| (answer.verdict, answer.source.as_str())).collect();
        assert_eq!(said, [(Verdict::Unavailable, NOWHERE), (Verdict::MalformedHost, NOWHERE)]);
    }
}
