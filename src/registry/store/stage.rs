//! Rows of an import aside: a scratch database beside the real one, checked there against each other.
//!
//! Nothing here is worth keeping: it has no journal and is never synced, and goes with the import, or at the next
//! start after a crash. Rows are held in memory `ROWS` at a time; what SQLite sorts with is not bounded well enough yet.

use super::StoreError;
use super::sqlite::options;
use crate::registry::batch::Read;
use crate::registry::model::{Action, Document};
use crate::registry::rules::{self, Refusal};
use futures_util::{Stream, StreamExt};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, Sqlite, SqliteConnection};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// Rows that are handed over at once.
pub(in crate::registry) const ROWS: usize = 250;
/// The most page cache for the database itself, in KiB (negative: not pages), and the most that a sort holds.
const CACHE: &str = "-32768";
/// The same for what is aside.
const ASIDE: &str = concat!(
    "
PRAGMA aside.page_size = 16384;
PRAGMA aside.journal_mode = OFF;
PRAGMA aside.synchronous = OFF;
PRAGMA aside.cache_size = -24576;
PRAGMA aside.locking_mode = EXCLUSIVE;
CREATE TABLE aside.rows (
    n INTEGER PRIMARY KEY,
    domain TEXT NOT NULL,
    line INTEGER NOT NULL,
    action INTEGER NOT NULL,
",
    document_columns!(),
    "
);
CREATE TABLE aside.edits (
    domain TEXT PRIMARY KEY,
    n INTEGER NOT NULL,
    line INTEGER NOT NULL,
    action INTEGER NOT NULL,
",
    document_columns!(),
    "
) WITHOUT ROWID;
CREATE TABLE aside.wanted (
    site TEXT PRIMARY KEY,
    access TEXT NOT NULL,
    -- The first row that is of it.
    n INTEGER NOT NULL,
    is_conflict INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE aside.refused (
    n INTEGER NOT NULL,
    line INTEGER NOT NULL,
    domain TEXT NOT NULL,
    rule TEXT,
    detail TEXT,
    detail_zh TEXT,
    -- The filing that it is about, where that is plain.
    name TEXT,
    -- What a row without a rule of its own collides with.
    first_line INTEGER,
    number TEXT
);
"
);
/// Columns of a row that is bound.
const COLUMNS: usize = 12;

/// `rows.action`, also in the statements of `swap`.
pub(super) const PUT: i64 = 0;
pub(super) const DEREGISTER: i64 = 1;
pub(super) const PURGE: i64 = 2;

/// A scratch file, gone when this is.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Rows aside, on a connection that sees the database too.
#[derive(Debug)]
pub(in crate::registry) struct Stage {
    pub(super) connection: SqliteConnection,
    insert: Arc<str>,
    taken: i64,
    /// Rows that are refused, and how many of those were taken first.
    refused: u64,
    left_out: u64,
    _scratch: Scratch,
    _turn: OwnedMutexGuard<()>,
}

/// A refused row, with its line and name.
pub(in crate::registry) struct RefusedRow {
    pub(in crate::registry) line: u64,
    pub(in crate::registry) domain: String,
    /// The rule's name, what would be right, and the same in Chinese.
    pub(in crate::registry) rule: String,
    pub(in crate::registry) detail: String,
    pub(in crate::registry) detail_zh: String,
}

/// The scratch file of a database.
pub(super) fn path_beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".import");
    name.into()
}

/// Removes what an import that was cut off left.
pub(super) fn clean(database: &Path) {
    remove(&path_beside(database));
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "an import's scratch file stays");
    }
}

impl Stage {
    /// Opens the scratch file beside `database`; who holds `turn` is the only one.
    pub(super) async fn open(database: &Path, turn: OwnedMutexGuard<()>) -> Result<Self, StoreError> {
        clean(database);
        let scratch = Scratch(path_beside(database));
        // What is attached is made by the flags of what it is attached to. Sites are written before what refers to them is checked; that they fit is this module's to ensure.
        let options = options(database)
            .create_if_missing(true)
            .foreign_keys(false)
            .pragma("cache_size", CACHE)
            .pragma("threads", "1")
            .pragma("wal_autocheckpoint", "0");
        let mut connection = options.connect().await?;
        let path =
            scratch.0.to_str().ok_or_else(|| StoreError::Corrupt("its path is not UTF-8".to_owned()))?;
        sqlx::query("ATTACH ?1 AS aside").bind(path).execute(&mut connection).await?;
        sqlx::raw_sql(ASIDE).execute(&mut connection).await?;
        sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
        let insert = insert_of(ROWS).into();
        Ok(Self { connection, insert, taken: 0, refused: 0, left_out: 0, _scratch: scratch, _turn: turn })
    }

