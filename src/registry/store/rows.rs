//! Rows of the database as documents.

use super::StoreError;
use crate::filing::FilingState;
use crate::registry::model::{About, Access, Document, Stored};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::HashMap;
use std::sync::Arc;

/// Selects what `Decoder` reads, in its order.
pub(super) const COLUMNS: &str = "SELECT d.domain, d.state, COALESCE(d.site, d.former_number), \
    COALESCE(d.own_access, \
        (SELECT json_group_object(a.provider, a.state) FROM accesses a WHERE a.site = d.site)), \
    d.subject, d.subject_type, d.site_name, d.public_security_number, d.updated_at_ms, d.seq \
    FROM domains d";
/// Most sites have one of a few sets of accesses: those are shared in memory, up to this many.
const MAX_SHARED: usize = 4096;

/// Reads rows; sets of accesses that are alike are one in memory.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    shared: HashMap<Box<str>, Arc<Access>>,
}

impl Decoder {
    /// The document in a row.
    pub(super) fn decode(&mut self, row: &SqliteRow) -> Result<(Arc<str>, Stored), StoreError> {
        let (domain, mut document) = self.decode_deciding(row)?;
        let text = |at: usize| -> Result<Option<Box<str>>, sqlx::Error> {
            Ok(row.try_get::<Option<&str>, _>(at)?.map(Into::into))
        };
        document.about = About {
            subject: text(4)?,
            subject_type: text(5)?,
            site_name: text(6)?,
            public_security_number: text(7)?,
        };
        let seq = row.try_get::<i64, _>(9)?.cast_unsigned();
        Ok((domain, Stored { document, updated_at_ms: row.try_get(8)?, seq }))
    }

    /// What decides of the document in a row: its first four columns.
    pub(super) fn decode_deciding(&mut self, row: &SqliteRow) -> Result<(Arc<str>, Document), StoreError> {
        let number: Option<&str> = row.try_get(2)?;
        let access: Option<&str> = row.try_get(3)?;
        self.decode_fields([
            row.try_get(0)?,
            row.try_get(1)?,
            number.unwrap_or_default(),
            access.unwrap_or_default(),
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
