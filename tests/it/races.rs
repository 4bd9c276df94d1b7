//! Two registries over one PostgreSQL, asked for the same at once: what must be done once is done once.

use crate::world::postgres::Postgres;
use crate::world::process::Process;
use crate::world::{PROVIDER, address, wire};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use tempfile::TempDir;

/// The registries, and what they share.
struct Pair {
    _processes: [Process; 2],
    at: [SocketAddr; 2],
    _dir: TempDir,
    _postgres: Postgres,
}

impl Pair {
    /// `None` where there is no PostgreSQL.
    fn start() -> Option<Self> {
        let postgres = Postgres::start()?;
        let dir = tempfile::tempdir().unwrap();
        let database = postgres.database();
        let processes = [0, 1].map(|number| registry(dir.path(), &format!("{number}.toml"), &database));
        let at = processes.each_ref().map(|it| address(&it.banner("registry")));
        Some(Self { _processes: processes, at, _dir: dir, _postgres: postgres })
    }

    #[track_caller]
    fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = wire::ask(self.at[0], method, path, &body.to_string());
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        answer.json()
    }

    /// Both are asked at once; what each answered.
    fn at_once(&self, calls: [(&str, &str, &str); 2]) -> [wire::Response; 2] {
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            let asked = [0, 1].map(|which| {
                let (barrier, (path, headers, body), at) = (&barrier, calls[which], self.at[which]);
                scope.spawn(move || {
                    barrier.wait();
                    let method = if path.starts_with("/v1/filings/") { "PUT" } else { "POST" };
                    wire::try_ask_with(at, (method, path), headers, body).expect("an answer")
                })
            });
            asked.map(|it| it.join().unwrap())
        })
    }

    /// An order of a new subject for a new name, one step before its approval.
    fn ripe(&self, name: &str) -> String {
        let server = format!("/v1/servers/srv-{name}");
        self.done("PUT", &server, &json!({ "quota": 1, "account": name }));
        let code = self.done("POST", "/v1/service-codes", &json!({ "server": format!("srv-{name}") }));
        let order = json!({
            "intent": "file", "account": name, "domain": format!("{name}.cn"), "service_code": code["code"],
            "subject": {
                "name": format!("公司{name}"), "kind": "enterprise",
                "certificate": { "kind": "business_licence", "number": format!("9111-{name}"), "province": "beijing" },
            },
            "site": { "name": "示例网站", "content": ["general"] },
            "registration": {
                "registrar": "示例", "expires_on": "2999-01-01", "holder": format!("公司{name}"),
                "holder_verified": true,
            },
            "real_person_verified": true,
        });
        let id = self.opened(&order);
        for step in ["submit", "pass", "verify"] {
            self.done("POST", &format!("/v1/orders/{id}/{step}"), &json!({}));
        }
        id
    }

    fn opened(&self, order: &Value) -> String {
        self.done("POST", "/v1/orders", order)["id"].as_str().unwrap().to_owned()
    }
}

fn registry(dir: &Path, name: &str, database: &str) -> Process {
    let config = format!(
        "provider = \"{PROVIDER}\"\n[registry.embedded]\naddress = \"127.0.0.1:0\"\ndatabase = \"{database}\"\n"
    );
    std::fs::write(dir.join(name), config).unwrap();
    Process::start(&["registry", "serve", "-c", name], dir)
}

fn statuses(answers: &[wire::Response; 2]) -> [u16; 2] {
    let mut both = answers.each_ref().map(|it| it.status);
    both.sort_unstable();
    both
}

#[test]
fn what_two_registries_are_asked_for_at_once_is_done_once() {
    let Some(pair) = Pair::start() else { return };
    approvals_give_each_number_once(&pair);
    a_key_is_taken_once(&pair);
    a_claim_and_a_deregistration_come_one_after_the_other(&pair);
    no_update_is_lost(&pair);
}

fn approvals_give_each_number_once(pair: &Pair) {
    const ORDERS: usize = 8;
    let orders: Vec<_> = (0..ORDERS).map(|n| pair.ripe(&format!("race{n}"))).collect();
    let mut numbers = BTreeSet::new();
    // Each order's approval at both at once, and two orders at a time.
    for two in orders.chunks(2) {
        let approved = thread::scope(|scope| {
            let asked: Vec<_> = two
                .iter()
                .map(|id| {
                    let path = format!("/v1/orders/{id}/approve");
                    scope.spawn(move || pair.at_once([(&path, "", "{}"), (&path, "", "{}")]))
                })
                .collect();
            asked.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
        });
        for both in approved {
            assert_eq!(statuses(&both), [200, 422], "{both:?}");
            for answer in &both {
                let answer = answer.json();
                match answer["number"].as_str() {
                    Some(number) => assert!(numbers.insert(number.to_owned()), "{number} is given twice"),
                    None => assert_eq!(answer["rule"], "order_approved"),
                }
            }
        }
    }
    let serial =
        |number: &String| number.split_once('号').unwrap().0.chars().rev().take(6).collect::<String>();
    let mut serials: Vec<String> = numbers.iter().map(|it| serial(it).chars().rev().collect()).collect();
    serials.sort();
    let expected: Vec<_> = (1..=ORDERS).map(|it| format!("{it:06}")).collect();
    assert_eq!(serials, expected, "no serial is left out");
}

