//! The schema of both databases, as a list of migrations that each database counts.

use super::session::Session;
use sqlx::{Connection, PgConnection, SqliteConnection};

/// Marks a file as ours (`file`'s and SQLite's `application_id`): "BEIA".
pub(super) const APPLICATION_ID: i64 = 0x4245_4941;
/// The schema (namespace) that our tables are in, in PostgreSQL.
pub(super) const NAMESPACE: &str = "beian_gate";
/// PostgreSQL's advisory lock under which migrations run: "BEIA".
const MIGRATION_LOCK: i64 = APPLICATION_ID;

/// Never edit one that was released: append. Written for SQLite, in the part of its language that `for_postgres`
/// makes PostgreSQL's of: TEXT, INTEGER and BLOB columns, keys, references, checks and (partial) indexes.
pub(super) const MIGRATIONS: &[&str] = &[
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
    "
-- Answers to requests with an idempotency key; without a status while one is worked on.
CREATE TABLE idempotency (
    who TEXT NOT NULL,
    key TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    request BLOB NOT NULL,
    status INTEGER,
    kind TEXT,
    etag TEXT,
    body BLOB,
    PRIMARY KEY (who, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (at_ms);
",
    "
-- The filing life cycle: what each is found by, and the rest as JSON.
CREATE TABLE accounts (id TEXT PRIMARY KEY, subject TEXT, updated_at_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE subjects (
    id TEXT PRIMARY KEY, number TEXT UNIQUE, name TEXT, certificate TEXT UNIQUE,
    updated_at_ms INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX subjects_by_name ON subjects (name);
CREATE TABLE orders (
    id TEXT PRIMARY KEY, account TEXT, domain TEXT, subject TEXT, stage TEXT NOT NULL, service_code TEXT, due_on TEXT,
    updated_at_ms INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX orders_by_domain ON orders (domain, id);
CREATE INDEX orders_by_account ON orders (account, id);
CREATE INDEX orders_by_subject ON orders (subject, id);
CREATE INDEX orders_by_service_code ON orders (service_code) WHERE service_code IS NOT NULL;
CREATE INDEX orders_due ON orders (due_on, id) WHERE due_on IS NOT NULL;
CREATE TABLE servers (id TEXT PRIMARY KEY, account TEXT, updated_at_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE service_codes (
    id TEXT PRIMARY KEY, server TEXT NOT NULL, account TEXT, used_by TEXT, updated_at_ms INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX service_codes_by_server ON service_codes (server, id);
-- What is known of a site beside its filing, by its number.
CREATE TABLE site_notes (
    id TEXT PRIMARY KEY, account TEXT, due_on TEXT, updated_at_ms INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX site_notes_due ON site_notes (due_on, id) WHERE due_on IS NOT NULL;
CREATE TABLE counters (id TEXT PRIMARY KEY, updated_at_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
-- Why a change was made, where its author says so.
ALTER TABLE changes ADD COLUMN why TEXT;
CREATE INDEX changes_by_domain ON changes (domain, seq);
-- Since when no provider's access is active (空壳网站).
ALTER TABLE sites ADD COLUMN shell_since_ms INTEGER;
UPDATE sites SET shell_since_ms = (SELECT max(d.updated_at_ms) FROM domains d WHERE d.site = sites.number)
    WHERE NOT EXISTS (SELECT 1 FROM accesses a WHERE a.site = sites.number AND a.state = 'active');
CREATE INDEX sites_shells ON sites (shell_since_ms) WHERE shell_since_ms IS NOT NULL;
",
    "
-- Which request asked for a change.
ALTER TABLE changes ADD COLUMN request TEXT;
CREATE INDEX changes_by_request ON changes (request, seq) WHERE request IS NOT NULL;
-- What the API lists is found by an index, in the order in which it is listed.
DROP INDEX domains_by_subject;
CREATE INDEX domains_by_subject ON domains (subject, domain) WHERE subject IS NOT NULL;
CREATE INDEX domains_by_former_number ON domains (former_number) WHERE former_number IS NOT NULL;
CREATE INDEX domains_by_state ON domains (state, domain) WHERE state IN ('pending', 'restricted', 'deregistered');
DROP INDEX sites_shells;
CREATE INDEX sites_shells ON sites (shell_since_ms, number) WHERE shell_since_ms IS NOT NULL;
DROP INDEX subjects_by_name;
CREATE INDEX subjects_by_name ON subjects (name, id);
CREATE INDEX accounts_by_subject ON accounts (subject, id);
CREATE INDEX orders_by_stage ON orders (stage, id);
DROP INDEX orders_due;
CREATE INDEX orders_due ON orders (stage, due_on, id) WHERE due_on IS NOT NULL;
CREATE INDEX servers_by_account ON servers (account, id);
CREATE INDEX service_codes_by_account ON service_codes (account, id);
-- What is due of a site, each by a day of its own.
ALTER TABLE site_notes ADD COLUMN correction_due_on TEXT;
ALTER TABLE site_notes ADD COLUMN registration_expires_on TEXT;
UPDATE site_notes SET due_on = body ->> 'public_security_due_on', correction_due_on = body -> 'correction' ->> 'due_on',
    registration_expires_on = body ->> 'registration_expires_on';
CREATE INDEX site_notes_corrections ON site_notes (correction_due_on, id) WHERE correction_due_on IS NOT NULL;
CREATE INDEX site_notes_registrations ON site_notes (registration_expires_on, id)
    WHERE registration_expires_on IS NOT NULL;
",
    "
-- The change log of what is beside filings: orders, subjects, accounts, servers, service codes, notes on sites.
CREATE TABLE record_changes (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    request TEXT,
    kind TEXT NOT NULL,
    record TEXT NOT NULL,
    why TEXT,
    before TEXT,
    after TEXT NOT NULL
) STRICT;
CREATE INDEX record_changes_by_kind ON record_changes (kind, seq);
CREATE INDEX record_changes_by_record ON record_changes (kind, record, seq);
CREATE INDEX record_changes_by_request ON record_changes (request, seq) WHERE request IS NOT NULL;
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
    /// The database's own.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// How many migrations are done, of a count that the database keeps.
fn done(found: i64) -> Result<usize, SchemaError> {
    match usize::try_from(found) {
        Ok(done) if done <= MIGRATIONS.len() => Ok(done),
        _ => Err(SchemaError::Newer { found, known: MIGRATIONS.len() }),
    }
}

/// Brings a file's schema up to date.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), SchemaError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let done = check(&mut tx).await?;
    for migration in MIGRATIONS.iter().skip(done) {
        Session::Sqlite(&mut tx).script(*migration).await?;
    }
    if done < MIGRATIONS.len() {
        let marks =
            format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}", MIGRATIONS.len());
        Session::Sqlite(&mut tx).script(marks).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// How many migrations were run in a file.
pub(super) async fn check(connection: &mut SqliteConnection) -> Result<usize, SchemaError> {
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    if application != APPLICATION_ID && (tables > 0 || found != 0) {
        return Err(SchemaError::Foreign);
    }
    done(found)
}

/// Whether the schema is the one that this version reads.
pub(super) async fn is_current(connection: &mut SqliteConnection) -> Result<bool, SchemaError> {
    Ok(check(connection).await? == MIGRATIONS.len())
}

/// Brings a PostgreSQL database's schema up to date; of several processes that begin at once one does it.
pub(super) async fn migrate_postgres(connection: &mut PgConnection) -> Result<(), SchemaError> {
    let mut tx = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *tx).await?;
    let done = check_postgres(&mut tx).await?;
    let mut session = Session::Postgres(&mut tx);
    if done.is_none() {
        session.script(format!("CREATE SCHEMA IF NOT EXISTS {NAMESPACE}")).await?;
        session
            .script(
                "CREATE TABLE schema_version (version BIGINT NOT NULL); INSERT INTO schema_version VALUES (0)",
            )
            .await?;
    }
    for migration in MIGRATIONS.iter().skip(done.unwrap_or_default()) {
        session.script(for_postgres(migration)).await?;
    }
    let count = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    session.run("UPDATE schema_version SET version = $1 WHERE version <> $1", &[count.into()]).await?;
    tx.commit().await?;
    Ok(())
}

/// How many migrations were run in a PostgreSQL database; `None` where it was never ours.
async fn check_postgres(connection: &mut PgConnection) -> Result<Option<usize>, SchemaError> {
    let table = format!("{NAMESPACE}.schema_version");
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(table)
        .fetch_one(&mut *connection)
        .await?;
    if !is_there {
        return Ok(None);
    }
    Ok(Some(done(sqlx::query_scalar("SELECT version FROM schema_version").fetch_one(connection).await?)?))
}

/// Whether the schema is the one that this version reads.
pub(super) async fn is_current_postgres(connection: &mut PgConnection) -> Result<bool, SchemaError> {
    Ok(check_postgres(connection).await? == Some(MIGRATIONS.len()))
}

/// A migration in PostgreSQL's words. Texts compare octet by octet, as SQLite's do.
pub(super) fn for_postgres(migration: &str) -> String {
    let words = [
        (" STRICT, WITHOUT ROWID", ""),
        (" STRICT", ""),
        (" INTEGER", " BIGINT"),
        (" BLOB", " BYTEA"),
        (" TEXT", " TEXT COLLATE \"C\""),
        (" body ->", " body::json ->"),
    ];
    words.iter().fold(migration.to_owned(), |text, (sqlite, postgres)| text.replace(sqlite, postgres))
}
