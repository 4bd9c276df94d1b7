//! Answers of the gate's own in an operator's words: which of them fits a status and a client. Pure.

use crate::block_page::Media;
use crate::config;
use bytes::Bytes;

/// Pages by status: those of a site before those of all.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ErrorPages(Vec<config::ErrorPage>);

impl ErrorPages {
    /// Those of `first`, and for statuses that it leaves out those of `then`.
    #[must_use]
    pub fn new(first: &[config::ErrorPage], then: &[config::ErrorPage]) -> Self {
        let others = then.iter().filter(|page| first.iter().all(|own| own.status != page.status));
        Self(first.iter().chain(others).cloned().collect())
    }

    /// The page for a status: of the kind that the client asks for, else the first one.
    #[must_use]
    pub fn of(&self, status: u16, media: Media) -> Option<(&'static str, Bytes)> {
        let kind = match media {
            Media::Html => "text/html",
            Media::Problem => "application/json",
            Media::Text => "text/plain",
            // Its answer is a status among the fields.
            Media::Grpc => return None,
        };
        let mut fitting = self.0.iter().filter(|page| page.status == status);
        let first = fitting.next()?;
        let page = if first.content_type.starts_with(kind) {
            first
        } else {
            fitting.find(|page| page.content_type.starts_with(kind)).unwrap_or(first)
        };
        Some((page.content_type, page.content.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_that_is_asked_for_else_the_first() {
        let page = |status, content_type, content: &'static str| config::ErrorPage {
            status,
            content_type,
            content: Bytes::from_static(content.as_bytes()),
        };
        let all =
            [page(502, "text/html; charset=utf-8", "all"), page(404, "text/plain; charset=utf-8", "none")];
        let own = [page(502, "text/html; charset=utf-8", "own"), page(502, "application/json", "{}")];
        let pages = ErrorPages::new(&own, &all);
        let content = |status, media| pages.of(status, media).map(|(_, content)| content);
        assert_eq!(content(502, Media::Html).unwrap(), "own");
        assert_eq!(content(502, Media::Problem).unwrap(), "{}");
        assert_eq!(content(502, Media::Text).unwrap(), "own");
        assert_eq!(content(404, Media::Html).unwrap(), "none");
        assert_eq!(content(502, Media::Grpc), None);
        assert_eq!(content(503, Media::Html), None);
    }
}
