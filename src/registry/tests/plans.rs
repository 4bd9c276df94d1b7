//! No listing looks at a whole table: what every GET of the API asks of the database is asked of its planner too.

use super::doors::concrete;
use super::*;
use crate::registry::orders::Stage;
use crate::registry::records::Wanted;
use crate::registry::routes::{self, ROUTES};
use crate::registry::store::{Session, Value as Bound, recorded};
use std::sync::{Arc, Mutex};

/// Rows of each table.
const ROWS: usize = 6000;
/// The most rows that one step of a statement may look at: a page, and one more to know whether there is another.
const MOST_LOOKED_AT: u64 = 2500;

/// Rows in every table that the API lists.
async fn fill(world: &World) {
    let row = |n: usize| {
        let (number, state) = (n / 2, if (n / 2).is_multiple_of(3) { "cancelled" } else { "active" });
        format!("d{n}.cn,京ICP备{number:08}号-1,{HERE}={state},公司{}\n", n % 997)
    };
    let rows: String = (0..ROWS).map(row).collect();
    take(&world.registry, &format!("domain,number,access,subject\n{rows}"), Format::Csv, false).await;
    for n in 0..30 {
        world.delete(&format!("d{n}.cn"), "").await;
    }
    let of = |table: &str, columns: &str, values: &str| {
        format!(
            "INSERT INTO {table} (id, {columns}, updated_at_ms, body) \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
             SELECT '{table}-' || i, {values}, 0, '{{}}' FROM n"
        )
    };
    let stage = Stage::AuthorityReview.as_str();
    let tables = [
        of("accounts", "subject", "'subject-' || (i % 997)"),
        of("subjects", "number, name, certificate", "'n' || i, 'name' || (i % 997), 'c' || i"),
        of(
            "orders",
            "account, domain, subject, stage, due_on",
            &format!("'a' || (i % 997), 'd' || i || '.cn', 's' || (i % 997), '{stage}', '2026-01-01'"),
        ),
        of("servers", "account", "'a' || (i % 997)"),
        of("service_codes", "server, account", "'s' || (i % 997), 'a' || (i % 997)"),
        of("site_notes", "account, due_on, correction_due_on", "'a', '2026-01-01', '2026-01-02'"),
    ];
    let mut writer = world.registry.store.writer().await.unwrap();
    let mut session = writer.session();
    for table in tables {
        session.run(table, &[]).await.unwrap();
    }
    if matches!(session, Session::Postgres(_)) {
        session.script("ANALYZE").await.unwrap();
    }
}

/// What is wrong with how the database would find the rows of a statement.
async fn fault(world: &World, sql: &str, values: &[Bound]) -> Option<String> {
    let mut writer = world.registry.store.writer().await.unwrap();
    let mut session = writer.session();
    if matches!(session, Session::Sqlite(_)) {
        let plan = session.rows(format!("EXPLAIN QUERY PLAN {sql}"), values).await.unwrap();
        let details: Vec<_> = plan.iter().map(|it| it.text(3).unwrap().unwrap().to_owned()).collect();
        let is_small = |it: &str| {
            ["meta", "json_each", "CONSTANT ROW", "issued", "last_of_sites", "last_of_domains"].contains(&it)
        };
        let scan = details.iter().filter_map(|it| it.strip_prefix("SCAN ")).find(|it| {
            // A subquery's rows go by the name of the table that they are of, without an index.
            !is_small(it) && !it.starts_with("(subquery") && !it.starts_with("json_each")
        });
        return scan.map(|_| details.join("\n"));
    }
    // Seldom the cheapest way with so few rows; what is left then is a table that nothing else finds rows in.
    session.script("SET enable_seqscan = off").await.unwrap();
    let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {sql}");
    let plan = session.rows(explain, values).await.unwrap();
    session.script("RESET enable_seqscan").await.unwrap();
    let lines: Vec<_> = plan.iter().map(|it| it.text(0).unwrap().unwrap().to_owned()).collect();
    let number_after = |line: &str, word: &str| -> u64 {
        let digits = line.split(word).nth(1).unwrap_or_default();
        digits.split(|it: char| !it.is_ascii_digit()).next().and_then(|it| it.parse().ok()).unwrap_or(0)
    };
    let is_bad = |line: &String| {
        let is_scan = line.contains(" Scan ") && !line.contains("CTE") && !line.contains("Function");
        (line.contains("Seq Scan on ") && !line.contains("Seq Scan on meta"))
            || number_after(line, "Rows Removed by Filter: ") > MOST_LOOKED_AT
            || (is_scan && number_after(line, "(actual rows=") > MOST_LOOKED_AT)
    };
    lines.iter().any(is_bad).then(|| lines.join("\n"))
}

