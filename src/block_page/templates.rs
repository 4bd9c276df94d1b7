//! The files that pages are made of: the built-in ones, and an operator's own.
//!
//! The only part of the pages that touches the file system, and only when the gate starts or reloads.

use std::io;
use std::path::Path;

/// Why templates were refused: the file, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct TemplateError {
    /// The file (or directory) at fault.
    pub file: String,
    /// What is wrong, with the line where that is known.
    pub problem: String,
}

/// The files that pages are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    /// `page.html`, a minijinja template; its head lists what it may use.
    pub page_html: String,
    /// `page.txt`, the same for plain text.
    pub page_text: String,
    /// `texts.toml`: the sentences, per language and reason.
    pub texts: String,
}

pub(super) const PAGE_HTML: &str = "page.html";
pub(super) const PAGE_TEXT: &str = "page.txt";
pub(super) const TEXTS: &str = "texts.toml";

impl Templates {
    /// Those that are built in.
    pub fn embedded() -> Self {
        Self {
            page_html: include_str!("../../config/block-page/page.html").to_owned(),
            page_text: include_str!("../../config/block-page/page.txt").to_owned(),
            texts: include_str!("../../config/block-page/texts.toml").to_owned(),
        }
    }

    /// The operator's own from `directory`, and the built-in ones for those that it leaves out.
    pub(super) fn read(directory: &Path) -> Result<Self, TemplateError> {
        let mut templates = Templates::embedded();
        let mut found = false;
        for (name, template) in [
            (PAGE_HTML, &mut templates.page_html),
            (PAGE_TEXT, &mut templates.page_text),
            (TEXTS, &mut templates.texts),
        ] {
            let file = directory.join(name);
            match std::fs::read_to_string(&file) {
                Ok(source) => {
                    *template = source;
                    found = true;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(TemplateError {
                        file: file.display().to_string(),
                        problem: error.to_string(),
                    });
                }
            }
        }
        if !found {
            let problem = format!("holds none of {PAGE_HTML}, {PAGE_TEXT} and {TEXTS}");
            return Err(TemplateError { file: directory.display().to_string(), problem });
        }
        Ok(templates)
    }
}
