//! What rows of a file may leave out, and the import says for all of them.

use crate::filing::FilingState;
use crate::registry::model::{Access, Edit, Line};
use crate::registry::rules::{self, Refusal};

/// What a row has that does not say it itself.
#[derive(Debug, Clone, Default)]
pub struct Wanting {
    pub(super) number: Option<String>,
    pub(super) access: Option<Access>,
}

impl Wanting {
    /// A site's number, and accesses as a CSV file has them (`provider=active;other=cancelled`).
    ///
    /// # Errors
    /// Where the accesses are none.
    pub fn new(number: Option<String>, access: Option<&str>) -> Result<Self, Refusal> {
        Ok(Self { number, access: access.map(access_of).transpose()? })
    }

    /// As a CSV file has them.
    pub(super) fn access_text(&self) -> Option<String> {
        Some(text_of(self.access.as_ref()?))
    }

    /// What a row asks for.
    pub(super) fn edit(&self, mut line: Line) -> Result<Edit, Refusal> {
        if !line.delete && !line.purge {
            // What is pending or deregistered is so without a number.
            if line.state.is_none_or(|it| matches!(it, FilingState::Filed | FilingState::Restricted)) {
                line.number = line.number.or_else(|| self.number.clone());
            }
            line.access = line.access.or_else(|| self.access.clone());
        }
        rules::edit(line)
    }
}

/// `provider=active;other=cancelled`
pub(super) fn access_of(text: &str) -> Result<Access, Refusal> {
    let mut access = Access::default();
    for part in text.split(';').map(str::trim).filter(|it| !it.is_empty()) {
        let parsed =
            part.split_once('=').and_then(|(id, state)| Some((id.trim(), state.trim().parse().ok()?)));
        let is_new = parsed.is_some_and(|(id, state)| access.0.insert(id.to_owned(), state).is_none());
        if !is_new {
            return Err(Refusal::new(
                "invalid_access",
                format!(
                    "`{part}`: access is `provider=active;other=cancelled`, each provider once, in state active, cancelled or under_review"
                ),
                format!("`{part}` 无效：接入信息的写法为 `provider=active;other=cancelled`"),
            ));
        }
    }
    Ok(access)
}

/// The same the other way round.
pub(super) fn text_of(access: &Access) -> String {
    let parts: Vec<_> =
        access.0.iter().map(|(provider, state)| format!("{provider}={}", state.as_str())).collect();
    parts.join(";")
}
