//! Giving back what was replaced, where nobody waits for it.

use super::shown::Shown;
use super::table::Table;
use std::sync::Arc;
use std::time::Duration;

/// Drops a table away from whoever replaced it, once no reader has it: giving back gigabytes takes long.
pub(super) fn drop_aside(table: Table, shown: Arc<Shown>) {
    const PATIENCE: u32 = 1000;
    let drop_it = move || {
        drop(table);
        // The last to let go pays; it should not be a request.
        for _ in 0..PATIENCE {
            if Arc::strong_count(&shown) == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    // Where no thread can be had, what was captured is dropped right here.
    let _ = std::thread::Builder::new().name("cache-drop".into()).spawn(drop_it);
}
