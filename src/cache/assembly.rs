//! Builds a table out of a snapshot's frames, and gives it away only if it is what the registry says it is.

use super::table::Table;
use crate::feed::{Frame, Summary};

/// A table in the making.
#[derive(Debug)]
pub struct Assembly {
    provider: Box<str>,
    begun: Option<(Table, Summary)>,
}

/// Why frames make no table. None of it may be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    /// A frame that may not come here.
    #[error("unexpected frame in a snapshot")]
    Order,
    /// Somebody else's view.
    #[error("the snapshot is for provider `{0}`")]
    Provider(/** Whose. */ Box<str>),
    /// A filing came twice.
    #[error("the snapshot holds a filing twice")]
    Duplicate,
    /// The entries don't add up to what was announced.
    #[error("the snapshot's count or digest does not match its entries")]
    Digest,
}

impl Assembly {
    /// Expects a snapshot for this provider.
    #[must_use]
    pub fn new(provider: &str) -> Self {
        Self { provider: provider.into(), begun: None }
    }

    /// Takes the next frame; gives the verified table and what was announced of it after the last one.
    ///
    /// # Errors
    /// `AssemblyError`: start over.
    pub fn take(&mut self, frame: Frame) -> Result<Option<(Table, Summary)>, AssemblyError> {
        match (frame, &mut self.begun) {
            (Frame::Snapshot { provider, key, summary }, None) => {
                if provider != self.provider {
                    return Err(AssemblyError::Provider(provider));
                }
                let mut table = Table::with_room_for(key, summary.count);
                table.set_position(summary.position);
                self.begun = Some((table, summary));
                Ok(None)
            }
            (Frame::Entries(entries), Some((table, _))) => {
                for entry in &entries {
                    if table.set(entry) {
                        return Err(AssemblyError::Duplicate);
                    }
                }
                Ok(None)
            }
            (Frame::End, Some((table, summary))) => {
                if (table.count(), table.digest()) != (summary.count, summary.digest) {
                    return Err(AssemblyError::Digest);
                }
                Ok(self.begun.take())
            }
            _ => Err(AssemblyError::Order),
        }
    }
}
