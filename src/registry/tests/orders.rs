//! Orders over HTTP: from a first filing to its end, what they do to filings, and numbers given once.

use super::*;

impl World {
    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, body.to_string()).await
    }

    /// A server's code, ready to be used.
    async fn code(&self, account: &str) -> String {
        let server = format!("srv-{account}");
        let body = json!({ "product": "server", "quota": 50, "account": account });
        let (status, answer) =
            self.send(Method::PUT, &format!("/v1/servers/{server}"), body.to_string()).await;
        assert!(status.is_success(), "{answer}");
        let (status, answer) = self.post("/v1/service-codes", &json!({ "server": server })).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["code"].as_str().unwrap().to_owned()
    }

    /// An order that breaks no rule.
    async fn order(&self, account: &str, subject: &str, domain: &str) -> Value {
        json!({
            "intent": "file", "account": account, "domain": domain, "service_code": self.code(account).await,
            "subject": {
                "name": subject, "kind": "enterprise",
                "certificate": { "kind": "business_licence", "number": format!("9111-{subject}"), "province": "beijing" },
            },
            "site": { "name": "示例网站", "content": ["general"] },
            "registration": {
                "registrar": "示例", "expires_on": "2999-01-01", "holder": subject, "holder_verified": true,
            },
            "real_person_verified": true,
        })
    }

    async fn open(&self, order: &Value) -> String {
        let (status, answer) = self.post("/v1/orders", order).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    async fn step(&self, id: &str, step: &str) -> Value {
        let (status, answer) = self.post(&format!("/v1/orders/{id}/{step}"), &json!({})).await;
        assert_eq!(status, StatusCode::OK, "{step}: {answer}");
        answer
    }

    /// From draft to approval, by whatever steps its type takes.
    async fn approve(&self, id: &str) -> Value {
        let mut answer = self.step(id, "submit").await;
        while answer["stage"] != "approved" {
            let steps = answer["next"].as_array().unwrap().clone();
            let next = ["pass", "verify", "approve"].into_iter().find(|it| steps.contains(&json!(it)));
            answer = self.step(id, next.unwrap()).await;
        }
        answer
    }

    async fn file(&self, account: &str, subject: &str, domain: &str) -> Value {
        let order = self.order(account, subject, domain).await;
        let id = self.open(&order).await;
        self.approve(&id).await
    }

    #[track_caller]
    fn refused(answer: &(StatusCode, Value), rule: &str) {
        assert_eq!(
            (answer.0, &answer.1["rule"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!(rule)),
            "{}",
            answer.1
        );
        assert!(!answer.1["detail_zh"].as_str().unwrap().is_empty());
    }
}

fn year() -> i16 {
    crate::verdict::day(jiff::Timestamp::now()).year()
}

#[tokio::test]
async fn a_site_lives_from_its_first_filing_to_its_end() {
    let world = World::start().await;
    let order = world.order("a1", "甲公司", "first.cn").await;
    let (status, opened) = world.post("/v1/orders", &order).await;
    assert_eq!(status, StatusCode::CREATED, "{opened}");
    assert_eq!((&opened["type"], &opened["stage"]), (&json!("first"), &json!("draft")));
    assert_eq!(opened["next"], json!(["submit", "withdraw", "correct"]));
    assert!(opened["why"].as_str().unwrap().contains("neither"));
    let id = opened["id"].as_str().unwrap();
    assert_eq!(world.status("first.cn").await, "unfiled", "a draft does nothing");
    let submitted = world.step(id, "submit").await;
    assert_eq!(submitted["stage"], "provider_review");
    assert!(submitted["due_on"].is_string());
    assert_eq!(world.status("first.cn").await, "pending");
    World::refused(
        &world.post(&format!("/v1/orders/{id}/approve"), &json!({})).await,
        "provider_review_pending",
    );
    assert_eq!(world.step(id, "pass").await["stage"], "sms_verification");
    assert_eq!(world.step(id, "verify").await["stage"], "authority_review");
    let approved = world.step(id, "approve").await;
    let number = format!("京ICP备{}000001号-1", year());
    assert_eq!((&approved["stage"], &approved["number"]), (&json!("approved"), &json!(number)));
    assert_eq!(world.status("www.first.cn").await, "connected");
    World::refused(&world.post(&format!("/v1/orders/{id}/withdraw"), &json!({})).await, "order_approved");

    let second = world.file("a1", "甲公司", "second.cn").await;
    assert_eq!(second["type"], "new_site_here");
    assert_eq!(second["number"], format!("京ICP备{}000001号-2", year()));

    // The last access asks for a word.
    let cancel = json!({ "intent": "cancel_access", "account": "a1", "domain": "first.cn" });
    let cancelling = world.open(&cancel).await;
    World::refused(&world.post(&format!("/v1/orders/{cancelling}/submit"), &json!({})).await, "last_access");
    let corrected = json!({ "confirm_empty_shell": true });
    let (status, answer) = world.post(&format!("/v1/orders/{cancelling}/correct"), &corrected).await;
    assert_eq!((status, &answer["notes"][0]["rule"]), (StatusCode::OK, &json!("last_access")));
    world.approve(&cancelling).await;
    assert_eq!(world.status("first.cn").await, "access_cancelled");
    assert_eq!(world.get("/v1/filings/first.cn").await.1["empty_shell"], true);
    let (_, due) = world.get("/v1/due?kind=empty_shell").await;
    assert_eq!(due["due"][0]["domain"], "first.cn", "{due}");

    let again = world.file("a1", "甲公司", "first.cn").await;
    assert_eq!((&again["type"], &again["number"]), (&json!("continued_access"), &json!(number)));
    assert_eq!(world.status("first.cn").await, "connected");
    assert_eq!(world.get("/v1/due?kind=empty_shell").await.1["due"], json!([]));

    let all = json!({ "intent": "deregister", "account": "a1", "subject": "甲公司", "whole_subject": true });
    let id = world.open(&all).await;
    world.approve(&id).await;
    assert_eq!(world.status("first.cn").await, "deregistered");
    assert_eq!(world.status("second.cn").await, "deregistered");
    // With nothing left it is a first filing again, under a number that was never given.
    let anew = world.file("a1", "甲公司", "first.cn").await;
    assert_eq!(
        (&anew["type"], &anew["number"]),
        (&json!("first"), &json!(format!("京ICP备{}000002号-1", year())))
    );

    let (_, history) = world.get("/v1/filings/first.cn/history").await;
    let why = history["changes"][0]["why"].as_str().unwrap();
    assert!(why.contains("approve"), "{history}");
    assert_eq!(history["changes"].as_array().unwrap().last().unwrap()["before"], Value::Null);
}

#[tokio::test]
async fn the_type_follows_from_what_is_known() {
    let world = World::start().await;
    let mut elsewhere = filed(1, &[(ELSEWHERE, "active")]);
    elsewhere["subject"] = json!("乙公司");
    world.put_ok("theirs.cn", &elsewhere).await;
    let asked = async |intent: &str, subject: Value, domain: &str| {
        let body = json!({ "intent": intent, "subject": subject, "domain": domain });
        let (status, answer) = world.post("/v1/orders?dry_run=true", &body).await;
        assert_eq!((status, &answer["dry_run"]), (StatusCode::OK, &json!(true)), "{answer}");
        let refusal = answer["refusals"][0]["rule"].clone();
        if refusal.is_null() { answer["type"].clone() } else { refusal }
    };
    let number = json!("京ICP备00000001号");
    for subject in [number.clone(), json!("乙公司"), json!({ "name": "乙公司" }), Value::Null] {
        assert_eq!(asked("file", subject, "theirs.cn").await, "new_access");
    }
    assert_eq!(asked("file", number.clone(), "new.cn").await, "new_site_elsewhere");
    assert_eq!(asked("file", json!("丙公司"), "new.cn").await, "first");
    assert_eq!(asked("file", json!("丙公司"), "theirs.cn").await, "domain_of_another_subject");
    assert_eq!(asked("cancel_access", number.clone(), "theirs.cn").await, "not_filed_here");
    assert_eq!(asked("file", Value::Null, "new.cn").await, "subject_needed");
    // The exact name counts, not the one that covers it.
    assert_eq!(asked("file", number.clone(), "www.theirs.cn").await, "not_registrable_domain");
    let mut here = filed(2, &[(HERE, "active")]);
    here["subject"] = json!("乙公司");
    world.put_ok("ours.cn", &here).await;
    assert_eq!(asked("file", json!("乙公司"), "new.cn").await, "subject_ambiguous");
    assert_eq!(asked("file", json!("京ICP备00000002号"), "ours.cn").await, "already_connected");
    world
        .put_ok("theirs.cn", &json!({ "number": "京ICP备00000002号-2", "access": { ELSEWHERE: "active" } }))
        .await;
    assert_eq!(asked("file", json!("京ICP备00000002号"), "theirs.cn").await, "continued_access");
    assert_eq!(world.get("/v1/orders").await.1["orders"], json!([]), "a dry run leaves nothing");
}

#[tokio::test]
async fn a_dry_run_answers_all_rules_at_once() {
    let world = World::start().await;
    let mut order = world.order("a1", "甲公司", "example.zip").await;
    order["registration"]["expires_on"] = json!("2020-01-01");
    order["registration"]["holder"] = json!("别人");
    order["real_person_verified"] = json!(false);
    let (status, answer) = world.post("/v1/orders?dry_run=true", &order).await;
    assert_eq!((status, &answer["accepted"]), (StatusCode::OK, &json!(false)), "{answer}");
    let names = |answer: &Value, which: &str| -> Vec<String> {
        answer[which].as_array().unwrap().iter().map(|it| it["rule"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&answer, "refusals"), ["suffix_not_approved", "domain_expired", "holder_not_subject"]);
    assert_eq!(names(&answer, "needs"), ["real_person_verification"]);
    let real = world.post("/v1/orders", &order).await;
    World::refused(&real, "suffix_not_approved");
    assert_eq!(names(&real.1, "refusals").len(), 3);
    assert_eq!(world.change_count().await, 0);
}

#[tokio::test]
async fn numbers_are_given_once_while_many_are_approved() {
    let world = World::start().await;
    // What the ministry gave before is not given again.
    let taken = format!("京ICP备{}000001号-1", year());
    world.put_ok("taken.cn", &json!({ "number": taken, "access": { HERE: "active" } })).await;
    let mut orders = Vec::new();
    for n in 0..12 {
        let order = world.order(&format!("a{n}"), &format!("公司{n}"), &format!("d{n}.cn")).await;
        let id = world.open(&order).await;
        for step in ["submit", "pass", "verify"] {
            world.step(&id, step).await;
        }
        orders.push(id);
    }
    let approvals = orders.iter().map(|id| world.step(id, "approve"));
    let approved = futures_util::future::join_all(approvals).await;
    let mut numbers: Vec<_> = approved.iter().map(|it| it["number"].as_str().unwrap().to_owned()).collect();
    numbers.sort();
    let expected: Vec<_> = (2..14).map(|n| format!("京ICP备{}{n:06}号-1", year())).collect();
    assert_eq!(numbers, expected);
    // The same approval twice at once: one is refused.
    let id = world.open(&world.order("a0", "公司0", "more.cn").await).await;
    for step in ["submit", "pass", "verify"] {
        world.step(&id, step).await;
    }
    let path = format!("/v1/orders/{id}/approve");
    let nothing = json!({});
    let both = futures_util::future::join(world.post(&path, &nothing), world.post(&path, &nothing)).await;
    let refused = if both.0.0 == StatusCode::OK { both.1 } else { both.0 };
    World::refused(&refused, "order_approved");
}

#[tokio::test]
async fn what_ends_without_approval_leaves_what_was() {
    let world = World::start().await;
    let id = world.open(&world.order("a1", "甲公司", "new.cn").await).await;
    world.step(&id, "submit").await;
    assert_eq!(world.status("new.cn").await, "pending");
    let path = format!("/v1/orders/{id}/reject");
    World::refused(&world.post(&path, &json!({})).await, "reason_needed");
    let (status, rejected) = world.post(&path, &json!({ "reason": "照片不清晰" })).await;
    assert_eq!((status, &rejected["stage"]), (StatusCode::OK, &json!("rejected")));
    assert_eq!(rejected["events"][2]["reason"], "照片不清晰");
    assert_eq!(world.status("new.cn").await, "unfiled");
    world.step(&id, "submit").await;
    world.step(&id, "withdraw").await;
    assert_eq!(world.status("new.cn").await, "unfiled");
    assert_eq!(world.approve(&id).await["stage"], "approved");

    world.put_ok("theirs.cn", &filed(7, &[(ELSEWHERE, "active")])).await;
    let mut order = world.order("a7", "庚公司", "theirs.cn").await;
    order["subject"]["number"] = json!("京ICP备00000007号");
    let id = world.open(&order).await;
    world.step(&id, "submit").await;
    let (_, filing) = world.get("/v1/filings/theirs.cn").await;
    assert_eq!(filing["access"], json!({ HERE: "under_review", ELSEWHERE: "active" }));
    world.step(&id, "withdraw").await;
    assert_eq!(world.get("/v1/filings/theirs.cn").await.1["access"], json!({ ELSEWHERE: "active" }));
    world.approve(&id).await;
    let (_, filing) = world.get("/v1/filings/theirs.cn").await;
    assert_eq!(filing["access"], json!({ HERE: "active", ELSEWHERE: "active" }));
}

#[tokio::test]
async fn changes_claims_and_imports() {
    let world = World::start().await;
    world.file("a1", "甲公司", "one.cn").await;
    let change = json!({
        "intent": "change", "account": "a1", "domain": "one.cn",
        "changes": { "site_name": "新的名称", "public_security_number": "京公网安备11010102000001号" },
    });
    let id = world.open(&change).await;
    world.approve(&id).await;
    let (_, filing) = world.get("/v1/filings/one.cn?provider=example-cloud").await;
    assert_eq!((&filing["site_name"], &filing["status"]), (&json!("新的名称"), &json!("connected")));
    assert_eq!(filing["public_security_number"], "京公网安备11010102000001号");
    assert_eq!(world.get("/v1/due").await.1["due"], json!([]), "the public-security filing is there");

    for domain in ["old-a.cn", "old-b.cn"] {
        let mut body = connected(3);
        body["subject"] = json!("旧公司");
        world.put_ok(domain, &body).await;
    }
    let drop = json!({
        "intent": "change", "account": "a3", "domain": "old-a.cn", "changes": { "domains": ["old-a.cn"] },
    });
    let id = world.open(&drop).await;
    world.approve(&id).await;
    assert_eq!(
        (world.status("old-a.cn").await, world.status("old-b.cn").await),
        ("connected".into(), "deregistered".into())
    );
    let claim = |account: &str, filed_on: &str| json!({ "intent": "claim", "account": account, "domain": "old-a.cn", "filed_on": filed_on });
    World::refused(&world.post("/v1/orders", &claim("a3", "2011-01-01")).await, "not_on_predecessor");
    let id = world.open(&claim("a3", "2009-01-01")).await;
    let claimed = world.approve(&id).await;
    assert_eq!(claimed["events"].as_array().unwrap().len(), 3, "open, submit, pass");
    World::refused(&world.post("/v1/orders", &claim("a4", "2009-01-01")).await, "already_imported");
    let import = json!({ "intent": "import", "account": "a4", "domain": "old-a.cn" });
    World::refused(&world.post("/v1/orders", &import).await, "already_imported");
    let (_, site) = world.get("/v1/sites/%E4%BA%ACICP%E5%A4%8700000003%E5%8F%B7-1").await;
    assert_eq!((&site["account"], &site["platform"]), (&json!("a3"), &json!("predecessor")));
}

#[tokio::test]
async fn limits_that_span_orders() {
    let world = World::start().await;
    let first = world.order("a1", "甲公司", "one.cn").await;
    let id = world.open(&first).await;
    World::refused(&world.post("/v1/orders", &first).await, "order_under_way");
    world.approve(&id).await;
    let mut other = world.order("a1", "乙公司", "two.cn").await;
    World::refused(&world.post("/v1/orders", &other).await, "one_account_one_subject");
    other["account"] = json!("a2");
    World::refused(&world.post("/v1/orders", &other).await, "service_code_of_another_account");
    let mut reused = world.order("a1", "甲公司", "three.cn").await;
    reused["service_code"] = first["service_code"].clone();
    World::refused(&world.post("/v1/orders", &reused).await, "service_code_used");
    reused["service_code"] = json!("sc-none");
    World::refused(&world.post("/v1/orders", &reused).await, "service_code_unknown");
    let (_, code) =
        world.get(&format!("/v1/service-codes/{}", first["service_code"].as_str().unwrap())).await;
    assert_eq!(code["used_by"], json!(id));
    // A server's quota, and one that renewal does not raise.
    let put =
        |quota: u32| world.send(Method::PUT, "/v1/servers/small", json!({ "quota": quota }).to_string());
    assert_eq!(put(1).await.0, StatusCode::CREATED);
    let issue = json!({ "server": "small" });
    assert_eq!(world.post("/v1/service-codes", &issue).await.0, StatusCode::CREATED);
    World::refused(&world.post("/v1/service-codes", &issue).await, "server_quota");
    World::refused(&put(2).await, "quota_not_raised");
    let (_, account) = world.get("/v1/accounts/a1").await;
    let (_, subject) = world.get(&format!("/v1/subjects/{}", account["subject"].as_str().unwrap())).await;
    assert_eq!((&subject["name"], &subject["domains"]), (&json!("甲公司"), &json!(["one.cn"])));
}

#[tokio::test]
async fn clocks_run_from_what_happened() {
    let world = World::start().await;
    let approved = world.file("a1", "甲公司", "one.cn").await;
    let (_, due) = world.get("/v1/due").await;
    assert_eq!(due["due"][0]["kind"], "public_security_filing", "{due}");
    let number = approved["number"].as_str().unwrap().to_owned();
    let site = format!(
        "/v1/sites/{}",
        number.replace('号', "%E5%8F%B7").replace('京', "%E4%BA%AC").replace('备', "%E5%A4%87")
    );
    let put = |body: Value| world.send(Method::PUT, &site, body.to_string());
    assert_eq!(put(json!({ "correction": { "reason": "电话号码有误" } })).await.0, StatusCode::OK);
    let (status, answer) = put(json!({ "public_security_number": "京公网安备11010102000001号" })).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (_, due) = world.get("/v1/due").await;
    assert_eq!((&due["due"][0]["kind"], &due["due"][1]), (&json!("correction"), &Value::Null), "{due}");
    let (_, filing) = world.get("/v1/filings/one.cn").await;
    assert_eq!(filing["public_security_number"], "京公网安备11010102000001号");
    assert_eq!(put(json!({ "corrected": true })).await.0, StatusCode::OK);
    assert_eq!(world.get("/v1/due").await.1["due"], json!([]));
    // A shell that a PUT made, not an order.
    world.put_ok("shell.cn", &filed(9, &[(HERE, "active")])).await;
    world.put_ok("shell.cn", &filed(9, &[(HERE, "cancelled")])).await;
    let (_, due) = world.get("/v1/due?kind=empty_shell").await;
    assert_eq!(due["due"][0]["number"], super::number(9, 1));
}
