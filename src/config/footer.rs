//! `[site.footer]` and `[footer]`: what the pages of a site must show at their foot, and who wants which number.

use crate::filing::{Province, PublicSecurityNumber};
use std::collections::BTreeMap;

/// `[site.footer]`
#[derive(Debug, Clone, Default)]
pub struct Footer {
    /// Whether pages are looked at, and whether what they lack is added.
    pub mode: FooterMode,
    /// The site's own public-security number; without one the registry's, and where that has none any well-formed one.
    pub public_security: Option<PublicSecurityNumber>,
    /// Who holds the copyright, where the province wants that said.
    pub owner: Option<String>,
}

/// What becomes of a site's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FooterMode {
    /// Nothing, and nothing is spent on it.
    #[default]
    Off,
    /// They are looked at as they pass.
    Check,
    /// The footer is added where it is missing.
    Inject,
}

/// `[footer]`: what the authorities of the provinces want shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FooterRules {
    /// Where a province has no rule of its own.
    pub default: FooterRule,
    /// The provinces that have.
    pub provinces: BTreeMap<Province, FooterRule>,
}

/// What one authority wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FooterRule {
    /// Which number.
    pub number: ShownNumber,
    /// Whether the copyright holder is named beside it.
    pub copyright: bool,
}

/// Which number a page shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShownNumber {
    /// The site's, with its index.
    #[default]
    Site,
    /// The subject's, without.
    Subject,
}

impl FooterRules {
    /// What holds for numbers of this province; for those that the ministry issued itself, the default.
    #[must_use]
    pub fn of(&self, province: Option<Province>) -> FooterRule {
        province.and_then(|province| self.provinces.get(&province)).copied().unwrap_or(self.default)
    }
}
