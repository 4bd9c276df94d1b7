//! Import and export.

use super::*;
use crate::registry::{export, export_to, import_via};

const CSV: &str = "domain,number,access,state,subject,site_name\n\
    a.com,京ICP备00000001号-1,example-cloud=active;other-cloud=cancelled,,甲,首页\n\
    b.com,京ICP备00000001号-1,example-cloud=active;other-cloud=cancelled,restricted,甲,\"逗号,引号\"\"\"\n\
    政府.政务,京ICP备00000002号-1,,,,\n\
    p.com,,example-cloud=under_review,pending,,\n";

async fn exported(registry: &Registry, format: Format) -> String {
    let mut out = Vec::new();
    export(registry, format, &mut out, |_| ()).await.unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn what_is_exported_is_imported_identically() {
    let world = World::start().await;
    let taken = take(&world.registry, CSV, Format::Csv, false).await;
    assert_eq!(taken.created, 4);
    world.put_ok("gone.com", &connected(9)).await;
    world.delete("gone.com", "").await;
    let (csv, ndjson) =
        (exported(&world.registry, Format::Csv).await, exported(&world.registry, Format::Ndjson).await);
    for (text, format) in [(&csv, Format::Csv), (&ndjson, Format::Ndjson)] {
        let other = World::start().await;
        assert_eq!(take(&other.registry, text, format, true).await.created, 5);
        assert_eq!(exported(&other.registry, Format::Csv).await, csv);
        assert_eq!(exported(&other.registry, Format::Ndjson).await, ndjson);
        let again = take(&other.registry, text, format, true).await;
        assert_eq!((again.unchanged, other.change_count().await), (5, 5));
    }
}

#[tokio::test]
async fn files_go_by_their_extension_and_through_a_running_registry() {
    let world = World::start().await;
    heard(|events| import_via(world.address, None, source(CSV, Format::Csv), false, events)).await.0.unwrap();
    let before = exported(&world.registry, Format::Csv).await;
    for name in ["f.csv", "f.csv.zst", "f.ndjson", "f.jsonl.zst"] {
        let path = world.home.files().join(name);
        assert_eq!(export_to(&world.registry, &path, |_| ()).await.unwrap(), 4);
        let source = Source::open(&path).unwrap();
        let taken = heard(|events| import_via(world.address, None, source, true, events)).await.0;
        assert_eq!(taken.unwrap().unchanged, 4, "{name}");
    }
    assert_eq!(exported(&world.registry, Format::Csv).await, before);
    let unnamed = Source::open(&world.home.files().join("f.txt"));
    assert!(matches!(unnamed, Err(ImportError::File(_))));
}

async fn check_refused(text: &str, format: Format, expected: &[(u64, &str)]) {
    let world = World::start().await;
    // By the way of a few rows and by that of many.
    for most_fed in [100, 0] {
        let registry = world.registry.clone().with_most_fed(most_fed);
        let (result, refused) = heard(|events| import(&registry, source(text, format), false, events)).await;
        let count = expected.len() as u64;
        assert!(matches!(result, Err(ImportError::Refused(it)) if it == count), "{result:?}");
        let seen: Vec<_> = refused.iter().map(|it| (it.line, it.rule.as_str())).collect();
        assert_eq!(seen, expected, "{most_fed}");
    }
    assert_eq!(world.change_count().await, 0);
}

#[tokio::test]
async fn every_refused_row_is_named() {
    let head = "\u{feff}domain,number,access,state";
    let text = format!(
        "{head}\na.com,京ICP备1号-1\nwww.b.com,京ICP备00000001号-1,,\na.com,京ICP备00000001号-1,p=active,\n\
         a.com,京ICP备00000002号-1,,\nc.com,京ICP备00000001号-1,p=cancelled,\nd.com,x,p,\ne.com,,,closed\n"
    );
    let text = text.replace("a.com,京ICP备1号-1\n", "z.com,京ICP备00000001号,,\n");
    check_refused(
        &text,
        Format::Csv,
        &[
            (2, "number_without_site_index"),
            (3, "not_registrable_domain"),
            (5, "duplicate_domain"),
            (6, "site_access_conflict"),
            (7, "invalid_access"),
            (8, "invalid_state"),
        ],
    )
    .await;
    check_refused(
        "\n{\"domain\":\"com\"}\n{}\n{",
        Format::Ndjson,
        &[(2, "public_suffix"), (3, "malformed_document"), (4, "malformed_json")],
    )
    .await;
}

#[tokio::test]
async fn headers_are_checked() {
    let world = World::start().await;
    for (text, part) in [("domain,num\n", "unknown column `num`"), ("domain\n", "`number` is missing")] {
        for (result, _) in [
            heard(|events| import(&world.registry, source(text, Format::Csv), false, events)).await,
            heard(|events| import_via(world.address, None, source(text, Format::Csv), false, events)).await,
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}

#[tokio::test]
async fn a_refused_row_leaves_everything_as_it_was() {
    let world = World::start().await;
    take(&world.registry, CSV, Format::Csv, false).await;
    let before = exported(&world.registry, Format::Csv).await;
    let text = "{\"domain\":\"n.com\",\"state\":\"pending\"}\n\n{\"domain\":\"m.com\",\"delete\":true}\n";
    let bulk = world.registry.clone().with_most_fed(0);
    for (attempt, refused) in [
        heard(|events| import(&world.registry, source(text, Format::Ndjson), false, events)).await,
        heard(|events| import(&bulk, source(text, Format::Ndjson), false, events)).await,
        heard(|events| import_via(world.address, None, source(text, Format::Ndjson), false, events)).await,
    ] {
        assert!(matches!(attempt, Err(ImportError::Refused(1))), "{attempt:?}");
        assert_eq!((refused.len(), refused[0].line, &*refused[0].rule), (1, 3, "not_filed"));
    }
    assert_eq!(exported(&world.registry, Format::Csv).await, before);
}

#[tokio::test]
async fn a_sample_fills_an_empty_database_only() {
    let world = World::start().await;
    assert_eq!(world.registry.load_sample(CSV).await.unwrap().unwrap().created, 4);
    let deregistered = "domain,number,access,state\nx.cn,湘ICP备10000008号-1,p=cancelled,deregistered\n";
    assert_eq!(take(&world.registry, deregistered, Format::Csv, true).await.created, 1);
    assert_eq!(world.get("/v1/filings/x.cn").await.1["access"], json!({ "p": "cancelled" }));
    world.delete("x.cn", "?purge=true").await;
    assert_eq!(world.registry.load_sample(CSV).await.unwrap().unwrap().created, 4);
    assert_eq!(world.registry.load_sample(CSV).await.unwrap(), None);
}
