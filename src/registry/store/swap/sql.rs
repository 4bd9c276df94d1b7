//! The statements of a swap: what `Ledger` does edit by edit, done to sets of rows.
//!
//! Written once: what SQLite and PostgreSQL say differently is a function of `Dialect`, or a word that `placed` changes.
//!
//! An access is held as JSON text in one form (providers sorted, no spaces), so that equal ones are equal texts. `n` is a
//! row's place in the file: where a site's domains come and go within one file, what a leaving one takes along and
//! whether the site was empty in between depend on which came first.

use super::super::session::Dialect;
use super::super::stage::{DEREGISTER, PURGE};

/// Outcomes in `changed`; rows that nobody asked for by name have none.
pub(super) const CREATED: i64 = 1;
pub(super) const UPDATED: i64 = 2;
pub(super) const DELETED: i64 = 3;
const NO_OUTCOME: i64 = 0;

/// Work tables.
pub(super) const TABLES: &str = concat!(
    "
CREATE TABLE work.leavers (
    site TEXT NOT NULL, domain TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (site, domain)
) WITHOUT ROWID;
-- Sites that lose every domain that they had, and which row the last one goes with.
CREATE TABLE work.emptied (site TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
-- Sites that are there already: their accesses before and after, where those differ or aren't as the file has them.
CREATE TABLE work.kept (
    site TEXT PRIMARY KEY, n INTEGER NOT NULL, was TEXT NOT NULL, now TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE work.gone (site TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE work.found (
    domain TEXT PRIMARY KEY,
",
    document_columns!(),
    ",
    outcome INTEGER NOT NULL,
    is_gone INTEGER NOT NULL
) WITHOUT ROWID;
"
);
/// They go before they are made anew.
pub(in super::super) const DROP: &str = "
DROP VIEW IF EXISTS work.changed;
DROP TABLE IF EXISTS work.leavers;
DROP TABLE IF EXISTS work.emptied;
DROP TABLE IF EXISTS work.kept;
DROP TABLE IF EXISTS work.gone;
DROP TABLE IF EXISTS work.found;
";

/// What the swap takes: what was found; where nothing was filed, every row as it stands.
pub(super) const FOUND: &str = "CREATE VIEW work.changed AS SELECT * FROM work.found";
pub(super) const FRESH: &str = "
CREATE VIEW work.changed AS SELECT domain, site, state, former_number, access, subject, subject_type, site_name, \
    public_security_number, 1 AS outcome, 0 AS is_gone FROM work.edits WHERE action = 0
";

/// `refused`: deletions of what is not there.
pub(super) const NOT_FILED: &str = "INSERT INTO work.refused (n, line, domain) \
    SELECT n, line, domain FROM work.edits e WHERE action <> 0 \
    AND NOT EXISTS (SELECT 1 FROM main.domains d WHERE d.domain = e.domain)";
/// What was said of deletions when they were last held against the content.
pub(super) const FILED_SINCE: &str = "DELETE FROM work.refused WHERE rule IS NULL AND first_line IS NULL";
/// Refused rows about filings that no other row keeps.
pub(super) const FORGETS: &str = "SELECT count(*) FROM work.refused r JOIN main.domains d ON d.domain = r.name \
    WHERE NOT EXISTS (SELECT 1 FROM work.edits e WHERE e.domain = r.name)";

const ABOUT: [&str; 4] = ["subject", "subject_type", "site_name", "public_security_number"];

/// The accesses of the site that is added to it.
fn site_access(dialect: Dialect) -> String {
    let object = match dialect {
        // In the order in which the tree has them, which is that of providers.
        Dialect::Sqlite => "json_group_object(a.provider, a.state)".to_owned(),
        Dialect::Postgres => object_of("a.provider", "a.state"),
    };
    format!("SELECT {object} FROM main.accesses a WHERE a.site =")
}

/// PostgreSQL's own object has spaces; no id or state holds what JSON escapes.
fn object_of(key: &str, value: &str) -> String {
    format!(
        "'{{' || coalesce(string_agg('\"' || {key} || '\":\"' || {value} || '\"', ',' ORDER BY {key} COLLATE \"C\"), '') || '}}'"
    )
}

/// The keys and values of an object, as a table.
fn each(dialect: Dialect, json: &str) -> String {
    match dialect {
        Dialect::Sqlite => format!("json_each({json})"),
        Dialect::Postgres => format!("json_each_text({json}::json)"),
    }
}

fn quoted(dialect: Dialect, text: &str) -> String {
    match dialect {
        Dialect::Sqlite => format!("json_quote({text})"),
        Dialect::Postgres => format!("coalesce(to_json({text})::text, 'null')"),
    }
}

/// `Access::replaced_by` as an expression; both are columns, for they are evaluated many times.
fn replaced_by(dialect: Dialect, before: &str, wanted: &str) -> String {
    let object = match dialect {
        Dialect::Sqlite => "json_group_object(key, value ORDER BY key)".to_owned(),
        Dialect::Postgres => object_of("key", "value"),
    };
    let (was, now) = (each(dialect, before), each(dialect, wanted));
    format!(
        "CASE WHEN {before} = '{{}}' OR {before} = {wanted} THEN {wanted} ELSE \
         (SELECT {object} FROM (\
            SELECT key, value FROM {now} AS now UNION ALL \
            SELECT key, 'cancelled' FROM {was} AS was WHERE value IN ('active', 'cancelled') \
                AND key NOT IN (SELECT key FROM {now} AS now)) AS merged) END"
    )
}

fn about(of: &str) -> String {
    ABOUT.map(|column| format!("{of}.{column}")).join(", ")
}

fn about_differs() -> String {
    ABOUT.map(|column| format!("d.{column} IS DISTINCT FROM e.{column}")).join(" OR ")
}

/// The accesses that the name's site had when the file came to the name.
fn access_at_row(dialect: Dialect) -> String {
    let site_access = site_access(dialect);
    format!(
        "coalesce((SELECT CASE WHEN k.n < e.n THEN k.now ELSE k.was END FROM work.kept k WHERE k.site = d.site), \
         ({site_access} d.site))"
    )
}

/// What is to be done before the swap, where the rows join what is there.
pub(super) fn merge(dialect: Dialect) -> Vec<String> {
    let joined = joined(dialect);
    vec![
        format!(
            "INSERT INTO work.leavers SELECT d.site, e.domain, e.n \
             FROM work.edits e {joined} main.domains d ON d.domain = e.domain \
             WHERE d.site IS NOT NULL AND (e.action <> 0 OR e.site IS DISTINCT FROM d.site) ORDER BY 1, 2"
        ),
        "INSERT INTO work.emptied SELECT site, max(n) FROM work.leavers l GROUP BY site \
         HAVING count(*) = (SELECT count(*) FROM main.domains d WHERE d.site = l.site)"
            .to_owned(),
        kept(
            dialect,
            &format!("CASE WHEN is_reset THEN wanted ELSE {} END", replaced_by(dialect, "was", "wanted")),
        ),
        "INSERT INTO work.gone SELECT site FROM work.emptied x \
         WHERE NOT EXISTS (SELECT 1 FROM work.wanted w WHERE w.site = x.site)"
            .to_owned(),
        put_with_site(&format!(
            "CASE WHEN d.domain IS NULL THEN {CREATED} WHEN d.site IS NOT DISTINCT FROM e.site AND d.state = e.state \
             AND NOT ({}) AND k.n < e.n THEN {NO_OUTCOME} ELSE {UPDATED} END",
            about_differs()
        )),
        put_without_site(
            dialect,
            &format!(
                "CASE WHEN was_state = state OR (was_state IS NOT NULL AND state = 'deregistered') \
                 THEN {} ELSE access END",
                replaced_by(dialect, "was_access", "access")
            ),
            "coalesce(e.former_number, d.site, d.former_number)",
        ),
        deregistered(dialect),
        format!(
            "INSERT INTO work.found (domain, outcome, is_gone) SELECT e.domain, {DELETED}, 1 \
             FROM work.edits e {joined} main.domains d ON d.domain = e.domain \
             WHERE e.action = {PURGE} OR (e.action = {DEREGISTER} AND d.state = 'pending')"
        ),
        format!(
            "INSERT INTO work.found SELECT d.domain, d.site, d.state, NULL, k.now, {}, {NO_OUTCOME}, 0 \
             FROM work.kept k {joined} main.domains d ON d.site = k.site \
             WHERE k.was <> k.now AND NOT EXISTS (SELECT 1 FROM work.edits e WHERE e.domain = d.domain)",
            about("d")
        ),
    ]
}

/// The same, where the rows are the whole content.
pub(super) fn replace(dialect: Dialect) -> Vec<String> {
    let outcome = format!("CASE WHEN d.domain IS NULL THEN {CREATED} ELSE {UPDATED} END");
    vec![
        kept(dialect, "wanted"),
        "INSERT INTO work.gone SELECT number FROM main.sites s \
         WHERE NOT EXISTS (SELECT 1 FROM work.wanted w WHERE w.site = s.number)"
            .to_owned(),
        put_with_site(&outcome),
        put_without_site(dialect, "access", "e.former_number"),
        format!(
            "INSERT INTO work.found (domain, outcome, is_gone) SELECT domain, {NO_OUTCOME}, 1 \
             FROM main.domains d WHERE NOT EXISTS (SELECT 1 FROM work.edits e WHERE e.domain = d.domain)"
        ),
    ]
}

/// A join in the order in which it is written.
fn joined(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "CROSS JOIN",
        // Knows by itself.
        Dialect::Postgres => "JOIN",
    }
}

/// Ends a subquery that is not to be merged into what is around it: each row's expressions are evaluated once.
fn fence(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "LIMIT -1",
        Dialect::Postgres => "OFFSET 0",
    }
}

fn kept(dialect: Dialect, now: &str) -> String {
    let (joined, fence, site_access) = (joined(dialect), fence(dialect), site_access(dialect));
    format!(
        "INSERT INTO work.kept SELECT site, n, was, now FROM (\
            SELECT site, n, wanted, was, {now} AS now FROM (\
                SELECT w.site, w.n, w.access AS wanted, ({site_access} w.site) AS was, \
                    EXISTS (SELECT 1 FROM work.emptied x WHERE x.site = w.site AND x.n < w.n) AS is_reset \
                FROM work.wanted w {joined} main.sites s ON s.number = w.site {fence}) AS sites {fence}) AS kept \
         WHERE was <> now OR now <> wanted"
    )
}

fn put_with_site(outcome: &str) -> String {
    format!(
        "INSERT INTO work.found SELECT e.domain, e.site, e.state, NULL, coalesce(k.now, e.access), {}, {outcome}, 0 \
         FROM work.edits e LEFT JOIN main.domains d ON d.domain = e.domain \
         LEFT JOIN work.kept k ON k.site = e.site \
         WHERE e.site IS NOT NULL AND (d.domain IS NULL OR d.site IS DISTINCT FROM e.site OR d.state <> e.state OR {} \
            OR k.was <> k.now)",
        about("e"),
        about_differs()
    )
}

fn put_without_site(dialect: Dialect, access: &str, former_number: &str) -> String {
    let (columns, fence) = (ABOUT.join(", "), fence(dialect));
    format!(
        "INSERT INTO work.found SELECT domain, NULL, state, former_number, access, {columns}, \
            CASE WHEN was_state IS NULL THEN {CREATED} ELSE {UPDATED} END, 0 \
         FROM (SELECT domain, state, former_number, {access} AS access, {columns}, \
                was_state, was_former, was_own, is_about_other FROM (\
            SELECT e.domain, e.state, e.access, {}, d.state AS was_state, d.former_number AS was_former, \
                coalesce(d.own_access, '{{}}') AS was_own, {} AS is_about_other, \
                CASE WHEN e.state = 'deregistered' THEN {former_number} END AS former_number, \
                CASE WHEN d.site IS NULL THEN coalesce(d.own_access, '{{}}') ELSE {} END AS was_access \
            FROM work.edits e LEFT JOIN main.domains d ON d.domain = e.domain \
            WHERE e.action = 0 AND e.site IS NULL {fence}) AS rows {fence}) AS rows \
         WHERE was_state IS NULL OR was_state <> state OR was_former IS DISTINCT FROM former_number \
            OR was_own <> access OR is_about_other",
        about("e"),
        about_differs(),
        access_at_row(dialect),
    )
}

fn deregistered(dialect: Dialect) -> String {
    let (columns, fence, joined) = (ABOUT.join(", "), fence(dialect), joined(dialect));
    format!(
        "INSERT INTO work.found SELECT domain, NULL, 'deregistered', site, {}, {columns}, {DELETED}, 0 \
         FROM (SELECT d.domain, d.site, {} AS was_access, CAST('{{}}' AS TEXT) AS wanted, {} \
            FROM work.edits e {joined} main.domains d ON d.domain = e.domain \
            WHERE e.action = {DEREGISTER} AND d.site IS NOT NULL {fence}) AS rows",
        replaced_by(dialect, "was_access", "wanted"),
        access_at_row(dialect),
        about("d"),
    )
}

/// A document as JSON, as `serde` writes one.
fn document(dialect: Dialect, number: &str, access: &str, of: &str) -> String {
    let about = ABOUT.map(|column| {
        let quoted = quoted(dialect, &format!("{of}.{column}"));
        format!("CASE WHEN {of}.{column} IS NULL THEN '' ELSE ',\"{column}\":' || {quoted} END")
    });
    let number = quoted(dialect, number);
    format!(
        "'{{\"number\":' || {number} || ',\"state\":\"' || {of}.state || '\",\"access\":' || {access} || {} || '}}'",
        about.join(" || ")
    )
}

/// The change log's rows, after the last one's place before: `$1` is who, `$2` in which request,
/// `$3` why. First, for it reads what was.
pub(super) fn log(dialect: Dialect, is_fresh: bool, (seq, at_ms): (i64, i64)) -> String {
    let (before, from) = if is_fresh {
        ("NULL".to_owned(), "")
    } else {
        let access = format!(
            "coalesce(d.own_access, CASE WHEN d.site IS NOT NULL THEN ({} d.site) END, '{{}}')",
            site_access(dialect)
        );
        let document = document(dialect, "coalesce(d.site, d.former_number)", &access, "d");
        (
            format!("CASE WHEN d.domain IS NOT NULL THEN {document} END"),
            "LEFT JOIN main.domains d ON d.domain = c.domain",
        )
    };
    let after = document(dialect, "coalesce(c.site, c.former_number)", "c.access", "c");
    format!(
        "INSERT INTO main.changes (seq, at_ms, who, request, why, domain, before, after) \
         SELECT {seq} + c.place, {at_ms}, $1, CAST($2 AS TEXT), CAST($3 AS TEXT), c.domain, {before}, CASE WHEN c.is_gone = 0 THEN {after} END \
         FROM (SELECT *, row_number() OVER (ORDER BY domain) AS place FROM work.changed) c {from}"
    )
}

/// The content's rows, in an order in which nothing refers to what is not there.
pub(super) fn content(dialect: Dialect, (seq, at_ms): (i64, i64)) -> Vec<String> {
    let mut statements = vec![
        "DELETE FROM main.accesses WHERE site IN (SELECT site FROM work.kept WHERE was <> now) \
            OR site IN (SELECT site FROM work.gone)"
            .to_owned(),
        format!(
            "INSERT INTO main.accesses (site, provider, state) SELECT k.site, j.key, j.value \
             FROM work.kept k, {} j WHERE k.was <> k.now",
            each(dialect, "k.now")
        ),
        // Most sites have one of a few sets of accesses: those are taken apart once.
        "CREATE TEMP TABLE sets (access TEXT, provider TEXT, state TEXT, PRIMARY KEY (access, provider))"
            .to_owned(),
        format!(
            "INSERT INTO temp.sets SELECT w.access, j.key, j.value \
             FROM (SELECT DISTINCT access FROM work.wanted) w, {} j",
            each(dialect, "w.access")
        ),
    ];
    statements.extend(new_sites(dialect, at_ms));
    statements.extend([
        "DROP TABLE temp.sets".to_owned(),
        format!(
            "UPDATE main.sites SET shell_since_ms = (SELECT CASE WHEN k.now NOT LIKE '%:\"active\"%' \
                THEN coalesce(sites.shell_since_ms, {at_ms}) END FROM work.kept k WHERE k.site = sites.number) \
             WHERE number IN (SELECT site FROM work.kept WHERE was <> now)"
        ),
        "DELETE FROM main.domains WHERE domain IN (SELECT domain FROM work.changed WHERE is_gone = 1)".to_owned(),
        domains(dialect, (seq, at_ms)),
        "DELETE FROM main.sites WHERE number IN (SELECT site FROM work.gone)".to_owned(),
    ]);
    statements
}

/// Sites that were not there, since when those are empty shells that are, and their accesses.
fn new_sites(dialect: Dialect, at_ms: i64) -> Vec<String> {
    let sites = format!(
        "INSERT INTO main.sites (number, shell_since_ms) \
         SELECT w.site, CASE WHEN w.access NOT LIKE '%:\"active\"%' THEN {at_ms} END FROM work.wanted w \
         WHERE NOT EXISTS (SELECT 1 FROM main.sites t WHERE t.number = w.site)"
    );
    match dialect {
        Dialect::Sqlite => vec![
            "INSERT INTO main.accesses (site, provider, state) \
             SELECT w.site, s.provider, s.state FROM work.wanted w CROSS JOIN temp.sets s ON s.access = w.access \
             WHERE NOT EXISTS (SELECT 1 FROM main.sites t WHERE t.number = w.site)"
                .to_owned(),
            sites,
        ],
        // What an access refers to must be there once its statement ends.
        Dialect::Postgres => vec![format!(
            "WITH fresh AS ({sites} RETURNING number) INSERT INTO main.accesses (site, provider, state) \
             SELECT w.site, s.provider, s.state FROM fresh f JOIN work.wanted w ON w.site = f.number \
             JOIN temp.sets s ON s.access = w.access"
        )],
    }
}

fn domains(dialect: Dialect, (seq, at_ms): (i64, i64)) -> String {
    let columns = "domain, site, state, former_number, own_access, subject, subject_type, site_name, \
        public_security_number, updated_at_ms, seq";
    let (or, tail) = match dialect {
        Dialect::Sqlite => (" OR REPLACE", String::new()),
        Dialect::Postgres => {
            let set: Vec<_> = columns.split(", ").skip(1).map(|it| format!("{it} = excluded.{it}")).collect();
            ("", format!(" ON CONFLICT (domain) DO UPDATE SET {}", set.join(", ")))
        }
    };
    format!(
        "INSERT{or} INTO main.domains ({columns}) \
         SELECT domain, site, state, former_number, CASE WHEN site IS NULL THEN nullif(access, '{{}}') END, \
            subject, subject_type, site_name, public_security_number, {at_ms}, {seq} + place \
         FROM (SELECT *, row_number() OVER (ORDER BY domain) AS place FROM work.changed) AS changed \
         WHERE is_gone = 0{tail}"
    )
}
