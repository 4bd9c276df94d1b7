//! `[[site]]` and `[default_site]`.

use super::redirect::{self, At};
use super::{api, door, error_page, optional, upstream};
use crate::config::raw::{Place, Section, Value};
use crate::config::{
    HostRule, Mode, Redirect, Server, Site, SiteLimits, SiteTarget, SiteTimeouts, UpstreamScheme, value,
};
use std::sync::Arc;

pub(super) const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("monitor", Mode::Monitor)];

/// A site, where its hosts stand, and where its upstreams do.
pub(super) struct PlacedSite {
    pub(super) site: Arc<Site>,
    pub(super) hosts: Vec<(HostRule, Place)>,
    pub(super) upstreams: Place,
}

impl PlacedSite {
    /// Whether TLS goes through it unopened.
    pub(super) fn is_passthrough(&self) -> bool {
        self.site.target.upstreams.iter().any(|server| server.upstream.scheme == UpstreamScheme::Tcp)
    }
}

pub(super) fn sites(root: &mut Section<'_>) -> Vec<PlacedSite> {
    root.sections("site").into_iter().filter_map(site).collect()
}

fn site(mut section: Section<'_>) -> Option<PlacedSite> {
    let hosts = section.required("hosts", "hosts = [\"example.com\", \"*.example.com\"]");
    let items = hosts.as_ref().map(Value::items).unwrap_or_default();
    if let Some(value) = &hosts
        && value.is_empty_list()
    {
        value.refuse("a site needs a host; write one like [\"example.com\", \"*.example.com\"]");
    }
    let hosts: Vec<_> =
        items.iter().filter_map(|item| Some((item.parse(value::host_rule)?, item.place()))).collect();
    let scenario = optional(&mut section, "scenario", super::scenario);
    let region = optional(&mut section, "region", super::region);
    let target = target(&mut section);
    section.finish();
    let (target, written) = target?;
    let upstreams = written.place();
    let site = Site { hosts: hosts.iter().map(|(rule, _)| rule.clone()).collect(), scenario, region, target };
    Some(PlacedSite { site: Arc::new(site), hosts, upstreams })
}

pub(super) fn default_site(mut section: Section<'_>) -> Option<SiteTarget> {
    let target = target(&mut section);
    section.finish();
    let (target, written) = target?;
    if target.upstreams.iter().any(|server| server.upstream.scheme == UpstreamScheme::Tcp) {
        written
            .refuse("the default site serves HTTP; name tcp upstreams in the tls_passthrough [[listener]]");
    }
    Some(target)
}

/// What both kinds of site share, and the value of `upstreams` (or of `redirect`).
fn target<'t>(section: &mut Section<'t>) -> Option<(SiteTarget, Value<'t>)> {
    let name = optional(section, "name", |value| value.parse(value::site_name));
    let (written, upstreams, redirect) = destination(section, At::Site);
    let choice = upstream::choice(section);
    let way = upstream::way(section, &upstreams);
    let origin_here = optional(section, "origin_here", Value::boolean);
    let mode = optional(section, "mode", |value| value.choice("a mode", &MODES));
    let in_clear = optional(section, "redirect_to_https", door::in_clear);
    let networks = door::networks(section);
    let clients = section.section("client_certificates").and_then(api::client_certificates);
    let timeouts = timeouts(section.section("timeouts"), SiteTimeouts::default());
    let limits = limits(section, &upstreams);
    let error_pages = error_page::error_pages(section.section("error_pages"));
    let treatment = super::treatment::treatment(section);
    let routes = super::route::routes(section, timeouts, &treatment);
    if let (Some(written), [first, ..]) = (&written, &routes[..])
        && upstreams.iter().any(|server| server.upstream.scheme == UpstreamScheme::Tcp)
    {
        written.refuse(format!(
            "what passes through unopened shows no path; leave the route {} out",
            first.prefix
        ));
    }
    if let (Some(written), Some(_)) = (&written, &clients)
        && upstreams.iter().any(|server| server.upstream.scheme == UpstreamScheme::Tcp)
    {
        written.refuse("what passes through unopened shows its certificates to the upstream; leave client_certificates out");
    }
    let block_page = section.section("block_page").map(super::block_page::block_page);
    let target = SiteTarget {
        name,
        upstreams,
        redirect,
        choice,
        way,
        origin_here: origin_here.unwrap_or(false),
        networks,
        in_clear,
        clients,
        mode,
        timeouts,
        block_page,
        error_pages,
        limits,
        treatment,
        routes,
    };
    Some((target, written?))
}

/// Where requests go, to upstreams or elsewhere, and what says so.
pub(super) fn destination<'t>(
    section: &mut Section<'t>,
    at: At,
) -> (Option<Value<'t>>, Vec<Server>, Option<Redirect>) {
    let Some(elsewhere) = section.value("redirect") else {
        let written = section.required("upstreams", "upstreams = [\"http://10.0.0.1:8080\"]");
        let upstreams = written.as_ref().map(upstream::servers).unwrap_or_default();
        return (written, upstreams, None);
    };
    if let Some(written) = section.value("upstreams") {
        written.refuse_key("what is redirected reaches no upstream; leave this or the redirect out");
    }
    let redirect = elsewhere.clone().section().and_then(|section| redirect::redirect(section, at));
    (Some(elsewhere), Vec::new(), redirect)
}

fn limits(section: &mut Section<'_>, upstreams: &[Server]) -> SiteLimits {
    let Some(written) = section.value("limits") else { return SiteLimits::default() };
    if upstreams.iter().any(|server| server.upstream.scheme == UpstreamScheme::Tcp) {
        written.refuse_key("what passes through unopened shows no requests; leave this out");
    }
    written.section().map(super::limits::of_site).unwrap_or_default()
}

pub(super) fn timeouts(section: Option<Section<'_>>, mut timeouts: SiteTimeouts) -> SiteTimeouts {
    let Some(mut section) = section else { return timeouts };
    let slots = [
        ("connect", &mut timeouts.connect),
        ("response", &mut timeouts.response),
        ("idle", &mut timeouts.idle),
    ];
    for (key, slot) in slots {
        if let Some(timeout) = optional(&mut section, key, Value::duration) {
            *slot = timeout;
        }
    }
    section.finish();
    timeouts
}
