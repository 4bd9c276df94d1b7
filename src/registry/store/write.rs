//! One write transaction: load what edits may reach, let the ledger do them, write what differs.

use super::history::{put_meta, read_meta, turn_epoch};
use super::records::{self, Plan};
use super::rows::{Decoder, columns};
use super::session::{Dialect, Session, Value};
use super::{Meta, StoreError};
use crate::filing::{AccessState, FilingState};
use crate::registry::ledger::{Difference, Ledger, SiteDifference};
use crate::registry::model::{Action, Change, Document, Edit, Who};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rows that one INSERT carries, and names that one SELECT asks for.
const ROWS: usize = 500;
/// Changes from which a write is a bulk one.
const BULK_ROWS: usize = 50_000;

/// What a write left behind.
pub(in crate::registry) struct Committed<T> {
    /// What `work` said.
    pub(in crate::registry) value: T,
    /// Changes, in the order of their `seq`.
    pub(in crate::registry) changes: Vec<Change>,
    /// The history after it.
    pub(in crate::registry) meta: Meta,
    /// When: Unix milliseconds.
    pub(in crate::registry) at_ms: i64,
    /// The changes are not to be fed one by one.
    pub(in crate::registry) is_new_epoch: bool,
}

/// Who writes, when, and whether what is there counts.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct Author<'a> {
    /// For the change log.
    pub(in crate::registry) who: &'a Who,
    /// Unix milliseconds.
    pub(in crate::registry) at_ms: i64,
}

/// What is to be loaded before edits can be done.
pub(in crate::registry) enum Reach {
    /// Names and site numbers of the edits.
    Named { domains: BTreeSet<Arc<str>>, sites: BTreeSet<Arc<str>> },
    /// Everything there is.
    All,
    /// What a plan asks for, step by step, for what it needs depends on what it finds.
    Planned(Plan),
}

impl Reach {
    /// What these edits may reach.
    pub(in crate::registry) fn of<'a>(edits: impl IntoIterator<Item = &'a Edit>) -> Self {
        let (mut domains, mut sites) = (BTreeSet::new(), BTreeSet::new());
        for edit in edits {
            domains.insert(edit.domain.clone());
            if let Action::Put(document) = &edit.action {
                sites.extend(document.site().cloned());
            }
        }
        Self::Named { domains, sites }
    }
}

/// Runs `work` on what `reach` names and commits what differs then; `Err` of `work` commits nothing. More changes
/// than `most_fed` begin a new epoch.
pub(in crate::registry) async fn write<T, E>(
    session: &mut Session<'_>,
    author: Author<'_>,
    (reach, most_fed): (Reach, usize),
    work: impl FnOnce(&mut Ledger) -> Result<T, E>,
) -> Result<Result<Committed<T>, E>, StoreError> {
    let mut tx = session.again().begin().await?;
    let mut session = tx.session();
    let mut meta = read_meta(&mut session).await?;
    let mut ledger = load(&mut session, reach).await?;
    let value = match work(&mut ledger) {
        Ok(value) => value,
        Err(refused) => {
            tx.rollback().await?;
            return Ok(Err(refused));
        }
    };
    let records = records::taken(&mut ledger);
    let why = ledger.why.take().map(Into::into).or_else(|| author.who.why.clone());
    let (sites, names) = ledger.finish();
    let at_ms = author.at_ms;
    records::put(&mut session, &records, at_ms).await?;
    records::log(&mut session, &records, (author, why.as_deref())).await?;
    if sites.is_empty() && names.is_empty() {
        tx.commit().await?;
        return Ok(Ok(Committed { value, changes: Vec::new(), meta, at_ms, is_new_epoch: false }));
    }
    let changes = numbered(names, meta.seq);
    meta.seq += u64::try_from(changes.len()).unwrap_or(u64::MAX);
    put_sites(&mut session, &sites, at_ms).await?;
    let indexes = drop_indexes(&mut session, changes.len()).await?;
    put_domains(&mut session, &changes, at_ms).await?;
    for index in indexes {
        session.script(index).await?;
    }
    drop_gone(&mut session, &sites, &changes).await?;
    put_changes(&mut session, &changes, author, why).await?;
    let is_new_epoch = changes.len() > most_fed;
    if is_new_epoch {
        turn_epoch(&mut session, &mut meta).await?;
    } else {
        put_meta(&mut session, &meta).await?;
    }
    tx.commit().await?;
    Ok(Ok(Committed { value, changes, meta, at_ms, is_new_epoch }))
}

