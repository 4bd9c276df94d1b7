//! Filing numbers at the foot of pages: what a page must show, whether it does, and the footer that it lacks.
//!
//! Source: Ministry Order 33, article 13 (the number, linked to the ministry's site); filing-rules, `site_builder`.
//! On any doubt the octets pass as they came.

mod finder;
pub mod page;
mod shown;

use crate::config::{self, FooterMode, FooterRules, ShownNumber};
use crate::filing::{FilingNumber, PublicSecurityNumber};
use crate::gate::http1::head::ResponseHead;
use crate::gate::record::Record;
use crate::gate::request::{RequestHead, list_elements};
use crate::gate::transform::{Coding, fields};
use crate::telemetry::FooterReport;
use encoding_rs::Encoding;
use lol_html::AsciiCompatibleEncoding;
use page::{Page, Wanted};
use std::sync::Arc;

/// The ministry's site, where a number is looked up.
pub const MINISTRY_URL: &str = "https://beian.miit.gov.cn/";

/// A site's footers.
#[derive(Debug)]
pub struct Footers {
    mode: FooterMode,
    public_security: Option<PublicSecurityNumber>,
    owner: Option<String>,
    rules: Arc<FooterRules>,
    report: Arc<FooterReport>,
}

/// What is to be done with one response.
pub struct Plan {
    /// Looks at the page, and adds to it where that was asked for; `None`: HEAD, whose body is only spoken of.
    pub page: Option<Page>,
    /// How the body is coded.
    pub coding: Coding,
    /// Whether the body may become another one.
    pub may_change: bool,
}

impl Footers {
    /// `None` where a site's pages are left alone.
    #[must_use]
    pub fn new(
        footer: &config::Footer,
        rules: &Arc<FooterRules>,
        report: impl FnOnce(&'static str) -> Arc<FooterReport>,
    ) -> Option<Self> {
        (footer.mode != FooterMode::Off).then(|| Self {
            mode: footer.mode,
            public_security: footer.public_security.clone(),
            owner: footer.owner.clone(),
            rules: Arc::clone(rules),
            report: report(if footer.mode == FooterMode::Inject { "inject" } else { "check" }),
        })
    }

    /// What is to be done with a response; `None`: nothing, it is no page, or there is a doubt about it.
    #[must_use]
    pub fn plan(&self, request: &RequestHead, response: &ResponseHead, record: &Record) -> Option<Plan> {
        let number = record.number.as_ref().filter(|_| response.status == 200)?;
        let is_head = request.is_head();
        if !is_head && request.method() != b"GET" {
            return None;
        }
        let encoding = page_encoding(response)?;
        let coding = coding(response)?;
        let may_change = self.mode == FooterMode::Inject && fields::may_change(request, response);
        if is_head {
            return may_change.then_some(Plan { page: None, coding, may_change });
        }
        let host = record.host_text();
        let wanted = self.wanted(number, &host);
        let place = (host.into_owned(), String::from_utf8_lossy(request.path()).into_owned());
        let page = Page::new(wanted, encoding, may_change, place, Arc::clone(&self.report));
        Some(Plan { page: Some(page), coding, may_change })
    }

    /// What pages under this number must show.
    fn wanted(&self, number: &FilingNumber, host: &str) -> Wanted {
        let rule = self.rules.of(number.province());
        let public_security = self.public_security.clone().or_else(|| self.report.known.of(number, host));
        let number = match rule.number {
            ShownNumber::Site => number.clone(),
            ShownNumber::Subject => number.subject(),
        };
        Wanted { number, public_security, owner: self.owner.clone().filter(|_| rule.copyright) }
    }
}

/// How a page's text is encoded: `Some(None)` where the response leaves that to the page; `None`: this is no page, or
/// one that can't be read.
#[allow(clippy::option_option, reason = "no page, a page that says nothing, a page that does")]
fn page_encoding(response: &ResponseHead) -> Option<Option<AsciiCompatibleEncoding>> {
    let value = fields::only(response, "content-type")?;
    let mut parts = value.split(|octet| *octet == b';').map(<[u8]>::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case(b"text/html") {
        return None;
    }
    // To be saved, not shown.
    let is_attachment =
        |value: &[u8]| value.trim_ascii_start().to_ascii_lowercase().starts_with(b"attachment");
    if fields::values(response, "content-disposition").any(is_attachment) {
        return None;
    }
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_at_checked("charset=".len())?;
        name.eq_ignore_ascii_case(b"charset=").then(|| value.trim_ascii())
    });
    match charset {
        None => Some(None),
        Some(label) => {
            let label = label.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(label);
            Encoding::for_label(label).and_then(AsciiCompatibleEncoding::new).map(Some)
        }
    }
}

/// How the body is coded; `None` where that is more than one coding, or an unknown one.
fn coding(response: &ResponseHead) -> Option<Coding> {
    let mut codings = fields::values(response, "content-encoding").flat_map(list_elements);
    match (codings.next(), codings.next()) {
        (None, _) => Some(Coding::Identity),
        (Some(only), None) => Coding::of(only),
        _ => None,
    }
}
