//! The keys of a site that say what becomes of requests and responses on their way through.

use super::footer;
use crate::config::Treatment;
use crate::config::raw::Section;

pub(super) fn treatment(section: &mut Section<'_>) -> Treatment {
    Treatment { footer: footer::footer(section.section("footer")) }
}
