//! `[site.request_headers]` and `[site.response_headers]`: names and values that an operator puts into messages.

use crate::config::FieldRules;
use crate::config::raw::{Section, Value};

/// Entries of one list or table.
const MAX_FIELDS: usize = 64;
/// Octets of one value.
const MAX_VALUE_BYTES: usize = 4096;
/// Octets of one name.
const MAX_NAME_BYTES: usize = 128;

/// Which messages the rules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Requests,
    Responses,
}

/// Names that say where a message goes, where it ends, or whose it is: between neighbours, or the gate's to write.
const BETWEEN_NEIGHBOURS: [&str; 15] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
    "via",
    "expect",
    "alt-used",
];

/// `remove`, `set`, `add`, in this order.
pub(super) fn rules(section: Option<Section<'_>>, of: Of) -> FieldRules {
    let mut rules = FieldRules::default();
    let Some(mut section) = section else { return rules };
    for item in section.value("remove").map(|value| value.items()).unwrap_or_default() {
        if let Some(name) = item.parse(|text| name(text, of)) {
            rules.remove(&name);
        }
    }
    for (key, replaces) in [("set", true), ("add", false)] {
        let Some(table) = section.section(key) else { continue };
        let mut seen: Vec<String> = Vec::new();
        for (written, value) in table.entries() {
            let name = match name(written, of) {
                Ok(name) if seen.contains(&name) => {
                    value.refuse_key(format!("{name} is named already; a list holds several values"));
                    continue;
                }
                Ok(name) if seen.len() < MAX_FIELDS => name,
                Ok(_) => {
                    value.refuse_key(format!("too many fields; at most {MAX_FIELDS} here"));
                    break;
                }
                Err(message) => {
                    value.refuse_key(message);
                    continue;
                }
            };
            if replaces {
                rules.remove(&name);
            }
            for value in values(&value) {
                rules.add(&name, &value);
            }
            seen.push(name);
        }
    }
    section.finish();
    rules
}

/// One value, or a list of them.
fn values(value: &Value<'_>) -> Vec<String> {
    let items = if value.is_list() { value.items() } else { vec![value.clone()] };
    if items.is_empty() || items.len() > MAX_FIELDS {
        value.refuse(format!("write one value, or a list of 1 to {MAX_FIELDS}"));
    }
    items.iter().filter_map(|item| item.parse(field_value)).collect()
}

fn name(text: &str, of: Of) -> Result<String, String> {
    let is_token = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&octet);
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(|o| is_token(o) || o == b'_') {
        return Err(format!(
            "{text:?} is no name of a field; use letters, digits and \"-\", like \"x-environment\""
        ));
    }
    if text.contains('_') {
        return Err(format!(
            "{text:?} has an underscore, which many take for a dash; write {:?}",
            text.replace('_', "-")
        ));
    }
    let name = text.to_ascii_lowercase();
    let is_the_gates = name.starts_with("beian-")
        || BETWEEN_NEIGHBOURS.contains(&name.as_str())
        || match of {
            Of::Requests => {
                name == "forwarded"
                    || name == "x-real-ip"
                    || name.starts_with("x-forwarded-")
                    || name.starts_with("x-client-cert-")
                    || name == "client-cert"
                    || name == "client-cert-chain"
            }
            Of::Responses => name == "content-encoding" || name == "content-range",
        };
    if is_the_gates {
        return Err(format!(
            "{name} says where a message goes, ends or comes from: the gate writes it; leave it out"
        ));
    }
    Ok(name)
}

fn field_value(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|octet| matches!(octet, b' '..=b'~' | b'\t'));
    if is_plain && text.len() <= MAX_VALUE_BYTES && text.trim() == text {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is no value of a field; use visible ASCII characters and spaces between them, at most \
             {MAX_VALUE_BYTES} octets"
        ))
    }
}
