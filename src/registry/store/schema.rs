//! The schema of the SQLite file, as a list of migrations; `user_version` counts those that were run.

use sqlx::{Connection, SqliteConnection};

/// Marks a file as ours (`file`'s and SQLite's `application_id`): "BEIA".
const APPLICATION_ID: i64 = 0x4245_4941;

/// Never edit one that was released: append.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL,
    key BLOB NOT NULL CHECK (length(key) = 32),
    seq INTEGER NOT NULL
) STRICT;
-- A site is its number, and is there while at least one domain is of it.
CREATE TABLE sites (number TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE accesses (
    site TEXT NOT NULL REFERENCES sites (number) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'cancelled', 'under_review')),
    PRIMARY KEY (site, provider)
) STRICT, WITHOUT ROWID;
CREATE TABLE domains (
    domain TEXT PRIMARY KEY,
    -- None while pending and once deregistered.
    site TEXT REFERENCES sites (number),
    state TEXT NOT NULL CHECK (state IN ('filed', 'pending', 'restricted', 'deregistered')),
    -- Once deregistered: the number that it had.
    former_number TEXT,
    -- Without a site to hold them, accesses are here, as JSON.
    own_access TEXT,
    subject TEXT,
    subject_type TEXT,
    site_name TEXT,
    public_security_number TEXT,
    updated_at_ms INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    CHECK ((site IS NOT NULL) = (state IN ('filed', 'restricted')))
) STRICT, WITHOUT ROWID;
CREATE INDEX domains_by_site ON domains (site) WHERE site IS NOT NULL;
CREATE INDEX domains_by_subject ON domains (subject) WHERE subject IS NOT NULL;
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    domain TEXT NOT NULL,
    before TEXT,
    after TEXT
) STRICT;
",
    "
-- With the state the index says all that the feed reads of a name with a site.
DROP INDEX domains_by_site;
CREATE INDEX domains_by_site ON domains (site, state) WHERE site IS NOT NULL;
",
];

/// Why the schema is not what this version works with.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    /// Not ours.
    #[error("it is a database of another program")]
    Foreign,
    /// From a later version.
    #[error("it was written by a later version (schema {found}, this one knows {known})")]
    Newer { found: i64, known: usize },
    /// SQLite's own.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Brings the schema up to date.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), SchemaError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let done = check(&mut tx).await?;
    for migration in MIGRATIONS.iter().skip(done) {
        sqlx::raw_sql(*migration).execute(&mut *tx).await?;
    }
    if done < MIGRATIONS.len() {
        let marks =
            format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}", MIGRATIONS.len());
        sqlx::raw_sql(sqlx::AssertSqlSafe(marks)).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// How many migrations were run.
pub(super) async fn check(connection: &mut SqliteConnection) -> Result<usize, SchemaError> {
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    if application != APPLICATION_ID && (tables > 0 || found != 0) {
        return Err(SchemaError::Foreign);
    }
    match usize::try_from(found) {
        Ok(done) if done <= MIGRATIONS.len() => Ok(done),
        _ => Err(SchemaError::Newer { found, known: MIGRATIONS.len() }),
    }
}

/// Whether the schema is the one that this version reads.
pub(super) async fn is_current(connection: &mut SqliteConnection) -> Result<bool, SchemaError> {
    Ok(check(connection).await? == MIGRATIONS.len())
}
