//! How much a filing allows: what is compared to say whom an update would newly block.

use crate::filing::{FilingRecord, PackedRecord, Status};

/// What a filing is good for, in ascending order: nothing, products that need a number, all products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    None,
    Number,
    Access,
}

/// The standing of a record as it travels, with an odd number's text; of none where there is none.
pub(super) fn standing(found: Option<(PackedRecord, Option<&str>)>) -> Standing {
    let Some((record, odd)) = found else {
        return Standing::None;
    };
    match record.status() {
        Some(Status::Connected) => Standing::Access,
        Some(Status::NotConnected) => Standing::Number,
        Some(Status::AccessCancelled) => match FilingRecord::unpack(record, odd) {
            Some(record) if record.connected_elsewhere => Standing::Number,
            _ => Standing::None,
        },
        _ => Standing::None,
    }
}
