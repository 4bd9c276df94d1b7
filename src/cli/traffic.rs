//! An access log as a list of who was asked for: each host once for each listener, with what it was told and how often.
//!
//! Knows the log's JSON lines; refuses to know filings. What is read is bounded by the number of different hosts.

use crate::block_page::Reason;
use crate::verdict::Verdict;
use anyhow::{Context, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Different hosts that one log may hold.
const MAX_HOSTS: usize = 2_000_000;
/// Octets of one line.
const MAX_LINE: u64 = 64 * 1024;
/// Lines that are no lines of the log and are named one by one.
const MAX_NAMED: usize = 5;

/// One host by one listener, under one verdict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) host: String,
    pub(super) listener: String,
    pub(super) logged: Logged,
}

/// What the log says was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Logged {
    /// This verdict.
    Decided(Verdict),
    /// That it may pass; what became of it then is another matter.
    Passed,
}

impl Logged {
    /// The word of the log that the verdict is compared with.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Decided(verdict) => verdict.as_str(),
            Self::Passed => Verdict::Allow.as_str(),
        }
    }

    /// Whether `today` is another decision.
    pub(super) fn differs_from(self, today: Verdict) -> bool {
        match self {
            Self::Decided(verdict) => verdict != today,
            Self::Passed => !today.is_forwarded(),
        }
    }

    pub(super) fn is_forwarded(self) -> bool {
        match self {
            Self::Decided(verdict) => verdict.is_forwarded(),
            Self::Passed => true,
        }
    }
}

/// How often, and when for the last time.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    pub(super) requests: u64,
    pub(super) last: String,
}

/// What a log holds.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) seen: BTreeMap<Seen, Times>,
    /// Lines with a verdict that was derived from filings and lists.
    pub(super) judged: u64,
    /// Lines of requests on which nothing was decided: malformed ones, health checks, misdirected ones.
    pub(super) undecided: u64,
    /// Lines that are no JSON line of the log.
    pub(super) unread: u64,
    /// What is wrong with the first of those.
    pub(super) complaints: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    time: String,
    #[serde(default)]
    listener: String,
    host: String,
    verdict: String,
}

/// Reads a log: plain or `.zst`, `-` for standard input.
///
/// # Errors
/// It can't be read, holds no line of an access log, or names more hosts than `MAX_HOSTS`.
pub(super) fn read(path: &Path) -> anyhow::Result<Traffic> {
    let failed = || format!("can't read the access log {}", path.display());
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        let file = File::open(path).with_context(failed)?;
        match path.extension().is_some_and(|extension| extension == "zst") {
            true => Box::new(zstd::Decoder::new(file).with_context(failed)?),
            false => Box::new(file),
        }
    };
    let mut traffic = Traffic::default();
    let mut lines = BufReader::new(input);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line).with_context(failed)? == 0 {
            break;
        }
        traffic.add(number, &line)?;
    }
    if traffic.judged + traffic.undecided == 0 && traffic.unread > 0 {
        bail!(
            "{} holds no line of an access log: it must be JSON lines with `host` and `verdict`, as [log] access writes them \
             / 不是本网关的 JSON 访问日志",
            path.display()
        );
    }
    Ok(traffic)
}

impl Traffic {
    fn add(&mut self, number: u64, line: &[u8]) -> anyhow::Result<()> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let line: Line = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => {
                self.unread += 1;
                if self.complaints.len() < MAX_NAMED {
                    self.complaints.push(format!("line {number}: {error}"));
                }
                return Ok(());
            }
        };
        let Some(logged) = logged(&line.verdict).filter(|_| !line.host.is_empty()) else {
            self.undecided += 1;
            return Ok(());
        };
        self.judged += 1;
        let times = self.seen.entry(Seen { host: line.host, listener: line.listener, logged }).or_default();
        times.requests += 1;
        if line.time > times.last {
            times.last = line.time;
        }
        if self.seen.len() > MAX_HOSTS {
            bail!("the log names more than {MAX_HOSTS} hosts; replay it in pieces / 域名过多，请分段重放");
        }
        Ok(())
    }
}

/// What was decided before what is logged came to pass; none where nothing was.
fn logged(word: &str) -> Option<Logged> {
    if let Ok(verdict) = word.parse::<Verdict>() {
        return match verdict {
            Verdict::MalformedHost | Verdict::Misdirected => None,
            Verdict::NoSite => Some(Logged::Passed),
            decided => Some(Logged::Decided(decided)),
        };
    }
    let after = [Reason::UpstreamError, Reason::UpstreamTimeout, Reason::Redirect];
    after.iter().any(|reason| reason.as_str() == word).then_some(Logged::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(lines: &[&str]) -> Traffic {
        let mut traffic = Traffic::default();
        for (line, number) in lines.iter().zip(1..) {
            traffic.add(number, line.as_bytes()).unwrap();
        }
        traffic
    }

    #[test]
    fn hosts_are_gathered_by_listener_and_verdict() {
        let traffic = traffic(&[
            r#"{"time":"2026-01-02T00:00:00Z","listener":"0.0.0.0:80","host":"a.cn","verdict":"allow","status":200}"#,
            r#"{"time":"2026-01-01T00:00:00Z","listener":"0.0.0.0:80","host":"a.cn","verdict":"allow"}"#,
            r#"{"host":"a.cn","verdict":"unfiled"}"#,
            r#"{"host":"a.cn","verdict":"upstream_error"}"#,
            r#"{"host":"","verdict":"malformed_host"}"#,
            r#"{"host":"a.cn","verdict":"health"}"#,
            r#"192.0.2.1 - - "GET / HTTP/1.1" 200"#,
            "",
        ]);
        let seen: Vec<_> = traffic.seen.iter().map(|(seen, times)| (seen.logged, times.requests)).collect();
        assert_eq!(
            seen,
            [
                (Logged::Decided(Verdict::Unfiled), 1),
                (Logged::Passed, 1),
                (Logged::Decided(Verdict::Allow), 2)
            ]
        );
        assert_eq!((traffic.judged, traffic.undecided, traffic.unread), (4, 2, 1));
        assert!(traffic.complaints[0].starts_with("line 7: "), "{:?}", traffic.complaints);
        assert!(traffic.seen.values().any(|times| times.last == "2026-01-02T00:00:00Z"));
    }

    #[test]
    fn what_counts_as_another_decision() {
        #[track_caller]
        fn check(word: &str, today: Verdict, expected: bool) {
            assert_eq!(logged(word).unwrap().differs_from(today), expected, "{word} {today}");
        }
        check("allow", Verdict::Allow, false);
        check("allow", Verdict::Exempt, true);
        check("upstream_timeout", Verdict::Exempt, false);
        check("no_site", Verdict::Unfiled, true);
        check("unfiled", Verdict::NotConnected, true);
        check("operator_block", Verdict::OperatorBlock, false);
    }
}
