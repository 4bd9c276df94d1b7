//! Filings in a database: the only code that knows SQL. SQLite, or PostgreSQL behind the same words.
//!
//! Refuses to know rules, feeds and HTTP. What was answered is on the database's disk.

/// The columns of a document in tables aside.
macro_rules! document_columns {
    () => {
        "site TEXT, state TEXT, former_number TEXT, access TEXT, subject TEXT, subject_type TEXT, \
         site_name TEXT, public_security_number TEXT"
    };
}

mod history;
mod listings;
mod log;
mod postgres;
mod read;
mod records;
mod rows;
mod scan;
mod schema;
mod session;
mod sqlite;
mod stage;
mod swap;
mod write;

use super::base::{BaseError, Directory};
use super::lock::{Lock, LockError};
use crate::config::{Database, PostgresUrl};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgListener, PgPool};
use sqlx::sqlite::SqlitePool;
use sqlx::{ConnectOptions, Postgres, SqliteConnection};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

pub(super) use history::{Meta, new_epoch, now_ms, read_meta};
pub(super) use listings::{ChangeFilter, DueFilter, Logged, RecordFilter};
pub(super) use log::{Stretch, changes_in};
pub(super) use read::{PageFilter, SubjectKey};
pub(super) use scan::{Run, scan_runs};
pub(super) use session::Session;
use session::{Held, Tx};
#[cfg(test)]
pub(super) use session::{Value, recorded};
use stage::Beside;
pub(super) use stage::{MARK_ROWS, Mark, ROWS as STAGED_ROWS, RefusedRow, Stage};
pub(super) use swap::{Differences, Swapped, Terms};
pub(super) use write::{Author, Committed, Reach, write};

/// How long a write waits for those before it: an import's last step may take minutes.
const WRITER_WAIT: Duration = Duration::from_secs(10);
/// Registries on one machine whose followers are served from files in one place.
const MAX_DIRECTORIES: usize = 32;

/// Why the database can't be used. The message names it and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be opened as our database.
    #[error("can't open the registry database {database}: {problem}; {remedy}")]
    Open {
        /** Which, without a password. */
        database: String,
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
    Sql(#[source] sqlx::Error),
    /// The files that followers are served from can't be made or read.
    #[error("the feed failed: {0}")]
    Feed(String),
    /// The system has no randomness for a key.
    #[error("no randomness for a new epoch's key")]
    Randomness(#[from] getrandom::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if postgres::is_busy(&error) { Self::Busy("another registry's write") } else { Self::Sql(error) }
    }
}

/// SQLite's primary code for a disk without room.
const SQLITE_FULL: u32 = 13;
/// PostgreSQL's.
const POSTGRES_DISK_FULL: &str = "53100";

impl StoreError {
    /// Whether the database's disk has no room: what was to be written is not there.
    pub(super) fn is_disk_full(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        let Some(code) = error.as_database_error().and_then(|it| it.code()) else { return false };
        // The low octet of an extended code is the primary one.
        code == POSTGRES_DISK_FULL || code.parse().is_ok_and(|code: u32| code & 0xff == SQLITE_FULL)
    }
}

/// The database.
#[derive(Debug)]
pub(super) struct Store {
    backend: Backend,
    /// Whose turn it is to have rows aside.
    import: Arc<Mutex<()>>,
    /// Of the database's file, or of the directory that followers are served from.
    _lock: Option<Lock>,
}

#[derive(Debug)]
enum Backend {
    Sqlite {
        readers: SqlitePool,
        writer: Option<Mutex<SqliteConnection>>,
        path: PathBuf,
    },
    /// One write at a time waits for the other processes'; those behind it wait here.
    Postgres {
        pool: PgPool,
        turn: Option<Mutex<()>>,
    },
}

/// The connection that writes; who holds it decides what this process commits next.
#[derive(Debug)]
pub(super) enum Writer<'s> {
    Sqlite(MutexGuard<'s, SqliteConnection>),
    Postgres { connection: PoolConnection<Postgres>, _turn: MutexGuard<'s, ()> },
}

impl Writer<'_> {
    /// The connection.
    pub(super) fn session(&mut self) -> Session<'_> {
        match self {
            Self::Sqlite(connection) => Session::Sqlite(connection),
            Self::Postgres { connection, .. } => Session::Postgres(connection),
        }
    }
}

impl Store {
    /// Opens for reading and writing, made where it is missing, with the directory that followers are served from;
    /// the lock says `serving_at`.
    pub(super) async fn open(
        database: &Database,
        serving_at: Option<SocketAddr>,
    ) -> Result<(Self, Directory), StoreError> {
        match database {
            Database::Sqlite(path) => Self::open_sqlite(path, serving_at).await,
            Database::Postgres { url, directory } => Self::open_postgres(url, directory).await,
        }
    }

