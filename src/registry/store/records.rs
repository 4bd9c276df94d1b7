//! The SQL of records: portable, so that every database takes it.
//!
//! Every table is `id`, the keys of `Kind::keys`, `updated_at_ms` and `body`, which is JSON.

use super::rows::{Decoder, columns};
use super::session::{self, Session, Value};
use super::{Store, StoreError};
use crate::registry::ledger::Ledger;
use crate::registry::model::Stored;
use crate::registry::records::{Brought, Cabinet, Kind, Row, Wanted};
use std::sync::Arc;

/// Rounds in which a plan may ask for more.
const MAX_ROUNDS: usize = 256;
/// The most names that one subject's order may load.
const MAX_NAMES: i64 = 50_000;
/// The most records that one key finds.
const MAX_FOUND: i64 = 10_000;

/// Says what is missing, given what is there; nothing once all is.
pub(in crate::registry) type Plan = Box<dyn FnMut(&mut Ledger) -> Option<Wanted> + Send>;

/// Which records a page is of.
#[derive(Debug, Default)]
pub(in crate::registry) struct RecordFilter<'a> {
    /// Ids after this one.
    pub(in crate::registry) cursor: &'a str,
    /// Keys that must hold these.
    pub(in crate::registry) keys: Vec<(&'static str, &'a str)>,
    pub(in crate::registry) limit: u32,
}

/// A site without an active access anywhere, and since when.
#[derive(Debug)]
pub(in crate::registry) struct Shell {
    pub(in crate::registry) number: String,
    pub(in crate::registry) since_ms: i64,
    pub(in crate::registry) domain: String,
}

/// Loads what a plan asks for, until it asks for nothing more.
pub(super) async fn load_by_plan(
    session: &mut Session<'_>,
    mut plan: Plan,
    ledger: &mut Ledger,
) -> Result<(), StoreError> {
    for _ in 0..MAX_ROUNDS {
        let Some(wanted) = plan(ledger) else { return Ok(()) };
        let brought = bring(session, &wanted, ledger).await?;
        ledger.cabinet.bring(wanted, brought);
    }
    Err(StoreError::Corrupt("an order reaches too far".to_owned()))
}

async fn bring(
    session: &mut Session<'_>,
    wanted: &Wanted,
    ledger: &mut Ledger,
) -> Result<Brought, StoreError> {
    match wanted {
        Wanted::Record(kind, id) => Ok(Brought::Rows(found(session, *kind, "id", id).await?)),
        Wanted::Found(kind, key, value) => Ok(Brought::Rows(found(session, *kind, key, value).await?)),
        Wanted::Domain(domain) => {
            let of_site = format!(
                "{} WHERE d.domain = $1 OR (d.site IS NOT NULL AND \
                d.site = (SELECT o.site FROM domains o WHERE o.domain = $1))",
                columns(session.dialect())
            );
            names(session, &of_site, &[domain.as_ref()], ledger).await.map(Brought::Names)
        }
        Wanted::OfNumber(number) => {
            // `.` is what follows `-`.
            let of_number = format!(
                "{} WHERE (d.site >= $1 AND d.site < $2) \
                OR (d.former_number >= $1 AND d.former_number < $2) ORDER BY d.domain LIMIT {MAX_NAMES}",
                columns(session.dialect())
            );
            let bounds = [format!("{number}-"), format!("{number}.")];
            let bounds = bounds.each_ref().map(String::as_str);
            names(session, &of_number, &bounds, ledger).await.map(Brought::Names)
        }
        Wanted::OfName(name) => {
            let of_name = format!(
                "{} WHERE d.subject = $1 ORDER BY d.domain LIMIT {MAX_NAMES}",
                columns(session.dialect())
            );
            names(session, &of_name, &[name.as_str()], ledger).await.map(Brought::Names)
        }
        Wanted::LastSerial(head) => last_serial(session, head).await.map(Brought::Serial),
    }
}

