//! Where a redirect sends a client: a target of the operator's, and as much of the client's path as was asked for. Pure.
//!
//! A path comes from a stranger: whatever it is, it never names another host than the target does.

use crate::config;
use crate::config::RedirectPath;
use bytes::Bytes;

/// A redirect of a site or of a route.
#[derive(Debug, PartialEq, Eq)]
pub struct Redirect {
    to: Box<str>,
    status: u16,
    path: RedirectPath,
    /// Octets of the prefix that `RedirectPath::Rest` leaves out.
    prefix_len: usize,
}

/// What one client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// 3xx.
    pub status: u16,
    /// A URI reference.
    pub location: Bytes,
}

impl Redirect {
    /// Of its config, for paths below `prefix`.
    #[must_use]
    pub fn new(from: &config::Redirect, prefix: &str) -> Self {
        Self { to: from.to.as_str().into(), status: from.status, path: from.path, prefix_len: prefix.len() }
    }

    /// What becomes of a path, as it was sent.
    #[must_use]
    pub fn of(&self, path: &[u8]) -> Redirection {
        let kept = match self.path {
            RedirectPath::Replace => return self.told(self.to.as_bytes().to_vec()),
            // `*` is no path.
            RedirectPath::Keep => path.strip_prefix(b"*").unwrap_or(path),
            RedirectPath::Rest => path.get(self.prefix_len..).unwrap_or_default(),
        };
        let base = self.to.strip_suffix('/').unwrap_or(&self.to);
        let mut location = Vec::with_capacity(base.len() + kept.len() + 1);
        location.extend_from_slice(base.as_bytes());
        if !kept.starts_with(b"/") && (!kept.starts_with(b"?") || base.len() < self.to.len()) {
            location.push(b'/');
        }
        location.extend_from_slice(kept);
        if self.to.starts_with('/') {
            // Two slashes, or what browsers take for one, would begin a host.
            let from = 1 + location[1..].iter().take_while(|octet| b"/\\".contains(octet)).count();
            location.drain(1..from);
        }
        self.told(location)
    }

    fn told(&self, location: Vec<u8>) -> Redirection {
        Redirection { status: self.status, location: location.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(to: &str, path: RedirectPath, prefix: &str, asked: &str, expected: &str) {
        let redirect = Redirect::new(&config::Redirect { to: to.to_owned(), status: 308, path }, prefix);
        let told = redirect.of(asked.as_bytes());
        assert_eq!(String::from_utf8_lossy(&told.location), expected, "{asked} to {to}");
        assert_eq!(told.status, 308);
    }

    #[test]
    fn paths_are_kept_cut_or_replaced() {
        use RedirectPath::{Keep, Replace, Rest};
        let site = "https://www.example.com";
        check(site, Keep, "", "/a/b?c=d", "https://www.example.com/a/b?c=d");
        check("https://www.example.com/", Keep, "", "/", "https://www.example.com/");
        check(site, Keep, "", "*", "https://www.example.com/");
        check("https://e.cn/base/", Keep, "", "/x", "https://e.cn/base/x");
        check(site, Replace, "", "/a?b", site);
        check("/new?x#y", Replace, "/old", "/old/z", "/new?x#y");
        check("/new", Rest, "/old", "/old/z?q", "/new/z?q");
        check("/new", Rest, "/old", "/old?q", "/new?q");
        check("/new", Rest, "/old", "/old", "/new/");
        check("/new/", Rest, "/old/", "/old/z", "/new/z");
    }

    #[test]
    fn no_path_names_another_host() {
        use RedirectPath::{Keep, Rest};
        check("https://e.cn", Keep, "", "//evil.cn/x", "https://e.cn//evil.cn/x");
        check("https://e.cn", Rest, "/old/", "/old/.evil.cn", "https://e.cn/.evil.cn");
        check("https://e.cn", Rest, "/old/", "/old/@evil.cn", "https://e.cn/@evil.cn");
        check("https://e.cn", Rest, "/old/", "/old/:80", "https://e.cn/:80");
        check("/", Rest, "/old", "/old//evil.cn", "/evil.cn");
        check("/", Rest, "/old/", "/old/\\evil.cn", "/evil.cn");
        check("/", Rest, "/old/", "/old//\\/evil.cn", "/evil.cn");
    }
}
