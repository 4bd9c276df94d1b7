//! `POST /v1/filings:batch`.

use super::*;

async fn batch(world: &World, query: &str, lines: &[Value]) -> (StatusCode, Vec<Value>) {
    let body: String = lines.iter().map(|it| format!("{it}\n")).collect();
    let response =
        world.request(Method::POST, &format!("/v1/filings:batch{query}")).body(body).send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, text.lines().map(|it| serde_json::from_str(it).unwrap()).collect())
}

fn line(domain: &str, subject: u32) -> Value {
    let mut line = connected(subject);
    line["domain"] = json!(domain);
    line
}

fn statuses(results: &[Value]) -> Vec<&str> {
    results.iter().map(|it| it["rule"].as_str().or(it["status"].as_str()).unwrap()).collect()
}

#[tokio::test]
async fn lines_stand_alone_unless_atomic() {
    let world = World::start().await;
    let delete = json!({ "domain": "b.com", "delete": true });
    let lines = [line("a.com", 1), line("www.b.com", 2), line("b.com", 2), line("a.com", 1), delete];
    let (status, results) = batch(&world, "", &lines).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(statuses(&results), ["created", "not_registrable_domain", "created", "unchanged", "deleted"]);
    assert_eq!(results[1]["line"], 2);
    assert_eq!(world.status("a.com").await, "connected");
    assert_eq!(world.status("b.com").await, "deregistered");
    assert_eq!(world.change_count().await, 2);
}

#[tokio::test]
async fn an_atomic_batch_is_all_or_nothing() {
    let world = World::start().await;
    let missing = json!({ "domain": "c.com", "delete": true });
    let (status, results) = batch(&world, "?atomic=true", &[line("a.com", 1), missing]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(statuses(&results), ["batch_refused", "not_filed"]);
    let (_, results) = batch(&world, "?atomic=true", &[line("a.com", 1), json!({ "domian": "x" })]).await;
    assert_eq!(statuses(&results), ["batch_refused", "malformed_document"]);
    assert_eq!(world.change_count().await, 0);
    let (status, results) = batch(&world, "?atomic=true", &[line("a.com", 1), line("b.com", 1)]).await;
    assert_eq!((status, statuses(&results)), (StatusCode::OK, vec!["created", "created"]));
}

#[tokio::test]
async fn a_batch_may_be_tried() {
    let world = World::start().await;
    let delete = |name: &str| json!({ "domain": name, "delete": true });
    let lines = [line("a.com", 1), delete("a.com"), delete("b.com")];
    let (status, results) = batch(&world, "?dry_run=true", &lines).await;
    assert_eq!((status, statuses(&results)), (StatusCode::OK, vec!["created", "deleted", "not_filed"]));
    let (status, results) = batch(&world, "?dry_run=true&atomic=true", &lines).await;
    let all = vec!["batch_refused", "batch_refused", "not_filed"];
    assert_eq!((status, statuses(&results)), (StatusCode::OK, all));
    let (_, results) = batch(&world, "?dry_run=true&atomic=true", &lines[..1]).await;
    assert_eq!((statuses(&results), world.change_count().await), (vec!["created"], 0));
}

#[tokio::test]
async fn a_replacing_batch_is_the_whole_content() {
    let world = World::start().await;
    batch(&world, "", &[line("a.com", 1), line("b.com", 2), line("c.com", 3)]).await;
    assert_eq!(batch(&world, "?replace=true", &[]).await.0, StatusCode::BAD_REQUEST);
    let lines = [line("b.com", 2), line("c.com", 4), line("d.com", 5)];
    let (_, results) = batch(&world, "?atomic=true&replace=true", &lines).await;
    assert_eq!(statuses(&results), ["unchanged", "updated", "created"]);
    assert_eq!(world.status("a.com").await, "unfiled");
    assert_eq!(world.change_count().await, 6);
}

#[tokio::test]
async fn lines_are_bounded() {
    let world = World::start().await;
    let long = json!({ "domain": "x".repeat(70_000) });
    assert_eq!(batch(&world, "", &[long]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let body = format!("\n{}", line("a.com", 1));
    let (_, result) = world.send(Method::POST, "/v1/filings:batch", body).await;
    assert_eq!((&result["line"], &result["status"]), (&json!(2), &json!("created")));
}
