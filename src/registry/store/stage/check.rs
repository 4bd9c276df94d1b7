//! Rows aside, held against each other.

use super::{Dialect, Stage, placed, tables};
use crate::registry::rules::{self, Refusal};
use crate::registry::store::StoreError;
use crate::registry::store::session::Row;
use futures_util::{Stream, StreamExt};

/// A refused row, with its line and name.
pub(in crate::registry) struct RefusedRow {
    pub(in crate::registry) line: u64,
    pub(in crate::registry) domain: String,
    /// The rule's name, what would be right, and the same in Chinese.
    pub(in crate::registry) rule: String,
    pub(in crate::registry) detail: String,
    pub(in crate::registry) detail_zh: String,
}

/// What is made of the rows, anew each time.
const TABLES: &str = concat!(
    "
CREATE TABLE work.edits (
    domain TEXT PRIMARY KEY,
    n INTEGER NOT NULL,
    line INTEGER NOT NULL,
    action INTEGER NOT NULL,
",
    document_columns!(),
    "
) WITHOUT ROWID;
CREATE TABLE work.wanted (
    site TEXT PRIMARY KEY,
    access TEXT NOT NULL,
    -- The first row that is of it.
    n INTEGER NOT NULL,
    is_conflict INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE work.refused (
    n INTEGER NOT NULL,
    line INTEGER NOT NULL,
    domain TEXT NOT NULL,
    rule TEXT,
    detail TEXT,
    detail_zh TEXT,
    name TEXT,
    -- What a row without a rule of its own collides with.
    first_line INTEGER,
    number TEXT
);
"
);
pub(super) const DROP: &str = "
DROP VIEW IF EXISTS work.changed;
DROP TABLE IF EXISTS work.refused;
DROP TABLE IF EXISTS work.wanted;
DROP TABLE IF EXISTS work.edits;
";

/// The first row of each name, by name.
fn sort(dialect: Dialect) -> String {
    let (or, distinct) = match dialect {
        Dialect::Sqlite => (" OR IGNORE", ""),
        Dialect::Postgres => ("", " DISTINCT ON (domain)"),
    };
    format!(
        "INSERT{or} INTO work.edits SELECT{distinct} domain, n, line, action, site, state, former_number, \
            access, subject, subject_type, site_name, public_security_number FROM aside.rows ORDER BY domain, n"
    )
}

const BROKEN: &str = "INSERT INTO work.refused (n, line, domain, rule, detail, detail_zh, name) \
    SELECT n, line, domain, rule, detail, detail_zh, name FROM aside.broken";
const DUPLICATES: &str = "INSERT INTO work.refused (n, line, domain, first_line) \
    SELECT n, line, domain, before FROM (SELECT n, line, domain, \
        lag(line) OVER (PARTITION BY domain ORDER BY n) AS before FROM aside.rows) AS rows WHERE before IS NOT NULL";
const WANT: &str = "INSERT INTO work.wanted SELECT site, max(access), min(n), \
        CASE WHEN min(access) <> max(access) THEN 1 ELSE 0 END \
    FROM work.edits e WHERE site IS NOT NULL \
        AND NOT EXISTS (SELECT 1 FROM work.wanted w WHERE w.site = e.site) GROUP BY site";
/// Deletions where the rows are the whole content.
const DELETIONS: &str = "INSERT INTO work.refused (n, line, domain) \
    SELECT n, line, domain FROM work.edits WHERE action <> 0";
const HAS_CONFLICTS: &str =
    "SELECT count(*) FROM (SELECT 1 FROM work.wanted WHERE is_conflict = 1 LIMIT 1) AS conflicts";
const CONFLICTS: &str = "INSERT INTO work.refused (n, line, domain, name, first_line, number) \
    SELECT n, line, domain, domain, first_line, site FROM (SELECT e.n, e.line, e.domain, e.site, e.access, \
        first_value(e.access) OVER rows_of_site AS first_access, \
        first_value(e.line) OVER rows_of_site AS first_line \
        FROM work.wanted w JOIN work.edits e ON e.site = w.site WHERE w.is_conflict = 1 \
        WINDOW rows_of_site AS (PARTITION BY e.site ORDER BY e.n)) AS rows WHERE access <> first_access";
/// The first row of a site says what its accesses are.
const WITHOUT_CONFLICTS: [&str; 3] = [
    "DELETE FROM work.edits WHERE domain IN (SELECT domain FROM work.refused WHERE number IS NOT NULL)",
    "DELETE FROM work.wanted WHERE is_conflict = 1",
    WANT,
];

impl Stage {
    /// Holds rows against each other once all are there, and leaves out what is refused; how many are in all.
    pub(in crate::registry) async fn check(&mut self, is_whole: bool) -> Result<u64, StoreError> {
        self.copy_out().await?;
        let dialect = self.dialect();
        let begin = if dialect == Dialect::Sqlite { "COMMIT; BEGIN" } else { "BEGIN" };
        self.script(begin).await?;
        self.script(&placed(dialect, DROP)).await?;
        self.script(&tables(dialect, TABLES)).await?;
        if self.refused > 0 {
            self.run(BROKEN).await?;
        }
        let kept = self.run(&sort(dialect)).await?;
        if kept != self.taken.unsigned_abs() {
            self.left_out += self.run(DUPLICATES).await?;
        }
        if is_whole {
            // Nothing of before counts.
            self.left_out += self.run(DELETIONS).await?;
            self.run("DELETE FROM work.edits WHERE action <> 0").await?;
        }
        self.run(WANT).await?;
        if self.number(HAS_CONFLICTS).await? != 0 {
            self.left_out += self.run(CONFLICTS).await?;
            for statement in WITHOUT_CONFLICTS {
                self.run(statement).await?;
            }
        }
        self.run("COMMIT").await?;
        if dialect == Dialect::Postgres {
            self.script("ANALYZE import_edits; ANALYZE import_wanted").await?;
        }
        self.refused += self.left_out;
        Ok(self.refused)
    }

    /// Every refused row, in the order of the file.
    pub(in crate::registry) fn refused(
        &mut self,
    ) -> impl Stream<Item = Result<RefusedRow, StoreError>> + Send {
        let sql = "SELECT line, domain, rule, detail, detail_zh, coalesce(first_line, -1), number \
            FROM work.refused ORDER BY n, line";
        let sql = placed(self.dialect(), sql);
        self.session().stream(sql, &[]).map(|row| refused_row(&row?))
    }
}

fn refused_row(row: &Row) -> Result<RefusedRow, StoreError> {
    let (line, domain) = (row.integer(0)?.unsigned_abs(), row.some_text(1)?.to_owned());
    if let Some(rule) = row.text(2)? {
        let (detail, detail_zh) = (row.some_text(3)?.to_owned(), row.some_text(4)?.to_owned());
        return Ok(RefusedRow { line, domain, rule: rule.to_owned(), detail, detail_zh });
    }
    let first = u64::try_from(row.integer(5)?).ok();
    let refusal = match (first, row.text(6)?) {
        (Some(first), Some(number)) => rules::site_access_conflict(number, first),
        (Some(first), None) => rules::duplicate_domain(&domain, first),
        (None, _) => rules::not_filed(&domain),
    };
    let Refusal { rule, detail, detail_zh } = refusal;
    Ok(RefusedRow { line, domain, rule: rule.to_owned(), detail, detail_zh })
}
