//! Rows of an import aside: beside a file of SQLite in scratch files, in PostgreSQL in tables of their own.
//!
//! What was set aside outlives its process: every `MARK_ROWS` rows a mark says how far it is and of which file, and an
//! import of the same file goes on from there. It does not outlive a crash of the machine, or of the server: nothing is
//! synced. Rows are held in memory a few at a time; what a database sorts with is its own affair.

mod check;
mod copy;
mod place;

use super::session::{Dialect, Session, Value};
use super::{StoreError, now_ms};
use crate::registry::batch::Read;
use crate::registry::model::{Action, Document, Edit};
use crate::registry::rules::{self, Refusal};
pub(in crate::registry) use check::RefusedRow;
use copy::Copied;
pub(super) use place::{Beside, placed, tables};
use place::{Files, Own, origin};
use sqlx::Connection;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// Rows that are handed over at once.
pub(in crate::registry) const ROWS: usize = 250;
/// Rows between two marks; a multiple of `ROWS`.
pub(in crate::registry) const MARK_ROWS: u64 = 10_000;
const TABLES: &str = concat!(
    "
CREATE TABLE aside.origin (id TEXT NOT NULL);
-- When a row was last set aside, in Unix milliseconds.
CREATE TABLE aside.lately (at_ms INTEGER NOT NULL);
CREATE TABLE aside.rows (
    n INTEGER PRIMARY KEY,
    domain TEXT NOT NULL,
    line INTEGER NOT NULL,
    action INTEGER NOT NULL,
",
    document_columns!(),
    "
);
-- Rows that a rule refuses by themselves.
CREATE TABLE aside.broken (
    n INTEGER NOT NULL,
    line INTEGER NOT NULL,
    domain TEXT NOT NULL,
    rule TEXT NOT NULL,
    detail TEXT NOT NULL,
    detail_zh TEXT NOT NULL,
    -- The filing that it is about, where that is plain.
    name TEXT
);
CREATE TABLE aside.marks (place INTEGER PRIMARY KEY, line INTEGER NOT NULL, taken INTEGER NOT NULL, digest BLOB NOT NULL);
"
);
const DROP: &str = "
DROP TABLE IF EXISTS aside.marks;
DROP TABLE IF EXISTS aside.broken;
DROP TABLE IF EXISTS aside.rows;
DROP TABLE IF EXISTS aside.lately;
DROP TABLE IF EXISTS aside.origin;
";
/// Columns of a row that is bound.
const COLUMNS: usize = 12;
/// `rows.action`, also in the statements of `swap`.
pub(super) const PUT: i64 = 0;
pub(super) const DEREGISTER: i64 = 1;
pub(super) const PURGE: i64 = 2;

/// How far a file was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct Mark {
    /// Rows so far, refused ones too.
    pub(in crate::registry) rows: u64,
    /// The last one's line.
    pub(in crate::registry) line: u64,
    /// Over all of them, as they stand in the file.
    pub(in crate::registry) digest: Vec<u8>,
}

/// Rows aside, on a connection that sees the database too.
#[derive(Debug)]
pub(in crate::registry) struct Stage {
    own: Own,
    insert: Arc<str>,
    copied: Copied,
    taken: i64,
    /// Rows that are refused, and how many of those were taken first.
    refused: u64,
    left_out: u64,
    _turn: OwnedMutexGuard<()>,
}

impl Stage {
    fn new(own: Own, turn: OwnedMutexGuard<()>) -> Self {
        let insert = insert_of(ROWS).into();
        Self { own, insert, copied: Copied::default(), taken: 0, refused: 0, left_out: 0, _turn: turn }
    }

    /// An empty place; who holds `turn` is the only one.
    pub(super) async fn open(beside: Beside<'_>, turn: OwnedMutexGuard<()>) -> Result<Self, StoreError> {
        if let Beside::File(path) = &beside {
            Files::of(path).remove();
        }
        let mut stage = Self::new(beside.own().await?, turn);
        let dialect = stage.dialect();
        stage.script(&placed(dialect, DROP)).await?;
        stage.script(&tables(dialect, TABLES)).await?;
        let id = origin(dialect).into();
        stage.session().run(placed(dialect, "INSERT INTO aside.origin VALUES ($1)"), &[id]).await?;
        let lately = placed(dialect, "INSERT INTO aside.lately VALUES ($1)");
        stage.session().run(lately, &[now_ms().into()]).await?;
        stage.begin().await?;
        Ok(stage)
    }

    /// The place that an import left which was cut off, with its marks; `None` where there is none to go on with.
    pub(super) async fn left(
        beside: Beside<'_>,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Option<(Self, Vec<Mark>)>, StoreError> {
        if let Beside::File(path) = &beside
            && !Files::of(path).aside.exists()
        {
            return Ok(None);
        }
        let own = match beside.own().await {
            Ok(own) => own,
            // Damaged by a crash of the machine, or in use: whoever needs the place will be told.
            Err(error) => {
                tracing::debug!(%error, "what an import left can't be used");
                return Ok(None);
            }
        };
        let mut stage = Self::new(own, turn);
        let dialect = stage.dialect();
        if dialect == Dialect::Postgres {
            let is_there = "SELECT CASE WHEN to_regclass('import_origin') IS NULL THEN 0 ELSE 1 END::bigint";
            if stage.session().number(is_there, &[]).await? == 0 {
                stage.leave().await?;
                return Ok(None);
            }
        }
        let marks = match stage.marks().await {
            Ok(marks) if !marks.is_empty() => marks,
            Ok(_) | Err(_) => {
                stage.leave().await?;
                return Ok(None);
            }
        };
        Ok(Some((stage, marks)))
    }