fn numbered(names: Vec<Difference>, after: u64) -> Vec<Change> {
    let number = |(seq, it): (u64, Difference)| Change {
        seq,
        domain: it.domain,
        before: it.before.map(|it| it.document),
        after: it.after,
    };
    (after + 1..).zip(names).map(number).collect()
}

async fn load(session: &mut Session<'_>, reach: Reach) -> Result<Ledger, StoreError> {
    let mut ledger = Ledger::default();
    let (domains, mut sites) = match reach {
        Reach::All => {
            let mut take = |domain, stored| {
                ledger.load(domain, stored);
                Ok(())
            };
            super::read::scan(session.again(), &mut take).await?;
            return Ok(ledger);
        }
        Reach::Planned(plan) => {
            records::load_by_plan(session, plan, &mut ledger).await?;
            return Ok(ledger);
        }
        Reach::Named { domains, sites } => (domains, sites),
    };
    if super::read::is_empty(session).await? {
        return Ok(ledger);
    }
    let domains: Vec<_> = domains.into_iter().collect();
    load_where(session, "d.domain", &domains, &mut ledger).await?;
    // The sites that names leave: whether they are the last is to be known.
    sites.extend(domains.iter().filter_map(|it| ledger.stored(it)?.document.site().cloned()));
    let sites: Vec<_> = sites.into_iter().collect();
    load_where(session, "d.site", &sites, &mut ledger).await?;
    Ok(ledger)
}

async fn load_where(
    session: &mut Session<'_>,
    column: &str,
    values: &[Arc<str>],
    ledger: &mut Ledger,
) -> Result<(), StoreError> {
    let dialect = session.dialect();
    let sql: Arc<str> = format!("{} WHERE {}", columns(dialect), dialect.is_one_of(column, 1)).into();
    let mut decoder = Decoder::default();
    for chunk in values.chunks(ROWS) {
        for row in session.rows(sql.clone(), &[json_of(chunk)]).await? {
            let (domain, stored) = decoder.decode(&row)?;
            ledger.load(domain, stored);
        }
    }
    Ok(())
}

/// Texts as a JSON array.
fn json_of(texts: &[Arc<str>]) -> Value {
    serde_json::Value::from_iter(texts.iter().map(|it| &**it)).to_string().into()
}

/// Inserts rows, `ROWS` at a time; `tail` says what becomes of those that are there.
async fn insert<const COLUMNS: usize>(
    session: &mut Session<'_>,
    into: &str,
    rows: &[[Value; COLUMNS]],
    tail: &str,
) -> Result<(), StoreError> {
    let mut whole: Option<Arc<str>> = None;
    for chunk in rows.chunks(ROWS) {
        let sql: Arc<str> = match &whole {
            Some(sql) if chunk.len() == ROWS => sql.clone(),
            _ => insert_of(session.dialect(), into, (chunk.len(), COLUMNS), tail).into(),
        };
        if chunk.len() == ROWS {
            whole = Some(sql.clone());
        }
        session.run(sql, chunk.as_flattened()).await?;
    }
    Ok(())
}

fn insert_of(dialect: Dialect, into: &str, (rows, columns): (usize, usize), tail: &str) -> String {
    let mut sql = format!("INSERT INTO {into} VALUES ");
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            if column > 0 {
                sql.push(',');
            }
            match dialect {
                // SQLite looks numbered ones up by name, one by one.
                Dialect::Sqlite => sql.push('?'),
                Dialect::Postgres => sql.push_str(&format!("${}", row * columns + column + 1)),
            }
        }
        sql.push(')');
    }
    sql.push_str(tail);
    sql
}

