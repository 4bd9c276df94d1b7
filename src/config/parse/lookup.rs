//! `[lookup]`: the public page where a site's owner looks up a domain.

use super::{listen_address, optional};
use crate::config::raw::{Section, Value};
use crate::config::{Lookup, value};

pub(super) fn lookup(mut section: Section<'_>) -> Option<Lookup> {
    let address = section.required("address", "address = \"127.0.0.1:7080\"");
    let number =
        |most: usize| move |value: &Value<'_>| value.integer(1..=most).and_then(|it| u32::try_from(it).ok());
    let per_minute = optional(&mut section, "per_minute", number(6000));
    let burst = optional(&mut section, "burst", number(1000));
    let trusted_peers = section.list("trusted_peers", value::network);
    section.finish();
    Some(Lookup {
        address: listen_address(Some(&address?), "")?,
        per_minute: per_minute.unwrap_or(10),
        burst: burst.unwrap_or(10),
        trusted_peers,
    })
}