    /// Rows that are left, once they were checked.
    pub(in crate::registry) fn left(&self) -> u64 {
        self.taken.unsigned_abs() - self.left_out
    }

    /// Whether no row is left, once they were checked.
    pub(in crate::registry) fn is_all_refused(&self) -> bool {
        self.left() == 0
    }

    /// Rows that are refused whatever is filed.
    pub(in crate::registry) fn refused_so_far(&self) -> u64 {
        self.refused
    }

    /// Takes rows in their order, refused ones as well; best `ROWS` at a time.
    pub(in crate::registry) async fn push(&mut self, rows: Vec<Read>) -> Result<(), StoreError> {
        let mut taken = Vec::with_capacity(rows.len());
        for Read { line, domain, edit } in rows {
            match edit {
                Ok(edit) => taken.push((line, edit)),
                Err(refusal) => self.refuse(line, &domain, &refusal, taken.len()).await?,
            }
        }
        while !taken.is_empty() {
            let rest = taken.split_off(taken.len().min(ROWS));
            let sql = if taken.len() == ROWS { self.insert.clone() } else { insert_of(taken.len()).into() };
            let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(taken.len() == ROWS);
            for (line, edit) in std::mem::replace(&mut taken, rest) {
                query = bind(query, line, edit.domain, edit.action);
                self.taken += 1;
            }
            query.execute(&mut self.connection).await?;
        }
        Ok(())
    }

    async fn refuse(
        &mut self,
        line: u64,
        domain: &str,
        refusal: &Refusal,
        ahead: usize,
    ) -> Result<(), StoreError> {
        self.refused += 1;
        sqlx::query("INSERT INTO aside.refused VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, NULL)")
            .bind(self.taken + i64::try_from(ahead).unwrap_or(i64::MAX))
            .bind(line.cast_signed())
            .bind(domain)
            .bind(refusal.rule)
            .bind(&refusal.detail)
            .bind(&refusal.detail_zh)
            .bind(rules::filed_name(domain).ok().map(|it| it.as_str().to_owned()))
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// Holds rows against each other once all are there, and leaves out what is refused; how many are in all.
    pub(in crate::registry) async fn check(&mut self, is_whole: bool) -> Result<u64, StoreError> {
        let kept = self.run(SORT).await?;
        if kept != self.taken.unsigned_abs() {
            self.left_out += self.run(DUPLICATES).await?;
        }
        if is_whole {
            // Nothing of before counts.
            self.left_out += self.run(DELETIONS).await?;
            self.run("DELETE FROM aside.edits WHERE action <> 0").await?;
        }
        self.run("DROP TABLE aside.rows").await?;
        self.run(WANT).await?;
        let conflicts: i64 =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM aside.wanted WHERE is_conflict)")
                .fetch_one(&mut self.connection)
                .await?;
        if conflicts != 0 {
            self.left_out += self.run(CONFLICTS).await?;
            for statement in WITHOUT_CONFLICTS {
                self.run(statement).await?;
            }
        }
        self.run("COMMIT").await?;
        self.refused += self.left_out;
        Ok(self.refused)
    }

    /// Every refused row, in the order of the file.
    pub(in crate::registry) fn refused(
        &mut self,
    ) -> impl Stream<Item = Result<RefusedRow, StoreError>> + Send {
        let rows = sqlx::query(
            "SELECT line, domain, rule, detail, detail_zh, first_line, number FROM aside.refused ORDER BY n, line",
        )
        .fetch(&mut self.connection);
        rows.map(|row| refused_row(&row?))
    }

    pub(super) async fn run(&mut self, sql: &'static str) -> Result<u64, StoreError> {
        Ok(sqlx::query(sql).persistent(false).execute(&mut self.connection).await?.rows_affected())
    }

    /// Closes the connection before the file goes.
    pub(in crate::registry) async fn close(self) -> Result<(), StoreError> {
        Ok(self.connection.close().await?)
    }
}