    /// Removes what an import left that was cut off, where nothing was added to it for `age_ms`; says whether it did.
    pub(super) async fn sweep(
        beside: Beside<'_>,
        turn: OwnedMutexGuard<()>,
        age_ms: i64,
    ) -> Result<bool, StoreError> {
        if let Beside::File(path) = &beside
            && !Files::of(path).aside.exists()
        {
            return Ok(false);
        }
        let mut stage = Self::new(beside.own().await?, turn);
        let dialect = stage.dialect();
        let is_there = match dialect {
            Dialect::Sqlite => "SELECT count(*) FROM aside.sqlite_schema WHERE name = 'origin'",
            Dialect::Postgres => {
                "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'import_origin'"
            }
        };
        if stage.session().number(is_there, &[]).await? == 0 {
            stage.leave().await?;
            return Ok(false);
        }
        // Left by an earlier version where it does not say when.
        let last = stage.number("SELECT coalesce(max(at_ms), 0) FROM aside.lately").await.unwrap_or(0);
        let is_old = now_ms().saturating_sub(last) >= age_ms;
        if is_old {
            stage.close().await?
        } else {
            stage.leave().await?
        }
        Ok(is_old)
    }

    async fn marks(&mut self) -> Result<Vec<Mark>, StoreError> {
        let dialect = self.dialect();
        let mut session = self.session();
        let found = session.rows(placed(dialect, "SELECT id FROM aside.origin"), &[]).await?;
        let is_ours = matches!(&found[..], [row] if row.some_text(0)? == origin(dialect));
        if !is_ours {
            return Ok(Vec::new());
        }
        let sql = placed(dialect, "SELECT place, line, digest FROM aside.marks ORDER BY place");
        let mark = |row: &super::session::Row| -> Result<Mark, StoreError> {
            let (rows, line) = (row.integer(0)?.cast_unsigned(), row.integer(1)?.cast_unsigned());
            Ok(Mark { rows, line, digest: row.octets(2)?.to_vec() })
        };
        session.rows(sql, &[]).await?.iter().map(mark).collect()
    }

    /// Goes on after a mark: what came later is forgotten.
    pub(in crate::registry) async fn go_on_after(&mut self, mark: &Mark) -> Result<(), StoreError> {
        let (place, line) = (mark.rows.cast_signed(), mark.line.cast_signed());
        let taken = self.number(&format!("SELECT taken FROM aside.marks WHERE place = {place}")).await?;
        for statement in [
            format!("DELETE FROM aside.marks WHERE place > {place}"),
            format!("DELETE FROM aside.rows WHERE n > {taken}"),
            format!("DELETE FROM aside.broken WHERE line > {line}"),
        ] {
            self.run(&statement).await?;
        }
        self.taken = taken;
        self.refused = self.number("SELECT count(*) FROM aside.broken").await?.unsigned_abs();
        self.begin().await
    }

