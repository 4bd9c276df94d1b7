//! Whose pages these are: name, logo, whom to ask, in both languages; and whether pages look again by themselves.
//!
//! Knows no file: a logo arrives as octets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::Language;

/// Octets of a logo, so that the whole page stays small.
pub const LOGO_BYTES_MAX: usize = 6 * 1024;
/// Links of an operator's own.
pub const LINKS_MAX: usize = 6;

/// Words in Chinese, and in English where they differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// 中文
    pub zh: String,
    /// English; the Chinese words where there are none.
    pub en: Option<String>,
}

impl Words {
    fn of(&self, language: Language) -> &str {
        match language {
            Language::Chinese => &self.zh,
            Language::English => self.en.as_ref().unwrap_or(&self.zh),
        }
    }
}

/// An operator's own part of the pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brand {
    /// Who runs the gate.
    pub name: Option<Words>,
    /// A picture, as a `data:` URI.
    pub logo: Option<String>,
    /// Whom to call or write to, in words.
    pub contact: Option<Words>,
    /// Where to go: words, and a URL of http, https, mailto or tel.
    pub links: Vec<(Words, String)>,
    /// Whether pages leave out the script that looks again.
    pub without_recheck: bool,
}

/// A logo as a `data:` URI.
///
/// # Errors
/// What is wrong with it: too large, or no picture that browsers show.
pub fn logo(octets: &[u8]) -> Result<String, String> {
    if octets.len() > LOGO_BYTES_MAX {
        return Err(format!("has {} octets; a logo may have {LOGO_BYTES_MAX}", octets.len()));
    }
    let kind = match octets {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        text if std::str::from_utf8(text).is_ok_and(|text| text.contains("<svg")) => "image/svg+xml",
        _ => return Err("is no PNG, JPEG, WebP or SVG picture".to_owned()),
    };
    Ok(format!("data:{kind};base64,{}", STANDARD.encode(octets)))
}

/// Whether it is a link that a page may hold.
#[must_use]
pub fn is_link(url: &str) -> bool {
    let is_known = ["https://", "http://", "mailto:", "tel:"].iter().any(|scheme| url.starts_with(scheme));
    is_known && url.bytes().all(|octet| octet.is_ascii_graphic())
}

/// A brand in one language, as templates see it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Said<'a> {
    name: Option<&'a str>,
    logo: Option<&'a str>,
    contact: Option<&'a str>,
    links: Vec<Link<'a>>,
}

#[derive(Debug, Clone, Serialize)]
struct Link<'a> {
    text: &'a str,
    url: &'a str,
}

impl Brand {
    pub(super) fn said(&self, language: Language) -> Said<'_> {
        Said {
            name: self.name.as_ref().map(|words| words.of(language)),
            logo: self.logo.as_deref(),
            contact: self.contact.as_ref().map(|words| words.of(language)),
            links: self.links.iter().map(|(words, url)| Link { text: words.of(language), url }).collect(),
        }
    }

    /// The pages' policy: inline styles and links, nothing loaded; the one script by its hash, a logo from the page
    /// itself.
    pub(super) fn content_security_policy(&self, script: Option<&str>) -> String {
        let mut policy =
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
                .to_owned();
        if self.logo.is_some() {
            policy += "; img-src data:";
        }
        if let Some(script) = script {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, script.as_bytes());
            policy += &format!("; script-src 'sha256-{}'; connect-src 'self'", STANDARD.encode(hash));
        }
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logos() {
        #[track_caller]
        fn check(octets: &[u8], expected: Result<&str, &str>) {
            let logo = logo(octets);
            match expected {
                Ok(start) => assert!(logo.as_ref().is_ok_and(|uri| uri.starts_with(start)), "{logo:?}"),
                Err(part) => assert!(logo.as_ref().is_err_and(|error| error.contains(part)), "{logo:?}"),
            }
        }
        check(b"<?xml version='1.0'?><svg></svg>", Ok("data:image/svg+xml;base64,"));
        check(b"\x89PNG\r\n", Ok("data:image/png;base64,"));
        check(b"\xff\xd8\xff\xe0", Ok("data:image/jpeg;base64,"));
        check(b"RIFF....WEBPVP8 ", Ok("data:image/webp;base64,"));
        check(b"GIF89a", Err("no PNG"));
        check(b"", Err("no PNG"));
        check(&[b'<'; LOGO_BYTES_MAX + 1], Err("6145 octets"));
    }

    #[test]
    fn links() {
        for (url, expected) in [
            ("https://beian.example/", true),
            ("tel:+8640012345", true),
            ("mailto:a@b.cn", true),
            ("javascript:alert(1)", false),
            ("https://a b", false),
            ("//x", false),
            ("", false),
        ] {
            assert_eq!(is_link(url), expected, "{url}");
        }
    }
}