async fn last_serial(session: &mut Session<'_>, head: &str) -> Result<u64, StoreError> {
    // Numbers of eight digits begin like ones of ten: those are left out by their length.
    let sql = "SELECT max(number) FROM (\
        SELECT number FROM sites WHERE number >= $1 AND number < $2 AND number LIKE $3 UNION ALL \
        SELECT former_number FROM domains WHERE former_number LIKE $3) AS issued";
    let values = [head.into(), format!("{head}:").into(), format!("{head}______号%").into()];
    let row = session.row(sql, &values).await?;
    let highest = match &row {
        Some(row) => row.text(0)?,
        None => None,
    };
    let digits = highest.and_then(|it| it.strip_prefix(head)?.get(..6)?.parse().ok());
    Ok(digits.unwrap_or(0))
}

async fn names(
    session: &mut Session<'_>,
    sql: &str,
    texts: &[&str],
    ledger: &mut Ledger,
) -> Result<Vec<Arc<str>>, StoreError> {
    let values: Vec<Value> = texts.iter().map(|it| (*it).into()).collect();
    let rows = session.rows(sql, &values).await?;
    let mut decoder = Decoder::default();
    let mut names = Vec::with_capacity(rows.len());
    for row in rows {
        let (domain, stored) = decoder.decode(&row)?;
        names.push(domain.clone());
        ledger.load(domain, stored);
    }
    Ok(names)
}

fn select(kind: Kind) -> String {
    let keys: String = kind.keys().iter().map(|it| format!(", {it}")).collect();
    format!("SELECT id, body{keys} FROM {}", kind.table())
}

fn row(kind: Kind, row: &session::Row) -> Result<Row, StoreError> {
    let key = |at: usize| -> Result<Option<String>, sqlx::Error> { Ok(row.text(at + 2)?.map(Into::into)) };
    let keys = (0..kind.keys().len()).map(key).collect::<Result<_, _>>()?;
    Ok(Row { id: row.some_text(0)?.to_owned(), body: row.some_text(1)?.to_owned(), keys })
}

async fn found(
    session: &mut Session<'_>,
    kind: Kind,
    key: &'static str,
    value: &str,
) -> Result<Vec<Row>, StoreError> {
    let sql = format!("{} WHERE {key} = $1 ORDER BY id LIMIT {MAX_FOUND}", select(kind));
    let rows = session.rows(sql, &[value.into()]).await?;
    rows.iter().map(|it| row(kind, it)).collect()
}

/// Writes what differs.
pub(super) async fn put(
    session: &mut Session<'_>,
    differences: Vec<(Kind, Row)>,
    at_ms: i64,
) -> Result<(), StoreError> {
    for (kind, row) in differences {
        let keys = kind.keys();
        let columns: String = keys.iter().map(|it| format!(", {it}")).collect();
        let places: String = (0..keys.len()).map(|at| format!(", ${}", at + 4)).collect();
        let updates: String = keys.iter().map(|it| format!(", {it} = excluded.{it}")).collect();
        let sql = format!(
            "INSERT INTO {} (id, updated_at_ms, body{columns}) VALUES ($1, $2, $3{places}) \
             ON CONFLICT (id) DO UPDATE SET updated_at_ms = excluded.updated_at_ms, body = excluded.body{updates}",
            kind.table()
        );
        let mut values = vec![row.id.into(), at_ms.into(), row.body.into()];
        values.extend(row.keys.into_iter().map(Value::from));
        session.run(sql, &values).await?;
    }
    Ok(())
}

/// A row of the change log.
#[derive(Debug)]
pub(in crate::registry) struct Logged {
    pub(in crate::registry) seq: u64,
    pub(in crate::registry) at_ms: i64,
    pub(in crate::registry) who: String,
    pub(in crate::registry) why: Option<String>,
    pub(in crate::registry) before: Option<String>,
    pub(in crate::registry) after: Option<String>,
}

