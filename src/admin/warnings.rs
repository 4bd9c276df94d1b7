//! `/v1/warnings`: what comes up, who is told, and what nobody took.

use super::{Admin, problem};
use crate::warnings::WarningSink;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/v1/warnings", get(shown))
        .route("/v1/warnings/test", post(test))
        .route("/v1/warnings/resend", post(resend))
}

async fn shown(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.0.told.warnings.shown_whole())
}

async fn test(State(admin): State<Admin>) -> Response {
    say(&admin, WarningSink::test, "an event is on its way to every webhook that takes `test`\n")
}

async fn resend(State(admin): State<Admin>) -> Response {
    say(&admin, WarningSink::resend, "events that were given up are sent again\n")
}

pub(super) fn say(admin: &Admin, word: fn(&WarningSink), answer: &'static str) -> Response {
    let Some(sink) = &admin.0.told.sink else {
        return problem(StatusCode::CONFLICT, "there is no [[webhook]] in the config");
    };
    word(sink);
    (StatusCode::ACCEPTED, answer).into_response()
}
