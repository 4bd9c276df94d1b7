//! A connection to either database, and statements that both understand.
//!
//! Statements are written once: values are `$1`, `$2` …, what the two say differently comes from `Dialect`. Knows
//! nothing of filings.

use super::StoreError;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _, Sqlite, SqliteConnection, Transaction};
use std::sync::Arc;

/// What the two databases say differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Whether `column` is one of the texts in the JSON array that is value number `value`.
    pub(in crate::registry) fn is_one_of(self, column: &str, value: usize) -> String {
        match self {
            Self::Sqlite => format!("{column} IN (SELECT value FROM json_each(${value}))"),
            Self::Postgres => {
                format!("{column} = ANY (ARRAY(SELECT json_array_elements_text(${value}::json)))")
            }
        }
    }

    /// An aggregate: a JSON object of these keys and values.
    pub(in crate::registry) fn object_of(self, key: &str, value: &str) -> String {
        match self {
            Self::Sqlite => format!("json_group_object({key}, {value})"),
            Self::Postgres => format!("json_object_agg({key}, {value})::text"),
        }
    }
}

/// A value of a statement.
#[derive(Debug, Clone)]
pub(in crate::registry) enum Value {
    Null,
    Integer(i64),
    Text(Arc<str>),
    Octets(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(value: Arc<str>) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Octets(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row of an answer. Columns are counted from 0.
#[derive(Debug)]
pub(in crate::registry) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// A text, or none.
    pub(in crate::registry) fn text(&self, at: usize) -> Result<Option<&str>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Postgres(row) => row.try_get(at),
        }
    }

    /// A text that is there.
    pub(in crate::registry) fn some_text(&self, at: usize) -> Result<&str, StoreError> {
        let missing = || StoreError::Corrupt(format!("column {at} of an answer is empty"));
        self.text(at)?.ok_or_else(missing)
    }

    /// A number.
    pub(in crate::registry) fn integer(&self, at: usize) -> Result<i64, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Postgres(row) => row.try_get(at),
        }
    }

    /// Octets.
    pub(in crate::registry) fn octets(&self, at: usize) -> Result<&[u8], sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Postgres(row) => row.try_get(at),
        }
    }
}

/// A connection, borrowed.
#[derive(Debug)]
pub(in crate::registry) enum Session<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// `sqlx::query` of a statement with its values, on whichever database.
macro_rules! query {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql));
        for value in $values {
            query = match value {
                Value::Null => query.bind(None::<String>),
                Value::Integer(value) => query.bind(*value),
                Value::Text(value) => query.bind(value.clone()),
                Value::Octets(value) => query.bind(value.clone()),
            };
        }
        query
    }};
}

