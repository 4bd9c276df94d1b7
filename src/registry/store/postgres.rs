//! PostgreSQL as it is reached here: a small pool, our own schema, and a bell that commits ring.
//!
//! Several processes may have one database open. Whoever writes holds the row of `meta` until its commit, so that
//! positions are given in the order of commits. A commit's durability is the server's (`synchronous_commit`).

use super::StoreError;
use super::schema::{NAMESPACE, SchemaError};
use crate::config::PostgresUrl;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use std::time::Duration;

/// The most connections of one process.
const CONNECTIONS: u32 = 8;
/// How long a connection is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement waits for another process's write, in milliseconds.
const LOCK_TIMEOUT_MS: &str = "10000";
/// A transaction in which nothing happens for so long is given up by the server: its process hangs.
const IDLE_TIMEOUT_MS: &str = "60000";
/// What a commit notifies.
pub(super) const CHANNEL: &str = "beian_gate";
/// `lock_not_available` (PostgreSQL manual, appendix A).
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A pool that has one connection already.
pub(super) async fn pool(url: &PostgresUrl) -> Result<PgPool, StoreError> {
    let options: PgConnectOptions = url.as_str().parse().map_err(|error| open_error(url, &error))?;
    let options = options
        .application_name("beian-gate")
        .options([
            ("search_path", NAMESPACE),
            ("lock_timeout", LOCK_TIMEOUT_MS),
            ("idle_in_transaction_session_timeout", IDLE_TIMEOUT_MS),
        ])
        .disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(CONNECT_TIMEOUT)
        .connect_with(options)
        .await;
    pool.map_err(|error| open_error(url, &error))
}

/// Hears commits of every process.
pub(super) async fn listener(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Whether the statement gave up because another process writes.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|it| it.code()).is_some_and(|it| it == LOCK_NOT_AVAILABLE)
}

pub(super) fn schema_open_error(url: &PostgresUrl, error: &SchemaError) -> StoreError {
    let remedy = match error {
        SchemaError::Sql(error) => return open_error(url, error),
        SchemaError::Foreign => "name another database in `database`",
        SchemaError::Newer { .. } => "run the later version, or restore a copy made by this one",
    };
    StoreError::Open { database: url.to_string(), problem: error.to_string(), remedy }
}

pub(super) fn open_error(url: &PostgresUrl, error: &sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|it| it.code());
    let remedy = match code.as_deref() {
        Some("28000" | "28P01") => "check the user and password in `database`, and the server's pg_hba.conf",
        Some("3D000") => "make the database first: createdb NAME",
        Some("42501") => "make the database's owner this user, or make the schema `beian_gate` for it",
        Some("53300") => "the server has no connection left: raise max_connections",
        Some("57P03") => "the server is starting up: try again",
        Some(_) => "check `database` and the server's log",
        None => "check that the server is running and that `database` leads to it",
    };
    StoreError::Open { database: url.to_string(), problem: error.to_string(), remedy }
}
