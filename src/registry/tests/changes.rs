//! The change log of everything that is written: who, when, why, in which request, what before and after.

use super::*;

/// A reason in Chinese, as a query says it.
const WHY: &str = "reason=%E5%90%88%E5%90%8C";
const SAID: &str = "合同";

impl World {
    async fn write(&self, id: &str, method: Method, path: &str, body: &Value) -> Value {
        let request = self.request(method.clone(), path).header("x-request-id", id);
        let (status, body) = answer(request.body(body.to_string()).send().await.unwrap()).await;
        assert!(status.is_success(), "{method} {path}: {status} {body}");
        documented(&method, path, status);
        body
    }

    async fn log(&self, query: &str) -> Vec<Value> {
        let (status, page) = self.get(&format!("/v1/changes?{query}")).await;
        assert_eq!(status, StatusCode::OK, "{query}: {page}");
        page["changes"].as_array().unwrap().clone()
    }
}

/// Of each change the record, why and the request, the latest first.
fn told(changes: &[Value]) -> Vec<(&str, &str, &str)> {
    let of = |it: &'_ Value, key: &str| -> &str { it[key].as_str().unwrap_or("-").to_owned().leak() };
    changes.iter().map(|it| (of(it, "record"), of(it, "why"), of(it, "request"))).collect()
}

#[tokio::test]
async fn every_record_says_who_made_it_what_it_is_and_why() {
    let world = World::start().await;
    let server = json!({ "quota": 2, "account": "a1" });
    world.write("r1", Method::PUT, &format!("/v1/servers/s1?{WHY}"), &server).await;
    world.write("r2", Method::PUT, "/v1/servers/s1", &json!({ "quota": 1, "account": "a1" })).await;
    world.write("r3", Method::PUT, "/v1/servers/s1", &json!({ "quota": 1, "account": "a1" })).await;
    let log = world.log("kind=server").await;
    assert_eq!(told(&log), [("s1", "-", "r2"), ("s1", SAID, "r1")], "what changes nothing is no change");
    assert_eq!(
        (&log[1]["kind"], &log[1]["before"], &log[1]["who"]),
        (&json!("server"), &json!(null), &json!("loopback"))
    );
    assert_eq!((&log[0]["before"]["quota"], &log[0]["after"]["quota"]), (&json!(2), &json!(1)));
    assert!(log.iter().all(|it| it["at"].as_str().unwrap().ends_with('Z')), "{log:?}");

    let path = format!("/v1/service-codes?{WHY}");
    let code = world.write("r4", Method::POST, &path, &json!({ "server": "s1" })).await["code"].clone();
    assert_eq!(told(&world.log("kind=service_code").await), [(code.as_str().unwrap(), SAID, "r4")]);

    world.write("r5", Method::POST, &format!("/v1/subjects?{WHY}"), &json!({ "name": "甲公司" })).await;
    let path = "/v1/subjects/subject-00000001";
    world.write("r6", Method::PUT, &format!("{path}?{WHY}"), &json!({ "name": "乙公司" })).await;
    let log = world.log("kind=subject&record=subject-00000001").await;
    assert_eq!(told(&log), [("subject-00000001", SAID, "r6"), ("subject-00000001", SAID, "r5")]);
    let names = [&log[0]["before"], &log[0]["after"]].map(|it| it["subject"]["name"].as_str().unwrap());
    assert_eq!(names, ["甲公司", "乙公司"]);

    world.put_ok("one.cn", &connected(1)).await;
    let site = number(1, 1);
    let body = json!({ "opened_on": "2026-01-01", "reason": "开通" });
    world.write("r7", Method::PUT, &format!("/v1/sites/{site}?{WHY}"), &body).await;
    assert_eq!(
        told(&world.log("kind=site").await),
        [(site.as_str(), "开通", "r7")],
        "the body's reason is first"
    );

    let order = json!({ "intent": "cancel_access", "account": "a1", "domain": "one.cn", "confirm_empty_shell": true });
    world.write("r8", Method::POST, &format!("/v1/orders?{WHY}"), &order).await;
    world.write("r9", Method::POST, "/v1/orders/order-00000001/submit", &json!({ "reason": "搬迁" })).await;
    let log = world.log("kind=order").await;
    let id = "order-00000001";
    assert_eq!(told(&log), [(id, "order-00000001 submit: 搬迁", "r9"), (id, SAID, "r8")]);
    assert_eq!((&log[0]["before"]["stage"], &log[1]["before"]), (&json!("draft"), &json!(null)));

    let of_request = world.log("kind=order&request=r8").await;
    assert_eq!(told(&of_request), [(id, SAID, "r8")]);
    assert_eq!(world.log("kind=server&request=r8").await, Vec::<Value>::new());
}

