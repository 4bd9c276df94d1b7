//! Files of many rows: what the way aside does is what the ledger does in memory.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const NAMES: [&str; 7] = ["a.com", "b.com", "c.com", "d.com", "e.com", "政府.政务", "g.cn"];
const ACCESSES: [&str; 7] = [
    "{}",
    r#"{"p":"active"}"#,
    r#"{"p":"cancelled"}"#,
    r#"{"q":"active","p":"active"}"#,
    r#"{"q":"under_review"}"#,
    r#"{"r":"active","q":"cancelled"}"#,
    r#"{"p":"under_review","r":"active"}"#,
];
const STATES: [&str; 4] = ["filed", "restricted", "pending", "deregistered"];

/// A file of a few names, and whether it is the whole content.
#[derive(Debug, Clone)]
struct File {
    text: String,
    terms: Terms,
}

fn line(name: &str, what: u8, site: u32, access: &str, subject: Option<&str>) -> Value {
    let mut line = json!({ "domain": name });
    let state = match what {
        0 => return json!({ "domain": name, "delete": true }),
        1 => return json!({ "domain": name, "delete": true, "purge": true }),
        2..=7 => STATES[0],
        8 => STATES[1],
        9..=10 => STATES[2],
        _ => STATES[3],
    };
    line["state"] = json!(state);
    if state == "filed" || state == "restricted" || (state == "deregistered" && site > 1) {
        line["number"] = json!(number(site, 1));
    }
    if let Some(subject) = subject {
        line["subject"] = json!(subject);
    }
    let mut access: Value = serde_json::from_str(access).unwrap();
    if state == "deregistered" {
        access.as_object_mut().unwrap().retain(|_, it| it != "active");
    }
    line["access"] = access;
    line
}

/// Rows mostly agree about a site, else nothing would ever be imported.
fn file() -> impl Strategy<Value = File> {
    let subject = prop::option::of(prop::sample::select(vec!["甲", "乙 \"公司\"", "C:\\'n"]));
    let row = (0..12_u8, 1..4_u32, prop::sample::select(ACCESSES.to_vec()), subject, 0..20_u8);
    let rows = prop::collection::vec(row, NAMES.len());
    let names = prop::sample::subsequence(NAMES.to_vec(), 0..=NAMES.len()).prop_shuffle();
    let of_sites = prop::array::uniform4(prop::sample::select(ACCESSES.to_vec()));
    (names, rows, of_sites, 0..4_u8, any::<bool>()).prop_map(|(names, rows, of_sites, whole, is_strict)| {
        let lines = names.iter().zip(rows).map(|(name, (what, site, own, subject, odd))| {
            let is_whole_deletion = whole == 0 && what < 2 && odd > 0;
            let what = if is_whole_deletion { 3 } else { what };
            let access = if what < 9 && odd > 0 { of_sites[site as usize] } else { own };
            let name = if odd == 1 { NAMES[0] } else { *name };
            format!("{}\n", line(name, what, site, access, subject))
        });
        File { text: lines.collect(), terms: Terms { is_whole: whole == 0, is_strict, ..JOINING } }
    })
}

fn rows_of(refused: &[RefusedRow]) -> Vec<(u64, &str, &str)> {
    refused.iter().map(|it| (it.line, it.rule.as_str(), it.detail.as_str())).collect()
}

async fn check_alike(files: &[File]) {
    let homes = [World::home(), World::home(), World::home()];
    let open = async |home: &Home| Registry::open(&home.database, None).await.unwrap();
    let few = open(&homes[0]).await;
    let many = open(&homes[1]).await.with_most_fed(0);
    // Aside too, but so few changes that they are fed.
    let mut fed = open(&homes[2]).await;
    for File { text, terms } in files {
        fed.most_fed = text.lines().count().saturating_sub(1);
        let all = [&few, &many, &fed];
        let mut results = Vec::new();
        for registry in all {
            let source = source(text, Format::Ndjson);
            results.push(heard(|events| import(registry, source, *terms, events)).await);
        }
        let content = few.store.content().await;
        for ((result, refused), registry) in results[1..].iter().zip(&all[1..]) {
            let (expected, expected_refused) = &results[0];
            assert_eq!(format!("{result:?}"), format!("{expected:?}"), "{text} {refused:?}");
            assert_eq!(rows_of(refused), rows_of(expected_refused), "{text}");
            assert_eq!(registry.store.content().await, content, "{terms:?} {text}");
        }
    }
    assert!(!homes[1].files().join("registry.db.import").exists());
}

#[test]
fn many_rows_do_what_few_do() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: World::CASES, failure_persistence: None, ..Config::default() };
    let files = prop::collection::vec(file(), 2..7);
    let check = |files: Vec<File>| {
        runtime.block_on(check_alike(&files));
        Ok(())
    };
    TestRunner::new(config).run(&files, check).unwrap();
}

