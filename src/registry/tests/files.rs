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
    heard(|events| import_via(world.address, None, source(CSV, Format::Csv), JOINING, events))
        .await
        .0
        .unwrap();
    let before = exported(&world.registry, Format::Csv).await;
    for name in ["f.csv", "f.csv.zst", "f.ndjson", "f.jsonl.zst"] {
        let path = world.home.files().join(name);
        assert_eq!(export_to(&world.registry, &path, |_| ()).await.unwrap(), 4);
        let source = Source::open(&path, None).unwrap();
        let taken = heard(|events| {
            import_via(world.address, None, source, Terms { is_whole: true, ..JOINING }, events)
        })
        .await
        .0;
        assert_eq!(taken.unwrap().unchanged, 4, "{name}");
    }
    assert_eq!(exported(&world.registry, Format::Csv).await, before);
    let unnamed = Source::open(&world.home.files().join("f.txt"), None);
    assert!(matches!(unnamed, Err(ImportError::File(_))));
}

async fn check_refused(text: &str, format: Format, expected: &[(u64, &str)]) {
    let world = World::start().await;
    // By the way of a few rows and by that of many.
    for most_fed in [100, 0] {
        let registry = world.registry.clone().with_most_fed(most_fed);
        let (result, refused) = heard(|events| import(&registry, source(text, format), STRICT, events)).await;
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
        "\n{\"domain\":\"com\"}\n{}\n{\n",
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
            heard(|events| import(&world.registry, source(text, Format::Csv), JOINING, events)).await,
            heard(|events| import_via(world.address, None, source(text, Format::Csv), JOINING, events)).await,
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
        heard(|events| import(&world.registry, source(text, Format::Ndjson), STRICT, events)).await,
        heard(|events| import(&bulk, source(text, Format::Ndjson), STRICT, events)).await,
        heard(|events| import_via(world.address, None, source(text, Format::Ndjson), STRICT, events)).await,
    ] {
        assert!(matches!(attempt, Err(ImportError::Refused(1))), "{attempt:?}");
        assert_eq!((refused.len(), refused[0].line, &*refused[0].rule), (1, 3, "not_filed"));
    }
    assert_eq!(exported(&world.registry, Format::Csv).await, before);
}

/// By the way of a few rows, by that of many, and through a registry that is running.
async fn by_each_way(rows: &str, terms: Terms, before: &str, expected: (&str, &[(u64, &str)]), after: &str) {
    for most_fed in [100, 0] {
        for is_via in [false, true] {
            let world = World::start().await;
            take(&world.registry, before, Format::Ndjson, false).await;
            let registry = world.registry.clone().with_most_fed(most_fed);
            let source = source(rows, Format::Ndjson);
            let (result, refused) = if is_via && most_fed > 0 {
                heard(|events| import_via(world.address, None, source, terms, events)).await
            } else {
                heard(|events| import(&registry, source, terms, events)).await
            };
            assert!(format!("{result:?}").contains(expected.0), "{result:?}");
            let seen: Vec<_> = refused.iter().map(|it| (it.line, it.rule.as_str())).collect();
            assert_eq!(seen, expected.1, "{most_fed}");
            let names: Vec<_> =
                exported(&world.registry, Format::Csv).await.lines().skip(1).map(name).collect();
            assert_eq!(names.join(" "), after, "{most_fed}");
        }
    }
}

fn name(row: &str) -> String {
    row.split(',').next().unwrap().to_owned()
}

fn row(domain: &str, site: u32, access: &str) -> String {
    json!({ "domain": domain, "number": number(site, 1), "access": { access: "active" } }).to_string() + "\n"
}

#[tokio::test]
async fn refused_rows_are_left_out_and_the_others_are_imported() {
    let rows = [
        row("a.com", 1, "p"),
        row("www.b.com", 2, "p"),
        row("a.com", 3, "p"),
        row("c.com", 1, "q"),
        row("d.com", 1, "p"),
        "{\"domain\":\"m.com\",\"delete\":true}\n".to_owned(),
    ]
    .concat();
    let refused = [
        (2, "not_registrable_domain"),
        (3, "duplicate_domain"),
        (4, "site_access_conflict"),
        (6, "not_filed"),
    ];
    let said = "created: 2, updated: 0, unchanged: 0, deleted: 0, refused: 4";
    by_each_way(&rows, JOINING, "", (said, &refused), "a.com d.com").await;
    let kept = row("z.com", 9, "p");
    let said = "created: 2, updated: 0, unchanged: 0, deleted: 0, refused: 4";
    by_each_way(&rows, JOINING, &kept, (said, &refused), "a.com d.com z.com").await;
    let whole = Terms { is_whole: true, ..JOINING };
    by_each_way(&rows, whole, &kept, (said, &refused), "a.com d.com").await;
}

/// Whoever means to keep a filing must not lose it for a slip in its row.
#[tokio::test]
async fn a_whole_file_does_not_forget_what_its_refused_rows_are_about() {
    let rows = row("a.com", 1, "p") + &row("z.com", 1, "q");
    let whole = Terms { is_whole: true, ..JOINING };
    let refused = [(2, "site_access_conflict")];
    let kept = row("y.com", 8, "p") + &row("z.com", 9, "p");
    by_each_way(&rows, whole, &kept, ("Forgets(1)", &refused), "y.com z.com").await;
    let nothing = "{\"domain\":\"z.com\",\"delete\":true}\n";
    by_each_way(nothing, whole, &kept, ("Refused(1)", &[(1, "not_filed")]), "y.com z.com").await;
}

