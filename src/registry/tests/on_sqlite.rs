//! What holds on every database, on SQLite; and what is SQLite's alone.

use super::*;

type World = super::World<Sqlite>;

#[path = "api.rs"]
mod api;
#[path = "batch.rs"]
mod batch;
#[path = "bulk.rs"]
mod bulk;
#[path = "changes.rs"]
mod changes;
#[path = "doors.rs"]
mod doors;
#[path = "dry_runs.rs"]
mod dry_runs;
#[path = "feed.rs"]
mod feed;
#[path = "files.rs"]
mod files;
#[path = "orders.rs"]
mod orders;
#[path = "plans.rs"]
mod plans;
#[path = "repair.rs"]
mod repair;
#[path = "upgrade.rs"]
mod upgrade;
#[path = "versions.rs"]
mod versions;

#[tokio::test]
async fn one_registry_writes_and_others_read() {
    let world = World::start().await;
    world.put_ok("example.com", &connected(1)).await;
    let Database::Sqlite(path) = &world.home.database else { panic!("it is SQLite") };
    assert_eq!(running_at(path), Some(world.address));
    let database = world.home.database.clone();
    let error = Registry::open(&database, None).await.unwrap_err().to_string();
    assert!(error.contains(&world.address.to_string()) && error.contains("registry.db"), "{error}");
    let reader = Registry::open_read_only(&database).await.unwrap();
    let name = crate::domain::DomainName::from_user("www.example.com").unwrap();
    let found = reader.covering(&name, HERE).await.unwrap().unwrap();
    assert_eq!(found.decided_by, "example.com");
    assert_eq!(found.covering.record.status, crate::filing::Status::Connected);
    assert!(reader.load_sample("domain,number\nb.com,x").await.unwrap().is_none());
}

#[tokio::test]
async fn what_can_not_be_opened_says_which_file_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let missing = Registry::open_read_only(&Database::Sqlite(path.clone())).await.unwrap_err().to_string();
    assert!(missing.contains("registry.db") && missing.contains("missing"), "{missing}");
    std::fs::write(&path, "this is no database, but long enough to be looked at as one".repeat(20)).unwrap();
    let damaged = Registry::open(&Database::Sqlite(path.clone()), None).await.unwrap_err().to_string();
    assert!(damaged.contains("registry.db") && damaged.contains("no database"), "{damaged}");
    let below_a_file = Database::Sqlite(path.join("x.db"));
    let unmakeable = Registry::open(&below_a_file, None).await.unwrap_err().to_string();
    assert!(unmakeable.contains("x.db"), "{unmakeable}");
}
