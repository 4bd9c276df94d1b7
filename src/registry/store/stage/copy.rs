//! Rows on their way into PostgreSQL, as its COPY reads them: text, a tab between fields, a line each.

use super::{Edit, Own, Stage, Value, values_of};
use crate::registry::store::StoreError;
use std::fmt::Write;

/// Octets that are gathered before they are sent.
const PIECE_BYTES: usize = 1 << 20;
const COPY: &str = "COPY import_rows FROM STDIN";

/// Rows that are gathered.
#[derive(Debug, Default)]
pub(super) struct Copied(String);

impl Stage {
    /// Takes rows; sends them where there are enough.
    pub(super) async fn copy(&mut self, taken: Vec<(u64, Edit)>) -> Result<(), StoreError> {
        for (line, edit) in taken {
            self.taken += 1;
            write_row(&mut self.copied.0, &values_of(self.taken, line, edit));
        }
        if self.copied.0.len() < PIECE_BYTES { Ok(()) } else { self.copy_out().await }
    }

    /// Sends what was gathered.
    pub(super) async fn copy_out(&mut self) -> Result<(), StoreError> {
        let Own::Postgres(connection) = &mut self.own else { return Ok(()) };
        if self.copied.0.is_empty() {
            return Ok(());
        }
        let mut copy = connection.copy_in_raw(COPY).await?;
        copy.send(self.copied.0.as_bytes()).await?;
        copy.finish().await?;
        self.copied.0.clear();
        Ok(())
    }
}

/// A row as COPY's text format has it (PostgreSQL manual, COPY, "Text Format").
fn write_row(out: &mut String, values: &[Value]) {
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push('\t');
        }
        match value {
            Value::Integer(number) => {
                let _ = write!(out, "{number}");
            }
            Value::Text(text) => {
                for char in text.chars() {
                    match char {
                        '\\' => out.push_str("\\\\"),
                        '\t' => out.push_str("\\t"),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        other => out.push(other),
                    }
                }
            }
            // No column of a row holds octets.
            Value::Null | Value::Octets(_) => out.push_str("\\N"),
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_fields_and_rows_is_escaped() {
        let mut out = String::new();
        write_row(&mut out, &[7_i64.into(), "a\tb\\N\r\n".into(), Value::Null, "".into(), "京".into()]);
        assert_eq!(out, "7\ta\\tb\\\\N\\r\\n\t\\N\t\t京\n");
    }
}