fn a_key_is_taken_once(pair: &Pair) {
    for round in 0..6 {
        let path = format!("/v1/filings/key{round}.cn");
        let key = format!("Idempotency-Key: race-{round}\r\n");
        let body = json!({ "number": format!("京ICP备7{round:07}号-1"), "access": { PROVIDER: "active" } })
            .to_string();
        let both = pair.at_once([(&path, &key, &body), (&path, &key, &body)]);
        let codes = statuses(&both);
        assert!(codes == [201, 201] || codes == [201, 409], "{both:?}");
        let replayed = both.iter().filter(|it| it.header("idempotency-replayed").is_some()).count();
        assert_eq!(replayed == 1, codes == [201, 201], "{both:?}");
        for at in pair.at {
            let again = wire::try_ask_with(at, ("PUT", &path), &key, &body).unwrap();
            assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")));
            let history = wire::ask(at, "GET", &format!("{path}/history"), "").json();
            assert_eq!(history["changes"].as_array().unwrap().len(), 1, "{history}");
        }
    }
}

fn a_claim_and_a_deregistration_come_one_after_the_other(pair: &Pair) {
    for round in 0..6 {
        let domain = format!("old{round}.cn");
        let number = format!("京ICP备06{round:06}号-1");
        let filed = json!({ "number": number, "access": { PROVIDER: "active" }, "subject": format!("旧公司{round}") });
        pair.done("PUT", &format!("/v1/filings/{domain}"), &filed);
        // As each allows one order of an account for a name, they are of two.
        let claim = json!({ "intent": "claim", "account": format!("c{round}"), "domain": domain, "filed_on": "2009-01-01" });
        let end = json!({ "intent": "deregister", "account": format!("d{round}"), "domain": domain });
        let orders = [pair.opened(&claim), pair.opened(&end)];
        for id in &orders {
            pair.done("POST", &format!("/v1/orders/{id}/submit"), &json!({}));
        }
        // The last step of each.
        let last = orders.each_ref().map(|id| {
            loop {
                let order = wire::ask(pair.at[0], "GET", &format!("/v1/orders/{id}"), "").json();
                let next: Vec<_> =
                    order["next"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                let step = ["pass", "verify", "approve"].into_iter().find(|it| next.contains(it)).unwrap();
                let is_last = step == "approve" || order["type"] == "claim";
                if is_last {
                    return format!("/v1/orders/{id}/{step}");
                }
                pair.done("POST", &format!("/v1/orders/{id}/{step}"), &json!({}));
            }
        });
        let both = pair.at_once([(&last[0], "", "{}"), (&last[1], "", "{}")]);
        assert!(both.iter().all(|it| [200, 422].contains(&it.status)), "{both:?}");
        assert!(both.iter().any(|it| it.status == 200), "one of them comes first: {both:?}");
        let filing = wire::ask(pair.at[0], "GET", &format!("/v1/filings/{domain}"), "").json();
        let is_gone = both[1].status == 200 && both[1].json()["stage"] == "approved";
        assert_eq!(filing["state"] == "deregistered", is_gone, "{filing} {both:?}");
        assert_eq!(filing["number"], number.as_str());
        let at_other = wire::ask(pair.at[1], "GET", &format!("/v1/filings/{domain}"), "").json();
        assert_eq!(at_other, filing);
    }
}

fn no_update_is_lost(pair: &Pair) {
    const WRITERS: usize = 4;
    const UPDATES: usize = 5;
    let path = "/v1/filings/counted.cn";
    let body = |count: usize| json!({ "number": "京ICP备08000001号-1", "access": { PROVIDER: "active" }, "site_name": count.to_string() });
    pair.done("PUT", path, &body(0));
    let update = |at: SocketAddr| {
        loop {
            let read = wire::ask(at, "GET", path, "");
            let count: usize = read.json()["site_name"].as_str().unwrap().parse().unwrap();
            let only = format!("If-Match: {}\r\n", read.header("etag").unwrap());
            let written = wire::try_ask_with(at, ("PUT", path), &only, &body(count + 1).to_string()).unwrap();
            match written.status {
                200 => return,
                412 => {}
                _ => panic!("{written:?}"),
            }
        }
    };
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (update, at) = (&update, pair.at[writer % 2]);
            scope.spawn(move || (0..UPDATES).for_each(|_| update(at)));
        }
    });
    let filing = wire::ask(pair.at[1], "GET", path, "").json();
    assert_eq!(filing["site_name"], (WRITERS * UPDATES).to_string());
}
