//! One write transaction: load what edits may reach, let the ledger do them, write what differs.

use super::rows::{COLUMNS, Decoder};
use super::{Meta, StoreError};
use crate::feed::EpochKey;
use crate::filing::FilingState;
use crate::registry::ledger::{Difference, Ledger, SiteDifference};
use crate::registry::model::{Action, Change, Document, Edit};
use sqlx::{AssertSqlSafe, Connection, QueryBuilder, Row, Sqlite, SqliteConnection};
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
}

/// Who writes, when, and whether what is there counts.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct Author<'a> {
    /// For the change log.
    pub(in crate::registry) who: &'a str,
    /// Unix milliseconds.
    pub(in crate::registry) at_ms: i64,
}

/// Makes the first epoch where there is none.
pub(super) async fn ensure_meta(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let found: i64 = sqlx::query_scalar("SELECT count(*) FROM meta").fetch_one(&mut *connection).await?;
    if found == 0 {
        let epoch = now_ms().cast_unsigned();
        put_meta(connection, &Meta { epoch, key: EpochKey::random()?, seq: 0 }).await?;
    }
    Ok(())
}

/// The history that the database is in.
pub(in crate::registry) async fn read_meta(connection: &mut SqliteConnection) -> Result<Meta, StoreError> {
    let row = sqlx::query("SELECT epoch, key, seq FROM meta").fetch_one(connection).await?;
    let key: [u8; EpochKey::LEN] = row
        .try_get::<&[u8], _>(1)?
        .try_into()
        .map_err(|_| StoreError::Corrupt("the epoch's key has a wrong length".to_owned()))?;
    let epoch = row.try_get::<i64, _>(0)?.cast_unsigned();
    let seq = row.try_get::<i64, _>(2)?.cast_unsigned();
    Ok(Meta { epoch, key: EpochKey::from_bytes(key), seq })
}

pub(super) async fn put_meta(connection: &mut SqliteConnection, meta: &Meta) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO meta (id, epoch, key, seq) VALUES (1, ?1, ?2, ?3)")
        .bind(meta.epoch.cast_signed())
        .bind(meta.key.to_bytes().to_vec())
        .bind(meta.seq.cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}

/// Begins a new epoch with a new key; changes are counted on.
pub(in crate::registry) async fn new_epoch(connection: &mut SqliteConnection) -> Result<Meta, StoreError> {
    let old = read_meta(connection).await?;
    // From the clock, so that a database made anew is not in the epoch of the one before.
    let epoch = now_ms().cast_unsigned().max(old.epoch + 1);
    let meta = Meta { epoch, key: EpochKey::random()?, seq: old.seq };
    put_meta(connection, &meta).await?;
    Ok(meta)
}

