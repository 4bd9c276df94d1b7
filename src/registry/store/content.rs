//! What tests want to know of a database.

use super::{Session, Store, history, make_parent, postgres, schema, sqlite};
use crate::config::Database;
use sqlx::ConnectOptions as _;

impl Store {
    /// Makes a database as an earlier version left it, of so many migrations, and fills it.
    pub(in crate::registry) async fn make_earlier(database: &Database, version: usize, rows: &str) {
        match database {
            Database::Sqlite(path) => {
                make_parent(path).expect("there is room");
                let mut connection =
                    sqlite::options(path).create_if_missing(true).connect().await.expect("a file");
                let mut session = Session::Sqlite(&mut connection);
                for migration in &schema::MIGRATIONS[..version] {
                    session.script(*migration).await.expect("a migration");
                }
                let marks = format!(
                    "PRAGMA application_id = {}; PRAGMA user_version = {version}",
                    schema::APPLICATION_ID
                );
                session.script(marks).await.expect("marks");
                fill(&mut session, rows).await;
            }
            Database::Postgres { url, .. } => {
                let mut connection =
                    postgres::pool(url).await.expect("a server").acquire().await.expect("a connection");
                let mut session = Session::Postgres(&mut connection);
                let namespace = schema::NAMESPACE;
                session.script(format!("CREATE SCHEMA {namespace}")).await.expect("a schema");
                let count = "CREATE TABLE schema_version (version BIGINT NOT NULL); INSERT INTO schema_version VALUES";
                session.script(format!("{count} ({version})")).await.expect("a count");
                for migration in &schema::MIGRATIONS[..version] {
                    session.script(schema::for_postgres(migration)).await.expect("a migration");
                }
                fill(&mut session, rows).await;
            }
        }
    }

    /// Migrations that there are.
    pub(in crate::registry) fn versions() -> usize {
        schema::MIGRATIONS.len()
    }

    /// Rows in the change log.
    pub(in crate::registry) async fn change_count(&self) -> i64 {
        let mut reader = self.reader().await.expect("the database is there");
        reader.session().number("SELECT count(*) FROM changes", &[]).await.expect("the table is there")
    }

    /// Everything that the database holds, as text; positions and times aside.
    pub(in crate::registry) async fn content(&self) -> Vec<String> {
        let array = |session: &Session<'_>| match session {
            Session::Sqlite(_) => "json_array",
            Session::Postgres(_) => "json_build_array",
        };
        let mut reader = self.reader().await.expect("the database is there");
        let mut session = reader.session();
        let array = array(&session);
        let mut sql = format!(
            "SELECT 'domain' || {array}(domain, site, state, former_number, own_access, subject, \
                subject_type, site_name, public_security_number) AS it FROM domains \
            UNION ALL SELECT 'site ' || number FROM sites \
            UNION ALL SELECT 'access ' || {array}(site, provider, state) FROM accesses \
            UNION ALL SELECT 'change ' || {array}(who, domain, before, after) FROM changes \
            UNION ALL SELECT 'seq ' || (seq = (SELECT max(seq) FROM changes)) FROM meta WHERE seq > 0 \
            UNION ALL SELECT 'stale ' || d.domain FROM domains d LEFT JOIN changes c ON c.seq = d.seq \
                WHERE c.domain IS NULL OR c.domain <> d.domain"
        );
        if matches!(session, Session::Sqlite(_)) {
            sql += " UNION ALL SELECT 'indexes ' || count(*) FROM sqlite_schema WHERE type = 'index'";
        }
        let rows = session.rows(sql, &[]).await.expect("the tables are there");
        let mut rows: Vec<String> =
            rows.iter().map(|row| row.some_text(0).expect("a text").to_owned()).collect();
        rows.sort_unstable();
        rows
    }
}

async fn fill(session: &mut Session<'_>, rows: &str) {
    history::ensure_meta(session).await.expect("the table is there");
    session.script(rows.to_owned()).await.expect("rows of that version");
}
