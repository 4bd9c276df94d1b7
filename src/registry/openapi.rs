//! `/openapi.json`: the API's description, written by hand beside the routes and tested against them.

use axum::http::header;
use axum::response::IntoResponse;

pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(super) async fn get() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use super::DOCUMENT;
    use crate::registry::routes::ROUTES;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    /// What a reference leads to; the thing itself where it is none.
    #[track_caller]
    fn resolved<'d>(document: &'d Value, it: &'d Value) -> &'d Value {
        match it["$ref"].as_str() {
            Some(to) => document.pointer(&to[1..]).unwrap_or_else(|| panic!("{to} is not there")),
            None => it,
        }
    }

    #[track_caller]
    fn every_reference_leads_somewhere(document: &Value, it: &Value) {
        resolved(document, it);
        match it {
            Value::Object(it) => it.values().for_each(|it| every_reference_leads_somewhere(document, it)),
            Value::Array(it) => it.iter().for_each(|it| every_reference_leads_somewhere(document, it)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document = document();
        every_reference_leads_somewhere(&document, &document);
        let described: BTreeSet<_> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods
                    .as_object()
                    .unwrap()
                    .keys()
                    .filter(|it| *it != "parameters")
                    .map(move |it| (path.as_str(), it.as_str()))
            })
            .collect();
        let served: BTreeSet<_> =
            ROUTES.iter().flat_map(|(path, methods)| methods.iter().map(move |it| (*path, *it))).collect();
        assert_eq!(described, served);
    }

    #[test]
    fn what_all_routes_share_is_described_on_each() {
        let document = document();
        for (path, method) in
            ROUTES.iter().flat_map(|(path, methods)| methods.iter().map(move |it| (*path, *it)))
        {
            let operation = &document["paths"][path][method];
            let responses = operation["responses"].as_object().unwrap();
            let codes: BTreeSet<_> = responses.keys().map(String::as_str).collect();
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let in_header = parameters.map(|it| resolved(&document, it)).filter(|it| it["in"] == "header");
            let headers: BTreeSet<_> = in_header.filter_map(|it| it["name"].as_str()).collect();
            let is_write = method != "get";
            assert!(!codes.contains("default"), "{method} {path}: a status that is not said is a fault");
            assert!(headers.contains("x-request-id"), "{method} {path}: {headers:?}");
            for (code, response) in responses {
                let response = resolved(&document, response);
                let id = resolved(&document, &response["headers"]["x-request-id"]);
                assert_eq!(id["required"], true, "{method} {path} {code}");
                let is_problem = code.as_str() >= "400";
                let kinds = response["content"].as_object();
                let has_problem = kinds.is_some_and(|it| it.contains_key("application/problem+json"));
                let is_batch = path == "/v1/filings:batch" && code == "422";
                assert_eq!(has_problem, is_problem && !is_batch, "{method} {path} {code}");
            }
            if !path.starts_with("/v1/") {
                continue;
            }
            for code in ["400", "401", "403", "429", "503"] {
                assert!(codes.contains(code), "{method} {path} gives {code} too");
            }
            let is_feed = path.starts_with("/v1/feed/");
            for named in ["dry_run", "reason"] {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let mut names = parameters.map(|it| &resolved(&document, it)["name"]);
                assert_eq!(names.any(|it| it == named), is_write && !is_feed, "{method} {path}: {named}");
            }
            let is_keyed = is_write && !path.contains(':') && !is_feed;
            assert_eq!(headers.contains("idempotency-key"), is_keyed, "{method} {path}");
            assert!(
                !is_keyed || ["409", "413", "422"].iter().all(|it| codes.contains(it)),
                "{method} {path}"
            );
            let is_conditional = headers.contains("if-match");
            assert_eq!(codes.contains("412"), is_conditional, "{method} {path}");
            // An order's steps are on the order's version.
            let shown = &document["paths"][path.trim_end_matches("/{step}")]["get"]["responses"]["200"];
            let has_version = !resolved(&document, shown)["headers"]["etag"].is_null();
            assert!(!is_conditional || has_version, "{method} {path}: whose `etag` is to match?");
        }
    }
}
