//! Where rows aside are: scratch files beside a file of SQLite, tables of their own in PostgreSQL; and whose turn it is.

use super::super::session::{Dialect, Session};
use super::super::{StoreError, schema, sqlite};
use sqlx::postgres::PgPool;
use sqlx::{ConnectOptions, PgConnection, SqliteConnection};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most page cache for the database itself, in KiB (negative: not pages), and the most that a sort holds.
const CACHE: &str = "-32768";
/// The same for what is aside. A file that survives has a journal, one that is made anew has none.
const ATTACH: &str = "
PRAGMA aside.page_size = 16384;
PRAGMA aside.journal_mode = TRUNCATE;
PRAGMA aside.synchronous = OFF;
PRAGMA aside.cache_size = -24576;
PRAGMA aside.locking_mode = EXCLUSIVE;
PRAGMA work.page_size = 16384;
PRAGMA work.journal_mode = OFF;
PRAGMA work.synchronous = OFF;
PRAGMA work.cache_size = -24576;
PRAGMA work.locking_mode = EXCLUSIVE;
";
/// How often the place is asked for, and how long after each time that it is taken.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);
/// Which tables are aside: counted on where they change, for rows that were set aside before don't fit.
const FORMAT: u32 = 2;
/// PostgreSQL's advisory lock of whoever has rows aside: "BEIB".
const IMPORT_LOCK: i64 = 0x4245_4942;

/// A connection of its own.
#[derive(Debug)]
pub(super) enum Own {
    Sqlite { connection: SqliteConnection, files: Files },
    Postgres(PgConnection),
}

/// Where rows of a file's import are: what survives, and what is made of it.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) aside: PathBuf,
    work: PathBuf,
}

/// A statement in the words of a database: tables aside are files of their own in SQLite, and have names of their own
/// in PostgreSQL.
pub(in crate::registry::store) fn placed(dialect: Dialect, sql: &str) -> String {
    match dialect {
        Dialect::Sqlite => sql.to_owned(),
        Dialect::Postgres => {
            let words = [("aside.", "import_"), ("work.", "import_"), ("main.", ""), ("temp.", "")];
            words.iter().fold(sql.to_owned(), |text, (from, to)| text.replace(from, to))
        }
    }
}

/// Tables in the words of a database; nothing of them is kept for good.
pub(in crate::registry::store) fn tables(dialect: Dialect, sql: &str) -> String {
    if dialect == Dialect::Sqlite {
        return sql.to_owned();
    }
    let words = [
        ("CREATE TABLE", "CREATE UNLOGGED TABLE"),
        (" WITHOUT ROWID", ""),
        // Rows come in their order and are read in that of names.
        ("n INTEGER PRIMARY KEY", "n INTEGER NOT NULL"),
    ];
    let text = words.iter().fold(sql.to_owned(), |text, (from, to)| text.replace(from, to));
    placed(dialect, &schema::for_postgres(&text))
}

impl Files {
    pub(super) fn of(database: &Path) -> Self {
        let beside = |ending: &str| {
            let mut name = database.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        Self { aside: beside(".import"), work: beside(".import-work") }
    }

    pub(super) fn remove(&self) {
        let mut journal = self.aside.as_os_str().to_owned();
        journal.push("-journal");
        remove(&self.work);
        remove(&self.aside);
        remove(Path::new(&journal));
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "an import's scratch file stays");
    }
}

/// What must be the same for rows to be gone on with: this version, and the machine since it started.
pub(super) fn origin(dialect: Dialect) -> String {
    let version = format!("{}/{FORMAT}", env!("CARGO_PKG_VERSION"));
    match dialect {
        Dialect::Sqlite => {
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
            // Where that can't be known, nothing is gone on with.
            let boot = boot.unwrap_or_else(|_| format!("{:?}", std::time::SystemTime::now()));
            format!("{version} {}", boot.trim())
        }
        // Its tables are emptied by a crash of the server.
        Dialect::Postgres => version,
    }
}

impl Own {
    pub(super) async fn sqlite(database: &Path, files: Files) -> Result<Self, StoreError> {
        remove(&files.work);
        // What is attached is made by the flags of what it is attached to. Sites are written before what refers to them
        // is checked; that they fit is this module's to ensure.
        let options = sqlite::options(database)
            .create_if_missing(true)
            .foreign_keys(false)
            .pragma("cache_size", CACHE)
            .pragma("threads", "1")
            .pragma("wal_autocheckpoint", "0");
        let mut connection = options.connect().await?;
        for (path, name) in [(&files.aside, "aside"), (&files.work, "work")] {
            let path =
                path.to_str().ok_or_else(|| StoreError::Corrupt("its path is not UTF-8".to_owned()))?;
            let attach = format!("ATTACH ?1 AS {name}");
            sqlx::query(sqlx::AssertSqlSafe(attach)).bind(path).execute(&mut connection).await?;
        }
        sqlx::raw_sql(ATTACH).execute(&mut connection).await?;
        Ok(Self::Sqlite { connection, files })
    }

    /// A connection that has the one place for rows; an error where another process has it.
    pub(super) async fn postgres(pool: &PgPool) -> Result<Self, StoreError> {
        let mut connection = pool.acquire().await?.detach();
        let mut session = Session::Postgres(&mut connection);
        let take = format!("SELECT CASE WHEN pg_try_advisory_lock({IMPORT_LOCK}) THEN 1 ELSE 0 END::bigint");
        // Whoever had it and was cut off may still be leaving.
        let mut tries = 1;
        while session.number(take.as_str(), &[]).await? == 0 {
            if tries == TRIES {
                return Err(StoreError::Busy("another import"));
            }
            tries += 1;
            tokio::time::sleep(PAUSE).await;
        }
        // The swap waits for whoever writes, as long as that takes; and it takes long itself.
        session.script("SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0").await?;
        Ok(Self::Postgres(connection))
    }

    pub(super) fn session(&mut self) -> Session<'_> {
        match self {
            Self::Sqlite { connection, .. } => Session::Sqlite(connection),
            Self::Postgres(connection) => Session::Postgres(connection),
        }
    }
}

/// Which database, and how rows get aside of it.
pub(in crate::registry::store) enum Beside<'a> {
    File(&'a Path),
    Tables(&'a PgPool),
}

impl Beside<'_> {
    pub(super) async fn own(&self) -> Result<Own, StoreError> {
        match self {
            Self::File(path) => Own::sqlite(path, Files::of(path)).await,
            Self::Tables(pool) => Own::postgres(pool).await,
        }
    }
}
