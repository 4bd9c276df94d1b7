//! Staged rows become the content in one transaction: what differs is found first, aside, while others write.
//!
//! What `Ledger` says of the same rows in memory holds here too; a property test compares the two.

mod sql;

use super::history::{put_meta, read_meta, turn_epoch};
use super::log::{Stretch, changes_in};
use super::session::Dialect;
use super::stage::{Stage, placed, tables};
use super::write::{Author, drop_indexes};
use super::{Meta, StoreError};
use crate::registry::model::Change;

/// What a swap did.
#[derive(Debug)]
pub(in crate::registry) struct Swapped {
    pub(in crate::registry) created: u64,
    pub(in crate::registry) updated: u64,
    pub(in crate::registry) deleted: u64,
    /// Rows that asked for what was so already.
    pub(in crate::registry) unchanged: u64,
    /// Rows that are left out, those included that never came so far.
    pub(in crate::registry) refused: u64,
    /// The changes, to be fed; `None` where they began a new epoch.
    pub(in crate::registry) fed: Option<Vec<Change>>,
    /// The history after it.
    pub(in crate::registry) meta: Meta,
}

/// What differs, found against the content as of a position.
#[derive(Debug)]
pub(in crate::registry) struct Differences {
    epoch: u64,
    seq: u64,
    is_fresh: bool,
    /// Rows that can't be done, beside those that were refused before.
    pub(in crate::registry) refused: u64,
    /// Filings that refused rows are about, and that would be forgotten.
    pub(in crate::registry) forgets: u64,
}

/// How a swap is done.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct Terms<'a> {
    pub(in crate::registry) author: Author<'a>,
    /// More changes than this begin a new epoch.
    pub(in crate::registry) most_fed: usize,
}

pub(super) use sql::DROP;

impl Stage {
    /// Finds what the rows change. Reads the database as of one commit, and holds nobody up.
    pub(in crate::registry) async fn differences(
        &mut self,
        is_whole: bool,
    ) -> Result<Differences, StoreError> {
        let dialect = self.dialect();
        let begin = match dialect {
            Dialect::Sqlite => "BEGIN",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        };
        self.script(begin).await?;
        let Meta { epoch, seq, .. } = read_meta(&mut self.session()).await?;
        let filed = self.number("SELECT count(*) FROM (SELECT 1 FROM main.domains LIMIT 1) AS filed").await?;
        self.script(&placed(dialect, DROP)).await?;
        self.script(&tables(dialect, sql::TABLES)).await?;
        let is_fresh = filed == 0;
        let (mut refused, mut forgets) = (0, 0);
        if is_whole {
            forgets = self.number(sql::FORGETS).await?.unsigned_abs();
        } else {
            self.run(sql::FILED_SINCE).await?;
            refused = self.run(sql::NOT_FILED).await?;
        }
        self.run(if is_fresh { sql::FRESH } else { sql::FOUND }).await?;
        if !is_fresh {
            for statement in if is_whole { sql::replace(dialect) } else { sql::merge(dialect) } {
                self.run(&statement).await?;
            }
        }
        self.script("COMMIT").await?;
        if dialect == Dialect::Postgres {
            self.script("ANALYZE import_found; ANALYZE import_kept").await?;
        }
        Ok(Differences { epoch, seq, is_fresh, refused, forgets })
    }

    /// Makes the rows the content, in one transaction; the caller holds the writer. `None` where what was found no
    /// longer holds: nothing is changed then, and `differences` is to be asked again, under the writer.
    pub(in crate::registry) async fn swap(
        &mut self,
        found: &Differences,
        terms: Terms<'_>,
    ) -> Result<Option<Swapped>, StoreError> {
        match self.dialect() {
            Dialect::Sqlite => self.script("BEGIN IMMEDIATE").await?,
            Dialect::Postgres => {
                self.script("BEGIN").await?;
                // As every writer does: positions are given in the order of commits.
                self.number("SELECT seq FROM meta FOR UPDATE").await?;
            }
        }
        let swapped = self.swap_within(found, terms).await;
        let end = if matches!(swapped, Ok(Some(_))) { "COMMIT" } else { "ROLLBACK" };
        let ended = self.script(end).await;
        let swapped = swapped?;
        ended?;
        Ok(swapped)
    }

