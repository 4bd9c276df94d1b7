//! Warnings before outages: what a receiver that fails, is away or forgets is told, and told again.

use crate::hand_over::{heir, pid};
use crate::sync::{NUMBER, Registry, follower};
use crate::world::setup::Setup;
use crate::world::upstream::{Then, Upstream};
use crate::world::{F, G, U, World, access, connected, put, wait, wire};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const SECRET: &str = "0123456789abcdef";

/// Receives events, and answers what it is told to.
struct Receiver {
    upstream: Upstream,
    status: Arc<AtomicU16>,
}

impl Receiver {
    fn start(status: u16) -> Self {
        let (upstream, status) = (Upstream::start(), Arc::new(AtomicU16::new(status)));
        let answers = Arc::clone(&status);
        upstream.on("/hook", move |exchange| {
            exchange.body();
            let status = answers.load(Ordering::SeqCst);
            exchange.answer(&format!("{status} As told"), "");
            Then::Close
        });
        Self { upstream, status }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Every event that came, with its id; each is signed.
    fn events(&self) -> Vec<(String, Value)> {
        self.upstream.requests().iter().map(checked).collect()
    }

    /// Waits for an event of that kind about that.
    #[track_caller]
    fn event(&self, kind: &str, about: &[(&str, Value)]) -> (String, Value) {
        wait(&format!("{kind} {about:?}"), || {
            let is_it = |event: &Value| {
                event["type"] == kind && about.iter().all(|(key, value)| event["data"][*key] == *value)
            };
            self.events().into_iter().find(|(_, event)| is_it(event))
        })
    }

    fn config(&self, more: &str) -> String {
        format!(
            "[[webhook]]\nname = \"ops\"\nurl = \"http://{}/hook\"\nsecret_file = \"hook.secret\"\n{more}\n",
            self.upstream.address
        )
    }
}

/// The id and the event of a request whose signature is right.
#[track_caller]
fn checked(request: &crate::world::upstream::Request) -> (String, Value) {
    let field = |name: &str| request.header(name).unwrap_or_else(|| panic!("no {name}: {request:?}"));
    let (id, at) = (field("webhook-id"), field("webhook-timestamp"));
    let body = std::str::from_utf8(&request.body).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = STANDARD.decode(field("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    aws_lc_rs::hmac::verify(&key, format!("{id}.{at}.{body}").as_bytes(), &tag).unwrap();
    let event: Value = serde_json::from_str(body).unwrap();
    assert_eq!(event["id"], id);
    (id.to_owned(), event)
}

fn warned(setup: Setup, tables: &str) -> Setup {
    std::fs::write(setup.directory().join("hook.secret"), SECRET).unwrap();
    setup.toml(tables)
}

/// The first webhook in `/v1/status`.
fn hook(world: &World) -> Value {
    world.status()["warnings"]["webhooks"][0].clone()
}

fn restart(world: World, tables: &str) -> World {
    let World { process, upstream, tls, dir, .. } = world;
    process.kill();
    let mut setup = warned(Setup::new(dir.path(), upstream.address), tables);
    // What was put into the registry is there.
    setup.filings.clear();
    World::of(&setup, dir, tls, upstream)
}

#[test]
fn a_receiver_that_fails_is_told_after_the_gate_was_killed() {
    let receiver = Receiver::start(500);
    let tables = receiver.config("");
    let world = World::with(|setup| warned(setup, &tables));
    world.cancel(F, NUMBER);
    let changed = [("host", json!(F)), ("was", json!("allow")), ("verdict", json!("access_cancelled"))];
    let (id, event) = receiver.event("verdict_changed", &changed);
    assert!(event["message"]["zh"].as_str().unwrap().contains("空壳网站"), "{event}");
    wait("the failure to be shown", || hook(&world)["error"].as_str()?.contains("500").then_some(()));
    assert!(hook(&world)["queued"].as_u64().unwrap() >= 1, "{}", hook(&world));
    receiver.answers(204);
    let before = receiver.events().len();
    let world = restart(world, &tables);
    let again =
        wait("the event again", || receiver.events().into_iter().skip(before).find(|(one, _)| *one == id));
    assert_eq!(again.1, event, "the same event, with the same id");
    wait("an empty queue", || (hook(&world)["queued"] == 0).then_some(()));
    assert_eq!(hook(&world)["dead"], 0);
    // It was judged before the kill: the next process has nothing new to tell. (Of the time before F was filed there
    // may be another event.)
    let is_new = |it: &Value| it["data"]["host"] == F && it["data"]["verdict"] != "allow" && it["id"] != id;
    assert!(!receiver.events().iter().any(|(_, it)| is_new(it)), "{:?}", receiver.events());
}

#[test]
fn what_nobody_takes_is_kept_and_sent_again_at_a_word() {
    let receiver = Receiver::start(410);
    let tables = receiver.config("events = [\"test\"]");
    let world = World::with(|setup| warned(setup, &tables));
    assert_eq!(wire::ask(world.admin, "POST", "/v1/warnings/test", "").status, 202);
    let metric = "beian_gate_webhook_dead{webhook=\"ops\"}";
    wait("the event to be given up", || (world.metric(metric) == 1).then_some(()));
    let dead = world.ask("/v1/warnings").json()["dead"][0].clone();
    assert_eq!((&dead["event"], &dead["webhook"]), (&json!("test"), &json!("ops")), "{dead}");
    assert!(dead["why"].as_str().unwrap().contains("410"), "{dead}");
    receiver.answers(200);
    let world = restart(world, &tables);
    wait("what was kept", || (world.metric(metric) == 1).then_some(()));
    assert_eq!(wire::ask(world.admin, "POST", "/v1/warnings/resend", "").status, 202);
    wait("it to be taken", || (hook(&world)["delivered"] == 1).then_some(()));
    let ids: Vec<_> = receiver.events().into_iter().map(|(id, _)| json!(id)).collect();
    assert!(ids.len() >= 2 && ids.iter().all(|id| *id == dead["id"]), "{ids:?}");
    wait("none to be left", || (world.metric(metric) == 0).then_some(()));
}

#[test]
fn without_webhooks_there_is_nothing_to_test() {
    let world = World::start();
    assert_eq!(wire::ask(world.admin, "POST", "/v1/warnings/test", "").status, 409);
    assert_eq!(world.metric("beian_gate_upcoming{event=\"certificate_expiring\"}"), 0);
}

/// A certificate that ends in so many days.
fn ending_certificate(directory: &Path, days: i64) {
    let mut asked = rcgen::CertificateParams::new(["ends-soon.cn".to_owned()]).unwrap();
    let end = jiff::Timestamp::now().as_second() + days * 86_400;
    asked.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(end.cast_unsigned());
    let key = rcgen::KeyPair::generate().unwrap();
    let certs = directory.join("certs");
    std::fs::write(certs.join("ends.crt"), asked.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(certs.join("ends.key"), key.serialize_pem()).unwrap();
}

fn day(from_now: i32) -> String {
    let today = beian_gate::verdict::day(jiff::Timestamp::now());
    today.checked_add(jiff::Span::new().days(from_now)).unwrap().to_string()
}

/// PUT /v1/sites of the registry.
#[track_caller]
fn site(world: &World, number: &str, body: &Value) {
    let number: String = number.bytes().map(|octet| format!("%{octet:02X}")).collect();
    let path = format!("/v1/sites/{number}");
    let answer = wire::ask(world.registry.unwrap(), "PUT", &path, &body.to_string());
    assert!(answer.status < 300, "{answer:?}");
}

#[test]
fn what_comes_up_is_told_once() {
    let receiver = Receiver::start(204);
    let until = day(2);
    let exception = format!(
        "[enforcement]\nexceptions = [{{ host = \"old.cn\", until = \"{until}\", reason = \"r\" }}]\n"
    );
    let tables = receiver.config("") + &exception + "[webhooks]\nlook_every = \"1s\"\n";
    let world = World::with(|setup| {
        ending_certificate(setup.directory(), 5);
        warned(setup, &tables)
            .site_for("\"shell.cn\"", "")
            .filing("shell.cn", connected("京ICP备20000061号-1"))
    });
    site(&world, NUMBER, &json!({ "opened_on": day(-20), "registration_expires_on": day(3) }));
    site(&world, "京ICP备20000002号-1", &json!({ "correction": { "reason": "电话有误" } }));
    world.put("shell.cn", &access("京ICP备20000061号-1", "cancelled"));
    // Another's filing that is as due: no site here is for it.
    world.put("not-served.cn", &access("京ICP备20000062号-1", "cancelled"));
    let is = |it: &Value, name: &str| it["data"]["what"].as_str().is_some_and(|what| what.contains(name));
    let (_, event) = receiver.event("certificate_expiring", &[("days_left", json!(5))]);
    assert!(is(&event, "ends.crt"), "{event}");
    receiver.event("exception_expiring", &[("what", json!("old.cn")), ("due_on", json!(until))]);
    receiver.event("public_security_due", &[("what", json!(F)), ("due_on", json!(day(10)))]);
    receiver.event("registration_lapsing", &[("what", json!(F)), ("days_left", json!(3))]);
    receiver.event("correction_due", &[("what", json!(G))]);
    let (_, shell) = receiver.event("empty_shell", &[("what", json!("shell.cn"))]);
    assert_eq!(shell["data"]["number"], "京ICP备20000061号-1");
    for kind in ["certificate_expiring", "exception_expiring", "empty_shell", "registration_lapsing"] {
        let metric = format!("beian_gate_upcoming{{event=\"{kind}\"}}");
        wait(&metric, || (world.metric(&metric) >= 1).then_some(()));
    }
    wait("an empty queue", || (hook(&world)["queued"] == 0).then_some(()));
    let told: Vec<_> = receiver.events();
    assert!(!told.iter().any(|(_, it)| is(it, "not-served.cn")), "{told:?}");
    // The next process looks at all of it again, and has nothing to say but what is new.
    let world = restart(world, &tables);
    site(&world, "京ICP备20000003号-1", &json!({ "registration_expires_on": day(7) }));
    receiver.event("registration_lapsing", &[("what", json!("own-cert.cn"))]);
    let mut ids: Vec<_> = receiver.events().into_iter().map(|(id, _)| id).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "nothing is told twice: {:?}", receiver.events());
}

#[test]
fn an_order_that_ends_a_filing_is_told_while_it_is_under_review() {
    let receiver = Receiver::start(204);
    let tables = receiver.config("") + "[webhooks]\nlook_every = \"1s\"\n";
    let world = World::with(|setup| warned(setup, &tables));
    let order =
        json!({ "intent": "cancel_access", "domain": F, "account": "a", "confirm_empty_shell": true });
    let registry = world.registry.unwrap();
    let opened = wire::ask(registry, "POST", "/v1/orders", &order.to_string());
    assert!(opened.status < 300, "{opened:?}");
    let id = opened.json()["id"].as_str().unwrap().to_owned();
    let submitted = wire::ask(registry, "POST", &format!("/v1/orders/{id}/submit"), "");
    assert!(submitted.status < 300, "{submitted:?}");
    let about = [("what", json!(F)), ("order", json!(id)), ("intent", json!("cancel_access"))];
    receiver.event("filing_ending", &about);
}

#[test]
fn what_changed_while_the_gate_was_away_is_told() {
    let receiver = Receiver::start(204);
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::start(directory.path(), 0);
    put(registry.address, F, &connected(NUMBER));
    let tables = receiver.config("");
    let start = |dir: TempDir| follower(dir, &registry.url(), |setup| warned(setup, &tables));
    let world = start(tempfile::tempdir().unwrap());
    world.in_force(F, "allow");
    let queue = world.path("state/webhooks/queue");
    wait("the verdict on disk", || {
        let text = std::fs::read_to_string(&queue).unwrap_or_default();
        text.lines().any(|line| line.contains(F) && line.contains("\"allow\"")).then_some(())
    });
    let World { process, dir, .. } = world;
    process.kill();
    put(registry.address, F, &access(NUMBER, "cancelled"));
    let _world = start(dir);
    let changed = [("host", json!(F)), ("was", json!("allow")), ("verdict", json!("access_cancelled"))];
    receiver.event("verdict_changed", &changed);
}

/// A hand-over loses no event and makes two of none: what waits goes to the next process, and what changes meanwhile is
/// told by one of the two.
#[test]
fn a_hand_over_loses_no_event() {
    let receiver = Receiver::start(500);
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::start(directory.path(), 0);
    let numbers = [(F, NUMBER), (G, "京ICP备20000002号-1")];
    for (host, number) in numbers {
        put(registry.address, host, &connected(number));
    }
    let tables = receiver.config("");
    let world = follower(tempfile::tempdir().unwrap(), &registry.url(), |setup| warned(setup, &tables));
    for (host, _) in numbers {
        world.in_force(host, "allow");
    }
    let cancelled =
        |host: &str| [("host", json!(host)), ("was", json!("allow")), ("verdict", json!("access_cancelled"))];
    put(registry.address, F, &access(NUMBER, "cancelled"));
    let (waiting, _) = receiver.event("verdict_changed", &cancelled(F));
    let old = pid(&world);
    world.process.signal("USR2");
    put(registry.address, G, &access("京ICP备20000002号-1", "cancelled"));
    let _heir = heir(&world, old);
    world.in_force(G, "access_cancelled");
    receiver.answers(204);
    receiver.event("verdict_changed", &cancelled(G));
    wait("an empty queue", || {
        let hook = hook(&world);
        (hook["queued"] == 0 && hook["delivered"].as_u64()? > 0).then_some(())
    });
    assert_eq!(hook(&world)["dead"], 0);
    let ids = |host: &str| -> BTreeSet<String> {
        let is_it = |it: &Value| it["data"]["host"] == host && it["data"]["verdict"] == "access_cancelled";
        receiver.events().into_iter().filter(|(_, it)| is_it(it)).map(|(id, _)| id).collect()
    };
    assert_eq!(ids(F), BTreeSet::from([waiting]), "the heir sends what waited, under its own id");
    assert_eq!(ids(G).len(), 1, "{:?}", receiver.events());
}

/// A registry alone tells of all that is due, whoever serves it.
#[test]
fn a_registry_alone_warns() {
    let receiver = Receiver::start(204);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("hook.secret"), SECRET).unwrap();
    let config = format!(
        "provider = \"example-cloud\"\n{}[webhooks]\nlook_every = \"1s\"\n[registry.embedded]\n\
         address = \"127.0.0.1:0\"\ndatabase = \"sqlite:registry.db\"\n",
        receiver.config("")
    );
    std::fs::write(directory.path().join("registry.toml"), config).unwrap();
    let process = crate::world::process::Process::start(
        &["registry", "serve", "-c", "registry.toml"],
        directory.path(),
    );
    let address = crate::world::address(&process.banner("registry"));
    put(address, U, &connected("京ICP备20000063号-1"));
    put(address, U, &access("京ICP备20000063号-1", "cancelled"));
    receiver.event("empty_shell", &[("what", json!(U))]);
    process.terminate();
    assert!(process.ended().success());
}
