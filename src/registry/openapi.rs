//! `/openapi.json`: the API's description, written by hand beside the routes and tested against them.

use axum::http::header;
use axum::response::IntoResponse;

const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(super) async fn get() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use super::DOCUMENT;
    use crate::registry::routes::ROUTES;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
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
}