#[tokio::test]
async fn a_file_that_is_cut_off_imports_nothing() {
    let world = World::start().await;
    let whole = row("a.com", 1, "p") + &row("b.com", 2, "p");
    let csv = format!("domain,number,site_name\na.com,{0},x\nb.com,{0},\"y\nc.com,{0},z\n", number(1, 1));
    for (text, format) in [
        (&whole[..whole.len() - 9], Format::Ndjson),
        (csv.as_str(), Format::Csv),
        ("domain,number,site_name\na.com,京ICP备00000001号-1,\nb.com,京ICP", Format::Csv),
    ] {
        for most_fed in [100, 0] {
            let registry = world.registry.clone().with_most_fed(most_fed);
            let (result, _) = heard(|events| import(&registry, source(text, format), JOINING, events)).await;
            assert!(result.unwrap_err().to_string().contains("cut off"), "{text}");
        }
    }
    assert_eq!(world.change_count().await, 0);
}

const LOOKED_UP: &str = "主办单位名称,主办单位性质,ICP备案/许可证号,网站备案/许可证号,网站域名,是否限制接入,审核日期\n\
    示例甲,企业,京ICP备12345678号,京ICP备12345678号-1,a.com,否,2024-05-31\n\
    示例乙,个人,,沪ICP备2024012345号-2,b.com,是,2024/06/01 10:00:00\n\
    示例丙,企业,京ICP备12345678号,沪ICP备10000002号-1,c.com,否,2024-05-31\n\
    示例丁,企业,京ICP备12345679号,,d.com,否,2024-05-31\n\
    示例戊,企业,京ICP备12345678号-3,,e.com,否,2024-05-31\n";

#[tokio::test]
async fn what_the_ministry_tells_is_taken_as_a_table_and_as_objects() {
    let objects = json!({
        "contentTypeName": "", "domain": "a.com", "domainId": 1, "leaderName": "", "limitAccess": "否",
        "mainId": 2, "mainLicence": "京ICP备12345678号", "natureName": "企业",
        "serviceId": 3, "serviceLicence": "京ICP备12345678号-1", "unitName": "示例甲",
        "updateRecordTime": "2024-05-31 09:30:00",
    });
    let refused = [(4, "licences_differ"), (5, "number_without_site_index")];
    let rows = [
        (LOOKED_UP.to_owned(), Format::Csv, &refused[..]),
        (format!("{objects}\n"), Format::Ndjson, &[][..]),
    ];
    for (text, format, expected) in rows {
        let world = World::start().await;
        let wanting = Wanting::new(None, Some("example-cloud=active")).unwrap();
        let source = source(&text, format).with(wanting);
        let (result, refused) =
            heard(|events| import_via(world.address, None, source, JOINING, events)).await;
        assert_eq!(result.unwrap().refused, expected.len() as u64);
        assert_eq!(refused.iter().map(|it| (it.line, it.rule.as_str())).collect::<Vec<_>>(), expected);
        let (_, a) = world.get(&format!("/v1/filings/a.com?provider={HERE}")).await;
        let seen = [&a["number"], &a["subject"], &a["subject_type"], &a["status"]];
        assert_eq!(
            seen.map(|it| it.as_str().unwrap()),
            ["京ICP备12345678号-1", "示例甲", "enterprise", "connected"]
        );
        if format == Format::Csv {
            assert_eq!(world.status("b.com").await, "restricted");
            assert_eq!(world.get("/v1/filings/e.com").await.1["number"], "京ICP备12345678号-3");
        }
    }
}

#[tokio::test]
async fn map_files_of_other_proxies_are_taken() {
    let world = World::start().await;
    let nginx = "# 备案\nmap $host $icp {\n    hostnames;\n    default \"\";\n    .a.com \"京ICP备12345678号-1\";\n\
        *.b.com 京ICP备12345678号-2;\n    ~^c.*$ x;\n    include more.map;\n}\n";
    let haproxy = "# name number\nd.com 京ICP备12345678号-4\n\ne.com\n";
    for (text, number, refused) in [
        (nginx, None, &[(7, "no_plain_name"), (8, "no_plain_name")][..]),
        (haproxy, None, &[(4, "number_missing")][..]),
        ("f.com\n.g.com\n", Some("京ICP备12345678号-6"), &[][..]),
    ] {
        let wanting = Wanting::new(number.map(Into::into), Some("example-cloud=active")).unwrap();
        let source = source(text, Format::Map).with(wanting);
        let (result, seen) = heard(|events| import_via(world.address, None, source, JOINING, events)).await;
        assert_eq!(result.unwrap().refused, refused.len() as u64);
        assert_eq!(seen.iter().map(|it| (it.line, it.rule.as_str())).collect::<Vec<_>>(), refused);
    }
    for name in ["a.com", "b.com", "d.com", "f.com", "www.g.com"] {
        assert_eq!(world.status(name).await, "connected", "{name}");
    }
    assert_eq!(world.status("e.com").await, "unfiled");
    let exported = exported(&world.registry, Format::Map).await;
    assert!(exported.starts_with("a.com 京ICP备12345678号-1\nb.com 京ICP备12345678号-2\n"), "{exported}");
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
