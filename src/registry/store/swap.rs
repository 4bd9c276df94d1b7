//! Staged rows become the content in one transaction: what differs is found first, aside, while others write.
//!
//! What `Ledger` says of the same rows in memory holds here too; a property test compares the two.

mod sql;

use super::history::{put_meta, read_meta, turn_epoch};
use super::log::{Stretch, changes_in};
use super::session::Session;
use super::stage::Stage;
use super::write::{Author, drop_indexes};
use super::{Meta, StoreError};
use crate::registry::model::Change;
use sqlx::AssertSqlSafe;

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

impl Stage {
    fn session(&mut self) -> Session<'_> {
        Session::Sqlite(&mut self.connection)
    }

    /// Finds what the rows change. Reads the database as of one commit, and holds nobody up.
    pub(in crate::registry) async fn differences(
        &mut self,
        is_whole: bool,
    ) -> Result<Differences, StoreError> {
        self.run("BEGIN").await?;
        let Meta { epoch, seq, .. } = read_meta(&mut self.session()).await?;
        let filed: i64 = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM main.domains)")
            .fetch_one(&mut self.connection)
            .await?;
        sqlx::raw_sql(sql::TABLES).execute(&mut self.connection).await?;
        let is_fresh = filed == 0;
        let (mut refused, mut forgets) = (0, 0);
        if is_whole {
            let count: i64 = sqlx::query_scalar(sql::FORGETS).fetch_one(&mut self.connection).await?;
            forgets = count.unsigned_abs();
        } else {
            self.run(sql::FILED_SINCE).await?;
            refused = self.run(sql::NOT_FILED).await?;
        }
        self.run(if is_fresh { sql::FRESH } else { sql::FOUND }).await?;
        if !is_fresh {
            for statement in if is_whole { sql::replace() } else { sql::merge() } {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut self.connection).await?;
            }
        }
        self.run("COMMIT").await?;
        Ok(Differences { epoch, seq, is_fresh, refused, forgets })
    }

    /// Makes the rows the content, in one transaction; the caller holds the writer. `None` where what was found no
    /// longer holds: nothing is changed then, and `differences` is to be asked again, under the writer.
    pub(in crate::registry) async fn swap(
        &mut self,
        found: &Differences,
        terms: Terms<'_>,
    ) -> Result<Option<Swapped>, StoreError> {
        self.run("BEGIN IMMEDIATE").await?;
        let swapped = self.swap_within(found, terms).await;
        let end = if matches!(swapped, Ok(Some(_))) { "COMMIT" } else { "ROLLBACK" };
        let ended = self.run(end).await;
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

    async fn counted(&mut self, found: &Differences, meta: Meta) -> Result<Swapped, StoreError> {
        let rows: Vec<(i64, i64)> =
            sqlx::query_as("SELECT outcome, count(*) FROM aside.changed GROUP BY outcome")
                .fetch_all(&mut self.connection)
                .await?;
        let of = |outcome: i64| {
            rows.iter().find(|it| it.0 == outcome).map_or(0, |(_, count)| count.unsigned_abs())
        };
        let (created, updated, deleted) = (of(sql::CREATED), of(sql::UPDATED), of(sql::DELETED));
        let unchanged = self.left() - found.refused - created - updated - deleted;
        let refused = self.refused_so_far() + found.refused;
        Ok(Swapped { created, updated, deleted, unchanged, refused, fed: None, meta })
    }

    /// Writes everything but the position; says how many names changed.
    async fn write(&mut self, found: &Differences, terms: Terms<'_>, seq: u64) -> Result<u64, StoreError> {
        let Author { who, at_ms } = terms.author;
        let log = sqlx::query(AssertSqlSafe(sql::log(found.is_fresh)))
            .persistent(false)
            .bind(seq.cast_signed())
            .bind(at_ms)
            .bind(who);
        let changes = log.execute(&mut self.connection).await?.rows_affected();
        if changes == 0 {
            return Ok(0);
        }
        for statement in sql::ACCESSES {
            self.run(statement).await?;
        }
        self.run(sql::NEW_ACCESSES).await?;
        for statement in sql::NEW_SITES {
            let query = sqlx::query(*statement).persistent(false).bind(seq.cast_signed()).bind(at_ms);
            query.execute(&mut self.connection).await?;
        }
        for statement in sql::SITES {
            self.run(statement).await?;
        }
        let count = usize::try_from(changes).unwrap_or(usize::MAX);
        let indexes = drop_indexes(&mut self.session(), count).await?;
        sqlx::query(sql::DOMAINS)
            .persistent(false)
            .bind(seq.cast_signed())
            .bind(at_ms)
            .execute(&mut self.connection)
            .await?;
        for index in indexes {
            sqlx::raw_sql(AssertSqlSafe(index)).execute(&mut self.connection).await?;
        }
        Ok(changes)
    }

    /// Moves what was committed into the database's file. Others may write meanwhile; readers that hold on to
    /// what was before leave some of it for later.
    pub(in crate::registry) async fn settle(&mut self) -> Result<(), StoreError> {
        for mode in ["PRAGMA main.wal_checkpoint(PASSIVE)", "PRAGMA main.wal_checkpoint(TRUNCATE)"] {
            sqlx::query(mode).fetch_all(&mut self.connection).await?;
        }
        Ok(())
    }
}
