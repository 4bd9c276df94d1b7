//! The SQL of what the API lists, a page at a time: records, the change log, what is due, sites.
//!
//! Every statement finds its rows by an index, in the order in which they are listed; a test asks both databases.

use super::records::{row, select};
use super::session::{self, Value};
use super::{Store, StoreError};
use crate::registry::records::{Kind, Row};

/// Which records a page is of.
#[derive(Debug, Default)]
pub(in crate::registry) struct RecordFilter<'a> {
    /// Ids after this one.
    pub(in crate::registry) cursor: &'a str,
    /// Keys that must hold these.
    pub(in crate::registry) keys: Vec<(&'static str, &'a str)>,
    pub(in crate::registry) limit: u32,
}

/// Records that have a day by which something is due.
#[derive(Debug)]
pub(in crate::registry) struct DueFilter<'a> {
    /// The column of that day.
    pub(in crate::registry) day: &'static str,
    /// Not after this day.
    pub(in crate::registry) until: &'a str,
    /// After this day and id.
    pub(in crate::registry) after: (&'a str, &'a str),
    /// Orders in this stage.
    pub(in crate::registry) stage: Option<&'static str>,
    pub(in crate::registry) limit: u32,
}

/// A site without an active access anywhere, and since when.
#[derive(Debug)]
pub(in crate::registry) struct Shell {
    pub(in crate::registry) number: String,
    pub(in crate::registry) since_ms: i64,
    pub(in crate::registry) domain: String,
}

/// Which changes a page is of; each given part narrows it.
#[derive(Debug, Default)]
pub(in crate::registry) struct ChangeFilter<'a> {
    /// Changes before this one.
    pub(in crate::registry) before: u64,
    /// Of records of this kind, as the log calls it; of filings without.
    pub(in crate::registry) kind: Option<&'static str>,
    /// Of exactly this name, or the record of this id.
    pub(in crate::registry) of: Option<&'a str>,
    /// Asked for by this request.
    pub(in crate::registry) request: Option<&'a str>,
    pub(in crate::registry) limit: u32,
}

/// A row of the change log.
#[derive(Debug)]
pub(in crate::registry) struct Logged {
    pub(in crate::registry) seq: u64,
    pub(in crate::registry) at_ms: i64,
    pub(in crate::registry) who: String,
    pub(in crate::registry) request: Option<String>,
    /// The name, or the record's id.
    pub(in crate::registry) of: String,
    pub(in crate::registry) why: Option<String>,
    pub(in crate::registry) before: Option<String>,
    pub(in crate::registry) after: Option<String>,
}

impl Logged {
    fn of(row: &session::Row) -> Result<Self, StoreError> {
        let text = |at: usize| -> Result<Option<String>, sqlx::Error> { Ok(row.text(at)?.map(Into::into)) };
        Ok(Self {
            seq: row.integer(0)?.cast_unsigned(),
            at_ms: row.integer(1)?,
            who: row.some_text(2)?.to_owned(),
            request: text(3)?,
            of: row.some_text(4)?.to_owned(),
            why: text(5)?,
            before: text(6)?,
            after: text(7)?,
        })
    }
}

impl Store {
    /// Changes before a place in the log, the latest first.
    pub(in crate::registry) async fn changes(
        &self,
        filter: &ChangeFilter<'_>,
    ) -> Result<Vec<Logged>, StoreError> {
        let (table, of) =
            if filter.kind.is_some() { ("record_changes", "record") } else { ("changes", "domain") };
        let mut sql =
            format!("SELECT seq, at_ms, who, request, {of}, why, before, after FROM {table} WHERE seq < $1");
        let mut values = vec![filter.before.cast_signed().into(), i64::from(filter.limit).into()];
        for (column, value) in [("kind", filter.kind), (of, filter.of), ("request", filter.request)] {
            if let Some(value) = value {
                values.push(value.into());
                sql.push_str(&format!(" AND {column} = ${}", values.len()));
            }
        }
        sql.push_str(" ORDER BY seq DESC LIMIT $2");
        let rows = self.reader().await?.session().rows(sql, &values).await?;
        rows.iter().map(Logged::of).collect()
    }

    /// A page of records, by id.
    pub(in crate::registry) async fn records(
        &self,
        kind: Kind,
        filter: &RecordFilter<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let wheres: String = filter
            .keys
            .iter()
            .enumerate()
            .map(|(at, (key, _))| format!(" AND {key} = ${}", at + 3))
            .collect();
        let sql = format!("{} WHERE id > $1{wheres} ORDER BY id LIMIT $2", select(kind));
        let mut values = vec![filter.cursor.into(), i64::from(filter.limit).into()];
        values.extend(filter.keys.iter().map(|(_, value)| Value::from(*value)));
        let rows = self.reader().await?.session().rows(sql, &values).await?;
        rows.iter().map(|it| row(kind, it)).collect()
    }

    /// Records of which something is due, the most pressing first.
    pub(in crate::registry) async fn due(
        &self,
        kind: Kind,
        filter: &DueFilter<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let DueFilter { day, until, after, stage, limit } = filter;
        let in_stage = if stage.is_some() { " AND stage = $5" } else { "" };
        let sql = format!(
            "{} WHERE {day} IS NOT NULL AND {day} <= $1 AND ({day}, id) > ($2, $3){in_stage} \
             ORDER BY {day}, id LIMIT $4",
            select(kind)
        );
        let mut values = vec![(*until).into(), after.0.into(), after.1.into(), i64::from(*limit).into()];
        values.extend(stage.map(Value::from));
        let rows = self.reader().await?.session().rows(sql, &values).await?;
        rows.iter().map(|it| row(kind, it)).collect()
    }

    /// Empty-shell sites (空壳网站) after a time and a number, the oldest first.
    pub(in crate::registry) async fn shells(
        &self,
        after: (i64, &str),
        limit: u32,
    ) -> Result<Vec<Shell>, StoreError> {
        let sql = "SELECT s.number, s.shell_since_ms, (SELECT min(d.domain) FROM domains d WHERE d.site = s.number) \
            FROM sites s WHERE s.shell_since_ms IS NOT NULL AND (s.shell_since_ms, s.number) > ($1, $2) \
            ORDER BY s.shell_since_ms, s.number LIMIT $3";
        let values = [after.0.into(), after.1.into(), i64::from(limit).into()];
        let rows = self.reader().await?.session().rows(sql, &values).await?;
        let shell = |row: &session::Row| -> Result<Shell, StoreError> {
            let (number, domain) = (row.some_text(0)?.to_owned(), row.some_text(2)?.to_owned());
            Ok(Shell { number, since_ms: row.integer(1)?, domain })
        };
        rows.iter().map(shell).collect()
    }

    /// Numbers of sites after one, by number; of one subject where that is given.
    pub(in crate::registry) async fn site_numbers(
        &self,
        after: &str,
        subject: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        // `.` is what follows `-`.
        let bounds = subject.map(|it| (format!("{it}-"), format!("{it}.")));
        let mut values: Vec<Value> = vec![after.into(), i64::from(limit).into()];
        let within = match bounds {
            Some((from, to)) => {
                values.extend([from.into(), to.into()]);
                " AND number >= $3 AND number < $4"
            }
            None => "",
        };
        let sql = format!("SELECT number FROM sites WHERE number > $1{within} ORDER BY number LIMIT $2");
        let rows = self.reader().await?.session().rows(sql, &values).await?;
        rows.iter().map(|it| Ok(it.some_text(0)?.to_owned())).collect()
    }
}
