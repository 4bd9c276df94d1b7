//! What every route asks of its callers before anything is done, and what it answers to texts that no database holds.

use super::*;
use crate::config::{Role, Token};
use crate::registry::routes::ROUTES;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Who may call what. A route that is not here fails the test: say who may call it.
const MAY: &[(&str, &str)] = &[
    ("get /v1/filings", "reader reviewer operator"),
    ("post /v1/filings:batch", "operator"),
    ("post /v1/filings:import", "operator"),
    ("get /v1/filings/{domain}", "reader reviewer operator"),
    ("put /v1/filings/{domain}", "operator"),
    ("delete /v1/filings/{domain}", "operator"),
    ("get /v1/filings/{domain}/in-force", "reader reviewer operator"),
    ("get /v1/filings/{domain}/history", "reader reviewer operator"),
    ("get /v1/orders", "reader reviewer operator"),
    ("post /v1/orders", "reviewer operator"),
    ("get /v1/orders/{id}", "reader reviewer operator"),
    ("post /v1/orders/{id}/{step}", "reviewer operator"),
    ("get /v1/changes", "reader reviewer operator"),
    ("get /v1/due", "reader reviewer operator"),
    ("get /v1/subjects", "reader reviewer operator"),
    ("post /v1/subjects", "operator"),
    ("get /v1/subjects/{id}", "reader reviewer operator"),
    ("put /v1/subjects/{id}", "operator"),
    ("get /v1/sites", "reader reviewer operator"),
    ("get /v1/sites/{number}", "reader reviewer operator"),
    ("put /v1/sites/{number}", "operator"),
    ("get /v1/service-codes", "reader reviewer operator"),
    ("post /v1/service-codes", "operator"),
    ("get /v1/service-codes/{code}", "reader reviewer operator"),
    ("get /v1/servers", "reader reviewer operator"),
    ("get /v1/servers/{id}", "reader reviewer operator"),
    ("put /v1/servers/{id}", "operator"),
    ("get /v1/accounts", "reader reviewer operator"),
    ("get /v1/accounts/{id}", "reader reviewer operator"),
    ("get /v1/feed/snapshot", "gate operator"),
    ("get /v1/feed/changes", "gate operator"),
    ("post /v1/feed/repair", "gate operator"),
    ("post /v1/feed/acknowledgements", "gate operator"),
    ("get /v1/feed/followers", "gate operator"),
    ("get /openapi.json", "everyone"),
    ("get /healthz", "everyone"),
];

/// A path of the route, about things that are not there.
pub(super) fn concrete(path: &str) -> String {
    let path = path.replace("{domain}", "a.com").replace("{step}", "submit");
    path.replace("{id}", "x").replace("{number}", "x").replace("{code}", "x")
}

/// Every route's method and path.
fn routes() -> impl Iterator<Item = (Method, &'static str)> {
    let method = |it: &str| Method::from_bytes(it.to_ascii_uppercase().as_bytes()).unwrap();
    ROUTES.iter().flat_map(move |(path, methods)| methods.iter().map(move |it| (method(it), *path)))
}

#[tokio::test]
async fn every_route_is_for_its_roles_and_nobody_else() {
    let may: BTreeMap<_, _> = MAY.iter().copied().collect();
    let name = |method: &Method, path: &str| format!("{} {path}", method.as_str().to_ascii_lowercase());
    let served: Vec<_> = routes().map(|(method, path)| name(&method, path)).collect();
    assert!(served.iter().all(|it| may.contains_key(&**it)), "say who may call each of {served:?}");
    assert_eq!(may.len(), served.len(), "routes that are no more: {may:?}");
    let roles = [Role::Reader, Role::Reviewer, Role::Operator, Role::Gate];
    let token =
        |role: Role| Token { name: role.to_string(), role, hash: crate::serve::hash(&role.to_string()) };
    let options = Options { tokens: roles.map(token).into(), ..Options::default() };
    let world = World::start_with(World::home(), options).await;
    for (place, (method, path)) in routes().enumerate() {
        // From an address of its own: too many wrong tokens from one are 429.
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, u8::try_from(place).unwrap() + 1));
        let client = reqwest::Client::builder().no_proxy().local_address(from).build().unwrap();
        let call = async |token: Option<&str>| {
            let request =
                client.request(method.clone(), format!("http://{}{}", world.address, concrete(path)));
            let request = token.iter().fold(request, |request, it| request.bearer_auth(it));
            let (status, body) = answer(request.send().await.unwrap()).await;
            documented(&method, &concrete(path), status);
            (status.as_u16(), body["rule"].as_str().unwrap_or_default().to_owned())
        };
        let allowed = may[&*name(&method, path)];
        let is_open = allowed == "everyone";
        for role in roles.map(|it| it.to_string()) {
            let (status, rule) = call(Some(&role)).await;
            let is_allowed = is_open || allowed.split(' ').any(|it| it == role);
            let is_refused = (status, &*rule) == (403, "role_not_allowed");
            assert_eq!(is_refused, !is_allowed, "{role}: {method} {path}: {status} {rule}");
            assert!(
                !is_allowed || (status != 401 && status < 500),
                "{role}: {method} {path}: {status} {rule}"
            );
        }
        for token in [None, Some("wrong"), Some("")] {
            let (status, rule) = call(token).await;
            assert_eq!(status == 401, !is_open, "{token:?}: {method} {path}: {status} {rule}");
        }
    }
}