/// Who comes and who goes first decides what a site's accesses become.
#[tokio::test]
async fn the_order_of_rows_counts() {
    let put = |name: &str, site: u32, access: &str| line(name, 2, site, access, None).to_string();
    let file = |lines: &[String]| File { text: lines.join("\n"), terms: STRICT };
    let before = || file(&[put("a.com", 1, ACCESSES[1]), put("b.com", 2, ACCESSES[3])]);
    let moved = || put("a.com", 2, ACCESSES[3]);
    let joined = || put("c.com", 1, ACCESSES[5]);
    check_alike(&[before(), file(&[moved(), joined()])]).await;
    check_alike(&[before(), file(&[joined(), moved()])]).await;
    let deleted = || line("b.com", 0, 2, "{}", None).to_string();
    let joined = || put("c.com", 2, ACCESSES[5]);
    check_alike(&[before(), file(&[deleted(), joined()])]).await;
    check_alike(&[before(), file(&[joined(), deleted()])]).await;
}

/// A file that breaks off after its first rows, as where its sender is killed.
struct BrokenOff(std::io::Cursor<Vec<u8>>);

impl std::io::Read for BrokenOff {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match std::io::Read::read(&mut self.0, into)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

/// Drives an import to its end; also which row it went on after.
async fn resumed(registry: &Registry, source: Source) -> (Result<Imported, ImportError>, Option<u64>) {
    let (sender, mut events) = mpsc::channel(1);
    let hear = async {
        let mut from = None;
        while let Some(event) = events.recv().await {
            if let Event::Resumed(rows) = event {
                from = Some(rows);
            }
        }
        from
    };
    tokio::join!(import(registry, source, STRICT, sender), hear)
}

fn many(rows: std::ops::Range<u32>) -> String {
    rows.map(|index| format!("{}\n", line(&format!("n{index}.cn"), 2, index + 1, ACCESSES[1], None)))
        .collect()
}

#[tokio::test]
async fn what_was_set_aside_before_a_file_broke_off_is_gone_on_with() {
    let world = World::start().await;
    let registry = world.registry.clone().with_most_fed(10);
    let whole = many(0..25_000);
    let broken = || Source::of(BrokenOff(std::io::Cursor::new(many(0..24_000).into_bytes())), Format::Ndjson);
    let (result, from) = resumed(&registry, broken()).await;
    assert!(matches!(result, Err(ImportError::Io { .. })) && from.is_none(), "{result:?}");
    assert_eq!(world.change_count().await, 0, "nothing half-imported");
    // A small file in between takes nothing away.
    assert_eq!(take(&world.registry, &many(0..1), Format::Ndjson, false).await.created, 1);
    let (result, from) = resumed(&registry, source(&whole, Format::Ndjson)).await;
    let Imported { created, unchanged, .. } = result.unwrap();
    assert_eq!((from, created, unchanged), (Some(20_000), 24_999, 1));
    // Of a file that was mended since, what is the same up to a mark.
    let (result, _) = resumed(&registry, broken()).await;
    assert!(result.is_err());
    let mended = whole.replace("\"n15000.cn\"", "\"mended.cn\"");
    let (result, from) = resumed(&registry, source(&mended, Format::Ndjson)).await;
    let Imported { created, updated, unchanged, .. } = result.unwrap();
    assert_eq!((from, created, updated, unchanged), (Some(10_000), 1, 0, 24_999));
    assert_eq!(world.change_count().await, 25_001);
    let (_, from) = resumed(&registry, source(&whole, Format::Ndjson)).await;
    assert_eq!(from, None, "what was aside is gone");
}

#[tokio::test]
async fn what_nobody_goes_on_with_is_removed_once_it_is_old() {
    use std::time::Duration;
    let world = World::start().await;
    let registry = world.registry.clone().with_most_fed(10);
    let never = Duration::from_secs(3600);
    assert!(!registry.store.sweep(Duration::ZERO).await.unwrap(), "there is nothing");
    let broken = || Source::of(BrokenOff(std::io::Cursor::new(many(0..12_000).into_bytes())), Format::Ndjson);
    assert!(resumed(&registry, broken()).await.0.is_err());
    assert!(!registry.store.sweep(never).await.unwrap(), "it is new");
    assert!(registry.store.sweep(Duration::ZERO).await.unwrap());
    assert!(!registry.store.sweep(Duration::ZERO).await.unwrap(), "it is gone");
    let (result, from) = resumed(&registry, source(&many(0..12_000), Format::Ndjson)).await;
    assert_eq!((result.unwrap().created, from), (12_000, None), "from its beginning");
}
