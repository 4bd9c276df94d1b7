//! Filings on disk: the only code that knows SQL. SQLite in WAL mode, one writer, a few readers.
//!
//! Refuses to know rules, feeds and HTTP. A commit's durability is SQLite's (`synchronous = FULL`): what
//! was answered is on disk.

/// The columns of a document in tables aside.
macro_rules! document_columns {
    () => {
        "site TEXT, state TEXT, former_number TEXT, access TEXT, subject TEXT, subject_type TEXT, \
         site_name TEXT, public_security_number TEXT"
    };
}

mod log;
mod rows;
mod scan;
mod schema;
mod stage;
mod swap;
mod write;

use super::lock::{Lock, LockError};
use super::model::Stored;
use crate::feed::EpochKey;
use futures_util::TryStreamExt;
use rows::{COLUMNS, Decoder};
use schema::SchemaError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Sqlite, SqliteConnection, Transaction};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

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
/// How long a write waits for those before it: an import's last step may take minutes.
const WRITER_WAIT: Duration = Duration::from_secs(10);

/// Why the database can't be used. The message names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be opened as our database.
    #[error("can't open the registry database {}: {problem}; {remedy}", path.display())]
    Open {
        /** The file. */
        path: PathBuf,
        /** What is wrong. */
        problem: String,
        /** What to do. */
        remedy: &'static str,
    },
    /// Another process serves it.
    #[error(
        "the registry database {} is in use by another registry{}; stop it, or send the change to it",
        path.display(), at.map_or_else(String::new, |it| format!(" at {it}"))
    )]
    InUse {
        /** The file. */
        path: PathBuf,
        /** Where that one serves, if it does. */
        at: Option<SocketAddr>,
    },
    /// It was opened to be read.
    #[error("the registry database was opened read-only")]
    ReadOnly,
    /// Others write, and it takes them long.
    #[error("the registry is busy with {0}; try again later")]
    Busy(&'static str),
    /// What it holds is not what it was given.
    #[error("the registry database holds something invalid: {0}")]
    Corrupt(String),
    /// A statement failed.
    #[error("the registry database failed")]
    Sql(#[from] sqlx::Error),
    /// The files that followers are served from can't be made or read.
    #[error("the feed failed: {0}")]
    Feed(String),
    /// The system has no randomness for a key.
    #[error("no randomness for a new epoch's key")]
    Randomness(#[from] getrandom::Error),
}

/// Which history the database is in, and how far.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) epoch: u64,
    pub(super) key: EpochKey,
    pub(super) seq: u64,
}

/// The database.
#[derive(Debug)]
pub(super) struct Store {
    readers: SqlitePool,
    writer: Option<Mutex<SqliteConnection>>,
    path: PathBuf,
    /// Whose turn it is to have rows aside.
    import: Arc<Mutex<()>>,
    _lock: Option<Lock>,
}

/// What a page of the listing is of; each given part narrows it.
#[derive(Debug, Default)]
pub(super) struct PageFilter<'a> {
    /// Names after this one.
    pub(super) cursor: &'a str,
    pub(super) prefix: &'a str,
    /// The subject's name or number.
    pub(super) subject: Option<&'a str>,
    pub(super) state: Option<&'a str>,
    pub(super) limit: u32,
}