    async fn swap_within(
        &mut self,
        found: &Differences,
        terms: Terms<'_>,
    ) -> Result<Option<Swapped>, StoreError> {
        let mut meta = read_meta(&mut self.session()).await?;
        if (meta.epoch, meta.seq) != (found.epoch, found.seq) {
            return Ok(None);
        }
        let mut swapped = self.counted(found, meta.clone()).await?;
        let changes = self.write(found, terms, meta.seq).await?;
        if changes == 0 {
            swapped.fed = Some(Vec::new());
            return Ok(Some(swapped));
        }
        let after = meta.seq;
        meta.seq += changes;
        if usize::try_from(changes).is_ok_and(|changes| changes <= terms.most_fed) {
            put_meta(&mut self.session(), &meta).await?;
            let stretch = Stretch { after, to: meta.seq, most: usize::MAX };
            let fed = changes_in(&mut self.session(), stretch).await?;
            swapped.fed = Some(fed.into_iter().map(|(_, change)| change).collect());
        } else {
            turn_epoch(&mut self.session(), &mut meta).await?;
        }
        swapped.meta = meta;
        Ok(Some(swapped))
    }

    /// What a swap would do to the content as it was when the differences were found.
    pub(in crate::registry) async fn would_be(&mut self, found: &Differences) -> Result<Swapped, StoreError> {
        let meta = read_meta(&mut self.session()).await?;
        self.counted(found, meta).await
    }

    async fn counted(&mut self, found: &Differences, meta: Meta) -> Result<Swapped, StoreError> {
        let sql = placed(
            self.dialect(),
            "SELECT CAST(outcome AS BIGINT), count(*) FROM work.changed GROUP BY outcome",
        );
        let rows = self.session().rows(sql, &[]).await?;
        let (mut created, mut updated, mut deleted) = (0, 0, 0);
        for row in &rows {
            let count = row.integer(1)?.unsigned_abs();
            match row.integer(0)? {
                sql::CREATED => created = count,
                sql::UPDATED => updated = count,
                sql::DELETED => deleted = count,
                _ => {}
            }
        }
        let unchanged = self.left_over() - found.refused - created - updated - deleted;
        let refused = self.refused_so_far() + found.refused;
        Ok(Swapped { created, updated, deleted, unchanged, refused, fed: None, meta })
    }

    /// Writes everything but the position; says how many names changed.
    async fn write(&mut self, found: &Differences, terms: Terms<'_>, seq: u64) -> Result<u64, StoreError> {
        let Author { who, at_ms } = terms.author;
        let (dialect, place) = (self.dialect(), (seq.cast_signed(), at_ms));
        let log = placed(dialect, &sql::log(dialect, found.is_fresh, place));
        let values = [who.name.clone().into(), who.request.clone().into(), who.why.clone().into()];
        let changes = self.session().run(log, &values).await?;
        if changes == 0 {
            return Ok(0);
        }
        let count = usize::try_from(changes).unwrap_or(usize::MAX);
        let indexes = drop_indexes(&mut self.session(), count).await?;
        for statement in sql::content(dialect, place) {
            self.run(&statement).await?;
        }
        for index in indexes {
            self.script(&index).await?;
        }
        Ok(changes)
    }

    /// Moves what was committed into the database's file. Others may write meanwhile; readers that hold on to
    /// what was before leave some of it for later.
    pub(in crate::registry) async fn settle(&mut self) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Postgres {
            // Made of what it was before: whoever reads next is to find the way.
            return self.script("ANALYZE domains; ANALYZE sites; ANALYZE accesses").await;
        }
        for mode in ["PRAGMA main.wal_checkpoint(PASSIVE)", "PRAGMA main.wal_checkpoint(TRUNCATE)"] {
            self.session().rows(mode, &[]).await?;
        }
        Ok(())
    }
}
