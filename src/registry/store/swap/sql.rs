//! The statements of a swap: what `Ledger` does edit by edit, done to sets of rows.
//!
//! An access is held as JSON text in one form (providers sorted, no spaces), so that equal ones are equal texts. `n` is a
//! row's place in the file: where a site's domains come and go within one file, what a leaving one takes along and
//! whether the site was empty in between depend on which came first.

use super::super::stage::{DEREGISTER, PURGE};

/// Outcomes in `changed`; rows that nobody asked for by name have none.
pub(super) const CREATED: i64 = 1;
pub(super) const UPDATED: i64 = 2;
pub(super) const DELETED: i64 = 3;
const NO_OUTCOME: i64 = 0;

/// Work tables, anew.
pub(super) const TABLES: &str = concat!(
    "
DROP VIEW IF EXISTS aside.changed;
DROP TABLE IF EXISTS aside.leavers;
DROP TABLE IF EXISTS aside.emptied;
DROP TABLE IF EXISTS aside.kept;
DROP TABLE IF EXISTS aside.gone;
DROP TABLE IF EXISTS aside.found;
CREATE TABLE aside.leavers (
    site TEXT NOT NULL, domain TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (site, domain)
) WITHOUT ROWID;
-- Sites that lose every domain that they had, and which row the last one goes with.
CREATE TABLE aside.emptied (site TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
-- Sites that are there already: their accesses before and after, where those differ or aren't as the file has them.
CREATE TABLE aside.kept (
    site TEXT PRIMARY KEY, n INTEGER NOT NULL, was TEXT NOT NULL, now TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE aside.gone (site TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE aside.found (
    domain TEXT PRIMARY KEY,
",
    document_columns!(),
    ",
    outcome INTEGER NOT NULL,
    is_gone INTEGER NOT NULL
) WITHOUT ROWID;
"
);

/// What the swap takes: what was found; where nothing was filed, every row as it stands.
pub(super) const FOUND: &str = "CREATE VIEW aside.changed AS SELECT * FROM found";
pub(super) const FRESH: &str = "
CREATE VIEW aside.changed AS SELECT domain, site, state, former_number, access, subject, subject_type, site_name, \
    public_security_number, 1 AS outcome, 0 AS is_gone FROM edits WHERE action = 0
";

/// `refused`: deletions of what is not there.
pub(super) const NOT_FILED: &str = "INSERT INTO aside.refused (n, line, domain) \
    SELECT n, line, domain FROM aside.edits e WHERE action <> 0 \
    AND NOT EXISTS (SELECT 1 FROM main.domains d WHERE d.domain = e.domain)";
/// What was said of deletions when they were last held against the content.
pub(super) const FILED_SINCE: &str = "DELETE FROM aside.refused WHERE rule IS NULL AND first_line IS NULL";
/// Refused rows about filings that no other row keeps.
pub(super) const FORGETS: &str = "SELECT count(*) FROM aside.refused r CROSS JOIN main.domains d ON d.domain = r.name \
    WHERE NOT EXISTS (SELECT 1 FROM aside.edits e WHERE e.domain = r.name)";

const SITE_ACCESS: &str = "SELECT json_group_object(a.provider, a.state) FROM main.accesses a WHERE a.site =";
const ABOUT: [&str; 4] = ["subject", "subject_type", "site_name", "public_security_number"];

/// `Access::replaced_by` as an expression; both are columns, for they are evaluated many times.
fn replaced_by(before: &str, wanted: &str) -> String {
    format!(
        "CASE WHEN {before} = '{{}}' OR {before} = {wanted} THEN {wanted} ELSE \
         (SELECT json_group_object(key, value ORDER BY key) FROM (\
            SELECT key, value FROM json_each({wanted}) UNION ALL \
            SELECT key, 'cancelled' FROM json_each({before}) WHERE value IN ('active', 'cancelled') \
                AND key NOT IN (SELECT key FROM json_each({wanted})))) END"
    )
}

fn about(of: &str) -> String {
    ABOUT.map(|column| format!("{of}.{column}")).join(", ")
}

fn about_differs() -> String {
    ABOUT.map(|column| format!("d.{column} IS NOT e.{column}")).join(" OR ")
}

/// The accesses that the name's site had when the file came to the name.
fn access_at_row() -> String {
    format!(
        "coalesce((SELECT CASE WHEN k.n < e.n THEN k.now ELSE k.was END FROM aside.kept k WHERE k.site = d.site), \
         ({SITE_ACCESS} d.site))"
    )
}

/// What is to be done before the swap, where the rows join what is there.
pub(super) fn merge() -> Vec<String> {
    vec![
        "INSERT INTO aside.leavers SELECT d.site, e.domain, e.n \
         FROM aside.edits e CROSS JOIN main.domains d ON d.domain = e.domain \
         WHERE d.site IS NOT NULL AND (e.action <> 0 OR e.site IS NOT d.site) ORDER BY 1, 2"
            .to_owned(),
        "INSERT INTO aside.emptied SELECT site, max(n) FROM aside.leavers l GROUP BY site \
         HAVING count(*) = (SELECT count(*) FROM main.domains d WHERE d.site = l.site)"
            .to_owned(),
        kept(&format!("CASE WHEN is_reset THEN wanted ELSE {} END", replaced_by("was", "wanted"))),
        "INSERT INTO aside.gone SELECT site FROM aside.emptied x \
         WHERE NOT EXISTS (SELECT 1 FROM aside.wanted w WHERE w.site = x.site)"
            .to_owned(),
        put_with_site(&format!(
            "CASE WHEN d.domain IS NULL THEN {CREATED} WHEN d.site IS e.site AND d.state = e.state \
             AND NOT ({}) AND k.n < e.n THEN {NO_OUTCOME} ELSE {UPDATED} END",
            about_differs()
        )),
        put_without_site(
            &format!(
                "CASE WHEN was_state = state OR (was_state IS NOT NULL AND state = 'deregistered') \
                 THEN {} ELSE access END",
                replaced_by("was_access", "access")
            ),
            "coalesce(e.former_number, d.site, d.former_number)",
        ),
        deregistered(),
        format!(
            "INSERT INTO aside.found (domain, outcome, is_gone) SELECT e.domain, {DELETED}, 1 \
             FROM aside.edits e CROSS JOIN main.domains d ON d.domain = e.domain \
             WHERE e.action = {PURGE} OR (e.action = {DEREGISTER} AND d.state = 'pending')"
        ),
        format!(
            "INSERT INTO aside.found SELECT d.domain, d.site, d.state, NULL, k.now, {}, {NO_OUTCOME}, 0 \
             FROM aside.kept k CROSS JOIN main.domains d ON d.site = k.site \
             WHERE k.was <> k.now AND NOT EXISTS (SELECT 1 FROM aside.edits e WHERE e.domain = d.domain)",
            about("d")
        ),
    ]
}

/// The same, where the rows are the whole content.
pub(super) fn replace() -> Vec<String> {
    let outcome = format!("CASE WHEN d.domain IS NULL THEN {CREATED} ELSE {UPDATED} END");
    vec![
        kept("wanted"),
        "INSERT INTO aside.gone SELECT number FROM main.sites s \
         WHERE NOT EXISTS (SELECT 1 FROM aside.wanted w WHERE w.site = s.number)"
            .to_owned(),
        put_with_site(&outcome),
        put_without_site("access", "e.former_number"),
        format!(
            "INSERT INTO aside.found (domain, outcome, is_gone) SELECT domain, {NO_OUTCOME}, 1 \
             FROM main.domains d WHERE NOT EXISTS (SELECT 1 FROM aside.edits e WHERE e.domain = d.domain)"
        ),
    ]
}

// A subquery with a limit is not merged into what is around it: each row's expressions are evaluated once.
fn kept(now: &str) -> String {
    format!(
        "INSERT INTO aside.kept SELECT site, n, was, now FROM (\
            SELECT site, n, wanted, was, {now} AS now FROM (\
                SELECT w.site, w.n, w.access AS wanted, ({SITE_ACCESS} w.site) AS was, \
                    EXISTS (SELECT 1 FROM aside.emptied x WHERE x.site = w.site AND x.n < w.n) AS is_reset \
                FROM aside.wanted w CROSS JOIN main.sites s ON s.number = w.site LIMIT -1) LIMIT -1) \
         WHERE was <> now OR now <> wanted"
    )
}

fn put_with_site(outcome: &str) -> String {
    format!(
        "INSERT INTO aside.found SELECT e.domain, e.site, e.state, NULL, coalesce(k.now, e.access), {}, {outcome}, 0 \
         FROM aside.edits e LEFT JOIN main.domains d ON d.domain = e.domain \
         LEFT JOIN aside.kept k ON k.site = e.site \
         WHERE e.site IS NOT NULL AND (d.domain IS NULL OR d.site IS NOT e.site OR d.state <> e.state OR {} \
            OR k.was <> k.now)",
        about("e"),
        about_differs()
    )
}

fn put_without_site(access: &str, former_number: &str) -> String {
    let columns = ABOUT.join(", ");
    format!(
        "INSERT INTO aside.found SELECT domain, NULL, state, former_number, access, {columns}, \
            CASE WHEN was_state IS NULL THEN {CREATED} ELSE {UPDATED} END, 0 \
         FROM (SELECT domain, state, former_number, {access} AS access, {columns}, \
                was_state, was_former, was_own, is_about_other FROM (\
            SELECT e.domain, e.state, e.access, {}, d.state AS was_state, d.former_number AS was_former, \
                coalesce(d.own_access, '{{}}') AS was_own, {} AS is_about_other, \
                CASE WHEN e.state = 'deregistered' THEN {former_number} END AS former_number, \
                CASE WHEN d.site IS NULL THEN coalesce(d.own_access, '{{}}') ELSE {} END AS was_access \
            FROM aside.edits e LEFT JOIN main.domains d ON d.domain = e.domain \
            WHERE e.action = 0 AND e.site IS NULL LIMIT -1) LIMIT -1) \
         WHERE was_state IS NULL OR was_state <> state OR was_former IS NOT former_number \
            OR was_own <> access OR is_about_other",
        about("e"),
        about_differs(),
        access_at_row(),
    )
}

fn deregistered() -> String {
    let columns = ABOUT.join(", ");
    format!(
        "INSERT INTO aside.found SELECT domain, NULL, 'deregistered', site, {}, {columns}, {DELETED}, 0 \
         FROM (SELECT d.domain, d.site, {} AS was_access, '{{}}' AS wanted, {} \
            FROM aside.edits e CROSS JOIN main.domains d ON d.domain = e.domain \
            WHERE e.action = {DEREGISTER} AND d.site IS NOT NULL LIMIT -1)",
        replaced_by("was_access", "wanted"),
        access_at_row(),
        about("d"),
    )
}

/// A document as JSON, as `serde` writes one.
fn document(number: &str, access: &str, of: &str) -> String {
    let about = ABOUT.map(|column| {
        format!(
            "CASE WHEN {of}.{column} IS NULL THEN '' ELSE ',\"{column}\":' || json_quote({of}.{column}) END"
        )
    });
    format!(
        "'{{\"number\":' || json_quote({number}) || ',\"state\":\"' || {of}.state || '\",\"access\":' || {access} || {} || '}}'",
        about.join(" || ")
    )
}

/// The change log's rows: `?1` is the last one's place before, `?2` when, `?3` who. First, for it reads what was.
pub(super) fn log(is_fresh: bool) -> String {
    let (before, from) = if is_fresh {
        ("NULL".to_owned(), "")
    } else {
        let access = format!(
            "coalesce(d.own_access, CASE WHEN d.site IS NOT NULL THEN ({SITE_ACCESS} d.site) END, '{{}}')"
        );
        let document = document("coalesce(d.site, d.former_number)", &access, "d");
        (
            format!("CASE WHEN d.domain IS NOT NULL THEN {document} END"),
            "LEFT JOIN main.domains d ON d.domain = c.domain",
        )
    };
    let after = document("coalesce(c.site, c.former_number)", "c.access", "c");
    format!(
        "INSERT INTO main.changes (seq, at_ms, who, domain, before, after) \
         SELECT ?1 + c.place, ?2, ?3, c.domain, {before}, CASE WHEN NOT c.is_gone THEN {after} END \
         FROM (SELECT *, row_number() OVER (ORDER BY domain) AS place FROM aside.changed) c {from}"
    )
}

/// The content's rows: `?1` and `?2` as for `log`. Domains come last, as few or as many as there are.
pub(super) const ACCESSES: &[&str] = &[
    "DELETE FROM main.accesses WHERE site IN (SELECT site FROM aside.kept WHERE was <> now) \
        OR site IN (SELECT site FROM aside.gone)",
    "INSERT INTO main.accesses (site, provider, state) SELECT k.site, j.key, j.value \
        FROM aside.kept k, json_each(k.now) j WHERE k.was <> k.now",
    // Most sites have one of a few sets of accesses: those are taken apart once.
    "CREATE TEMP TABLE sets (access TEXT, provider TEXT, state TEXT, PRIMARY KEY (access, provider)) WITHOUT ROWID",
    "INSERT INTO temp.sets SELECT w.access, j.key, j.value \
        FROM (SELECT DISTINCT access FROM aside.wanted) w, json_each(w.access) j",
];
pub(super) const NEW_ACCESSES: &str = "INSERT INTO main.accesses (site, provider, state) \
    SELECT w.site, s.provider, s.state FROM aside.wanted w CROSS JOIN temp.sets s ON s.access = w.access \
    WHERE NOT EXISTS (SELECT 1 FROM main.sites t WHERE t.number = w.site)";
pub(super) const SITES: &[&str] = &[
    "DROP TABLE temp.sets",
    "DELETE FROM main.sites WHERE number IN (SELECT site FROM aside.gone)",
    "DELETE FROM main.domains WHERE domain IN (SELECT domain FROM aside.changed WHERE is_gone)",
];
/// New sites, and since when those are empty shells that are: `?2` as for `log`.
pub(super) const NEW_SITES: &[&str] = &[
    "INSERT OR IGNORE INTO main.sites (number, shell_since_ms) \
        SELECT site, CASE WHEN instr(access, ':\"active\"') = 0 THEN ?2 END FROM aside.wanted WHERE ?1 IS NOT NULL",
    "UPDATE main.sites SET shell_since_ms = (SELECT CASE WHEN instr(k.now, ':\"active\"') = 0 \
            THEN coalesce(main.sites.shell_since_ms, ?2) END FROM aside.kept k WHERE k.site = number) \
        WHERE ?1 IS NOT NULL AND number IN (SELECT site FROM aside.kept WHERE was <> now)",
];
pub(super) const DOMAINS: &str = "INSERT OR REPLACE INTO main.domains (domain, site, state, former_number, own_access, \
        subject, subject_type, site_name, public_security_number, updated_at_ms, seq) \
    SELECT domain, site, state, former_number, CASE WHEN site IS NULL THEN nullif(access, '{}') END, \
        subject, subject_type, site_name, public_security_number, ?2, ?1 + place \
    FROM (SELECT *, row_number() OVER (ORDER BY domain) AS place FROM aside.changed) WHERE NOT is_gone";
