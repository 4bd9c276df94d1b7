//! The SQL of records: portable, so that every database takes it.
//!
//! Every table is `id`, the keys of `Kind::keys`, `updated_at_ms` and `body`, which is JSON.

use super::rows::{Decoder, columns, is_of_number};
use super::session::{self, Session, Value};
use super::write::Author;
use super::{Store, StoreError};
use crate::registry::ledger::Ledger;
use crate::registry::model::Stored;
use crate::registry::records::{Brought, Cabinet, Kind, RecordDifference, Row, Wanted};
use std::sync::Arc;

/// Rounds in which a plan may ask for more.
const MAX_ROUNDS: usize = 256;
/// The most names that one subject's order may load.
const MAX_NAMES: i64 = 50_000;
/// The most records that one key finds.
const MAX_FOUND: i64 = 10_000;

/// Says what is missing, given what is there; nothing once all is.
pub(in crate::registry) type Plan = Box<dyn FnMut(&mut Ledger) -> Option<Wanted> + Send>;

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
            let of_number = format!(
                "{} WHERE {} ORDER BY d.domain LIMIT {MAX_NAMES}",
                columns(session.dialect()),
                is_of_number(1, 2)
            );
            // `.` is what follows `-`.
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
    let last = |table: &str, number: &str| {
        format!(
            "SELECT number FROM (SELECT {number} AS number FROM {table} WHERE {number} >= $1 AND {number} < $2 \
             AND {number} LIKE $3 ORDER BY {number} DESC LIMIT 1) AS last_of_{table}"
        )
    };
    let (now, once) = (last("sites", "number"), last("domains", "former_number"));
    let sql = format!("SELECT max(number) FROM ({now} UNION ALL {once}) AS issued");
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

pub(super) fn select(kind: Kind) -> String {
    let keys: String = kind.keys().iter().map(|it| format!(", {it}")).collect();
    format!("SELECT id, body{keys} FROM {}", kind.table())
}

pub(super) fn row(kind: Kind, row: &session::Row) -> Result<Row, StoreError> {
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
    differences: &[RecordDifference],
    at_ms: i64,
) -> Result<(), StoreError> {
    for RecordDifference { kind, now: row, .. } in differences {
        let keys = kind.keys();
        let columns: String = keys.iter().map(|it| format!(", {it}")).collect();
        let places: String = (0..keys.len()).map(|at| format!(", ${}", at + 4)).collect();
        let updates: String = keys.iter().map(|it| format!(", {it} = excluded.{it}")).collect();
        let sql = format!(
            "INSERT INTO {} (id, updated_at_ms, body{columns}) VALUES ($1, $2, $3{places}) \
             ON CONFLICT (id) DO UPDATE SET updated_at_ms = excluded.updated_at_ms, body = excluded.body{updates}",
            kind.table()
        );
        let mut values = vec![row.id.as_str().into(), at_ms.into(), row.body.as_str().into()];
        values.extend(row.keys.iter().map(|it| Value::from(it.as_deref())));
        session.run(sql, &values).await?;
    }
    Ok(())
}

/// Says in the change log what became of records, numbered in the order of commits: whoever writes is the only one.
pub(super) async fn log(
    session: &mut Session<'_>,
    differences: &[RecordDifference],
    (author, why): (Author<'_>, Option<&str>),
) -> Result<(), StoreError> {
    let sql = "INSERT INTO record_changes (seq, at_ms, who, request, kind, record, why, before, after) \
               VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM record_changes), $1, $2, $3, $4, $5, $6, $7, $8)";
    for RecordDifference { kind, before, now } in differences {
        let Some(kind) = kind.logged_as() else { continue };
        let values = [
            author.at_ms.into(),
            author.who.name.clone().into(),
            author.who.request.clone().into(),
            kind.into(),
            now.id.as_str().into(),
            why.into(),
            before.as_ref().map(|it| it.body.as_str()).into(),
            now.body.as_str().into(),
        ];
        session.run(sql, &values).await?;
    }
    Ok(())
}

impl Store {
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

    /// What a plan asks for, read and not written.
    pub(in crate::registry) async fn consult(&self, plan: Plan) -> Result<Ledger, StoreError> {
        let mut reading = self.reading().await?;
        let mut ledger = Ledger::default();
        load_by_plan(&mut reading.session(), plan, &mut ledger).await?;
        Ok(ledger)
    }
}

/// Takes the cabinet out of a ledger, to be written.
pub(super) fn taken(ledger: &mut Ledger) -> Vec<RecordDifference> {
    std::mem::take::<Cabinet>(&mut ledger.cabinet).differences()
}