#[tokio::test]
async fn a_nul_is_refused_wherever_it_is() {
    let world = World::start().await;
    let refused = async |method: Method, path: &str, body: &str, expected: (u16, &str)| {
        let (status, answer) = world.send(method, path, body.to_owned()).await;
        assert_eq!((status.as_u16(), &answer["rule"]), (expected.0, &json!(expected.1)), "{path} {body}");
    };
    for (method, path) in routes().filter(|(_, path)| path.starts_with("/v1/")) {
        let path = concrete(path);
        refused(method.clone(), &format!("{path}?cursor=a%00b"), "", (400, "invalid_query")).await;
    }
    refused(Method::GET, "/v1/orders/a%00b", "", (400, "invalid_path")).await;
    for (path, body) in [
        ("/v1/subjects", r#"{"name": "甲", "certificate": {"kind": "other", "number": "1\u00002"}}"#),
        ("/v1/orders", r#"{"intent": "file", "subject": "a\u0000b", "domain": "a.com"}"#),
        ("/v1/orders/x/correct", r#"{"site": {"content": ["\u0000"]}}"#),
        ("/v1/service-codes", r#"{"server": "\u0000"}"#),
        ("/v1/service-codes", r#"{"\u0000": 1}"#),
    ] {
        refused(Method::POST, path, body, (422, "invalid_text")).await;
    }
    let number = number(1, 1);
    let body = format!(r#"{{"number": "{number}", "subject": "a\u0000b"}}"#);
    refused(Method::PUT, "/v1/filings/a.com", &body, (422, "invalid_text")).await;
    // A backslash, then the six characters: a text like any other.
    let name = r#"{"name": "a\\u0000"}"#;
    assert_eq!(world.send(Method::POST, "/v1/subjects", name).await.0, StatusCode::CREATED);
}

/// The query parameters that a route is described with.
fn described(path: &str, method: &Method) -> BTreeSet<String> {
    let document: Value = serde_json::from_str(crate::registry::openapi::DOCUMENT).unwrap();
    let operation = &document["paths"][path][method.as_str().to_ascii_lowercase()];
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let resolved = parameters.map(|it| match it["$ref"].as_str() {
        Some(to) => document.pointer(&to[1..]).unwrap(),
        None => it,
    });
    let in_query = resolved.filter(|it| it["in"] == "query");
    in_query.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_route_takes_the_parameters_that_are_described_and_no_others() {
    let world = World::start().await;
    let mut all: BTreeSet<String> = routes().flat_map(|(method, path)| described(path, &method)).collect();
    all.insert("no_such".to_owned());
    for (method, path) in routes().filter(|(_, path)| path.starts_with("/v1/")) {
        let described = described(path, &method);
        for name in all.iter().filter(|_| !described.is_empty()) {
            let call = format!("{}?{name}=x", concrete(path));
            let (status, answer) = world.send(method.clone(), &call, "{}").await;
            let detail = answer["detail"].as_str().unwrap_or_default();
            let is_unknown = detail.contains("unknown field") || detail.contains("has no filter");
            assert_eq!(is_unknown, !described.contains(name), "{method} {call}: {status} {answer}");
        }
    }
}
