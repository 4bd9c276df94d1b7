//! Who looks at the console: in which language, and what pages may offer.

use super::super::Admin;
use crate::config::Role;
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use std::convert::Infallible;
use std::time::Instant;

/// Whoever asks for a page.
#[derive(Debug, Clone)]
pub(in crate::admin) struct Viewer {
    /// `zh` or `en`: as asked for, else as the browser prefers, else Chinese.
    pub(super) lang: &'static str,
    /// Whether pages offer what changes something.
    pub(super) may_change: bool,
    /// Whether there is a session that can be ended.
    pub(super) is_logged_in: bool,
    /// What the page was asked for, but for the language.
    pub(super) query: Vec<(String, String)>,
    /// The language, where it was asked for: the next page is to keep it.
    pub(super) asked_lang: Option<&'static str>,
}

impl Viewer {
    /// Of a request that was let in, or of one that was not.
    pub(in crate::admin) fn of(parts: &Parts, admin: &Admin) -> Self {
        let text = parts.uri.query().unwrap_or_default();
        let url = reqwest::Url::parse(&format!("http://page/?{text}")).ok();
        let pairs = url.iter().flat_map(|it| it.query_pairs().into_owned());
        let (langs, query): (Vec<_>, Vec<_>) = pairs.partition(|(key, _)| key == "lang");
        let asked_lang = langs.iter().find_map(|(_, lang)| match lang.as_str() {
            "en" => Some("en"),
            "zh" => Some("zh"),
            _ => None,
        });
        let accepted = parts.headers.get(header::ACCEPT_LANGUAGE).map(header::HeaderValue::as_bytes);
        let preferred = || match crate::block_page::negotiate(None, accepted).1 {
            crate::block_page::Language::Chinese => "zh",
            crate::block_page::Language::English => "en",
        };
        Self {
            lang: asked_lang.unwrap_or_else(preferred),
            may_change: parts.extensions.get::<Role>() == Some(&Role::Operator),
            is_logged_in: admin.0.sessions.role(&parts.headers, Instant::now()).is_some(),
            query,
            asked_lang,
        }
    }

    /// The console's first page, in the language that was asked for.
    pub(super) fn home(&self) -> String {
        self.asked_lang.map_or_else(|| "/".to_owned(), |lang| format!("/?lang={lang}"))
    }
}

impl FromRequestParts<Admin> for Viewer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Infallible> {
        Ok(Self::of(parts, admin))
    }
}