#[tokio::test]
async fn every_write_of_a_filing_may_say_why() {
    let world = World::start().await;
    let line = |name: &str, site: u32| {
        let mut line = connected(site);
        line["domain"] = json!(name);
        line
    };
    world.write("r1", Method::PUT, &format!("/v1/filings/a.cn?{WHY}"), &connected(1)).await;
    world.write("r2", Method::POST, &format!("/v1/filings:batch?{WHY}"), &line("b.cn", 2)).await;
    let path = format!("/v1/filings:import?format=ndjson&{WHY}");
    world.write("r3", Method::POST, &path, &line("c.cn", 3)).await;
    world.write("r4", Method::DELETE, &format!("/v1/filings/a.cn?{WHY}"), &Value::Null).await;
    world.write("r5", Method::PUT, "/v1/filings/d.cn", &connected(4)).await;
    let log = world.log("").await;
    let told: Vec<_> = log.iter().map(|it| (&it["kind"], &it["domain"], &it["why"])).collect();
    let (kind, why) = (json!("filing"), json!(SAID));
    let names = ["d.cn", "a.cn", "c.cn", "b.cn", "a.cn"].map(|it| json!(it));
    let expected: Vec<_> =
        names.iter().map(|it| (&kind, it, if it == "d.cn" { &Value::Null } else { &why })).collect();
    assert_eq!(told, expected);
    // A long file goes another way.
    let registry = world.registry.clone().with_most_fed(1);
    let text: String = (5..9).map(|site| format!("{}\n", line(&format!("n{site}.cn"), site))).collect();
    let source = source(&text, Format::Ndjson).because(Some(SAID.to_owned())).unwrap();
    heard(|events| import(&registry, source, JOINING, events)).await.0.unwrap();
    let log = world.log("limit=4").await;
    assert!(log.iter().all(|it| it["why"] == SAID && it["who"] == "import"), "{log:?}");
    let long = format!("/v1/filings/a.cn?reason={}", "x".repeat(257));
    let (status, refused) = world.send(Method::PUT, &long, connected(1).to_string()).await;
    assert_eq!((status, &refused["rule"]), (StatusCode::BAD_REQUEST, &json!("invalid_text")));
}

#[tokio::test]
async fn the_log_of_records_is_read_page_by_page() {
    let world = World::start().await;
    for quota in (1..=7).rev() {
        for server in ["s1", "s2"] {
            let body = json!({ "quota": quota });
            world.write("r", Method::PUT, &format!("/v1/servers/{server}"), &body).await;
        }
    }
    let whole = world.log("kind=server").await;
    let of = |it: &Value| it["seq"].as_u64().unwrap();
    assert!(whole.len() == 14 && whole.is_sorted_by(|a, b| of(a) > of(b)), "{whole:?}");
    for query in ["kind=server", "kind=server&record=s1", "kind=server&request=r"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let (_, page) = world.get(&format!("/v1/changes?{query}&limit=3{cursor}")).await;
            seen.extend(page["changes"].as_array().unwrap().clone());
            match page["next_cursor"].as_u64() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, world.log(query).await, "{query}");
    }
    for wrong in ["kind=counter", "kind=x", "record=s1", "kind=server&domain=a.cn"] {
        let (status, body) = world.get(&format!("/v1/changes?{wrong}")).await;
        assert_eq!((status, &body["rule"]), (StatusCode::BAD_REQUEST, &json!("invalid_query")), "{wrong}");
    }
}
