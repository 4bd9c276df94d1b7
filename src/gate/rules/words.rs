//! What visitors of a host read: its site's words, else those for all.

use super::Rules;
use crate::block_page::BlockPages;
use crate::domain::HostForm;
use crate::gate::error_pages::ErrorPages;

impl Rules {
    /// What visitors of `host` read.
    #[must_use]
    pub fn pages(&self, host: Option<&HostForm>) -> &BlockPages {
        let site = host.and_then(|host| self.routes.find(host));
        site.and_then(|site| site.target.pages.as_deref()).unwrap_or(&self.pages)
    }

    /// The operator's words for what the gate answers itself, at this host and path.
    #[must_use]
    pub fn error_pages(&self, host: Option<&HostForm>, path: &[u8]) -> Option<&ErrorPages> {
        let of_all = self.error_pages.as_ref()?;
        let site = host.and_then(|host| self.routes.find(host));
        let own = site.and_then(|site| site.target.of_path(path).error_pages.as_deref());
        Some(own.unwrap_or(of_all))
    }
}
