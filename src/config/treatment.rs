//! What a site does to requests and responses on their way through, beyond forwarding them.

use super::Footer;

/// A site's treatment of what passes. Where all of it is left out nothing is spent on it.
#[derive(Debug, Clone, Default)]
pub struct Treatment {
    /// `[site.footer]`
    pub footer: Footer,
}
