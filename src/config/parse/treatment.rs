//! The keys of a site that say what becomes of requests and responses on their way through.

use super::fields::{self, Of};
use super::{compression, footer};
use crate::config::Treatment;
use crate::config::raw::Section;

pub(super) fn treatment(section: &mut Section<'_>) -> Treatment {
    Treatment {
        footer: footer::footer(section.section("footer")),
        compression: compression::compression(section.section("compression")),
        request_headers: fields::rules(section.section("request_headers"), Of::Requests),
        response_headers: fields::rules(section.section("response_headers"), Of::Responses),
    }
}

/// A route's: the site's, and then what the route says.
pub(super) fn of_route(section: &mut Section<'_>, site: &Treatment) -> Treatment {
    let compression = compression::compression(section.section("compression"));
    let request = fields::rules(section.section("request_headers"), Of::Requests);
    let response = fields::rules(section.section("response_headers"), Of::Responses);
    Treatment {
        footer: site.footer.clone(),
        compression: compression.or_else(|| site.compression.clone()),
        request_headers: site.request_headers.then(&request),
        response_headers: site.response_headers.then(&response),
    }
}
