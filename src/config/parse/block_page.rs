//! `[block_page]` and `[site.block_page]`.

use super::optional;
use crate::block_page::{self as pages, Brand, LINKS_MAX, LOGO_BYTES_MAX, Words};
use crate::config::BlockPage;
use crate::config::raw::{Section, Value};
use std::io::Read as _;

/// Characters of a name, of the words of a link, and of a contact.
const NAME_CHARS_MAX: usize = 60;
const CONTACT_CHARS_MAX: usize = 300;

pub(super) fn block_page(mut section: Section<'_>) -> BlockPage {
    let directory = optional(&mut section, "directory", Value::path);
    let name = words(&mut section, ["name", "name_en"], NAME_CHARS_MAX);
    let contact = words(&mut section, ["contact", "contact_en"], CONTACT_CHARS_MAX);
    let logo = optional(&mut section, "logo", logo);
    let recheck = optional(&mut section, "recheck", Value::boolean).unwrap_or(true);
    let written = section.value("links");
    let links: Vec<_> = written
        .as_ref()
        .map(Value::items)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|item| link(item.section()?))
        .collect();
    if let (Some(written), true) = (&written, links.len() > LINKS_MAX) {
        written.refuse(format!("{} links; a page has room for {LINKS_MAX}", links.len()));
    }
    section.finish();
    BlockPage { directory, brand: Brand { name, logo, contact, links, without_recheck: !recheck } }
}

/// Words in Chinese, and in English under the second key.
fn words(section: &mut Section<'_>, [zh, en]: [&'static str; 2], chars_max: usize) -> Option<Words> {
    let mut one = |key| optional(section, key, |value| value.parse(|text| fitting(text, chars_max)));
    let (chinese, english) = (one(zh), one(en));
    match (chinese, english) {
        (Some(zh), en) => Some(Words { zh, en }),
        (None, Some(en)) => Some(Words { zh: en, en: None }),
        (None, None) => None,
    }
}

fn fitting(text: &str, chars_max: usize) -> Result<String, String> {
    let chars = text.chars().count();
    match chars {
        0 => Err("words are missing between the quotes".to_owned()),
        _ if chars > chars_max => Err(format!("{chars} characters; use {chars_max} at most")),
        _ if text.chars().any(char::is_control) => Err("holds a control character; leave it out".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

fn link(mut section: Section<'_>) -> Option<(Words, String)> {
    let text = words(&mut section, ["text", "text_en"], NAME_CHARS_MAX);
    if text.is_none() {
        section.refuse("\"text\" is missing; write a link like { text = \"备案系统\", url = \"https://beian.example/\" }");
    }
    let url = section.required("url", "url = \"https://beian.example/\"");
    let url = url.and_then(|url| {
        url.parse(|text| match pages::is_link(text) {
            true => Ok(text.to_owned()),
            false => Err(format!("{text:?} is no link; use https://, http://, mailto: or tel:")),
        })
    });
    section.finish();
    text.zip(url)
}

/// The picture in the file that `value` names.
fn logo(value: &Value<'_>) -> Option<String> {
    let path = value.path()?;
    let mut octets = Vec::new();
    let most = u64::try_from(LOGO_BYTES_MAX + 1).unwrap_or(u64::MAX);
    let read = std::fs::File::open(&path).and_then(|file| file.take(most).read_to_end(&mut octets));
    if let Err(error) = read {
        value.refuse(format!("can't read the logo {}: {error}", path.display()));
        return None;
    }
    match pages::logo(&octets) {
        Ok(uri) => Some(uri),
        Err(problem) => {
            value.refuse(format!("{} {problem}", path.display()));
            None
        }
    }
}