    /// Rows of a file that SQLite has aside are of one transaction from mark to mark; PostgreSQL gets them in pieces.
    async fn begin(&mut self) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Sqlite { self.script("BEGIN").await } else { Ok(()) }
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self.own {
            Own::Sqlite { .. } => Dialect::Sqlite,
            Own::Postgres(_) => Dialect::Postgres,
        }
    }

    pub(super) fn session(&mut self) -> Session<'_> {
        self.own.session()
    }

    /// Runs a statement with the places of this database; says how many rows it changed.
    pub(super) async fn run(&mut self, sql: &str) -> Result<u64, StoreError> {
        let sql = placed(self.dialect(), sql);
        Ok(self.session().run(sql, &[]).await?)
    }

    /// Asks for a number.
    pub(super) async fn number(&mut self, sql: &str) -> Result<i64, StoreError> {
        let sql = placed(self.dialect(), sql);
        Ok(self.session().number(sql, &[]).await?)
    }

    /// Runs statements as they stand.
    pub(super) async fn script(&mut self, sql: &str) -> Result<(), StoreError> {
        Ok(self.session().script(sql).await?)
    }

    /// Rows that are left, once they were checked.
    pub(in crate::registry) fn left_over(&self) -> u64 {
        self.taken.unsigned_abs() - self.left_out
    }

    /// Rows that are refused whatever is filed.
    pub(in crate::registry) fn refused_so_far(&self) -> u64 {
        self.refused
    }

    /// Takes rows in their order, refused ones as well; best `ROWS` at a time. With a mark they are kept.
    pub(in crate::registry) async fn push(
        &mut self,
        rows: Vec<Read>,
        mark: Option<&Mark>,
    ) -> Result<(), StoreError> {
        let mut taken = Vec::with_capacity(rows.len());
        for Read { line, domain, edit } in rows {
            match edit {
                Ok(edit) => taken.push((line, edit)),
                Err(refusal) => self.refuse(line, &domain, &refusal, taken.len()).await?,
            }
        }
        if self.dialect() == Dialect::Sqlite {
            self.insert(taken).await?
        } else {
            self.copy(taken).await?
        }
        match mark {
            Some(mark) => self.mark(mark).await,
            None => Ok(()),
        }
    }

    async fn mark(&mut self, mark: &Mark) -> Result<(), StoreError> {
        self.copy_out().await?;
        let sql = placed(self.dialect(), "INSERT INTO aside.marks VALUES ($1, $2, $3, $4)");
        let (place, line) = (mark.rows.cast_signed(), mark.line.cast_signed());
        let values = [place.into(), line.into(), self.taken.into(), mark.digest.clone().into()];
        self.session().run(sql, &values).await?;
        let lately = placed(self.dialect(), "UPDATE aside.lately SET at_ms = $1");
        self.session().run(lately, &[now_ms().into()]).await?;
        if self.dialect() == Dialect::Sqlite { self.script("COMMIT; BEGIN").await } else { Ok(()) }
    }

    async fn insert(&mut self, mut taken: Vec<(u64, Edit)>) -> Result<(), StoreError> {
        while !taken.is_empty() {
            let rest = taken.split_off(taken.len().min(ROWS));
            let sql = if taken.len() == ROWS { self.insert.clone() } else { insert_of(taken.len()).into() };
            let mut values: Vec<Value> = Vec::with_capacity(taken.len() * COLUMNS);
            for (line, edit) in std::mem::replace(&mut taken, rest) {
                self.taken += 1;
                values.extend(values_of(self.taken, line, edit));
            }
            self.session().run(sql, &values).await?;
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
        let sql = placed(self.dialect(), "INSERT INTO aside.broken VALUES ($1, $2, $3, $4, $5, $6, $7)");
        let before = self.taken + i64::try_from(ahead).unwrap_or(i64::MAX);
        let name = rules::filed_name(domain).ok().map(|it| it.as_str().to_owned());
        // What is no UTF-8, or holds a NUL, was refused for that; a text of PostgreSQL can't hold the latter.
        let domain = domain.replace('\0', "\u{fffd}");
        let [detail, detail_zh] =
            [&refusal.detail, &refusal.detail_zh].map(|it| it.replace('\0', "\u{fffd}"));
        let values = [
            before.into(),
            line.cast_signed().into(),
            domain.into(),
            refusal.rule.into(),
            detail.into(),
            detail_zh.into(),
            name.into(),
        ];
        self.session().run(sql, &values).await?;
        Ok(())
    }

    /// Ends what is aside: nothing of it is needed any longer.
    pub(in crate::registry) async fn close(mut self) -> Result<(), StoreError> {
        match self.own {
            Own::Sqlite { connection, files } => {
                let closed = connection.close().await;
                files.remove();
                Ok(closed?)
            }
            Own::Postgres(_) => {
                let drop = [check::DROP, super::swap::DROP, DROP].concat();
                self.script(&placed(Dialect::Postgres, &drop)).await?;
                self.leave().await
            }
        }
    }

    /// Leaves what is aside to whoever goes on with it.
    pub(in crate::registry) async fn leave(self) -> Result<(), StoreError> {
        match self.own {
            Own::Sqlite { connection, .. } => Ok(connection.close().await?),
            Own::Postgres(mut connection) => {
                // The server notices the end of a connection a moment later.
                Session::Postgres(&mut connection).script("SELECT pg_advisory_unlock_all()").await?;
                Ok(connection.close().await?)
            }
        }
    }
}

fn insert_of(rows: usize) -> String {
    let row = format!("(?{})", ",?".repeat(COLUMNS - 1));
    format!("INSERT INTO aside.rows VALUES {}", vec![row; rows].join(","))
}

/// A row as its columns.
fn values_of(n: i64, line: u64, edit: Edit) -> [Value; COLUMNS] {
    let (action, document) = match edit.action {
        Action::Put(document) => (PUT, Some(document)),
        Action::Deregister => (DEREGISTER, None),
        Action::Purge => (PURGE, None),
    };
    let mut values = [const { Value::Null }; COLUMNS];
    (values[0], values[1]) = (n.into(), edit.domain.into());
    (values[2], values[3]) = (line.cast_signed().into(), action.into());
    let Some(document) = document else { return values };
    let site = document.site().cloned();
    let Document { number, state, access, about } = document;
    let former = if site.is_none() { number } else { None };
    values[4] = site.into();
    values[5] = state.as_str().into();
    values[6] = former.into();
    values[7] = serde_json::to_string(&*access).expect("ids and states are JSON").into();
    let texts = [about.subject, about.subject_type, about.site_name, about.public_security_number];
    for (value, text) in values[8..].iter_mut().zip(texts) {
        *value = text.map(String::from).into();
    }
    values
}
