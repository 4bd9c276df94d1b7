//! `[[site]]` and `[default_site]`.

use super::{optional, upstream};
use crate::config::raw::{Place, Section, Value};
use crate::config::{HostRule, Mode, Site, SiteTarget, SiteTimeouts, UpstreamScheme, value};

pub(super) const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("monitor", Mode::Monitor)];

/// A site, where its hosts stand, and where its upstreams do.
pub(super) struct PlacedSite {
    pub(super) site: Site,
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
    let (target, upstreams) = target?;
    let upstreams = upstreams.place();
    let site = Site { hosts: hosts.iter().map(|(rule, _)| rule.clone()).collect(), scenario, region, target };
    Some(PlacedSite { site, hosts, upstreams })
}

pub(super) fn default_site(mut section: Section<'_>) -> Option<SiteTarget> {
    let target = target(&mut section);
    section.finish();
    target
        .filter(|(target, upstreams)| {
            let is_http = target.upstreams.iter().all(|server| server.upstream.scheme != UpstreamScheme::Tcp);
            if !is_http {
                upstreams.refuse(
                    "the default site serves HTTP; name tcp upstreams in the tls_passthrough [[listener]]",
                );
            }
            is_http
        })
        .map(|(target, _)| target)
}

/// What both kinds of site share, and the value of `upstreams`.
fn target<'t>(section: &mut Section<'t>) -> Option<(SiteTarget, Value<'t>)> {
    let written = section.required("upstreams", "upstreams = [\"http://10.0.0.1:8080\"]");
    let upstreams = written.as_ref().map(upstream::servers).unwrap_or_default();
    let choice = upstream::choice(section);
    let way = upstream::way(section, &upstreams);
    let origin_here = optional(section, "origin_here", Value::boolean);
    let mode = optional(section, "mode", |value| value.choice("a mode", &MODES));
    let timeouts = timeouts(section.section("timeouts"), SiteTimeouts::default());
    let routes = super::route::routes(section, timeouts);
    if let (Some(written), [first, ..]) = (&written, &routes[..])
        && upstreams.iter().any(|server| server.upstream.scheme == UpstreamScheme::Tcp)
    {
        written.refuse(format!(
            "what passes through unopened shows no path; leave the route {} out",
            first.prefix
        ));
    }
    let block_page = section.section("block_page").map(super::block_page::block_page);
    let treatment = super::treatment::treatment(section);
    let target = SiteTarget {
        upstreams,
        choice,
        way,
        origin_here: origin_here.unwrap_or(false),
        mode,
        timeouts,
        block_page,
        treatment,
        routes,
    };
    Some((target, written?))
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
