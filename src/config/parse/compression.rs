//! `[compression]` and `[site.compression]`.

use super::optional;
use crate::config::raw::{Section, Value};
use crate::config::{Algorithm, CompressionKeys, Levels};
use std::sync::Arc;

const ALGORITHMS: [(&str, Algorithm); 3] =
    [("zstd", Algorithm::Zstd), ("br", Algorithm::Brotli), ("gzip", Algorithm::Gzip)];
/// The hardest that each may try: what it holds is bounded by that.
const MAX_LEVELS: Levels = Levels { gzip: 9, brotli: 6, zstd: 9 };
/// Types that one section may name.
const MAX_TYPES: usize = 100;

pub(super) fn compression(section: Option<Section<'_>>) -> Option<CompressionKeys> {
    let mut section = section?;
    let keys = CompressionKeys {
        enabled: optional(&mut section, "enabled", Value::boolean),
        types: section.value("types").map(|value| types(&value)),
        min_length: optional(&mut section, "min_length", |value| value.size(0..=1 << 30)).map(|it| it as u64),
        algorithms: section.value("algorithms").map(|value| algorithms(&value)),
        level: optional(&mut section, "level", levels),
        streams: optional(&mut section, "streams", |value| value.integer(1..=100_000)),
    };
    section.finish();
    Some(keys)
}

fn types(written: &Value<'_>) -> Vec<Arc<str>> {
    let items = written.items();
    if items.is_empty() || items.len() > MAX_TYPES {
        written.refuse(format!(
            "name 1 to {MAX_TYPES} types, like [\"text/*\", \"application/json\"], or set enabled = false"
        ));
    }
    items.iter().filter_map(|item| item.parse(media_type)).collect()
}

/// `text/html`, `text/*`.
fn media_type(text: &str) -> Result<Arc<str>, String> {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-.+_".contains(&octet))
    };
    match text.split_once('/') {
        Some((kind, rest)) if is_word(kind) && (rest == "*" || is_word(rest)) => {
            Ok(text.to_ascii_lowercase().into())
        }
        _ => Err(format!(
            "{text:?} is no media type; write one like \"text/html\", \"text/*\" or \"application/json\""
        )),
    }
}

fn algorithms(written: &Value<'_>) -> Vec<Algorithm> {
    if written.is_empty_list() {
        written.refuse("name an algorithm, like [\"zstd\", \"br\", \"gzip\"], or set enabled = false");
    }
    let mut algorithms = Vec::new();
    for item in written.items() {
        let Some(algorithm) = item.choice("an algorithm", &ALGORITHMS) else { continue };
        if algorithms.contains(&algorithm) {
            item.refuse(format!("{:?} is named twice", algorithm.as_str()));
        }
        algorithms.push(algorithm);
    }
    algorithms
}

/// One for all, or one for each.
fn levels(written: &Value<'_>) -> Option<Levels> {
    let octet = |level: usize| u8::try_from(level).unwrap_or(u8::MAX);
    if !written.is_table() {
        let most = usize::from(MAX_LEVELS.brotli);
        let level = octet(written.integer(1..=most)?);
        return Some(Levels { gzip: level, brotli: level, zstd: level });
    }
    let mut section = written.clone().section()?;
    let mut levels = Levels::default();
    let slots = [
        ("gzip", &mut levels.gzip, MAX_LEVELS.gzip),
        ("br", &mut levels.brotli, MAX_LEVELS.brotli),
        ("zstd", &mut levels.zstd, MAX_LEVELS.zstd),
    ];
    for (key, slot, most) in slots {
        if let Some(level) = optional(&mut section, key, |value| value.integer(1..=usize::from(most))) {
            *slot = octet(level);
        }
    }
    section.finish();
    Some(levels)
}
