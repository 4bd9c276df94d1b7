//! `[site.redirect]`: a target that no path can lead astray.

use super::optional;
use crate::config::raw::Section;
use crate::config::{Redirect, RedirectPath};
use crate::domain::Authority;

/// Octets of a target.
const MAX_TARGET_BYTES: usize = 2048;
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
const PATHS: [(&str, RedirectPath); 3] =
    [("keep", RedirectPath::Keep), ("rest", RedirectPath::Rest), ("replace", RedirectPath::Replace)];

/// Where a redirect stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Site,
    /// There is a prefix that `path = "rest"` leaves out.
    Route,
}

pub(super) fn redirect(mut section: Section<'_>, at: At) -> Option<Redirect> {
    let to = section.required("to", "to = \"https://www.example.com\"");
    let status = optional(&mut section, "status", |value| {
        let status = value.integer(300..=399).and_then(|status| u16::try_from(status).ok())?;
        let is_one = STATUSES.contains(&status);
        if !is_one {
            value.refuse(format!("{status} is no redirect to one place; use 301, 302, 303, 307 or 308"));
        }
        is_one.then_some(status)
    });
    let path = section.value("path");
    let chosen = path.as_ref().and_then(|value| value.choice("what becomes of a path", &PATHS));
    if let (Some(value), Some(RedirectPath::Rest), At::Site) = (&path, chosen, at) {
        value.refuse("a site has no prefix to leave out; use \"keep\" or \"replace\"");
    }
    section.finish();
    let path = chosen.unwrap_or(RedirectPath::Keep);
    let to = to.and_then(|value| value.parse(|text| target(text, path)))?;
    Some(Redirect { to, status: status.unwrap_or(301), path })
}

/// `https://host[:port][/path]` or `/path`.
fn target(text: &str, path: RedirectPath) -> Result<String, String> {
    let wrong = |why: &str| {
        Err(format!(
            "{text:?} {why}; write one like \"https://www.example.com\" or \"/new\", as browsers send it"
        ))
    };
    let is_plain = |octet: u8| octet.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&octet);
    if text.len() > MAX_TARGET_BYTES || !text.bytes().all(is_plain) {
        return wrong("has characters that no URL has, or too many");
    }
    let url = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match url {
        Some(rest) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if Authority::from_wire(authority.as_bytes()).is_err() {
                return wrong("names no host");
            }
        }
        None if !text.starts_with('/') || text.starts_with("//") => {
            return wrong("is neither an http(s) URL nor a path");
        }
        None if path == RedirectPath::Keep => {
            return wrong(
                "with the path kept leads back to where it began; name another host, or use path = \"replace\"",
            );
        }
        None => {}
    }
    if path != RedirectPath::Replace && text.contains(['?', '#']) {
        return wrong("has a query or fragment that no path can follow; use path = \"replace\"");
    }
    Ok(text.to_owned())
}