async fn put_sites(
    session: &mut Session<'_>,
    sites: &[SiteDifference],
    at_ms: i64,
) -> Result<(), StoreError> {
    let (mut new, mut changed, mut accesses) = (Vec::new(), Vec::new(), Vec::new());
    let (mut shells, mut connected) = (Vec::new(), Vec::new());
    for site in sites {
        let SiteDifference::Written { number, access, is_new } = site else { continue };
        let is_shell = !access.0.values().any(|it| *it == AccessState::Active);
        if *is_new {
            if is_shell {
                shells.push(number.clone());
            }
            new.push(number.clone());
        } else {
            changed.push(number.clone());
            if is_shell { shells.push(number.clone()) } else { connected.push(number.clone()) }
        }
        accesses.extend(access.0.iter().map(|(provider, state)| (&**number, &**provider, state.as_str())));
    }
    // In the order of the tree: a bulk write fills page after page, where it would else touch all at random.
    new.sort_unstable();
    accesses.sort_unstable();
    let new: Vec<[Value; 1]> = new.into_iter().map(|number| [number.into()]).collect();
    insert(session, "sites (number)", &new, "").await?;
    // One that was a shell already is so since then.
    let since = format!("UPDATE sites SET shell_since_ms = coalesce(shell_since_ms, {at_ms}) WHERE");
    run_for(session, &since, "number", &shells).await?;
    run_for(session, "UPDATE sites SET shell_since_ms = NULL WHERE", "number", &connected).await?;
    run_for(session, "DELETE FROM accesses WHERE", "site", &changed).await?;
    let accesses: Vec<_> = accesses
        .into_iter()
        .map(|(site, provider, state)| [site, provider, state].map(Value::from))
        .collect();
    insert(session, "accesses (site, provider, state)", &accesses, "").await
}

/// Drops the indexes of `domains`, and what is held against `sites`, where making them anew is less work than keeping them through a bulk
/// write; gives what makes them.
pub(super) async fn drop_indexes(
    session: &mut Session<'_>,
    changes: usize,
) -> Result<Vec<String>, StoreError> {
    if changes < BULK_ROWS {
        return Ok(Vec::new());
    }
    // Counting them all would take seconds where there are many.
    let is_more = "SELECT count(*) FROM (SELECT 1 FROM domains LIMIT 1 OFFSET $1) more";
    let most = i64::try_from(changes).unwrap_or(i64::MAX);
    if session.number(is_more, &[most.into()]).await? != 0 {
        return Ok(Vec::new());
    }
    let sql = match session.dialect() {
        Dialect::Sqlite => {
            "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'domains' AND sql IS NOT NULL"
        }
        // All but the primary key's, which keeps names unique meanwhile.
        Dialect::Postgres => {
            "SELECT indexname::text, indexdef FROM pg_indexes \
             WHERE schemaname = current_schema() AND tablename = 'domains' AND indexname <> 'domains_pkey'"
        }
    };
    let mut makers = Vec::new();
    for row in session.rows(sql, &[]).await? {
        session.script(format!("DROP INDEX {}", row.some_text(0)?)).await?;
        makers.push(row.some_text(1)?.to_owned());
    }
    if session.dialect() == Dialect::Postgres {
        // Held against all at once in the end, not row by row.
        for (table, tail) in [("domains", ""), ("accesses", " ON DELETE CASCADE")] {
            let name = format!("{table}_site_fkey");
            session.script(format!("ALTER TABLE {table} DROP CONSTRAINT {name}")).await?;
            makers.push(format!(
                "ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY (site) REFERENCES sites (number){tail}"
            ));
        }
    }
    Ok(makers)
}