impl Store {
    /// Opens for reading and writing, made where it is missing; the lock says `serving_at`.
    pub(super) async fn open(path: &Path, serving_at: Option<SocketAddr>) -> Result<Self, StoreError> {
        if let Some(parent) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|error| open_error(path, &error))?;
        }
        let lock = Lock::take(path, serving_at).map_err(|error| match error {
            LockError::Held(at) => StoreError::InUse { path: path.to_owned(), at },
            LockError::Io(error) => open_error(path, &error),
        })?;
        stage::clean(path);
        let options = options(path).create_if_missing(true);
        let mut writer = options
            .clone()
            .pragma("cache_size", WRITER_CACHE)
            .connect()
            .await
            .map_err(|error| sql_open_error(path, &error))?;
        schema::migrate(&mut writer).await.map_err(|error| schema_open_error(path, &error))?;
        write::ensure_meta(&mut writer).await?;
        let readers = readers(options.create_if_missing(false));
        let writer = Some(Mutex::new(writer));
        Ok(Self { readers, writer, path: path.to_owned(), import: Arc::default(), _lock: Some(lock) })
    }

    /// Opens for reading, beside whoever writes.
    pub(super) async fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let options = options(path).read_only(true).optimize_on_close(false, None);
        let mut first = options.connect().await.map_err(|error| sql_open_error(path, &error))?;
        let is_current = schema::is_current(&mut first).await;
        if !is_current.map_err(|error| schema_open_error(path, &error))? {
            return Err(StoreError::Open {
                path: path.to_owned(),
                problem: "it was written by an earlier version, or never filled".to_owned(),
                remedy: "start the registry once, which brings it up to date",
            });
        }
        let readers = readers(options);
        Ok(Self { readers, writer: None, path: path.to_owned(), import: Arc::default(), _lock: None })
    }

    /// The one connection that writes; who holds it decides what is committed next.
    pub(super) async fn writer(&self) -> Result<MutexGuard<'_, SqliteConnection>, StoreError> {
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        timeout(WRITER_WAIT, writer.lock()).await.map_err(|_| StoreError::Busy("other writes"))
    }

    /// The same, however long those before it take.
    pub(super) async fn writer_at_last(&self) -> Result<MutexGuard<'_, SqliteConnection>, StoreError> {
        Ok(self.writer.as_ref().ok_or(StoreError::ReadOnly)?.lock().await)
    }

    /// A place for an import's rows; one import has it at a time.
    pub(super) async fn stage(&self) -> Result<Stage, StoreError> {
        if self.writer.is_none() {
            return Err(StoreError::ReadOnly);
        }
        let turn = self.import.clone().try_lock_owned();
        Stage::open(&self.path, turn.map_err(|_| StoreError::Busy("another import"))?).await
    }

    /// The history that the database is in.
    pub(super) async fn meta(&self) -> Result<Meta, StoreError> {
        read_meta(&mut *self.readers.acquire().await?).await
    }

    /// The documents of exactly these names.
    pub(super) async fn documents(&self, domains: &[&str]) -> Result<Vec<(Arc<str>, Stored)>, StoreError> {
        let names = serde_json::Value::from(domains).to_string();
        let sql = format!("{COLUMNS} WHERE d.domain IN (SELECT value FROM json_each(?1))");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(names).fetch_all(&self.readers).await?;
        let mut decoder = Decoder::default();
        rows.iter().map(|row| decoder.decode(row)).collect()
    }

    /// A page of documents, by name.
    pub(super) async fn page(&self, filter: &PageFilter<'_>) -> Result<Vec<(Arc<str>, Stored)>, StoreError> {
        let sql = format!(
            "{COLUMNS} WHERE d.domain > ?1 AND d.domain >= ?2 AND (?2 = '' OR d.domain < ?3) \
             AND (?4 IS NULL OR d.state = ?4) \
             AND (?5 IS NULL OR d.subject = ?5 OR (d.site >= ?6 AND d.site < ?7) \
                  OR (d.former_number >= ?6 AND d.former_number < ?7)) ORDER BY d.domain LIMIT ?8"
        );
        // Names are ASCII below `~`; a site's number is its subject's, then `-` (and `.` is what follows `-`).
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(filter.cursor)
            .bind(filter.prefix)
            .bind(format!("{}~", filter.prefix))
            .bind(filter.state)
            .bind(filter.subject)
            .bind(filter.subject.map(|it| format!("{it}-")))
            .bind(filter.subject.map(|it| format!("{it}.")))
            .bind(filter.limit)
            .fetch_all(&self.readers)
            .await?;
        let mut decoder = Decoder::default();
        rows.iter().map(|row| decoder.decode(row)).collect()
    }

    /// Whether nothing is filed.
    pub(super) async fn is_empty(&self) -> Result<bool, StoreError> {
        let found: i64 =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM domains)").fetch_one(&self.readers).await?;
        Ok(found == 0)
    }

    /// A connection whose reads are all of one state, while others write.
    pub(super) async fn reading(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.readers.begin().await?)
    }

    /// Gives every document to `take`, by name, as one consistent state.
    pub(super) async fn scan(
        &self,
        mut take: impl FnMut(Arc<str>, Stored) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut connection = self.readers.acquire().await?;
        scan(&mut connection, &mut take).await
    }
}

#[cfg(test)]
impl Store {
    /// Rows in the change log.
    pub(super) async fn change_count(&self) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM changes").fetch_one(&self.readers).await;
        count.expect("the table is there")
    }

    /// Everything that the database holds, as text; positions and times aside.
    pub(super) async fn content(&self) -> Vec<String> {
        let sql = "SELECT 'domain' || json_array(domain, site, state, former_number, own_access, subject, \
                subject_type, site_name, public_security_number) AS it FROM domains \
            UNION ALL SELECT 'site ' || number FROM sites \
            UNION ALL SELECT 'access ' || json_array(site, provider, state) FROM accesses \
            UNION ALL SELECT 'change ' || json_array(who, domain, before, after) FROM changes \
            UNION ALL SELECT 'seq ' || (seq = (SELECT max(seq) FROM changes)) FROM meta WHERE seq > 0 \
            UNION ALL SELECT 'stale ' || d.domain FROM domains d LEFT JOIN changes c USING (seq) \
                WHERE c.domain IS NOT d.domain \
            UNION ALL SELECT 'indexes ' || count(*) FROM sqlite_schema WHERE type = 'index' \
            ORDER BY it";
        sqlx::query_scalar(sql).fetch_all(&self.readers).await.expect("the tables are there")
    }
}

/// Gives every document to `take`, by name.
pub(super) async fn scan(
    connection: &mut SqliteConnection,
    take: &mut impl FnMut(Arc<str>, Stored) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let sql = format!("{COLUMNS} ORDER BY d.domain");
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    let mut decoder = Decoder::default();
    while let Some(row) = rows.try_next().await? {
        let (domain, stored) = decoder.decode(&row)?;
        take(domain, stored)?;
    }
    Ok(())
}

pub(super) use log::changes_after;
pub(super) use scan::{Run, scan_runs};
pub(super) use stage::{ROWS as STAGED_ROWS, RefusedRow, Stage};
pub(super) use swap::{Differences, Swapped, Terms};
pub(super) use write::{Author, Committed, Reach, new_epoch, now_ms, read_meta, write};

fn options(path: &Path) -> SqliteConnectOptions {
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

fn readers(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(options)
}

fn open_error(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Open {
        path: path.to_owned(),
        problem: error.to_string(),
        remedy: "make the directory writable to this user, or name another file in `database`",
    }
}

fn schema_open_error(path: &Path, error: &SchemaError) -> StoreError {
    let remedy = match error {
        SchemaError::Sql(error) => return sql_open_error(path, error),
        SchemaError::Foreign => "name another file in `database`",
        SchemaError::Newer { .. } => "run the later version, or restore a copy made by this one",
    };
    StoreError::Open { path: path.to_owned(), problem: error.to_string(), remedy }
}

fn sql_open_error(path: &Path, error: &sqlx::Error) -> StoreError {
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
    StoreError::Open { path: path.to_owned(), problem: error.to_string(), remedy }
}
