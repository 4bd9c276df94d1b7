//! `replay`: an access log's verdicts again, by today's filings, and those that would change.

mod past;

use super::check::asked::Asked;
use super::check::{self, Answers};
use super::traffic::{self, Logged, Seen, Times, Traffic};
use super::{PastArguments, ReplayArguments, block_on, table};
use crate::admin::answer::VerdictAnswer;
use crate::config::{Config, Listener};
use crate::verdict::Verdict;
use anyhow::bail;
use serde::Serialize;
use std::io::{self, Write};
use std::process::ExitCode;

pub(super) fn run(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    if let (Some(host), Some(at)) = (&arguments.host, &arguments.at) {
        let ReplayArguments { audit, config, json, .. } = arguments;
        return past::run(&PastArguments { host, at, audit, config, json: *json });
    }
    let config = arguments.config.load()?;
    config.require_provider()?;
    let Some(file) = &arguments.file else { bail!("name an access log, or --host and --at") };
    let traffic = traffic::read(file)?;
    let asked = questions(&config, &traffic);
    let Answers { answers, notes } = block_on(async { Ok(check::ask(&config, &asked).await) })?;
    let mut err = io::stderr().lock();
    for note in notes {
        writeln!(err, "{note}")?;
    }
    if let Some(answer) = answers.first() {
        if answers.iter().all(|answer| answer.source == "none") {
            bail!("{}", check::origin(answer));
        }
        writeln!(err, "{}", check::origin(answer))?;
    }
    let rows = traffic.seen.iter().zip(&answers);
    let changes: Vec<_> = rows.filter_map(|((seen, times), today)| change(seen, times, today)).collect();
    report(&mut io::stdout().lock(), &changes, arguments.json)?;
    summary(&mut err, &traffic, &changes)?;
    Ok(ExitCode::SUCCESS)
}

/// What is asked about a log, in its order.
pub(super) fn questions(config: &Config, traffic: &Traffic) -> Vec<Asked> {
    traffic.seen.keys().map(|seen| Asked::by(config, &seen.host, listener(config, &seen.listener))).collect()
}

/// The configured listener that a line names: by its address, else by its port where it listens on every interface
/// or the log was written by a gate with other addresses.
fn listener<'c>(config: &'c Config, logged: &str) -> Option<&'c Listener> {
    let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
    let exact = config.listeners.iter().find(|listener| listener.address.to_string() == logged);
    exact.or_else(|| {
        let wanted = port(logged)?;
        config.listeners.iter().find(|listener| port(&listener.address.to_string()).as_ref() == Some(&wanted))
    })
}

/// One verdict that would be another.
#[derive(Debug, Serialize)]
pub(super) struct Change<'a> {
    host: &'a str,
    /// What was logged, or holds now.
    pub(super) before: &'a str,
    /// What would be said.
    pub(super) after: Verdict,
    pub(super) effect: Effect,
    requests: u64,
    last_seen: &'a str,
    decided_by: Option<&'a str>,
    number: Option<&'a str>,
    because: &'a crate::admin::answer::Because,
}

/// What a change means to visitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Effect {
    /// Was forwarded, would be blocked.
    Blocks,
    /// Was blocked, would be forwarded.
    Opens,
    /// Another word for the same.
    Neither,
}

impl Effect {
    pub(super) fn of(was_forwarded: bool, is_forwarded: bool) -> Self {
        match (was_forwarded, is_forwarded) {
            (true, false) => Self::Blocks,
            (false, true) => Self::Opens,
            _ => Self::Neither,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Blocks => "blocks 将阻断",
            Self::Opens => "opens 将放行",
            Self::Neither => "same effect 效果不变",
        }
    }
}

fn change<'a>(seen: &'a Seen, times: &'a Times, today: &'a VerdictAnswer) -> Option<Change<'a>> {
    let differs = seen.logged.differs_from(today.verdict);
    differs.then(|| between(seen, times, seen.logged, today))
}

/// The change from what was to `today`.
pub(super) fn between<'a>(
    seen: &'a Seen,
    times: &'a Times,
    was: Logged,
    today: &'a VerdictAnswer,
) -> Change<'a> {
    Change {
        host: &seen.host,
        before: was.as_str(),
        after: today.verdict,
        effect: Effect::of(was.is_forwarded(), today.verdict.is_forwarded()),
        requests: times.requests,
        last_seen: &times.last,
        decided_by: today.decided_by.as_deref(),
        number: today.number.as_deref(),
        because: &today.because,
    }
}

/// The changes, as a table or as JSON lines.
pub(super) fn report(out: &mut impl Write, changes: &[Change<'_>], as_json: bool) -> io::Result<()> {
    if as_json {
        for change in changes {
            writeln!(out, "{}", serde_json::to_string(change).map_err(io::Error::other)?)?;
        }
        return Ok(());
    }
    if changes.is_empty() {
        return writeln!(out, "no verdict would change 结论均不变");
    }
    let requests: Vec<_> = changes.iter().map(|change| change.requests.to_string()).collect();
    let mut rows = vec![[
        "HOST 域名",
        "WAS 原结论",
        "WOULD BE 新结论",
        "EFFECT 影响",
        "REQUESTS 请求数",
        "LAST SEEN 最近",
        "DECIDED BY 依据",
    ]];
    rows.extend(changes.iter().zip(&requests).map(|(change, requests)| {
        [
            change.host,
            change.before,
            change.after.as_str(),
            change.effect.words(),
            requests,
            change.last_seen,
            change.decided_by.unwrap_or("-"),
        ]
    }));
    table::write(out, &rows)
}

/// How much was read, and what it comes to.
pub(super) fn summary(out: &mut impl Write, traffic: &Traffic, changes: &[Change<'_>]) -> io::Result<()> {
    let count = |effect: Effect| changes.iter().filter(|change| change.effect == effect).count();
    writeln!(
        out,
        "{} requests 请求, {} hosts and verdicts 域名与结论: {} would be blocked 将阻断, {} opened 将放行, {} told otherwise 说法不同",
        traffic.judged,
        traffic.seen.len(),
        count(Effect::Blocks),
        count(Effect::Opens),
        count(Effect::Neither)
    )?;
    if traffic.undecided > 0 {
        writeln!(out, "{} lines carry no decision on a name 未对域名作出结论的行", traffic.undecided)?;
    }
    if traffic.unread > 0 {
        writeln!(out, "{} lines are no JSON lines of the log 无法识别的行", traffic.unread)?;
        for complaint in &traffic.complaints {
            writeln!(out, "  {complaint}")?;
        }
    }
    Ok(())
}