/// What is to be loaded before edits can be done.
pub(in crate::registry) enum Reach {
    /// Names and site numbers of the edits.
    Named { domains: BTreeSet<Arc<str>>, sites: BTreeSet<Arc<str>> },
    /// Everything there is.
    All,
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

/// Runs `work` on what `reach` names and commits what differs then; `Err` of `work` commits nothing.
pub(in crate::registry) async fn write<T, E>(
    connection: &mut SqliteConnection,
    author: Author<'_>,
    reach: Reach,
    work: impl FnOnce(&mut Ledger) -> Result<T, E>,
) -> Result<Result<Committed<T>, E>, StoreError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut meta = read_meta(&mut tx).await?;
    let mut ledger = load(&mut tx, reach).await?;
    let value = match work(&mut ledger) {
        Ok(value) => value,
        Err(refused) => {
            tx.rollback().await?;
            return Ok(Err(refused));
        }
    };
    let (sites, names) = ledger.finish();
    let at_ms = author.at_ms;
    if sites.is_empty() && names.is_empty() {
        tx.rollback().await?;
        return Ok(Ok(Committed { value, changes: Vec::new(), meta, at_ms }));
    }
    let changes = numbered(names, meta.seq);
    meta.seq += u64::try_from(changes.len()).unwrap_or(u64::MAX);
    put_sites(&mut tx, &sites).await?;
    let indexes = drop_indexes(&mut tx, changes.len()).await?;
    put_domains(&mut tx, &changes, at_ms).await?;
    for index in indexes {
        sqlx::raw_sql(AssertSqlSafe(index)).execute(&mut *tx).await?;
    }
    drop_gone(&mut tx, &sites, &changes).await?;
    put_changes(&mut tx, &changes, author).await?;
    put_meta(&mut tx, &meta).await?;
    tx.commit().await?;
    Ok(Ok(Committed { value, changes, meta, at_ms }))
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

async fn load(connection: &mut SqliteConnection, reach: Reach) -> Result<Ledger, StoreError> {
    let mut ledger = Ledger::default();
    let (domains, mut sites) = match reach {
        Reach::All => {
            let mut take = |domain, stored| {
                ledger.load(domain, stored);
                Ok(())
            };
            super::scan(connection, &mut take).await?;
            return Ok(ledger);
        }
        Reach::Named { domains, sites } => (domains, sites),
    };
    let found: i64 =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM domains)").fetch_one(&mut *connection).await?;
    if found == 0 {
        return Ok(ledger);
    }
    let domains: Vec<_> = domains.into_iter().collect();
    let sql = format!("{COLUMNS} WHERE d.domain IN (SELECT value FROM json_each(?1))");
    load_where(connection, &sql, &domains, &mut ledger).await?;
    // The sites that names leave: whether they are the last is to be known.
    sites.extend(domains.iter().filter_map(|it| ledger.stored(it)?.document.site().cloned()));
    let sites: Vec<_> = sites.into_iter().collect();
    let sql = format!("{COLUMNS} WHERE d.site IN (SELECT value FROM json_each(?1))");
    load_where(connection, &sql, &sites, &mut ledger).await?;
    Ok(ledger)
}

async fn load_where(
    connection: &mut SqliteConnection,
    sql: &str,
    values: &[Arc<str>],
    ledger: &mut Ledger,
) -> Result<(), StoreError> {
    let mut decoder = Decoder::default();
    for chunk in values.chunks(ROWS) {
        let values = serde_json::to_string(&chunk.iter().map(|it| &**it).collect::<Vec<_>>())
            .map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let rows =
            sqlx::query(AssertSqlSafe(sql.to_owned())).bind(values).fetch_all(&mut *connection).await?;
        for row in rows {
            let (domain, stored) = decoder.decode(&row)?;
            ledger.load(domain, stored);
        }
    }
    Ok(())
}

