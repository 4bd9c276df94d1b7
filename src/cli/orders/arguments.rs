//! The words of these commands.

use crate::cli::ConfigFile;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What every command of these takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Shared {
    #[command(flatten)]
    pub(super) config: ConfigFile,
    /// The registry's own JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum OrderCommand {
    /// Open an order as a draft: says which type it is and why, and what it needs
    Open(OpenArguments),
    /// Show an order
    Show {
        /// Order
        id: String,
        #[command(flatten)]
        shared: Shared,
    },
    /// List orders
    List(ListArguments),
    /// The owner hands it in
    Submit(StepArguments),
    /// The provider passes it on (初审通过)
    Pass(StepArguments),
    /// The owner confirmed by message (短信核验)
    Verify(StepArguments),
    /// The authority approves: numbers are issued, filings change, gates follow
    Approve(StepArguments),
    /// The provider or the authority rejects it; needs --reason
    Reject(StepArguments),
    /// The owner takes it back
    Withdraw(StepArguments),
    /// What the file and options say replaces what the order said
    Correct(CorrectArguments),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Told {
    /// JSON with what the order says, or `-` for standard input; options go before it
    pub(super) file: Option<PathBuf>,
    /// The subject's number, record or name
    #[arg(long)]
    pub(super) subject: Option<String>,
    /// Whose account it is in
    #[arg(long)]
    pub(super) account: Option<String>,
    /// Code of a server bought here
    #[arg(long)]
    pub(super) service_code: Option<String>,
    /// For `cancel_access`: accepts that the number becomes an empty shell without its last access
    #[arg(long)]
    pub(super) confirm_empty_shell: bool,
    /// Do nothing, and say what every rule says
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) shared: Shared,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(in crate::cli) enum IntentWord {
    File,
    Change,
    CancelAccess,
    Deregister,
    Claim,
    Import,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct OpenArguments {
    /// What is applied for [default: what the file says]
    #[arg(long, value_enum)]
    pub(super) intent: Option<IntentWord>,
    /// Exactly this name
    #[arg(long)]
    pub(super) domain: Option<String>,
    /// For `deregister`: the subject with all its sites
    #[arg(long)]
    pub(super) whole_subject: bool,
    #[command(flatten)]
    pub(super) told: Told,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CorrectArguments {
    /// Order
    pub(super) id: String,
    #[command(flatten)]
    pub(super) told: Told,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArguments {
    #[arg(long)]
    pub(super) account: Option<String>,
    #[arg(long)]
    pub(super) domain: Option<String>,
    /// draft, provider_review, sms_verification, authority_review, approved, rejected or withdrawn
    #[arg(long)]
    pub(super) stage: Option<String>,
    #[command(flatten)]
    pub(super) shared: Shared,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct StepArguments {
    /// Order
    pub(super) id: String,
    /// For the log
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// Do nothing, and say what every rule says
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) shared: Shared,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum FilingCommand {
    /// The filing that covers a name, and the name that decided
    Show {
        /// Name (Unicode or xn--)
        domain: String,
        #[command(flatten)]
        shared: Shared,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArguments {
    /// Exactly this name; with --kind the id of a record; all of the kind without
    pub(super) of: Option<String>,
    /// filing, order, subject, account, server, service_code or site
    #[arg(long, default_value = "filing")]
    pub(super) kind: String,
    /// What one request did, by its id
    #[arg(long)]
    pub(super) request: Option<String>,
    #[command(flatten)]
    pub(super) shared: Shared,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DueArguments {
    /// provider_review, authority_review, public_security_filing, correction or empty_shell
    #[arg(long)]
    pub(super) kind: Option<String>,
    /// Due on this day or before
    #[arg(long)]
    pub(super) before: Option<String>,
    #[command(flatten)]
    pub(super) shared: Shared,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ServerArguments {
    /// Server, or other product that carries sites
    pub(super) id: String,
    /// server, load_balancer, site_builder or iot_bandwidth
    #[arg(long, default_value = "server")]
    pub(super) product: String,
    /// How many service codes it may have
    #[arg(long)]
    pub(super) quota: Option<u32>,
    #[arg(long)]
    pub(super) account: Option<String>,
    /// For the change log
    #[arg(long)]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) shared: Shared,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CodeArguments {
    /// Of which server
    pub(super) server: String,
    #[arg(long)]
    pub(super) account: Option<String>,
    /// For the change log
    #[arg(long)]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) shared: Shared,
}
