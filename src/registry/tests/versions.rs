//! Versions of orders, subjects, sites and servers, and writes that hold only for one of them; cursors of what is due;
//! the change log with its requests.

use super::*;

fn encoded(text: &str) -> String {
    text.bytes().map(|it| format!("%{it:02X}")).collect()
}

impl World {
    /// A write on a condition; its status, its rule and its `etag`.
    async fn on(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        condition: (&str, &str),
    ) -> (u16, Value, String) {
        let request = self.request(method.clone(), path).header(condition.0, condition.1);
        let response = request.body(body.to_string()).send().await.unwrap();
        let tag = response.headers().get("etag").map(|it| it.to_str().unwrap().to_owned());
        let (status, body) = answer(response).await;
        documented(&method, path, status);
        (status.as_u16(), body, tag.unwrap_or_default())
    }

    async fn tag(&self, path: &str) -> String {
        let response = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.headers()["etag"].to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_write_holds_for_the_version_that_was_read() {
    let world = World::start().await;
    world.put_ok("one.cn", &connected(1)).await;
    let made = [
        (Method::PUT, "/v1/servers/s1", json!({ "quota": 5 })),
        (Method::POST, "/v1/subjects", json!({ "name": "甲公司" })),
        (
            Method::POST,
            "/v1/orders",
            json!({ "intent": "cancel_access", "domain": "one.cn", "confirm_empty_shell": true }),
        ),
    ];
    for (method, path, body) in made {
        let (status, answer) = world.send(method, path, body.to_string()).await;
        assert_eq!(status, StatusCode::CREATED, "{path}: {answer}");
    }
    let site = format!("/v1/sites/{}", encoded(&number(1, 1)));
    let rows = [
        ("/v1/servers/s1", Method::PUT, "/v1/servers/s1", json!({ "quota": 4 }), json!({ "quota": 3 })),
        (
            "/v1/subjects/subject-00000001",
            Method::PUT,
            "/v1/subjects/subject-00000001",
            json!({ "name": "乙公司" }),
            json!({ "name": "丙公司" }),
        ),
        (
            site.as_str(),
            Method::PUT,
            site.as_str(),
            json!({ "opened_on": "2026-01-01" }),
            json!({ "opened_on": "2026-01-02" }),
        ),
        (
            "/v1/orders/order-00000001",
            Method::POST,
            "/v1/orders/order-00000001/correct",
            json!({ "account": "a1" }),
            json!({ "account": "a2" }),
        ),
    ];
    for (shown, method, path, first, second) in rows {
        let before = world.tag(shown).await;
        let dry =
            world.on(method.clone(), &format!("{path}?dry_run=true"), &first, ("if-match", "\"x\"")).await;
        assert_eq!((dry.0, &dry.1["refusals"][0]["rule"]), (200, &json!("precondition_failed")), "{path}");
        let (status, body, after) = world.on(method.clone(), path, &first, ("if-match", &before)).await;
        assert_eq!(status, 200, "{path}: {body}");
        assert_eq!(world.tag(shown).await, after, "{path}: what a write says is what is read then");
        assert_ne!(before, after, "{path}");
        // Whoever read the version before would undo it.
        let (status, body, _) = world.on(method.clone(), path, &second, ("if-match", &before)).await;
        assert_eq!((status, &body["rule"]), (412, &json!("precondition_failed")), "{path}");
        let (status, ..) = world.on(method.clone(), path, &second, ("if-none-match", "*")).await;
        assert_eq!(status, 412, "{path}");
        assert_eq!(world.tag(shown).await, after, "{path}: a refused write leaves what was");
        let (status, body, _) = world.on(method, path, &second, ("if-match", "*")).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
    let new = json!({ "quota": 1 });
    assert_eq!(world.on(Method::PUT, "/v1/servers/s2", &new, ("if-match", "*")).await.0, 412);
    assert_eq!(world.on(Method::PUT, "/v1/servers/s2", &new, ("if-none-match", "*")).await.0, 201);
    let missing = world.on(Method::POST, "/v1/orders/none/submit", &json!({}), ("if-match", "*")).await;
    assert_eq!(missing.0, 404);
}

#[tokio::test]
async fn of_two_writes_on_one_version_one_is_done() {
    let world = World::start().await;
    world.send(Method::PUT, "/v1/servers/s1", json!({ "quota": 9 }).to_string()).await;
    for round in 0..8 {
        let tag = world.tag("/v1/servers/s1").await;
        let put = |account: &'static str| {
            let body = json!({ "quota": 9, "account": format!("{account}{round}") });
            let (world, tag) = (&world, &tag);
            async move { world.on(Method::PUT, "/v1/servers/s1", &body, ("if-match", tag)).await.0 }
        };
        let mut both: [u16; 2] = tokio::join!(put("a"), put("b")).into();
        both.sort_unstable();
        assert_eq!(both, [200, 412]);
    }
}

#[tokio::test]
async fn what_is_due_is_listed_page_by_page() {
    let world = World::start().await;
    for site in 1..=6 {
        world.put_ok(&format!("d{site}.cn"), &connected(site)).await;
        let path = format!("/v1/sites/{}", encoded(&number(site, 1)));
        // Of some the filing is due before the correction, of others after.
        let opened = if site % 2 == 0 { "2020-01-01" } else { "2035-01-01" };
        let body = json!({ "opened_on": opened, "correction": { "reason": "电话号码有误" } });
        assert_eq!(world.send(Method::PUT, &path, body.to_string()).await.0, StatusCode::OK);
    }
    for shell in 7..=9 {
        world.put_ok(&format!("d{shell}.cn"), &filed(shell, &[(HERE, "cancelled")])).await;
    }
    let key = |it: &Value| {
        let day = it["due_on"].as_str().unwrap_or("shell");
        format!("{day} {} {}", it["kind"].as_str().unwrap(), it["number"].as_str().unwrap())
    };
    let (_, whole) = world.get("/v1/due").await;
    let whole: Vec<_> = whole["due"].as_array().unwrap().iter().map(key).collect();
    assert_eq!(whole.len(), 15, "{whole:?}");
    assert!(whole.is_sorted_by_key(|it| it.split(' ').next().unwrap_or_default().to_owned()), "{whole:?}");
    for limit in [1, 2, 7, 15, 16] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, page) =
                world.get(&format!("/v1/due?limit={limit}&cursor={}", encoded(&cursor))).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            let page_of = page["due"].as_array().unwrap();
            assert!(page_of.len() <= limit);
            seen.extend(page_of.iter().map(key));
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        assert_eq!(seen, whole, "{limit} at a time");
    }
    let (_, some) = world.get("/v1/due?before=2020-12-31").await;
    let some: Vec<_> = some["due"].as_array().unwrap().iter().filter(|it| it["due_on"].is_string()).collect();
    assert_eq!(some.len(), 3, "a correction that is due later is not listed: {some:?}");
    let (_, corrections) = world.get("/v1/due?kind=correction").await;
    assert_eq!(corrections["due"].as_array().unwrap().len(), 6);
    assert_eq!(world.get("/v1/due?cursor=x").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(world.get("/v1/due?kind=x").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_change_log_says_which_request_it_was() {
    let world = World::start().await;
    let write = async |id: &str, method: Method, path: &str, body: String| {
        let request = world.request(method, path).header("x-request-id", id).body(body);
        assert!(request.send().await.unwrap().status().is_success(), "{path}");
    };
    write("r-put", Method::PUT, "/v1/filings/a.cn", connected(1).to_string()).await;
    let line = |name: &str, site: u32| {
        let mut line = connected(site);
        line["domain"] = json!(name);
        format!("{line}\n")
    };
    write("r-batch", Method::POST, "/v1/filings:batch", line("b.cn", 2) + &line("c.cn", 3)).await;
    let csv = format!("domain,number\nd.cn,{}\n", number(4, 1));
    write("r-import", Method::POST, "/v1/filings:import?format=csv", csv).await;
    let order =
        json!({ "intent": "cancel_access", "account": "a1", "domain": "a.cn", "confirm_empty_shell": true });
    write("r-open", Method::POST, "/v1/orders", order.to_string()).await;
    write("r-submit", Method::POST, "/v1/orders/order-00000001/submit", String::new()).await;
    take(&world.registry, &format!("domain,number\ne.cn,{}\n", number(5, 1)), Format::Csv, false).await;
    let named = |page: &Value| -> Vec<(String, Value)> {
        let changes = page["changes"].as_array().unwrap();
        changes.iter().map(|it| (it["domain"].as_str().unwrap().to_owned(), it["request"].clone())).collect()
    };
    let (_, page) = world.get("/v1/changes").await;
    let expected = [
        ("e.cn", Value::Null),
        ("a.cn", json!("r-submit")),
        ("d.cn", json!("r-import")),
        ("c.cn", json!("r-batch")),
        ("b.cn", json!("r-batch")),
        ("a.cn", json!("r-put")),
    ];
    let expected: Vec<_> = expected.map(|(name, request)| (name.to_owned(), request)).into();
    let of_order = world.get("/v1/orders/order-00000001").await.1;
    assert_eq!(of_order["events"][0]["request"], "r-open");
    let is_done = of_order["stage"] == "approved";
    let expected: Vec<_> = expected.into_iter().filter(|it| is_done || it.1 != "r-submit").collect();
    assert_eq!(named(&page), expected, "{of_order}");
    assert_eq!(named(&world.get("/v1/changes?request=r-batch").await.1).len(), 2);
    assert_eq!(named(&world.get("/v1/changes?domain=a.cn&request=r-put").await.1).len(), 1);
    let (_, first) = world.get("/v1/changes?limit=2").await;
    let rest = world.get(&format!("/v1/changes?cursor={}", first["next_cursor"])).await.1;
    assert_eq!([named(&first), named(&rest)].concat(), expected);
    let (_, history) = world.get("/v1/filings/a.cn/history").await;
    assert_eq!(named(&history).last().unwrap(), &("a.cn".to_owned(), json!("r-put")));
}

#[tokio::test]
async fn what_the_calendar_does_not_know_is_said() {
    let rules = crate::config::FilingRules { calendar: Default::default(), ..Default::default() };
    let world = World::start_with(World::home(), Options { rules, ..Options::default() }).await;
    world.put_ok("one.cn", &connected(1)).await;
    let body = json!({ "correction": { "reason": "电话号码有误" } });
    world.send(Method::PUT, &format!("/v1/sites/{}", encoded(&number(1, 1))), body.to_string()).await;
    let (_, due) = world.get("/v1/due").await;
    let year = crate::verdict::day(jiff::Timestamp::now()).year();
    assert_eq!(due["calendar_missing"], year, "{due}");
    assert_eq!(due["due"][0]["by_calendar"], false, "{due}");
}
