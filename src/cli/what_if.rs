//! `what-if`: what a file of filings would block or open among the hosts of an access log. Imports nothing.

use super::check::asked::{Asked, Basis};
use super::check::{self, Answers};
use super::refused::Refused;
use super::replay::{self, Change, between};
use super::traffic::{self, Logged};
use super::{FAILED, WhatIfArguments, block_on, today};
use crate::admin::answer::VerdictAnswer;
use crate::config::{Config, Database};
use crate::domain::DomainName;
use crate::filing::{Covering, Status};
use crate::registry::{self, Event, ImportError, Registry, Source, Terms};
use crate::verdict::{Coverage, Filings, Policy};
use anyhow::Context;
use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;
use tokio::sync::mpsc;

/// Events of an import that wait to be shown.
const EVENTS_WAITING: usize = 64;
const FILE: &str = "file";

pub(super) fn run(arguments: &WhatIfArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    config.require_provider()?;
    let traffic = traffic::read(&arguments.traffic)?;
    let asked = replay::questions(&config, &traffic);
    let aside = directory_aside(&config)?;
    let work = async {
        let Answers { answers: now, notes } = check::ask(&config, &asked).await;
        let filed = file_alone(&config, arguments, &asked, &aside.0).await?;
        Ok((now, notes, filed))
    };
    let (now, notes, filed) = block_on(work)?;
    let mut err = io::stderr().lock();
    for note in notes {
        writeln!(err, "{note}")?;
    }
    let Some(filed) = filed else { return Ok(ExitCode::from(FAILED)) };
    let then = judged(&config, arguments.replace, &asked, &now, &filed);
    let rows = traffic.seen.iter().zip(now.iter().zip(&then));
    let changes: Vec<Change<'_>> = rows
        .filter(|(_, (now, then))| now.verdict != then.verdict)
        .map(|((seen, times), (now, then))| between(seen, times, Logged::Decided(now.verdict), then))
        .collect();
    replay::report(&mut io::stdout().lock(), &changes, arguments.json)?;
    replay::summary(&mut err, &traffic, &changes)?;
    Ok(ExitCode::SUCCESS)
}

/// A directory of our own beside the saved state, gone when dropped.
struct Aside(std::path::PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // What can't be removed is a copy of the operator's own file.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn directory_aside(config: &Config) -> anyhow::Result<Aside> {
    let path = config.cache.directory.join(format!("what-if-{}", std::process::id()));
    std::fs::create_dir_all(&path)
        .with_context(|| format!("can't make {}; cache.directory must be writable", path.display()))?;
    Ok(Aside(path))
}

/// What the file alone says of each name; `None` where rows of it are refused, each of which was named.
async fn file_alone(
    config: &Config,
    arguments: &WhatIfArguments,
    asked: &[Asked],
    aside: &std::path::Path,
) -> anyhow::Result<Option<HashMap<String, Covering>>> {
    let failed = || format!("can't read {}", arguments.file.display());
    let source = Source::open(&arguments.file, None).with_context(failed)?;
    let registry = Registry::open(&Database::Sqlite(aside.join("filings.db")), None).await?;
    let (sender, mut events) = mpsc::channel(EVENTS_WAITING);
    let show = async {
        let mut refused = Refused::default();
        while let Some(event) = events.recv().await {
            if let Event::Refused(row) = event {
                refused.name(&row)?;
            }
        }
        io::Result::Ok(())
    };
    let terms = Terms { is_whole: true, ..Terms::default() };
    let (imported, shown) = tokio::join!(registry::import(&registry, source, terms, sender), show);
    shown?;
    match imported {
        Ok(imported) if imported.refused > 0 => {
            let rows = imported.refused;
            writeln!(io::stderr(), "{rows} 行会被拒绝 / {rows} rows would be refused and left out")?;
        }
        Ok(_) => {}
        Err(ImportError::Refused(rows)) => {
            writeln!(io::stderr(), "{rows} 行会被拒绝 / {rows} rows would be refused")?;
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(failed),
    }
    let mut filed = HashMap::new();
    for name in asked.iter().filter_map(Asked::name) {
        if let Some(found) = registry.covering(name, &config.provider).await? {
            filed.insert(name.as_str().to_owned(), found.covering);
        }
    }
    Ok(Some(filed))
}

/// The answers once the file is in force.
fn judged(
    config: &Config,
    replace: bool,
    asked: &[Asked],
    now: &[VerdictAnswer],
    filed: &HashMap<String, Covering>,
) -> Vec<VerdictAnswer> {
    let policy = Policy::new(config.enforcement.policy.clone());
    let basis = Basis { filings: &Filed(filed), source: FILE, synced_at: None, today: today() };
    let rows = asked.iter().zip(now);
    rows.map(|(asked, now)| {
        let says = asked.name().and_then(|name| filed.get(name.as_str()));
        // Without --replace a name on which the file says nothing, or less than is known, stays as it is.
        let stays = !replace && asked.name().is_some() && !decides(says, now);
        if stays { now.clone() } else { asked.answer(&policy, &basis) }
    })
    .collect()
}

/// Whether the file's filing is the one that decides beside what is filed now: the more specific one does, and a
/// pending one does not shadow a parent's (filing-rules, "Which filing covers a host").
fn decides(says: Option<&Covering>, now: &VerdictAnswer) -> bool {
    let Some(says) = says else { return false };
    let known = now.status.as_ref().and(now.decided_by.as_ref());
    known.is_none_or(|known| {
        let (new, old) = (usize::from(says.filed_len), known.len());
        new == old || (new > old && says.record.status != Status::Pending)
    })
}

struct Filed<'a>(&'a HashMap<String, Covering>);

impl Filings for Filed<'_> {
    fn coverage(&self, name: &DomainName) -> Coverage {
        self.0.get(name.as_str()).cloned().map_or(Coverage::Unfiled, Coverage::Filed)
    }
}
