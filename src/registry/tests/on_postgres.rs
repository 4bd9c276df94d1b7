//! What holds on every database, on PostgreSQL; and what is PostgreSQL's alone.

use super::*;

type World = super::World<Postgres>;

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
