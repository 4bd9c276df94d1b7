//! `[[site.route]]`: paths of a site that go elsewhere.

use super::redirect::At;
use super::{error_page, limits, site, treatment, upstream};
use crate::config::raw::{Section, Value};
use crate::config::{PathRoute, SiteTimeouts, Treatment, UpstreamScheme};

/// The most of one site.
const MAX_ROUTES: usize = 1000;

/// A site's routes; what one leaves out is the site's.
pub(super) fn routes(
    section: &mut Section<'_>,
    timeouts: SiteTimeouts,
    treatment: &Treatment,
) -> Vec<PathRoute> {
    let mut routes: Vec<PathRoute> = Vec::new();
    for section in section.sections("route") {
        if routes.len() >= MAX_ROUTES {
            section.refuse(format!("too many routes; at most {MAX_ROUTES} for one site"));
            break;
        }
        routes.extend(route(section, (timeouts, treatment), &routes));
    }
    routes
}

fn route(
    mut section: Section<'_>,
    (timeouts, treatment): (SiteTimeouts, &Treatment),
    earlier: &[PathRoute],
) -> Option<PathRoute> {
    let prefix = section.required("prefix", "prefix = \"/api\"");
    let (written, upstreams, redirect) = site::destination(&mut section, At::Route);
    let choice = upstream::choice(&mut section);
    let way = upstream::way(&mut section, &upstreams);
    let timeouts = site::timeouts(section.section("timeouts"), timeouts);
    if let Some(value) = &written
        && upstreams.iter().any(|server| server.upstream.scheme == UpstreamScheme::Tcp)
    {
        value.refuse("a route is chosen by the path, which tcp upstreams never show; use http or https");
    }
    let body_bytes = section.section("limits").and_then(limits::of_route);
    let error_pages = error_page::error_pages(section.section("error_pages"));
    let treatment = treatment::of_route(&mut section, treatment);
    section.finish();
    let value: &Value<'_> = prefix.as_ref()?;
    let prefix = value.parse(path_prefix)?;
    if earlier.iter().any(|route| route.prefix == prefix) {
        value.refuse(format!("{prefix:?} has a route already; a prefix is named once in a site"));
    }
    Some(PathRoute { prefix, upstreams, redirect, choice, way, timeouts, body_bytes, error_pages, treatment })
}

/// A prefix of paths as they are sent: `/api` is `/api` and all below it.
fn path_prefix(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/')
        && text.bytes().all(|octet| octet.is_ascii_graphic() && !b"?#".contains(&octet));
    if is_path {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a path; write one as clients send it, like \"/api\" or \"/%E5%9B%BE/\""))
    }
}
