//! Hand-over to a new binary (SIGUSR2): the running process starts it and gives it the very same listening sockets,
//! so that no connection is refused and none that waits to be accepted is lost.
//!
//! Old and new speak over a socket pair that is the new one's standard input. The old one sends its sockets; the new
//! one builds all it can and says `Prepared`; the old one leaves data directory and database and says `Released`; the
//! new one takes them, accepts, and says `Ready`; only then does the old one stop accepting. Where the new one ends,
//! or takes too long, before it is ready, the old one takes back what it left and goes on.

mod channel;
mod predecessor;
mod successor;

pub(super) use predecessor::Predecessor;
pub(super) use successor::{Event, Successor};

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Set for a process that is handed over to.
const VARIABLE: &str = "BEIAN_GATE_HAND_OVER";
/// The new process's config, certificates and the names of its upstreams.
const PREPARE_TIME: Duration = Duration::from_secs(120);
/// Leaving data directory and database: a last save, and requests to the registry that are under way.
const RELEASE_TIME: Duration = Duration::from_secs(120);
/// The new process's filings out of the saved state, and its workers.
const READY_TIME: Duration = Duration::from_secs(120);

/// What the old process says.
#[derive(Debug, Serialize, Deserialize)]
enum FromOld {
    /// Sockets travel with this message: those of a group may come in several.
    Sockets { group: usize, name: String },
    /// What session tickets are sealed with.
    Tickets { keys: Vec<String> },
    /// All sockets were sent.
    End,
    /// Data directory and database are free. Whether the old process had filings.
    Released { has_filings: bool },
}

/// What the new process says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum FromNew {
    /// All that could be built beside a running gate is built.
    Prepared,
    /// It accepts.
    Ready,
}
