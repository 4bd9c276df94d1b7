//! `?dry_run=true` on every write: all rules at once, and nothing is done.

use super::*;
use crate::registry::import_via;

impl World {
    /// Tries a write; which rules refuse it.
    async fn tried(&self, method: Method, path: &str, body: &Value) -> Vec<String> {
        let before = self.registry.store.content().await;
        let (status, answer) = self.send(method, &format!("{path}?dry_run=true"), body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        assert_eq!(self.registry.store.content().await, before, "{path}");
        let refusals = answer["refusals"].as_array().unwrap();
        let rules: Vec<_> = refusals.iter().map(|it| it["rule"].as_str().unwrap().to_owned()).collect();
        assert_eq!(answer["accepted"], rules.is_empty(), "{path}: {answer}");
        rules
    }
}

#[tokio::test]
async fn every_write_says_all_rules_at_once() {
    let world = World::start().await;
    world.put_ok("one.cn", &connected(1)).await;
    let certificate =
        |number: &str| json!({ "kind": "business_licence", "number": number, "province": "beijing" });
    for (method, path, body) in [
        (Method::PUT, "/v1/servers/s1", json!({ "quota": 1 })),
        (Method::PUT, "/v1/servers/lb", json!({ "product": "load_balancer" })),
        (Method::POST, "/v1/service-codes", json!({ "server": "s1" })),
        (Method::POST, "/v1/subjects", json!({ "name": "甲公司", "certificate": certificate("c1") })),
    ] {
        assert_eq!(world.tried(method.clone(), path, &body).await, [""; 0], "{path}");
        assert!(world.send(method, path, body.to_string()).await.0.is_success(), "{path}");
    }
    let site = format!("/v1/sites/{}", number(1, 1));
    let long = "字".repeat(257);
    for (method, path, body, expected) in [
        (
            Method::PUT,
            "/v1/filings/www.a.com",
            json!({ "number": "x", "access": { "A B": "active" } }),
            &["not_registrable_domain", "invalid_number", "invalid_provider"][..],
        ),
        (Method::DELETE, "/v1/filings/none.cn", json!({}), &["not_filed"]),
        (
            Method::PUT,
            "/v1/servers/s1",
            json!({ "quota": 9, "account": "a b" }),
            &["invalid_id", "quota_not_raised"],
        ),
        (
            Method::POST,
            "/v1/service-codes",
            json!({ "server": "none", "account": "a b" }),
            &["invalid_id", "server_unknown"],
        ),
        (Method::POST, "/v1/service-codes", json!({ "server": "s1" }), &["server_quota"]),
        (
            Method::POST,
            "/v1/subjects",
            json!({ "name": " ", "number": "x", "certificate": certificate("c1") }),
            &["subject_name_needed", "invalid_number", "subject_known"],
        ),
        (
            Method::PUT,
            "/v1/subjects/subject-00000001",
            json!({ "name": long, "number": "x" }),
            &["invalid_text", "invalid_number"],
        ),
        (
            Method::PUT,
            &site,
            json!({ "reason": long, "public_security_number": "x", "correction": { "reason": "" } }),
            &["invalid_text", "invalid_public_security_number", "reason_needed"],
        ),
        (Method::POST, "/v1/orders", json!({ "intent": "cancel_access", "domain": "none.cn" }), &[]),
    ] {
        let rules = world.tried(method.clone(), path, &body).await;
        let is_said = expected.iter().all(|it| rules.iter().any(|rule| rule == it));
        assert!(is_said && !rules.is_empty(), "{method} {path}: {rules:?} and not {expected:?}");
        // What is done in earnest is refused by the same.
        let (status, answer) = world.send(method, path, body.to_string()).await;
        assert!(status.is_client_error(), "{path}: {answer}");
        assert_eq!(answer["rule"], rules[0], "{path}");
    }
}

#[tokio::test]
async fn a_batch_says_all_rules_of_each_line() {
    let world = World::start().await;
    let lines = [
        json!({ "domain": "www.a.com", "number": "x", "access": { "A B": "active" } }),
        connected_line("b.com", 2),
        json!({ "domain": "com", "purge": true }),
    ];
    let body: String = lines.iter().map(|it| format!("{it}\n")).collect();
    let tried = world.request(Method::POST, "/v1/filings:batch?dry_run=true").body(body);
    let text = tried.send().await.unwrap().text().await.unwrap();
    let results: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let rules = |of: &Value| -> Vec<String> {
        let refusals = of["refusals"].as_array().into_iter().flatten();
        refusals.map(|it| it["rule"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        rules(&results[0]),
        ["not_registrable_domain", "invalid_number", "invalid_provider"],
        "{text}"
    );
    assert_eq!((&results[1]["status"], rules(&results[1]).len()), (&json!("created"), 0));
    assert_eq!(rules(&results[2]), ["public_suffix", "delete_with_document"]);
    assert_eq!(results[0]["rule"], "not_registrable_domain");
    assert_eq!(world.change_count().await, 0);
}

fn connected_line(domain: &str, subject: u32) -> Value {
    let mut line = connected(subject);
    line["domain"] = json!(domain);
    line
}

#[tokio::test]
async fn an_import_says_what_it_would_do() {
    let world = World::start().await;
    for site in 1..=3 {
        world.put_ok(&format!("d{site}.cn"), &connected(site)).await;
    }
    let csv = format!(
        "domain,number,access\nd1.cn,{},{HERE}=active\nd2.cn,{},{HERE}=cancelled\nnew.cn,{},\nwww.x.com,{},\n",
        number(1, 1),
        number(2, 1),
        number(8, 1),
        number(9, 1)
    );
    let trying = Terms { is_dry_run: true, ..JOINING };
    // In memory, aside, and through a registry that runs.
    for most_fed in [1000, 1] {
        let registry = world.registry.clone().with_most_fed(most_fed);
        for terms in [JOINING, Terms { is_whole: true, ..JOINING }] {
            let (before, trying) =
                (world.registry.store.content().await, Terms { is_dry_run: true, ..terms });
            let (imported, refused) =
                heard(|events| import(&registry, source(&csv, Format::Csv), trying, events)).await;
            let imported = imported.unwrap();
            let Imported { created, updated, unchanged, refused: left_out, .. } = imported;
            assert_eq!((created, updated, unchanged, left_out), (1, 1, 1, 1), "{most_fed}");
            assert_eq!((refused.len(), &*refused[0].rule), (1, "not_registrable_domain"));
            assert_eq!(world.registry.store.content().await, before);
        }
    }
    let before = world.registry.store.content().await;
    let sent =
        heard(|events| import_via(world.address, None, source(&csv, Format::Csv), trying, events)).await;
    assert_eq!(sent.0.unwrap().created, 1);
    assert_eq!(world.registry.store.content().await, before);
    let registry = world.registry.clone().with_most_fed(1);
    let (done, _) = heard(|events| import(&registry, source(&csv, Format::Csv), JOINING, events)).await;
    assert_eq!((done.unwrap().created, world.status("new.cn").await.as_str()), (1, "not_connected"));
}
