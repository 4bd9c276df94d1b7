//! `/v1/filings` and what every call shares.

use super::doors::concrete;
use super::*;
use crate::config::{Role, Token};
use crate::registry::routes::ROUTES;

#[tokio::test]
async fn a_filing_is_put_and_covers_every_name_below() {
    let world = World::start().await;
    let body = json!({
        "number": number(12345678, 1), "access": { HERE: "active", ELSEWHERE: "cancelled" },
        "subject": "示例公司", "subject_type": "enterprise", "site_name": "示例",
        "public_security_number": "京公网安备 11010102000001号",
    });
    let (status, put) = world.put("Example.com", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{put}");
    assert_eq!(world.put("example.com.", &body).await.0, StatusCode::OK);
    let (status, got) = world.get("/v1/filings/www.example.com?provider=example-cloud").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(got["domain"], "www.example.com");
    assert_eq!(got["decided_by"], "example.com");
    assert_eq!(got["number"], number(12345678, 1));
    assert_eq!(got["state"], "filed");
    assert_eq!(got["status"], "connected");
    assert_eq!(got["subject"], "示例公司");
    assert_eq!(got["public_security_number"], "京公网安备11010102000001号");
    assert_eq!(got["access"], json!({ HERE: "active", ELSEWHERE: "cancelled" }));
    assert_eq!(got["empty_shell"], false);
    assert_eq!(got["seq"], 1);
    assert!(got["updated_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(world.get("/v1/filings/other.com").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_same_document_again_changes_nothing() {
    let world = World::start().await;
    let first = world.put_ok("example.com", &filed(1, &[(HERE, "active"), (ELSEWHERE, "active")])).await;
    assert_eq!(
        first,
        world.put_ok("example.com", &filed(1, &[(HERE, "active"), (ELSEWHERE, "active")])).await
    );
    let left_out = filed(1, &[(HERE, "active")]);
    let second = world.put_ok("example.com", &left_out).await;
    assert_eq!(second["access"], json!({ HERE: "active", ELSEWHERE: "cancelled" }));
    assert_eq!(second, world.put_ok("example.com", &left_out).await);
    assert_eq!(world.change_count().await, 2);
}

#[tokio::test]
async fn access_holds_for_all_domains_of_a_site() {
    let world = World::start().await;
    world.put_ok("one.com", &connected(1)).await;
    world.put_ok("two.com", &connected(1)).await;
    assert_eq!(world.change_count().await, 2);
    world.put_ok("two.com", &filed(1, &[(HERE, "cancelled")])).await;
    assert_eq!(world.status("one.com").await, "access_cancelled");
    assert_eq!(world.status("two.com").await, "access_cancelled");
    assert_eq!(world.get("/v1/filings/one.com").await.1["empty_shell"], true);
    assert_eq!(world.change_count().await, 4);
}

#[tokio::test]
async fn a_moved_domain_leaves_its_site() {
    let world = World::start().await;
    world.put_ok("one.com", &connected(1)).await;
    world.put_ok("two.com", &connected(1)).await;
    world.put_ok("two.com", &filed(2, &[])).await;
    assert_eq!(world.status("one.com").await, "connected");
    assert_eq!(world.status("two.com").await, "not_connected");
    world.put_ok("one.com", &filed(2, &[(ELSEWHERE, "active")])).await;
    let (_, two) = world.get("/v1/filings/two.com").await;
    assert_eq!(two["access"], json!({ ELSEWHERE: "active" }));
    // The first site is gone, and its accesses with it.
    world.put_ok("one.com", &filed(1, &[])).await;
    assert_eq!(world.status("one.com").await, "not_connected");
}

#[tokio::test]
async fn deleting_deregisters_and_purging_forgets() {
    let world = World::start().await;
    world.put_ok("one.com", &connected(1)).await;
    world.put_ok("two.com", &connected(1)).await;
    assert_eq!(world.delete("www.one.com", "").await, StatusCode::NOT_FOUND);
    assert_eq!(world.delete("one.com", "").await, StatusCode::OK);
    assert_eq!(world.status("www.one.com").await, "deregistered");
    assert_eq!(world.status("two.com").await, "connected");
    let (_, one) = world.get("/v1/filings/one.com").await;
    assert_eq!((&one["number"], &one["access"]), (&json!(number(1, 1)), &json!({ HERE: "cancelled" })));
    assert_eq!(world.delete("one.com", "").await, StatusCode::OK);
    assert_eq!(world.change_count().await, 3);
    assert_eq!(world.delete("one.com", "?purge=true").await, StatusCode::NO_CONTENT);
    assert_eq!(world.status("one.com").await, "unfiled");
    assert_eq!(world.delete("one.com", "?purge=true").await, StatusCode::NOT_FOUND);
    assert_eq!(world.delete("two.com", "?purge=true").await, StatusCode::NO_CONTENT);
    assert!(world.registry.is_empty().await.unwrap());
}

#[tokio::test]
async fn states_and_the_government_walk() {
    let world = World::start().await;
    world.put_ok("a.gov.cn", &connected(1)).await;
    let pending = json!({ "state": "pending", "access": { HERE: "under_review" } });
    let put = world.put_ok("b1.a.gov.cn", &pending).await;
    assert_eq!((&put["number"], &put["access"]), (&Value::Null, &json!({ HERE: "under_review" })));
    assert_eq!(world.status("x.b1.a.gov.cn").await, "connected");
    world.put_ok("b1.a.gov.cn", &filed(2, &[(HERE, "cancelled")])).await;
    assert_eq!(world.status("x.b1.a.gov.cn").await, "access_cancelled");
    assert_eq!(world.status("b2.a.gov.cn").await, "connected");
    world.put_ok("p.com", &json!({ "state": "pending" })).await;
    assert_eq!(world.status("p.com").await, "pending");
    assert_eq!(world.delete("p.com", "").await, StatusCode::NO_CONTENT);
    let mut restricted = connected(3);
    restricted["state"] = json!("restricted");
    world.put_ok("r.com", &restricted).await;
    assert_eq!(world.status("r.com").await, "restricted");
}

#[tokio::test]
async fn names_may_be_unicode_or_punycode() {
    let world = World::start().await;
    world.put_ok("%E6%94%BF%E5%BA%9C.%E6%94%BF%E5%8A%A1", &connected(1)).await;
    let (status, got) = world.get("/v1/filings/www.xn--mxtq1m.xn--zfr164b").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(got["decided_by"], "xn--mxtq1m.xn--zfr164b");
}

#[tokio::test]
async fn what_rules_refuse_is_422_with_the_rules_name() {
    let world = World::start().await;
    let good = connected(1);
    let rows = [
        ("www.example.com", good.clone(), "not_registrable_domain"),
        ("com.cn", good.clone(), "public_suffix"),
        ("gov.cn", good.clone(), "public_suffix"),
        ("com", good.clone(), "public_suffix"),
        ("localhost", good.clone(), "single_label"),
        ("192.0.2.1", good.clone(), "ip_address"),
        ("%5B2001:db8::1%5D", good.clone(), "ip_address"),
        ("xn--a.com", good.clone(), "invalid_name"),
        ("a..com", good.clone(), "invalid_name"),
        ("example.com", json!({ "number": "12345" }), "invalid_number"),
        ("example.com", json!({ "number": "京ICP备12345678号" }), "number_without_site_index"),
        ("example.com", json!({ "access": {} }), "number_missing"),
        ("example.com", json!({ "state": "restricted" }), "number_missing"),
        ("example.com", json!({ "number": number(1, 1), "state": "pending" }), "pending_with_number"),
        ("example.com", json!({ "number": number(1, 1), "access": { "": "active" } }), "invalid_provider"),
        ("example.com", json!({ "number": number(1, 1), "access": { "p": "open" } }), "malformed_document"),
        ("example.com", json!({ "number": number(1, 1), "domain": "x" }), "malformed_document"),
        ("example.com", json!([]), "malformed_document"),
        ("example.com", json!({ "number": number(1, 1), "subject": "x".repeat(300) }), "invalid_text"),
    ];
    for (domain, body, rule) in rows {
        let (status, problem) = world.put(domain, &body).await;
        assert_eq!(
            (status, &problem["rule"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!(rule)),
            "{domain} {body}"
        );
        assert!(!problem["detail_zh"].as_str().unwrap().is_empty());
    }
    let (_, problem) = world.put("www.example.com", &good).await;
    assert!(problem["detail"].as_str().unwrap().contains("`example.com`"));
    let (status, problem) = world.send(Method::PUT, "/v1/filings/example.com", "{").await;
    assert_eq!((status, &problem["rule"]), (StatusCode::BAD_REQUEST, &json!("malformed_json")));
    assert_eq!(world.change_count().await, 0);
}

#[tokio::test]
async fn if_match_guards_a_put() {
    let world = World::start().await;
    let put = |etag: &str, header: &str, body: Value| {
        let request = world.request(Method::PUT, "/v1/filings/example.com").header(header, etag);
        async move { request.body(body.to_string()).send().await.unwrap().status() }
    };
    assert_eq!(put("*", "if-match", connected(1)).await, StatusCode::PRECONDITION_FAILED);
    assert_eq!(put("*", "if-none-match", connected(1)).await, StatusCode::CREATED);
    assert_eq!(put("*", "if-none-match", connected(1)).await, StatusCode::PRECONDITION_FAILED);
    let got = world.request(Method::GET, "/v1/filings/example.com").send().await.unwrap();
    let etag = got.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(put(&etag, "if-match", filed(1, &[])).await, StatusCode::OK);
    assert_eq!(put(&etag, "if-match", connected(1)).await, StatusCode::PRECONDITION_FAILED);
    assert_eq!(put("*", "if-match", connected(1)).await, StatusCode::OK);
}

#[tokio::test]
async fn a_dry_run_of_a_filing_says_all_that_is_wrong_and_changes_nothing() {
    let world = World::start().await;
    let bad = json!({
        "number": "京ICP备1号", "access": { "no id": "active" }, "public_security_number": "x",
        "site_name": "a\nb",
    });
    let (status, answer) =
        world.send(Method::PUT, "/v1/filings/www.example.com?dry_run=true", bad.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let rules: Vec<_> = answer["refusals"].as_array().unwrap().iter().map(|it| it["rule"].as_str()).collect();
    let expected = [
        "not_registrable_domain",
        "invalid_number",
        "invalid_provider",
        "invalid_public_security_number",
        "invalid_text",
    ];
    assert_eq!(rules, expected.map(Some));
    assert_eq!((&answer["accepted"], &answer["dry_run"]), (&json!(false), &json!(true)));
    let outcome = async |method: Method, query: &str, body: String| {
        let (status, answer) = world.send(method, &format!("/v1/filings/example.com?{query}"), body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let refused = answer["refusals"][0]["rule"].as_str().map(str::to_owned);
        refused.or_else(|| answer["outcome"].as_str().map(str::to_owned)).unwrap()
    };
    let put = || connected(1).to_string();
    assert_eq!(outcome(Method::PUT, "dry_run=true", put()).await, "created");
    assert_eq!(outcome(Method::DELETE, "dry_run=true", String::new()).await, "not_filed");
    assert_eq!(world.change_count().await, 0);
    world.put_ok("example.com", &connected(1)).await;
    assert_eq!(outcome(Method::PUT, "dry_run=true", put()).await, "unchanged");
    assert_eq!(outcome(Method::PUT, "dry_run=true", connected(2).to_string()).await, "updated");
    assert_eq!(outcome(Method::DELETE, "dry_run=true&purge=true", String::new()).await, "deleted");
    let request = world.request(Method::PUT, "/v1/filings/example.com?dry_run=true");
    let (_, answer) =
        super::super::answer(request.header("if-match", "\"0\"").body(put()).send().await.unwrap()).await;
    assert_eq!(answer["refusals"][0]["rule"], "precondition_failed");
    assert_eq!((world.change_count().await, world.status("example.com").await.as_str()), (1, "connected"));
}

#[tokio::test]
async fn the_listing_is_paged_and_filtered() {
    let world = World::start().await;
    for n in 1..=25 {
        let mut body = filed(n, if n % 5 == 0 { &[(HERE, "active")] } else { &[] });
        body["subject"] = json!(if n % 2 == 0 { "甲" } else { "乙" });
        world.put_ok(&format!("d{n:02}.com"), &body).await;
    }
    world.put_ok("p.cn", &json!({ "state": "pending" })).await;
    let count = async |query: &str| {
        let (status, page) = world.get(&format!("/v1/filings?{query}")).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        page["filings"].as_array().unwrap().len()
    };
    assert_eq!(count("").await, 26);
    assert_eq!(count("subject=%E7%94%B2").await, 12);
    assert_eq!(count("subject=%E4%BA%ACICP%E5%A4%8700000003%E5%8F%B7").await, 1);
    assert_eq!(count("status=pending").await, 1);
    assert_eq!(count("status=empty_shell").await, 20);
    assert_eq!(count("status=connected&provider=example-cloud&limit=3").await, 3);
    assert_eq!(count("prefix=d1").await, 10);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = world.get(&format!("/v1/filings?limit=10&cursor={cursor}")).await;
        seen.extend(page["filings"].as_array().unwrap().iter().map(|it| it["domain"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(seen.len(), 26);
    assert_eq!(world.get("/v1/filings?status=connected").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(world.get("/v1/filings?colour=red").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_token_is_asked_for_and_every_answer_has_an_id() {
    let mut world = World::start_in(World::home(), Some("secret")).await;
    assert_eq!(world.get("/v1/filings").await.0, StatusCode::OK);
    for token in [Some("wrong"), None] {
        world.token = token;
        assert_eq!(world.get("/v1/filings").await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(world.get("/v1/feed/snapshot?provider=p").await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(world.get("/healthz").await.0, StatusCode::OK);
    let request = world.request(Method::GET, "/openapi.json").header("x-request-id", "mine");
    assert_eq!(request.send().await.unwrap().headers()["x-request-id"], "mine");
}

#[tokio::test]
async fn every_route_is_served_and_nothing_else() {
    let world = World::start().await;
    for (path, methods) in ROUTES {
        for method in *methods {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let (status, body) = world.send(method.clone(), &concrete(path), "").await;
            let is_unserved = body["detail"].as_str().is_some_and(|it| it.contains("see /openapi.json"));
            let is_served = !is_unserved;
            assert!(is_served, "{method} {path}: {status}");
        }
        assert_eq!(world.send(Method::PATCH, &concrete(path), "").await.0, StatusCode::METHOD_NOT_ALLOWED);
    }
    for path in ["/", "/v1/nothing", "/v1/orders/a/b/c"] {
        assert_eq!(world.get(path).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_role_is_held_to_what_it_may() {
    let token = |name: &str, role| Token { name: name.into(), role, hash: crate::serve::hash(name) };
    let options = Options {
        token: Some("root".into()),
        tokens: vec![token("boss", Role::Operator), token("desk", Role::Reader), token("gate-1", Role::Gate)],
        ..Options::default()
    };
    let world = World::start_with(World::home(), options).await;
    let call = async |token: &str, method: Method, path: &str, body: Value| {
        let request = world.request(method, path).bearer_auth(token).body(body.to_string());
        answer(request.send().await.unwrap()).await
    };
    let path = "/v1/filings/a.com";
    for (token, put, get, feed) in [
        ("root", 201, 200, 200),
        ("boss", 200, 200, 200),
        ("desk", 403, 200, 403),
        ("gate-1", 403, 403, 200),
        ("x", 401, 401, 401),
    ] {
        let (status, body) = call(token, Method::PUT, path, connected(1)).await;
        assert_eq!(status.as_u16(), put, "{token} {body}");
        assert_eq!(call(token, Method::GET, path, json!({})).await.0.as_u16(), get, "{token}");
        let followers = call(token, Method::GET, "/v1/feed/followers", json!({})).await;
        assert_eq!(followers.0.as_u16(), feed, "{token}");
    }
    let (_, refused) = call("desk", Method::DELETE, path, json!({})).await;
    assert_eq!(refused["rule"], "role_not_allowed");
    call("boss", Method::PUT, "/v1/filings/b.com", connected(2)).await;
    let log = world.registry.store.content().await;
    let by = |who: &str| log.iter().filter(|it| it.starts_with(&format!("change [\"{who}\""))).count();
    assert_eq!((by("token"), by("boss")), (1, 1), "{log:?}");
}

#[tokio::test]
async fn a_key_makes_a_repeated_write_one() {
    let world = World::start().await;
    let send = async |key: &str, method: Method, path: &str, body: &Value| {
        let request = world.request(method, path).header("idempotency-key", key).body(body.to_string());
        let response = request.send().await.unwrap();
        let headers = response.headers().clone();
        let (status, body) = answer(response).await;
        (status.as_u16(), body, headers.get("idempotency-replayed").is_some(), headers.get("etag").cloned())
    };
    let path = "/v1/filings/a.com";
    let first = send("k1", Method::PUT, path, &connected(1)).await;
    assert_eq!((first.0, first.2), (201, false));
    // Were it done again, it would be 200; and the name is another's meanwhile.
    world.put_ok("a.com", &connected(7)).await;
    let again = send("k1", Method::PUT, path, &connected(1)).await;
    assert_eq!((again.0, &again.1, again.2, &again.3), (201, &first.1, true, &first.3));
    assert_eq!(world.get(path).await.1["number"], number(7, 1));
    let reused = send("k1", Method::PUT, path, &connected(2)).await;
    assert_eq!((reused.0, &reused.1["rule"]), (422, &json!("idempotency_key_reused")));
    // A refusal is an answer too, with its kind.
    let refused = send("k2", Method::PUT, "/v1/filings/com", &connected(3)).await;
    assert_eq!((refused.0, refused.2), (422, false));
    let refused = send("k2", Method::PUT, "/v1/filings/com", &connected(3)).await;
    assert_eq!((refused.0, refused.2), (422, true));
    assert_eq!(send("k3", Method::DELETE, path, &json!({})).await.0, 200);
    assert!(send("k3", Method::DELETE, path, &json!({})).await.2);
    assert_eq!(send("", Method::PUT, path, &connected(1)).await.0, 400);
    assert_eq!(send("k4", Method::POST, "/v1/filings:batch", &json!({})).await.0, 400);
    let same = connected(4);
    let both = tokio::join!(
        send("k5", Method::PUT, "/v1/filings/b.com", &same),
        send("k5", Method::PUT, "/v1/filings/b.com", &same)
    );
    let codes = [both.0.0, both.1.0];
    assert!(codes.contains(&201) && codes.iter().all(|it| [201, 409].contains(it)), "{codes:?}");
}
