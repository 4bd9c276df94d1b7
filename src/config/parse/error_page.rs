//! `[error_pages]` and `[site.error_pages]`: files that stand for the gate's own words.

use crate::config::ErrorPage;
use crate::config::raw::{Section, Value};
use bytes::Bytes;

/// Octets of one page.
const MAX_PAGE_BYTES: usize = 256 * 1024;
/// Pages for one status: one of each kind.
const MAX_KINDS: usize = 4;
/// What the gate itself answers with, but for blocked names.
const STATUSES: [u16; 14] = [400, 404, 405, 408, 413, 417, 421, 429, 431, 501, 502, 503, 504, 508];
const KINDS: [(&str, &str); 5] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("json", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
    ("xml", "application/xml"),
];

/// Keys are statuses, values a file or a list of files.
pub(super) fn error_pages(section: Option<Section<'_>>) -> Vec<ErrorPage> {
    let Some(section) = section else { return Vec::new() };
    let mut pages = Vec::new();
    for (written, value) in section.entries() {
        let status = written.parse::<u16>().ok().filter(|status| STATUSES.contains(status));
        let Some(status) = status else {
            let message = match written {
                "403" | "451" => "what blocked names are told is in [block_page]; leave it out".to_owned(),
                _ => format!("the gate itself never answers so; use one of {STATUSES:?}"),
            };
            value.refuse_key(message);
            continue;
        };
        let items = if value.is_list() { value.items() } else { vec![value.clone()] };
        if items.is_empty() || items.len() > MAX_KINDS {
            value.refuse(format!("name one file, or a list of 1 to {MAX_KINDS} of different kinds"));
        }
        for item in &items {
            let Some(page) = page(status, item) else { continue };
            let is_known = |one: &ErrorPage| one.status == status && one.content_type == page.content_type;
            if pages.iter().any(is_known) {
                item.refuse(format!("there is a page of that kind for {status} already"));
            } else {
                pages.push(page);
            }
        }
    }
    pages
}

fn page(status: u16, value: &Value<'_>) -> Option<ErrorPage> {
    let path = value.path()?;
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default().to_ascii_lowercase();
    let Some((_, content_type)) = KINDS.iter().find(|(known, _)| *known == extension) else {
        value.refuse("what is in the file is told by its extension; use .html, .json, .txt or .xml");
        return None;
    };
    let refuse = |why: String| {
        value.refuse(format!("can't use {}: {why}", path.display()));
        None
    };
    match std::fs::read(&path) {
        Ok(content) if content.len() > MAX_PAGE_BYTES => {
            refuse(format!("it has {} octets, and a page at most {MAX_PAGE_BYTES}", content.len()))
        }
        Ok(content) if std::str::from_utf8(&content).is_err() => refuse("it is not UTF-8".to_owned()),
        Ok(content) => Some(ErrorPage { status, content_type, content: Bytes::from(content) }),
        Err(error) => refuse(error.to_string()),
    }
}