    async fn open_sqlite(
        path: &Path,
        serving_at: Option<SocketAddr>,
    ) -> Result<(Self, Directory), StoreError> {
        make_parent(path)?;
        let lock = Lock::take(path, serving_at).map_err(|error| match error {
            LockError::Held(at) => StoreError::InUse { path: path.to_owned(), at },
            LockError::Io(error) => sqlite::open_error(path, &error),
        })?;
        let options = sqlite::options(path).create_if_missing(true);
        let writer = sqlite::writer(options.clone()).await;
        let mut writer = writer.map_err(|error| sqlite::sql_open_error(path, &error))?;
        schema::migrate(&mut writer).await.map_err(|error| sqlite::schema_open_error(path, &error))?;
        history::ensure_meta(&mut Session::Sqlite(&mut writer)).await?;
        let mut session = Session::Sqlite(&mut writer);
        let meta = read_meta(&mut session).await?;
        let mut files = path.as_os_str().to_owned();
        files.push(".feed");
        let directory = Directory::open(Path::new(&files), meta.epoch)?;
        renew_if_put_back(&mut session, &directory, &meta).await?;
        let readers = sqlite::readers(options.create_if_missing(false));
        let writer = Some(Mutex::new(writer));
        let backend = Backend::Sqlite { readers, writer, path: path.to_owned() };
        Ok((Self { backend, import: Arc::default(), _lock: Some(lock) }, directory))
    }

    async fn open_postgres(url: &PostgresUrl, directory: &Path) -> Result<(Self, Directory), StoreError> {
        let pool = postgres::pool(url).await?;
        let mut connection = pool.acquire().await?;
        schema::migrate_postgres(&mut connection)
            .await
            .map_err(|error| postgres::schema_open_error(url, &error))?;
        let mut session = Session::Postgres(&mut connection);
        history::ensure_meta(&mut session).await?;
        let epoch = read_meta(&mut session).await?.epoch;
        let (directory, lock) = free_directory(directory, epoch)?;
        // Only now, for whoever had the directory may have written a file and a change meanwhile.
        let meta = read_meta(&mut session).await?;
        renew_if_put_back(&mut session, &directory, &meta).await?;
        drop(connection);
        let backend = Backend::Postgres { pool, turn: Some(Mutex::default()) };
        Ok((Self { backend, import: Arc::default(), _lock: Some(lock) }, directory))
    }

    /// Opens for reading, beside whoever writes.
    pub(super) async fn open_read_only(database: &Database) -> Result<Self, StoreError> {
        let outdated = |database: String| StoreError::Open {
            database,
            problem: "it was written by an earlier version, or never filled".to_owned(),
            remedy: "start the registry once, which brings it up to date",
        };
        let backend = match database {
            Database::Sqlite(path) => {
                let options = sqlite::options(path).read_only(true).optimize_on_close(false, None);
                let mut first =
                    options.connect().await.map_err(|error| sqlite::sql_open_error(path, &error))?;
                let is_current = schema::is_current(&mut first).await;
                if !is_current.map_err(|error| sqlite::schema_open_error(path, &error))? {
                    return Err(outdated(path.display().to_string()));
                }
                Backend::Sqlite { readers: sqlite::readers(options), writer: None, path: path.clone() }
            }
            Database::Postgres { url, .. } => {
                let pool = postgres::pool(url).await?;
                let is_current = schema::is_current_postgres(&mut *pool.acquire().await?).await;
                if !is_current.map_err(|error| postgres::schema_open_error(url, &error))? {
                    return Err(outdated(url.to_string()));
                }
                Backend::Postgres { pool, turn: None }
            }
        };
        Ok(Self { backend, import: Arc::default(), _lock: None })
    }

