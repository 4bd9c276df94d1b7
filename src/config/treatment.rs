//! What a site does to requests and responses on their way through, beyond forwarding them.

use super::{CompressionKeys, Footer};
use bytes::Bytes;

/// A site's treatment of what passes. Where all of it is left out nothing is spent on it.
#[derive(Debug, Clone, Default)]
pub struct Treatment {
    /// `[site.footer]`
    pub footer: Footer,
    /// `[site.compression]`
    pub compression: Option<CompressionKeys>,
    /// `[site.request_headers]`
    pub request_headers: FieldRules,
    /// `[site.response_headers]`
    pub response_headers: FieldRules,
}

/// Header fields that are taken out and put in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldRules {
    /// Names, in lower case, of fields that don't pass.
    pub dropped: Vec<String>,
    /// Names, in lower case, and values that are added, in order.
    pub added: Vec<(String, String)>,
}

impl FieldRules {
    /// Whether everything passes as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dropped.is_empty() && self.added.is_empty()
    }

    /// Takes every field of that name out, those that were added before among them.
    pub fn remove(&mut self, name: &str) {
        self.added.retain(|(one, _)| one != name);
        if !self.dropped.iter().any(|one| one == name) {
            self.dropped.push(name.to_owned());
        }
    }

    /// Adds a field.
    pub fn add(&mut self, name: &str, value: &str) {
        self.added.push((name.to_owned(), value.to_owned()));
    }

    /// These rules, and then those of `next`.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        let mut both = self.clone();
        for name in &next.dropped {
            both.remove(name);
        }
        both.added.extend(next.added.iter().cloned());
        both
    }
}

/// `[site.redirect]`: all that a site or a route is asked for is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// A URL or a path.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// What becomes of the path that was asked for.
    pub path: RedirectPath,
}

/// What of the path that was asked for follows the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectPath {
    /// All of it, as it was sent.
    Keep,
    /// What comes after the route's prefix.
    Rest,
    /// Nothing.
    Replace,
}

/// An answer of the gate's own that an operator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// The status that it goes with.
    pub status: u16,
    /// By its file's extension.
    pub content_type: &'static str,
    /// What the file held when the config was read.
    pub content: Bytes,
}

#[cfg(test)]
mod tests {
    use super::FieldRules;

    #[test]
    fn rules_of_a_route_come_after_the_sites() {
        let mut site = FieldRules::default();
        site.remove("x-debug");
        site.remove("x-env");
        site.add("x-env", "prod");
        site.add("x-list", "1");
        let mut route = FieldRules::default();
        route.remove("x-env");
        route.add("x-list", "2");
        let both = site.then(&route);
        assert_eq!(both.dropped, ["x-debug", "x-env"]);
        let added: Vec<_> = both.added.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(added, ["x-list=1", "x-list=2"]);
    }
}
