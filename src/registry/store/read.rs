//! Documents by name, page by page, and all of them.

use super::rows::{Decoder, columns, is_of_number};
use super::session::{Session, Value};
use super::{Meta, Store, StoreError, read_meta};
use crate::registry::model::Stored;
use futures_util::TryStreamExt;
use std::sync::Arc;

/// What a subject's filings are found by.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) enum SubjectKey<'a> {
    Name(&'a str),
    /// As its sites' numbers begin.
    Number(&'a str),
}

/// States that few names have: an index finds those.
const FEW: &str = "('pending', 'restricted', 'deregistered')";

/// What a page of the listing is of; each given part narrows it.
#[derive(Debug, Default)]
pub(in crate::registry) struct PageFilter<'a> {
    /// Names after this one.
    pub(in crate::registry) cursor: &'a str,
    pub(in crate::registry) prefix: &'a str,
    pub(in crate::registry) subject: Option<SubjectKey<'a>>,
    pub(in crate::registry) state: Option<&'a str>,
    pub(in crate::registry) limit: u32,
}

impl PageFilter<'_> {
    /// Conditions on `domains d`, with their values; the first value is the limit.
    fn wheres(&self) -> (String, Vec<Value>) {
        let mut values: Vec<Value> = vec![i64::from(self.limit).into()];
        let mut place = |value: Value| {
            values.push(value);
            values.len()
        };
        let mut wheres = match self.prefix.is_empty() || self.cursor >= self.prefix {
            true => format!("d.domain > ${}", place(self.cursor.into())),
            false => format!("d.domain >= ${}", place(self.prefix.into())),
        };
        if !self.prefix.is_empty() {
            // Names are ASCII below `~`.
            wheres += &format!(" AND d.domain < ${}", place(format!("{}~", self.prefix).into()));
        }
        if let Some(state) = self.state {
            wheres += &format!(" AND d.state = ${}", place(state.into()));
            if FEW.contains(&format!("'{state}'")) {
                wheres += &format!(" AND d.state IN {FEW}");
            }
        }
        match self.subject {
            None => {}
            Some(SubjectKey::Name(name)) => {
                wheres += &format!(" AND d.subject = ${}", place(name.into()));
            }
            Some(SubjectKey::Number(number)) => {
                // `.` is what follows `-`.
                let (from, to) = (place(format!("{number}-").into()), place(format!("{number}.").into()));
                wheres += &format!(" AND {}", is_of_number(from, to));
            }
        }
        (wheres, values)
    }
}

impl Store {
    /// The history that the database is in.
    pub(in crate::registry) async fn meta(&self) -> Result<Meta, StoreError> {
        read_meta(&mut self.reader().await?.session()).await
    }

    /// The documents of exactly these names.
    pub(in crate::registry) async fn documents(
        &self,
        domains: &[&str],
    ) -> Result<Vec<(Arc<str>, Stored)>, StoreError> {
        let mut reader = self.reader().await?;
        let mut session = reader.session();
        let dialect = session.dialect();
        let sql = format!("{} WHERE {}", columns(dialect), dialect.is_one_of("d.domain", 1));
        let names = serde_json::Value::from(domains).to_string();
        let rows = session.rows(sql, &[names.into()]).await?;
        let mut decoder = Decoder::default();
        rows.iter().map(|row| decoder.decode(row)).collect()
    }

    /// A page of documents, by name.
    pub(in crate::registry) async fn page(
        &self,
        filter: &PageFilter<'_>,
    ) -> Result<Vec<(Arc<str>, Stored)>, StoreError> {
        let mut reader = self.reader().await?;
        let mut session = reader.session();
        let (wheres, values) = filter.wheres();
        let sql = format!("{} WHERE {wheres} ORDER BY d.domain LIMIT $1", columns(session.dialect()));
        let rows = session.rows(sql, &values).await?;
        let mut decoder = Decoder::default();
        rows.iter().map(|row| decoder.decode(row)).collect()
    }

    /// Whether more names are filed than so many.
    pub(in crate::registry) async fn has_more_than(&self, names: usize) -> Result<bool, StoreError> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM domains LIMIT 1 OFFSET $1) AS more";
        let names = i64::try_from(names).unwrap_or(i64::MAX);
        Ok(self.reader().await?.session().number(sql, &[names.into()]).await? != 0)
    }

    /// Whether nothing is filed.
    pub(in crate::registry) async fn is_empty(&self) -> Result<bool, StoreError> {
        is_empty(&mut self.reader().await?.session()).await
    }

    /// Gives every document to `take`, by name, as one consistent state.
    pub(in crate::registry) async fn scan(
        &self,
        mut take: impl FnMut(Arc<str>, Stored) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        scan(self.reader().await?.session(), &mut take).await
    }
}

/// Whether nothing is filed.
pub(super) async fn is_empty(session: &mut Session<'_>) -> Result<bool, StoreError> {
    Ok(session.number("SELECT count(*) FROM (SELECT 1 FROM domains LIMIT 1) filed", &[]).await? == 0)
}

/// Gives every document to `take`, by name.
pub(super) async fn scan(
    session: Session<'_>,
    take: &mut impl FnMut(Arc<str>, Stored) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let sql = format!("{} ORDER BY d.domain", columns(session.dialect()));
    let mut rows = session.stream(sql, &[]);
    let mut decoder = Decoder::default();
    while let Some(row) = rows.try_next().await? {
        let (domain, stored) = decoder.decode(&row)?;
        take(domain, stored)?;
    }
    Ok(())
}