    /// Whether other processes may write to it too.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.backend, Backend::Postgres { .. })
    }

    /// Hears commits of every process; `None` where there is no other.
    pub(super) async fn listener(&self) -> Result<Option<PgListener>, StoreError> {
        match &self.backend {
            Backend::Sqlite { .. } => Ok(None),
            Backend::Postgres { pool, .. } => Ok(Some(postgres::listener(pool).await?)),
        }
    }

    /// The one connection that writes; who holds it decides what is committed next.
    pub(super) async fn writer(&self) -> Result<Writer<'_>, StoreError> {
        timeout(WRITER_WAIT, self.writer_at_last()).await.map_err(|_| StoreError::Busy("other writes"))?
    }

    /// The same, however long those before it take.
    pub(super) async fn writer_at_last(&self) -> Result<Writer<'_>, StoreError> {
        match &self.backend {
            Backend::Sqlite { writer, path, .. } => {
                let mut connection = writer.as_ref().ok_or(StoreError::ReadOnly)?.lock().await;
                sqlite::settle(&mut connection, path).await?;
                Ok(Writer::Sqlite(connection))
            }
            Backend::Postgres { pool, turn } => {
                let turn = turn.as_ref().ok_or(StoreError::ReadOnly)?.lock().await;
                Ok(Writer::Postgres { connection: pool.acquire().await?, _turn: turn })
            }
        }
    }

    /// An empty place for an import's rows; one import has it at a time.
    pub(super) async fn stage(&self) -> Result<Stage, StoreError> {
        let beside = self.beside()?;
        let turn = self.import.clone().try_lock_owned();
        Stage::open(beside, turn.map_err(|_| StoreError::Busy("another import"))?).await
    }

    /// What an import that was cut off set aside, and how far; `None` where there is nothing to go on with, or another
    /// import is at it.
    pub(super) async fn left_aside(&self) -> Result<Option<(Stage, Vec<Mark>)>, StoreError> {
        let beside = self.beside()?;
        match self.import.clone().try_lock_owned() {
            Ok(turn) => Stage::left(beside, turn).await,
            Err(_) => Ok(None),
        }
    }

    /// Removes what an import that was cut off left, where nobody went on with it for `age`; says whether it did. Not
    /// now, where an import is at it.
    pub(super) async fn sweep(&self, age: Duration) -> Result<bool, StoreError> {
        let beside = self.beside()?;
        let Ok(turn) = self.import.clone().try_lock_owned() else { return Ok(false) };
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        match Stage::sweep(beside, turn, age_ms).await {
            Err(StoreError::Busy(_)) => Ok(false),
            swept => swept,
        }
    }

    fn beside(&self) -> Result<Beside<'_>, StoreError> {
        match &self.backend {
            Backend::Sqlite { writer: Some(_), path, .. } => Ok(Beside::File(path)),
            Backend::Postgres { pool, turn: Some(_) } => Ok(Beside::Tables(pool)),
            Backend::Sqlite { .. } | Backend::Postgres { .. } => Err(StoreError::ReadOnly),
        }
    }

    /// A connection that reads.
    pub(super) async fn reader(&self) -> Result<Held, StoreError> {
        Ok(match &self.backend {
            Backend::Sqlite { readers, .. } => Held::Sqlite(readers.acquire().await?),
            Backend::Postgres { pool, .. } => Held::Postgres(pool.acquire().await?),
        })
    }

    /// A connection whose reads are all of one state, while others write.
    pub(super) async fn reading(&self) -> Result<Tx<'static>, StoreError> {
        Ok(match &self.backend {
            Backend::Sqlite { readers, .. } => Tx::Sqlite(readers.begin().await?),
            Backend::Postgres { pool, .. } => {
                Tx::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
        })
    }
}

/// Begins a new epoch where files that followers were served from are further than the database: that was put back to
/// an earlier state, and positions after it would mean two things.
async fn renew_if_put_back(
    session: &mut Session<'_>,
    directory: &Directory,
    meta: &Meta,
) -> Result<(), StoreError> {
    if directory.is_ahead_of(meta.seq)? {
        tracing::warn!(
            seq = meta.seq,
            "the database was put back to an earlier state: a new epoch of the feed begins, and gates take snapshots"
        );
        new_epoch(session, Some(meta.epoch)).await?;
        directory.prune(&[], 0)?;
    }
    Ok(())
}

fn make_parent(path: &Path) -> Result<(), StoreError> {
    match path.parent().filter(|it| !it.as_os_str().is_empty()) {
        Some(parent) => std::fs::create_dir_all(parent).map_err(|error| sqlite::open_error(path, &error)),
        None => Ok(()),
    }
}

/// The first of `path`, `path-2` … that no other process has: registries of one database may share a machine.
fn free_directory(path: &Path, epoch: u64) -> Result<(Directory, Lock), StoreError> {
    make_parent(path)?;
    for number in 1..=MAX_DIRECTORIES {
        let mut name = path.as_os_str().to_owned();
        if number > 1 {
            name.push(format!("-{number}"));
        }
        let path = PathBuf::from(name);
        match Lock::take(&path, None) {
            Ok(lock) => return Ok((Directory::open(&path, epoch)?, lock)),
            Err(LockError::Held(_)) => {}
            Err(LockError::Io(error)) => {
                let feed = BaseError::Io { path, source: error };
                return Err(feed.into());
            }
        }
    }
    Err(StoreError::Feed(format!("{MAX_DIRECTORIES} registries have their files at {}", path.display())))
}

#[cfg(test)]
mod content;
