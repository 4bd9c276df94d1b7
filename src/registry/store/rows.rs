//! Rows of the database as documents.

use super::StoreError;
use super::session::{Dialect, Row};
use crate::filing::FilingState;
use crate::registry::model::{About, Access, Document, Stored};
use std::collections::HashMap;
use std::sync::Arc;

/// What decides of a document.
fn deciding(dialect: Dialect) -> String {
    let access = dialect.object_of("a.provider", "a.state");
    format!(
        "SELECT d.domain, d.state, COALESCE(d.site, d.former_number), \
         COALESCE(d.own_access, (SELECT {access} FROM accesses a WHERE a.site = d.site))"
    )
}

/// Selects what `Decoder::decode_deciding` reads, in its order.
pub(super) fn deciding_columns(dialect: Dialect) -> String {
    format!("{} FROM domains d", deciding(dialect))
}

/// Selects what `Decoder` reads, in its order.
pub(super) fn columns(dialect: Dialect) -> String {
    format!(
        "{}, d.subject, d.subject_type, d.site_name, d.public_security_number, d.updated_at_ms, d.seq FROM domains d",
        deciding(dialect)
    )
}

/// Whether a name's site is, or was, of a subject: its number lies between these two values. By the indexes of both,
/// for with an OR a planner may look at all names.
pub(super) fn is_of_number(from: usize, to: usize) -> String {
    let within =
        |column: &str| format!("SELECT domain FROM domains WHERE {column} >= ${from} AND {column} < ${to}");
    format!("d.domain IN ({} UNION ALL {})", within("site"), within("former_number"))
}

/// Most sites have one of a few sets of accesses: those are shared in memory, up to this many.
const MAX_SHARED: usize = 4096;

/// Reads rows; sets of accesses that are alike are one in memory.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    shared: HashMap<Box<str>, Arc<Access>>,
}

impl Decoder {
    /// The document in a row.
    pub(super) fn decode(&mut self, row: &Row) -> Result<(Arc<str>, Stored), StoreError> {
        let (domain, mut document) = self.decode_deciding(row)?;
        let text = |at: usize| -> Result<Option<Box<str>>, sqlx::Error> { Ok(row.text(at)?.map(Into::into)) };
        document.about = About {
            subject: text(4)?,
            subject_type: text(5)?,
            site_name: text(6)?,
            public_security_number: text(7)?,
        };
        let seq = row.integer(9)?.cast_unsigned();
        Ok((domain, Stored { document, updated_at_ms: row.integer(8)?, seq }))
    }

    /// What decides of the document in a row: its first four columns.
    pub(super) fn decode_deciding(&mut self, row: &Row) -> Result<(Arc<str>, Document), StoreError> {
        self.decode_fields([
            row.some_text(0)?,
            row.some_text(1)?,
            row.text(2)?.unwrap_or_default(),
            row.text(3)?.unwrap_or_default(),
        ])
    }

    /// The document of these fields: domain, state, number and accesses, empty where there are none.
    pub(super) fn decode_fields(
        &mut self,
        [domain, state, number, access]: [&str; 4],
    ) -> Result<(Arc<str>, Document), StoreError> {
        let state: FilingState =
            state.parse().map_err(|_| StoreError::Corrupt(format!("state `{state}` of {domain}")))?;
        let number = Some(number).filter(|it| !it.is_empty());
        let access = self.access(Some(access).filter(|it| !it.is_empty()), domain)?;
        let document = Document { number: number.map(Into::into), state, access, about: About::default() };
        Ok((domain.into(), document))
    }

    fn access(&mut self, json: Option<&str>, domain: &str) -> Result<Arc<Access>, StoreError> {
        let Some(json) = json else { return Ok(Arc::default()) };
        if let Some(access) = self.shared.get(json) {
            return Ok(access.clone());
        }
        let access: Access = serde_json::from_str(json)
            .map_err(|error| StoreError::Corrupt(format!("accesses of {domain}: {error}")))?;
        let access = Arc::new(access);
        if self.shared.len() < MAX_SHARED {
            self.shared.insert(json.into(), access.clone());
        }
        Ok(access)
    }
}