async fn put_domains(session: &mut Session<'_>, changes: &[Change], at_ms: i64) -> Result<(), StoreError> {
    let mut written: Vec<_> = changes.iter().filter_map(|it| Some((it, it.after.as_ref()?))).collect();
    written.sort_unstable_by_key(|(change, _)| &change.domain);
    let columns = "domains (domain, site, state, former_number, own_access, subject, subject_type, site_name, \
                   public_security_number, updated_at_ms, seq)";
    let tail = " ON CONFLICT (domain) DO UPDATE SET site = excluded.site, state = excluded.state, \
                former_number = excluded.former_number, own_access = excluded.own_access, \
                subject = excluded.subject, subject_type = excluded.subject_type, site_name = excluded.site_name, \
                public_security_number = excluded.public_security_number, \
                updated_at_ms = excluded.updated_at_ms, seq = excluded.seq";
    for some in written.chunks(ROWS * 8) {
        let rows: Vec<_> = some.iter().map(|(change, document)| row_of(change, document, at_ms)).collect();
        insert(session, columns, &rows, tail).await?;
    }
    Ok(())
}

fn row_of(change: &Change, document: &Document, at_ms: i64) -> [Value; 11] {
    let former = document.number.as_deref().filter(|_| document.state == FilingState::Deregistered);
    [
        change.domain.clone().into(),
        document.site().cloned().into(),
        document.state.as_str().into(),
        former.into(),
        own_access(document).into(),
        document.about.subject.as_deref().into(),
        document.about.subject_type.as_deref().into(),
        document.about.site_name.as_deref().into(),
        document.about.public_security_number.as_deref().into(),
        at_ms.into(),
        change.seq.cast_signed().into(),
    ]
}

fn own_access(document: &Document) -> Option<String> {
    if document.site().is_none() && !document.access.0.is_empty() {
        serde_json::to_string(&*document.access).ok()
    } else {
        None
    }
}

async fn drop_gone(
    session: &mut Session<'_>,
    sites: &[SiteDifference],
    changes: &[Change],
) -> Result<(), StoreError> {
    let names: Vec<_> = changes.iter().filter(|it| it.after.is_none()).map(|it| it.domain.clone()).collect();
    run_for(session, "DELETE FROM domains WHERE", "domain", &names).await?;
    let gone = |it: &SiteDifference| match it {
        SiteDifference::Gone { number } => Some(number.clone()),
        SiteDifference::Written { .. } => None,
    };
    let numbers: Vec<_> = sites.iter().filter_map(gone).collect();
    run_for(session, "DELETE FROM sites WHERE", "number", &numbers).await
}

/// Runs a statement for the rows whose `column` is one of many texts, some at a time.
async fn run_for(
    session: &mut Session<'_>,
    statement: &str,
    column: &str,
    texts: &[Arc<str>],
) -> Result<(), StoreError> {
    let sql: Arc<str> = format!("{statement} {}", session.dialect().is_one_of(column, 1)).into();
    for chunk in texts.chunks(ROWS) {
        session.run(sql.clone(), &[json_of(chunk)]).await?;
    }
    Ok(())
}

async fn put_changes(
    session: &mut Session<'_>,
    changes: &[Change],
    author: Author<'_>,
    why: Option<Arc<str>>,
) -> Result<(), StoreError> {
    let json = |document: &Option<Document>| document.as_ref().and_then(|it| serde_json::to_string(it).ok());
    let Who { name, request, .. } = author.who;
    for some in changes.chunks(ROWS * 8) {
        let row = |change: &Change| {
            [
                change.seq.cast_signed().into(),
                author.at_ms.into(),
                name.clone().into(),
                change.domain.clone().into(),
                json(&change.before).into(),
                json(&change.after).into(),
                why.clone().into(),
                request.clone().into(),
            ]
        };
        let rows: Vec<[Value; 8]> = some.iter().map(row).collect();
        insert(session, "changes (seq, at_ms, who, domain, before, after, why, request)", &rows, "").await?;
    }
    Ok(())
}