/// The calls of a route: without parameters, and with each one that its description has.
fn calls(path: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(crate::registry::openapi::DOCUMENT).unwrap();
    let real =
        path.replace("{domain}", "d77.cn").replace("{number}", "%E4%BA%ACICP%E5%A4%8700000038%E5%8F%B7-1");
    let subject = path.replace("{id}", "%E4%BA%ACICP%E5%A4%8700000038%E5%8F%B7");
    let mut calls = vec![concrete(path), concrete(&real), concrete(&subject)];
    let base = calls[1].clone();
    for parameter in document["paths"][path]["get"]["parameters"].as_array().unwrap() {
        let parameter = match parameter["$ref"].as_str() {
            Some(to) => document.pointer(&to[1..]).unwrap(),
            None => parameter,
        };
        if parameter["in"] != "query" {
            continue;
        }
        let name = parameter["name"].as_str().unwrap();
        let values: Vec<String> = match (name, parameter["schema"]["enum"].as_array()) {
            (_, Some(values)) => values.iter().map(|it| it.as_str().unwrap().to_owned()).collect(),
            ("before", _) => vec!["2026-12-31".into()],
            ("subject", _) => vec!["subject-7".into(), "%E4%BA%ACICP%E5%A4%8700000038%E5%8F%B7".into()],
            ("cursor" | "limit", _) => vec!["500".into()],
            ("prefix", _) => vec!["d77".into()],
            _ => vec![format!("{}7", &name[..1])],
        };
        calls.extend(values.iter().map(|value| {
            format!("{base}?{name}={value}&provider=p").replace(
                // Only some take a provider.
                "&provider=p",
                if path == "/v1/filings" && name != "provider" { "&provider=p" } else { "" },
            )
        }));
    }
    calls
}

#[tokio::test]
async fn no_listing_looks_at_a_whole_table() {
    let world = World::start().await;
    fill(&world).await;
    let mut faults = Vec::new();
    for (path, _) in ROUTES.iter().filter(|(path, methods)| {
        methods.contains(&"get") && path.starts_with("/v1/") && !path.starts_with("/v1/feed/")
    }) {
        let mut statements = 0;
        for call in calls(path) {
            let request = axum::http::Request::get(&call).body(axum::body::Body::empty()).unwrap();
            let options = Options { provider: HERE.to_owned(), ..Options::default() };
            let asked = routes::answer(world.registry.clone(), options, request);
            let (answer, heard) = recorded::of(asked).await;
            assert!(answer.status().as_u16() < 500, "{call}: {}", answer.status());
            statements += heard.len();
            for (sql, values) in &heard[..heard.len().min(20)] {
                let plan = fault(&world, sql, values).await;
                faults.extend(plan.map(|it| format!("{call}\n{sql}\n{it}")));
            }
        }
        assert!(statements > 0, "{path} asks the database nothing");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[tokio::test]
async fn what_orders_look_up_is_found_by_an_index() {
    let world = World::start().await;
    fill(&world).await;
    let wanted = [
        Wanted::Domain("d77.cn".into()),
        Wanted::OfNumber("京ICP备00000038号".into()),
        Wanted::OfName("公司77".into()),
        Wanted::LastSerial("京ICP备2026".into()),
    ];
    for wanted in wanted {
        let left = Arc::new(Mutex::new(Some(wanted.clone())));
        let plan = Box::new(move |_: &mut crate::registry::Ledger| left.lock().unwrap().take());
        let (found, heard) = recorded::of(world.registry.store.consult(plan)).await;
        found.unwrap();
        assert!(!heard.is_empty());
        for (sql, values) in heard {
            let plan = fault(&world, &sql, &values).await;
            assert_eq!(plan, None, "{wanted:?}\n{sql}");
        }
    }
}
