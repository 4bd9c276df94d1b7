//! A database that an earlier version left is brought up to date, with all that is in it.

use super::*;
use crate::registry::store::Store;

/// What every version could hold: an empty shell, and how it came to be.
const ROWS: &str = r#"
INSERT INTO sites (number) VALUES ('京ICP备00000001号-1');
INSERT INTO accesses (site, provider, state) VALUES ('京ICP备00000001号-1', 'example-cloud', 'cancelled');
INSERT INTO domains (domain, site, state, subject, updated_at_ms, seq)
    VALUES ('old.cn', '京ICP备00000001号-1', 'filed', '甲公司', 1000, 1);
INSERT INTO changes (seq, at_ms, who, domain, after) VALUES (1, 1000, 'import', 'old.cn',
    '{"number":"京ICP备00000001号-1","state":"filed","access":{"example-cloud":"cancelled"},"subject":"甲公司"}');
UPDATE meta SET seq = 1;
"#;
/// The version before which nothing said since when a site is a shell; later ones write it.
const SHELLS: usize = 4;
const SHELL: &str = "UPDATE sites SET shell_since_ms = 1000;";
/// The version whose notes on sites were found by one day only.
const NOTES: usize = 4;
const NOTE: &str = r#"
INSERT INTO site_notes (id, account, due_on, updated_at_ms, body) VALUES ('京ICP备00000001号-1', 'a1', '2026-01-02', 0,
    '{"number":"京ICP备00000001号-1","account":"a1","platform":null,"opened_on":"2025-12-03",
      "public_security_due_on":"2026-01-02","correction":{"reason":"电话","due_on":"2026-01-05","due_by_calendar":true}}');
"#;

#[tokio::test]
async fn every_earlier_version_is_brought_up_to_date() {
    for version in 1..Store::versions() {
        let home = World::home();
        let mut rows = ROWS.to_owned();
        if version >= SHELLS {
            rows += SHELL;
        }
        if version == NOTES {
            rows += NOTE;
        }
        Store::make_earlier(&home.database, version, &rows).await;
        let world = World::start_in(home, None).await;
        assert_eq!(world.status("old.cn").await, "access_cancelled", "{version}");
        let (_, history) = world.get("/v1/filings/old.cn/history").await;
        assert_eq!(history["changes"][0]["who"], "import", "{version}: {history}");
        let due = async |kind: &str| world.get(&format!("/v1/due?kind={kind}")).await.1["due"][0].clone();
        assert_eq!(due("empty_shell").await["domain"], "old.cn", "{version}");
        if version == NOTES {
            assert_eq!(due("correction").await["due_on"], "2026-01-05");
            assert_eq!(due("public_security_filing").await["due_on"], "2026-01-02");
        }
        let (_, of_subject) = world.get("/v1/filings?subject=%E7%94%B2%E5%85%AC%E5%8F%B8").await;
        assert_eq!(of_subject["filings"][0]["domain"], "old.cn", "{version}");
        assert_eq!(world.put_ok("new.cn", &connected(2)).await["seq"], 2, "{version}: positions go on");
        let (status, _) = world.send(Method::PUT, "/v1/servers/s1", r#"{"quota": 1}"#).await;
        assert_eq!(status, StatusCode::CREATED, "{version}");
        assert_eq!(world.get("/v1/changes?kind=server").await.1["changes"][0]["record"], "s1", "{version}");
    }
}
