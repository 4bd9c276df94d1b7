//! SQLite as it is opened here: WAL mode, one writer, a few readers. A commit's durability is SQLite's
//! (`synchronous = FULL`): what was answered is on disk.

use super::StoreError;
use super::schema::SchemaError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use std::path::Path;
use std::time::Duration;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that read.
const READERS: u32 = 4;
/// Bounds the log file that a bulk import leaves behind, in octets.
const JOURNAL_SIZE_LIMIT: &str = "67108864";
/// The most page cache of a connection that reads, in KiB (negative: SQLite's way to say KiB, not pages).
const READER_CACHE: &str = "-16384";
/// The same of the one that writes.
const WRITER_CACHE: &str = "-65536";

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
        .pragma("cache_size", READER_CACHE)
        .disable_statement_logging()
}

/// The connection that writes.
pub(super) async fn writer(options: SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    options.pragma("cache_size", WRITER_CACHE).connect().await
}

/// Makes anew a connection in which no transaction could begin any more. Of some errors (a full disk) SQLite rolls back by
/// itself; the `ROLLBACK` behind it then fails for want of a transaction, and sqlx counts one for ever.
pub(super) async fn settle(connection: &mut SqliteConnection, path: &Path) -> Result<(), sqlx::Error> {
    if !connection.is_in_transaction() {
        return Ok(());
    }
    // Behind the end of a transaction that was dropped, which may not have come to its turn yet.
    connection.ping().await?;
    if connection.is_in_transaction() {
        *connection = writer(options(path)).await?;
    }
    Ok(())
}

pub(super) fn readers(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(options)
}

pub(super) fn open_error(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Open {
        database: path.display().to_string(),
        problem: error.to_string(),
        remedy: "make the directory writable to this user, or name another file in `database`",
    }
}

pub(super) fn schema_open_error(path: &Path, error: &SchemaError) -> StoreError {
    let remedy = match error {
        SchemaError::Sql(error) => return sql_open_error(path, error),
        SchemaError::Foreign => "name another file in `database`",
        SchemaError::Newer { .. } => "run the later version, or restore a copy made by this one",
    };
    StoreError::Open { database: path.display().to_string(), problem: error.to_string(), remedy }
}

pub(super) fn sql_open_error(path: &Path, error: &sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|it| it.code()).and_then(|it| it.parse::<u32>().ok());
    // The low octet of an extended code is SQLite's primary result code.
    let remedy = match code.map(|it| it & 0xff) {
        Some(5 | 6) => "another program holds it: stop that one, then try again",
        Some(8 | 14) if !path.exists() => "the file is missing: start the registry once, or check `database`",
        Some(8 | 14 | 23) => "make the file and its directory writable to this user",
        Some(11 | 26) => {
            "the file is damaged or no database: restore a copy, or name another file in `database`"
        }
        Some(13) => "the disk is full: make room",
        _ => "check `database` and the disk",
    };
    StoreError::Open { database: path.display().to_string(), problem: error.to_string(), remedy }
}
