//! Who may call what: tokens with a name and a role each, of which only hashes are kept.
//!
//! Pure: a role, a method and a path in, yes or no out.

use crate::config::Role;
use axum::http::Method;

/// Whether the role may do this.
pub(super) fn may(role: Role, method: &Method, path: &str) -> bool {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let is_feed = is_below(path, "/v1/feed");
    match role {
        Role::Operator => true,
        Role::Gate => is_feed,
        Role::Reader => is_read && !is_feed,
        Role::Reviewer => (is_read && !is_feed) || is_below(path, "/v1/orders"),
    }
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(role: Role, expected: &[&str]) {
        let calls = [
            "GET /v1/filings",
            "GET /v1/filings/a.cn/history",
            "PUT /v1/filings/a.cn",
            "DELETE /v1/filings/a.cn",
            "POST /v1/filings:batch",
            "POST /v1/filings:import",
            "GET /v1/orders/1",
            "POST /v1/orders",
            "POST /v1/orders/1/approve",
            "POST /v1/ordersx",
            "GET /v1/feed/changes",
            "POST /v1/feed/acknowledgements",
        ];
        let is_allowed = |call: &&&str| {
            let (method, path) = call.split_once(' ').unwrap();
            may(role, &method.parse().unwrap(), path)
        };
        assert_eq!(calls.iter().filter(is_allowed).copied().collect::<Vec<_>>(), expected, "{role:?}");
    }

    #[test]
    fn each_role_may_do_its_part() {
        let read = ["GET /v1/filings", "GET /v1/filings/a.cn/history", "GET /v1/orders/1"];
        check(Role::Reader, &read);
        check(Role::Reviewer, &[&read[..], &["POST /v1/orders", "POST /v1/orders/1/approve"]].concat());
        check(Role::Gate, &["GET /v1/feed/changes", "POST /v1/feed/acknowledgements"]);
        assert!(may(Role::Operator, &Method::DELETE, "/v1/filings/a.cn"));
    }
}
