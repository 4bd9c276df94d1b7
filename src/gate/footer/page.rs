//! One page on its way through: every octet passes, and at most once something is put in before `</body>`.
//!
//! What the parser finds is only where and whether; the octets that pass are never the parser's.

use super::finder::Finder;
use super::shown::State;
use super::{MINISTRY_URL, shown};
use crate::filing::{FilingNumber, PublicSecurityNumber};
use crate::telemetry::{FooterReport, FooterSighting};
use lol_html::AsciiCompatibleEncoding;
use std::fmt::Write as _;
use std::sync::Arc;

/// Octets of a page that are looked through; beyond them it passes unseen.
const MAX_PAGE_BYTES: usize = 4 << 20;
/// Octets of an end tag that may be held until it is known to be one.
const MAX_HELD_BYTES: usize = 72;
/// Where a public-security number is looked up.
const PUBLIC_SECURITY_URL: &str = "https://beian.mps.gov.cn/#/query/webSearch?code=";

/// What a page must show.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The number, linked to the ministry's site.
    pub number: FilingNumber,
    /// This public-security number; any where there is none.
    pub public_security: Option<PublicSecurityNumber>,
    /// Who is named beside it.
    pub owner: Option<String>,
}

/// A page.
pub struct Page {
    /// `None` once it is known what the page shows, or can't be known.
    finder: Option<Finder>,
    wanted: Wanted,
    may_add: bool,
    /// Octets that came, and what of them is not given on yet.
    came: usize,
    held: Vec<u8>,
    place: (String, String),
    report: Arc<FooterReport>,
}

impl Page {
    /// `encoding` is `None` where the page itself may name it. `place`: host and path.
    #[must_use]
    pub fn new(
        wanted: Wanted,
        encoding: Option<AsciiCompatibleEncoding>,
        may_add: bool,
        place: (String, String),
        report: Arc<FooterReport>,
    ) -> Self {
        let finder = Some(Finder::new(shown::Sought::new(&wanted), encoding));
        Self { finder, wanted, may_add, came: 0, held: Vec::new(), place, report }
    }

    /// Takes octets of the page, and gives on what can be.
    pub fn feed(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let Some(finder) = &mut self.finder else { return out.extend_from_slice(octets) };
        self.came += octets.len();
        self.held.extend_from_slice(octets);
        if self.came > MAX_PAGE_BYTES || !finder.read(octets) {
            self.give_up();
        } else if let Some(at) = finder.body_end() {
            self.found(at, out);
        }
        let keeps = if self.finder.is_some() { unfinished_end(&self.held) } else { 0 };
        let free = self.held.len() - keeps;
        out.extend(self.held.drain(..free));
    }

    /// The page is over.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        if let Some(finder) = self.finder.take() {
            // What has no body is no page (a fragment for a script, say); what has one without an end tag has no
            // place that is surely right.
            match finder.has_body() {
                true => self.tell(finder.seen().state, finder.seen().has_public_security, false),
                false => self.report.add(FooterSighting::NoPage, None),
            }
        }
    }

    /// It can't be known what the page shows: the rest of it passes unseen.
    pub fn give_up(&mut self) {
        if self.finder.take().is_some() {
            self.report.add(FooterSighting::Unsure, None);
        }
    }

    /// Its body ends at the octet `at` of all that came.
    fn found(&mut self, at: usize, out: &mut Vec<u8>) {
        let Some(finder) = self.finder.take() else { return };
        let given = self.came - self.held.len();
        let seen = finder.seen();
        let adds = self.may_add && seen.state == State::Missing;
        match at.checked_sub(given) {
            Some(before) if adds => {
                out.extend(self.held.drain(..before));
                out.extend_from_slice(&finder.encode(&markup(&self.wanted, seen.has_public_security)));
                self.tell(
                    State::Linked,
                    seen.has_public_security || self.wanted.public_security.is_some(),
                    true,
                );
            }
            _ => self.tell(seen.state, seen.has_public_security, false),
        }
    }

    fn tell(&self, state: State, has_public_security: bool, is_added: bool) {
        let sighting = match state {
            _ if is_added => FooterSighting::Added,
            State::Linked => FooterSighting::Linked,
            State::Unlinked => FooterSighting::Unlinked,
            State::Other => FooterSighting::Other,
            State::Missing => FooterSighting::Missing,
        };
        self.report.add(sighting, Some((&self.place.0, &self.place.1, &self.wanted.number.to_string())));
        self.report.public_security(has_public_security, (&self.place.0, &self.place.1));
    }
}

/// Octets at the end that may be the beginning of `</body …>`.
///
/// `<` is itself in every encoding that is read: none of them has it within a longer character.
fn unfinished_end(octets: &[u8]) -> usize {
    const END: &[u8] = b"</body";
    let tail = &octets[octets.len().saturating_sub(MAX_HELD_BYTES)..];
    let Some(at) = memchr::memrchr(b'<', tail) else { return 0 };
    let begun = &tail[at..];
    let same = begun.len().min(END.len());
    let is_one = begun[..same].eq_ignore_ascii_case(&END[..same]) && !begun.contains(&b'>');
    if is_one { begun.len() } else { 0 }
}

/// The footer.
fn markup(wanted: &Wanted, has_public_security: bool) -> String {
    let number = escape(&wanted.number.to_string());
    let mut html = format!(
        "<div style=\"text-align:center;padding:1em;font-size:12px\"><a href=\"{MINISTRY_URL}\" target=\"_blank\" rel=\"noopener\">{number}</a>"
    );
    if let Some(public) = wanted.public_security.as_ref().filter(|_| !has_public_security) {
        let text = public.to_string();
        let code: String = text.chars().filter(char::is_ascii_digit).collect();
        // Writing to a String can't fail, here and below.
        let _ = write!(
            html,
            " <a href=\"{PUBLIC_SECURITY_URL}{code}\" target=\"_blank\" rel=\"noopener\">{}</a>",
            escape(&text)
        );
    }
    if let Some(owner) = &wanted.owner {
        let _ = write!(html, " 版权所有 {}", escape(owner));
    }
    html.push_str("</div>\n");
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