impl Store {
    /// The changes of exactly one name before a place in the log, the latest first.
    pub(in crate::registry) async fn history(
        &self,
        domain: &str,
        before: u64,
        limit: u32,
    ) -> Result<Vec<Logged>, StoreError> {
        let sql = "SELECT seq, at_ms, who, why, before, after FROM changes WHERE domain = $1 AND seq < $2 \
            ORDER BY seq DESC LIMIT $3";
        let values = [domain.into(), before.cast_signed().into(), i64::from(limit).into()];
        let rows = self.reader().await?.session().rows(sql, &values).await?;
        let logged = |row: &session::Row| -> Result<Logged, StoreError> {
            let text =
                |at: usize| -> Result<Option<String>, sqlx::Error> { Ok(row.text(at)?.map(Into::into)) };
            Ok(Logged {
                seq: row.integer(0)?.cast_unsigned(),
                at_ms: row.integer(1)?,
                who: row.some_text(2)?.to_owned(),
                why: text(3)?,
                before: text(4)?,
                after: text(5)?,
            })
        };
        rows.iter().map(logged).collect()
    }

    /// The documents of a site's names.
    pub(in crate::registry) async fn documents_of_site(
        &self,
        number: &str,
    ) -> Result<Vec<(Arc<str>, Stored)>, StoreError> {
        let mut reader = self.reader().await?;
        let mut session = reader.session();
        let sql = format!("{} WHERE d.site = $1 ORDER BY d.domain", columns(session.dialect()));
        let rows = session.rows(sql, &[number.into()]).await?;
        let mut decoder = Decoder::default();
        rows.iter().map(|row| decoder.decode(row)).collect()
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

    /// Records whose `due_on` is not after a day, the most pressing first.
    pub(in crate::registry) async fn due(
        &self,
        kind: Kind,
        until: &str,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "{} WHERE due_on IS NOT NULL AND due_on <= $1 ORDER BY due_on, id LIMIT $2",
            select(kind)
        );
        let rows = self.reader().await?.session().rows(sql, &[until.into(), i64::from(limit).into()]).await?;
        rows.iter().map(|it| row(kind, it)).collect()
    }

    /// Empty-shell sites (空壳网站), the oldest first.
    pub(in crate::registry) async fn shells(&self, limit: u32) -> Result<Vec<Shell>, StoreError> {
        let sql = "SELECT s.number, s.shell_since_ms, min(d.domain) FROM sites s JOIN domains d ON d.site = s.number \
            WHERE s.shell_since_ms IS NOT NULL GROUP BY s.number, s.shell_since_ms \
            ORDER BY s.shell_since_ms, s.number LIMIT $1";
        let rows = self.reader().await?.session().rows(sql, &[i64::from(limit).into()]).await?;
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
        let sql = "SELECT number FROM sites WHERE number > $1 AND ($2 = '' OR (number >= $2 AND number < $3)) \
            ORDER BY number LIMIT $4";
        let (from, to) = subject.map_or_else(Default::default, |it| (format!("{it}-"), format!("{it}.")));
        let values = [after.into(), from.into(), to.into(), i64::from(limit).into()];
        let rows = self.reader().await?.session().rows(sql, &values).await?;
        rows.iter().map(|it| Ok(it.some_text(0)?.to_owned())).collect()
    }

    /// What a plan asks for, read and not written.
    pub(in crate::registry) async fn consult(&self, plan: Plan) -> Result<Ledger, StoreError> {
        let mut reading = self.reading().await?;
        let mut ledger = Ledger::default();
        load_by_plan(&mut reading.session(), plan, &mut ledger).await?;
        Ok(ledger)
    }
}

/// Takes the cabinet out of a ledger, to be written.
pub(super) fn taken(ledger: &mut Ledger) -> Vec<(Kind, Row)> {
    std::mem::take::<Cabinet>(&mut ledger.cabinet).differences()
}