/// The first row of each name, by name.
const SORT: &str = "INSERT OR IGNORE INTO aside.edits SELECT domain, n, line, action, site, state, former_number, \
    access, subject, subject_type, site_name, public_security_number FROM aside.rows ORDER BY domain, n";
const DUPLICATES: &str = "INSERT INTO aside.refused (n, line, domain, first_line) \
    SELECT n, line, domain, before FROM (SELECT n, line, domain, \
        lag(line) OVER (PARTITION BY domain ORDER BY n) AS before FROM aside.rows) WHERE before IS NOT NULL";
const WANT: &str = "INSERT INTO aside.wanted SELECT site, max(access), min(n), min(access) <> max(access) \
    FROM aside.edits WHERE site IS NOT NULL GROUP BY site";
/// Deletions where the rows are the whole content.
const DELETIONS: &str = "INSERT INTO aside.refused (n, line, domain) \
    SELECT n, line, domain FROM aside.edits WHERE action <> 0";
const CONFLICTS: &str = "INSERT INTO aside.refused (n, line, domain, name, first_line, number) \
    SELECT n, line, domain, domain, first_line, site FROM (SELECT e.n, e.line, e.domain, e.site, e.access, \
        first_value(e.access) OVER rows_of_site AS first_access, \
        first_value(e.line) OVER rows_of_site AS first_line \
        FROM aside.wanted w JOIN aside.edits e ON e.site = w.site WHERE w.is_conflict \
        WINDOW rows_of_site AS (PARTITION BY e.site ORDER BY e.n)) WHERE access <> first_access";

/// The first row of a site says what its accesses are.
const WITHOUT_CONFLICTS: [&str; 3] = [
    "DELETE FROM aside.edits WHERE domain IN (SELECT domain FROM aside.refused WHERE number IS NOT NULL)",
    "DELETE FROM aside.wanted WHERE is_conflict",
    "INSERT OR IGNORE INTO aside.wanted SELECT site, max(access), min(n), 0 \
        FROM aside.edits WHERE site IS NOT NULL GROUP BY site",
];

fn insert_of(rows: usize) -> String {
    let row = format!("(NULL{})", ",?".repeat(COLUMNS - 1));
    format!("INSERT INTO aside.rows VALUES {}", vec![row; rows].join(","))
}

fn bind(
    query: Query<'_, Sqlite, SqliteArguments>,
    line: u64,
    domain: Arc<str>,
    action: Action,
) -> Query<'_, Sqlite, SqliteArguments> {
    let (action, document) = match action {
        Action::Put(document) => (PUT, Some(document)),
        Action::Deregister => (DEREGISTER, None),
        Action::Purge => (PURGE, None),
    };
    let query = query.bind(domain).bind(line.cast_signed()).bind(action);
    let Some(document) = document else {
        return (0..8).fold(query, |query, _| query.bind(None::<String>));
    };
    let site = document.site().cloned();
    let Document { number, state, access, about } = document;
    let former = if site.is_none() { number } else { None };
    query
        .bind(site)
        .bind(state.as_str())
        .bind(former)
        .bind(serde_json::to_string(&*access).expect("ids and states are JSON"))
        .bind(about.subject)
        .bind(about.subject_type)
        .bind(about.site_name)
        .bind(about.public_security_number)
}

fn refused_row(row: &SqliteRow) -> Result<RefusedRow, StoreError> {
    let (line, domain): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    let line = line.unsigned_abs();
    if let Some(rule) = row.try_get::<Option<String>, _>(2)? {
        return Ok(RefusedRow { line, domain, rule, detail: row.try_get(3)?, detail_zh: row.try_get(4)? });
    }
    let first: Option<i64> = row.try_get(5)?;
    let number: Option<String> = row.try_get(6)?;
    let refusal = match (first, number) {
        (Some(first), Some(number)) => rules::site_access_conflict(&number, first.unsigned_abs()),
        (Some(first), None) => rules::duplicate_domain(&domain, first.unsigned_abs()),
        (None, _) => rules::not_filed(&domain),
    };
    let Refusal { rule, detail, detail_zh } = refusal;
    Ok(RefusedRow { line, domain, rule: rule.to_owned(), detail, detail_zh })
}