async fn put_sites(connection: &mut SqliteConnection, sites: &[SiteDifference]) -> Result<(), StoreError> {
    let (mut new, mut changed, mut accesses) = (Vec::new(), Vec::new(), Vec::new());
    for site in sites {
        let SiteDifference::Written { number, access, is_new } = site else { continue };
        if *is_new {
            new.push(number)
        } else {
            changed.push(number.clone())
        }
        accesses.extend(access.0.iter().map(|(provider, state)| (&**number, &**provider, state.as_str())));
    }
    // In the order of the tree: a bulk write fills page after page, where it would else touch all at random.
    new.sort_unstable();
    accesses.sort_unstable();
    for chunk in new.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO sites (number) ");
        query.push_values(chunk, |mut row, number| {
            row.push_bind(&***number);
        });
        query.build().execute(&mut *connection).await?;
    }
    run_for(connection, "DELETE FROM accesses WHERE site IN (SELECT value FROM json_each(?1))", &changed)
        .await?;
    for chunk in accesses.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO accesses (site, provider, state) ");
        query.push_values(chunk, |mut row, (site, provider, state)| {
            row.push_bind(*site).push_bind(*provider).push_bind(*state);
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Drops the indexes of `domains` where making them anew is less work than keeping them through a bulk
/// write; gives what makes them.
pub(super) async fn drop_indexes(
    connection: &mut SqliteConnection,
    changes: usize,
) -> Result<Vec<String>, StoreError> {
    if changes < BULK_ROWS {
        return Ok(Vec::new());
    }
    // Counting them all would take seconds where there are many.
    let is_more = "SELECT EXISTS (SELECT 1 FROM domains LIMIT 1 OFFSET ?1)";
    let most = i64::try_from(changes).unwrap_or(i64::MAX);
    let is_more: i64 = sqlx::query_scalar(is_more).bind(most).fetch_one(&mut *connection).await?;
    if is_more != 0 {
        return Ok(Vec::new());
    }
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'domains' AND sql IS NOT NULL",
    )
    .fetch_all(&mut *connection)
    .await?;
    for (name, _) in &indexes {
        sqlx::raw_sql(AssertSqlSafe(format!("DROP INDEX {name}"))).execute(&mut *connection).await?;
    }
    Ok(indexes.into_iter().map(|(_, sql)| sql).collect())
}

async fn put_domains(
    connection: &mut SqliteConnection,
    changes: &[Change],
    at_ms: i64,
) -> Result<(), StoreError> {
    let mut written: Vec<_> = changes.iter().filter_map(|it| Some((it, it.after.as_ref()?))).collect();
    written.sort_unstable_by_key(|(change, _)| &change.domain);
    for chunk in written.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT OR REPLACE INTO domains (domain, site, state, former_number, own_access, subject, \
             subject_type, site_name, public_security_number, updated_at_ms, seq) ",
        );
        query.push_values(chunk, |mut row, (change, document)| {
            let former = document.number.as_deref().filter(|_| document.state == FilingState::Deregistered);
            row.push_bind(&*change.domain)
                .push_bind(document.site().map(|it| &**it))
                .push_bind(document.state.as_str())
                .push_bind(former)
                .push_bind(own_access(document))
                .push_bind(document.about.subject.as_deref())
                .push_bind(document.about.subject_type.as_deref())
                .push_bind(document.about.site_name.as_deref())
                .push_bind(document.about.public_security_number.as_deref())
                .push_bind(at_ms)
                .push_bind(change.seq.cast_signed());
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

fn own_access(document: &Document) -> Option<String> {
    if document.site().is_none() && !document.access.0.is_empty() {
        serde_json::to_string(&*document.access).ok()
    } else {
        None
    }
}

async fn drop_gone(
    connection: &mut SqliteConnection,
    sites: &[SiteDifference],
    changes: &[Change],
) -> Result<(), StoreError> {
    let names: Vec<_> = changes.iter().filter(|it| it.after.is_none()).map(|it| it.domain.clone()).collect();
    run_for(connection, "DELETE FROM domains WHERE domain IN (SELECT value FROM json_each(?1))", &names)
        .await?;
    let gone = |it: &SiteDifference| match it {
        SiteDifference::Gone { number } => Some(number.clone()),
        SiteDifference::Written { .. } => None,
    };
    let numbers: Vec<_> = sites.iter().filter_map(gone).collect();
    run_for(connection, "DELETE FROM sites WHERE number IN (SELECT value FROM json_each(?1))", &numbers).await
}

/// Runs a statement for many texts, some at a time.
async fn run_for(
    connection: &mut SqliteConnection,
    sql: &'static str,
    texts: &[Arc<str>],
) -> Result<(), StoreError> {
    for chunk in texts.chunks(ROWS) {
        let texts = serde_json::Value::from_iter(chunk.iter().map(|it| &**it)).to_string();
        sqlx::query(sql).bind(texts).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn put_changes(
    connection: &mut SqliteConnection,
    changes: &[Change],
    author: Author<'_>,
) -> Result<(), StoreError> {
    let json = |document: &Option<Document>| document.as_ref().and_then(|it| serde_json::to_string(it).ok());
    for chunk in changes.chunks(ROWS) {
        let mut query =
            QueryBuilder::<Sqlite>::new("INSERT INTO changes (seq, at_ms, who, domain, before, after) ");
        query.push_values(chunk, |mut row, change| {
            row.push_bind(change.seq.cast_signed())
                .push_bind(author.at_ms)
                .push_bind(author.who)
                .push_bind(&*change.domain)
                .push_bind(json(&change.before))
                .push_bind(json(&change.after));
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Unix milliseconds now.
pub(in crate::registry) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
