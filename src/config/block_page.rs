//! `[block_page]` and `[site.block_page]`: what visitors read, and under whose name.

use crate::block_page::{BlockPages, Brand, TemplateError};
use std::path::PathBuf;

/// `[block_page]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockPage {
    /// Operator's own templates.
    pub directory: Option<PathBuf>,
    /// Whose pages they are.
    pub brand: Brand,
}

impl BlockPage {
    /// The pages themselves.
    ///
    /// # Errors
    /// What is wrong with the templates.
    pub fn pages(&self) -> Result<BlockPages, TemplateError> {
        match &self.directory {
            Some(directory) => BlockPages::from_directory(directory, &self.brand),
            None => Ok(BlockPages::branded(&self.brand)),
        }
    }

    /// A site's own, filled up with what holds for all.
    #[must_use]
    pub fn over(mut self, all: &Self) -> Self {
        self.directory = self.directory.or_else(|| all.directory.clone());
        let (own, brand) = (&mut self.brand, &all.brand);
        own.name = own.name.take().or_else(|| brand.name.clone());
        own.logo = own.logo.take().or_else(|| brand.logo.clone());
        own.contact = own.contact.take().or_else(|| brand.contact.clone());
        if own.links.is_empty() {
            own.links.clone_from(&brand.links);
        }
        own.without_recheck |= brand.without_recheck;
        self
    }
}