impl<'c> Session<'c> {
    /// Which database this is.
    pub(in crate::registry) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// The same connection, for a shorter time.
    pub(in crate::registry) fn again(&mut self) -> Session<'_> {
        match self {
            Self::Sqlite(connection) => Session::Sqlite(connection),
            Self::Postgres(connection) => Session::Postgres(connection),
        }
    }

    /// Runs a statement; says how many rows it changed.
    pub(in crate::registry) async fn run(
        &mut self,
        sql: impl Into<Arc<str>>,
        values: &[Value],
    ) -> Result<u64, sqlx::Error> {
        let sql = sql.into();
        #[cfg(test)]
        recorded::heard(&sql, values);
        match self {
            Self::Sqlite(connection) => {
                Ok(query!(sql, values).execute(&mut **connection).await?.rows_affected())
            }
            Self::Postgres(connection) => {
                Ok(query!(sql, values).execute(&mut **connection).await?.rows_affected())
            }
        }
    }

    /// Every row of an answer that is known to be short.
    pub(in crate::registry) async fn rows(
        &mut self,
        sql: impl Into<Arc<str>>,
        values: &[Value],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let sql = sql.into();
        #[cfg(test)]
        recorded::heard(&sql, values);
        Ok(match self {
            Self::Sqlite(connection) => {
                let rows = query!(sql, values).fetch_all(&mut **connection).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(connection) => {
                let rows = query!(sql, values).fetch_all(&mut **connection).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The first row of an answer, if there is one.
    pub(in crate::registry) async fn row(
        &mut self,
        sql: impl Into<Arc<str>>,
        values: &[Value],
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// A count, or another number that there is one of.
    pub(in crate::registry) async fn number(
        &mut self,
        sql: impl Into<Arc<str>>,
        values: &[Value],
    ) -> Result<i64, sqlx::Error> {
        self.row(sql, values).await?.ok_or(sqlx::Error::RowNotFound)?.integer(0)
    }

    /// Rows of an answer of any length, as they come.
    pub(in crate::registry) fn stream(
        self,
        sql: impl Into<Arc<str>>,
        values: &[Value],
    ) -> BoxStream<'c, Result<Row, sqlx::Error>> {
        let sql = sql.into();
        #[cfg(test)]
        recorded::heard(&sql, values);
        match self {
            Self::Sqlite(connection) => query!(sql, values).fetch(connection).map_ok(Row::Sqlite).boxed(),
            Self::Postgres(connection) => query!(sql, values).fetch(connection).map_ok(Row::Postgres).boxed(),
        }
    }

    /// Runs statements without values, and without an answer.
    pub(in crate::registry) async fn script(&mut self, sql: impl Into<Arc<str>>) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.into());
        match self {
            Self::Sqlite(connection) => {
                sqlx::raw_sql(sql).execute(&mut **connection).await?;
            }
            Self::Postgres(connection) => {
                sqlx::raw_sql(sql).execute(&mut **connection).await?;
            }
        }
        Ok(())
    }

    /// Begins a transaction that writes: nobody else's can until it ends.
    pub(in crate::registry) async fn begin(self) -> Result<Tx<'c>, sqlx::Error> {
        use sqlx::Connection as _;
        Ok(match self {
            Self::Sqlite(connection) => Tx::Sqlite(connection.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(connection) => {
                let mut tx = connection.begin().await?;
                // The row that every writer holds to the end of its transaction: positions are given in the order
                // of commits.
                sqlx::query("SELECT seq FROM meta FOR UPDATE").fetch_optional(&mut *tx).await?;
                Tx::Postgres(tx)
            }
        })
    }
}

/// A transaction; undone where it is dropped.
#[derive(Debug)]
pub(in crate::registry) enum Tx<'c> {
    Sqlite(Transaction<'c, Sqlite>),
    Postgres(Transaction<'c, Postgres>),
}

impl Tx<'_> {
    /// Its connection.
    pub(in crate::registry) fn session(&mut self) -> Session<'_> {
        match self {
            Self::Sqlite(tx) => Session::Sqlite(tx),
            Self::Postgres(tx) => Session::Postgres(tx),
        }
    }

    /// Makes it so.
    pub(in crate::registry) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }

    /// Undoes it.
    pub(in crate::registry) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await,
            Self::Postgres(tx) => tx.rollback().await,
        }
    }
}

/// A connection of a pool.
#[derive(Debug)]
pub(in crate::registry) enum Held {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Held {
    /// It, borrowed.
    pub(in crate::registry) fn session(&mut self) -> Session<'_> {
        match self {
            Self::Sqlite(connection) => Session::Sqlite(connection),
            Self::Postgres(connection) => Session::Postgres(connection),
        }
    }
}

/// Which statements a piece of work runs: for tests that ask how the database finds its rows.
#[cfg(test)]
pub(in crate::registry) mod recorded {
    use super::Value;
    use std::sync::{Arc, Mutex};

    /// A statement and its values.
    pub(in crate::registry) type Statement = (Arc<str>, Vec<Value>);

    tokio::task_local! {
        static STATEMENTS: Arc<Mutex<Vec<Statement>>>;
    }

    pub(super) fn heard(sql: &Arc<str>, values: &[Value]) {
        let _ = STATEMENTS.try_with(|it| it.lock().unwrap().push((sql.clone(), values.to_vec())));
    }

    /// Does the work, within its task; says which statements it ran.
    pub(in crate::registry) async fn of<T>(work: impl Future<Output = T>) -> (T, Vec<Statement>) {
        let statements = Arc::<Mutex<Vec<Statement>>>::default();
        let done = STATEMENTS.scope(statements.clone(), work).await;
        let heard = std::mem::take(&mut *statements.lock().unwrap());
        (done, heard)
    }
}
