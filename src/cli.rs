//! Command line: which command, with what, and the exit code that its outcome means.
//!
//! One file per command. Exit codes: 0 good, 1 failed while running, 2 bad usage or bad config; `check` has
//! its own.

mod ask;
mod audit;
mod check;
mod config_check;
mod config_command;
mod gate;
mod held;
mod orders;
mod refused;
mod registry;
mod replay;
mod shell;
mod table;
mod token;
mod traffic;
mod what_if;

use crate::config::{Config, ConfigError};
use crate::verdict::{Region, Scenario};
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

const FAILED: u8 = 1;
const BAD_CONFIG: u8 = 2;

/// HTTP/HTTPS reverse proxy that enforces ICP filing status (备案).
#[derive(Debug, Parser)]
#[command(name = "beian-gate", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate, and the embedded registry where the config asks for one
    Run(ConfigFile),
    /// Say the verdict for hosts, with the filing that decided and why
    ///
    /// Asks the running gate, else the state that it saved, else the database. Exit code: 0 all allowed, 3 any
    /// blocked, 4 any unavailable or malformed.
    Check(CheckArguments),
    /// Show the update that waits for an operator's word, or say it: apply or refuse
    Held(HeldArguments),
    /// Judge an access log's requests again, by today's filings, and list the verdicts that would change
    ///
    /// Asks what `check` asks. Requests that came by a site or listener are judged as that one's. With --host and
    /// --at instead of a log: what that host was told at that time and why, by audit log and change log.
    Replay(ReplayArguments),
    /// Look after the audit log
    #[command(subcommand, arg_required_else_help = true)]
    Audit(AuditCommand),
    /// Say what a file of filings would block or open before it is imported
    ///
    /// Judges the hosts of an access log by the filings in force, and by those of the file. Imports nothing.
    WhatIf(WhatIfArguments),
    /// Make a token: its line for a `tokens_file` to standard output, itself to standard error
    ///
    /// The file holds no more than hashes: `beian-gate token li.wei operator >> config/admin.tokens`.
    Token(TokenArguments),
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Write man pages, one for each command
    Man {
        /// Directory to write to; made where it is missing
        directory: PathBuf,
    },
    /// Work with the config
    #[command(subcommand, arg_required_else_help = true)]
    Config(config_command::ConfigCommand),
    /// Run the registry alone, or move filings in and out of its database
    #[command(subcommand, arg_required_else_help = true)]
    Registry(RegistryCommand),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// Config file [default: config/beian-gate.toml, else the built-in one]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.path.as_deref())
    }
}

#[derive(Debug, Args)]
struct CheckArguments {
    /// Names (Unicode or xn--) or addresses
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
    #[command(flatten)]
    config: ConfigFile,
    /// web, shop, site_builder, mail, oss, cdn, waf or ddos [default: the site's or the first listener's]
    #[arg(long)]
    scenario: Option<Scenario>,
    /// mainland, global or overseas [default: the site's or the first listener's]
    #[arg(long)]
    region: Option<Region>,
    /// One JSON object per host and line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ReplayArguments {
    /// Access log of JSON lines, plain or .zst, or `-` for standard input
    #[arg(required_unless_present = "host", conflicts_with = "host")]
    file: Option<PathBuf>,
    /// Say what this host was told at the time of --at
    #[arg(long, value_name = "HOST", requires = "at")]
    host: Option<String>,
    /// A time like 2026-11-25T12:00:00Z, or in UTC+8 2026-11-25 or "2026-11-25 20:00"
    #[arg(long, value_name = "TIME", requires = "host")]
    at: Option<String>,
    /// Files of the audit log [default: those of the config]
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "host")]
    audit: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    /// One JSON object per changed verdict and line
    #[arg(long)]
    json: bool,
}

/// What `replay --host --at` was given.
struct PastArguments<'a> {
    host: &'a str,
    at: &'a str,
    audit: &'a [PathBuf],
    config: &'a ConfigFile,
    json: bool,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Check that the chain of an audit log holds, and say where it breaks
    ///
    /// Files in any order, those that were rotated too; .zst is understood. Exit code: 0 it holds, 1 it is broken.
    Verify {
        /// Files of one log
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// A hash that was noted elsewhere: that line must be there
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
}

#[derive(Debug, Args)]
struct WhatIfArguments {
    /// Filings as `registry import` takes them
    file: PathBuf,
    /// Access log whose hosts are judged, as `replay` takes it
    #[arg(long, value_name = "ACCESS_LOG")]
    traffic: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
    /// As for `registry import`: the file's rows would be the whole content
    #[arg(long)]
    replace: bool,
    /// One JSON object per changed verdict and line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct TokenArguments {
    /// What logs call who shows it
    name: String,
    /// reader, reviewer, operator or gate
    role: crate::config::Role,
    /// Make the line of the token on standard input instead of a new one
    #[arg(long)]
    stdin: bool,
}

#[derive(Debug, Args)]
struct HeldArguments {
    /// Let it come into force, or keep the old filings [default: show it]
    #[arg(value_enum)]
    word: Option<HeldWord>,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum HeldWord {
    Apply,
    Refuse,
}

#[derive(Debug, Subcommand)]
enum RegistryCommand {
    /// Run the registry alone
    Serve(ConfigFile),
    /// Import filings; rows that a rule refuses are left out, each with a line that says why
    Import(ImportArguments),
    /// Export all filings, as `import` reads them
    Export(ExportArguments),
    /// Open orders (备案订单), show them, and take them from draft to approval
    #[command(subcommand, arg_required_else_help = true)]
    Order(orders::OrderCommand),
    /// Show filings
    #[command(subcommand, arg_required_else_help = true)]
    Filing(orders::FilingCommand),
    /// Show the change log of a name, the latest first: who, when, why
    History(orders::HistoryArguments),
    /// Show what is due and when, by the working calendar
    Due(orders::DueArguments),
    /// Record a server that sites may be filed with
    Server(orders::ServerArguments),
    /// Issue a service code (备案服务码) of a server
    ServiceCode(orders::CodeArguments),
    /// Begin a new epoch of the feed, after the database was restored: every gate takes a snapshot
    NewEpoch(ConfigFile),
}

#[derive(Debug, Args)]
struct ImportArguments {
    /// CSV, NDJSON or a map file by its name (.csv, .ndjson, .jsonl, .map, each also with .zst), or `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
    /// Make the rows the whole content: what is not among them is forgotten
    #[arg(long)]
    replace: bool,
    /// Import nothing where a row is refused
    #[arg(long)]
    strict: bool,
    /// Write nothing, and say what would become of the rows
    #[arg(long)]
    dry_run: bool,
    /// For the change log
    #[arg(long)]
    reason: Option<String>,
    /// Write refused rows to this file too, one JSON object a line
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// What the file is, where its name does not say so
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// The site number of rows that have none, as in a bare list of names
    #[arg(long)]
    number: Option<String>,
    /// The accesses of rows that say none, like example-cloud=active;other=cancelled
    #[arg(long)]
    access: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FileFormat {
    Csv,
    Ndjson,
    /// Lines of a name and its number: map files of nginx and HAProxy
    Map,
}

impl From<FileFormat> for crate::registry::Format {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Csv => Self::Csv,
            FileFormat::Ndjson => Self::Ndjson,
            FileFormat::Map => Self::Map,
        }
    }
}

#[derive(Debug, Args)]
struct ExportArguments {
    /// As for `import`; `-` is standard output
    #[arg(default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
    /// Of standard output, where no file name says it [default: csv]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // Who came first has already installed one: then there is one, which is all that is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output; where that is closed there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(BAD_CONFIG));
        }
    };
    execute(arguments.command).unwrap_or_else(|error| failed(&error))
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(file) => {
            let config = file.load()?;
            config.require_gate()?;
            crate::app::run(&config)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(arguments) => check::run(&arguments),
        Command::Held(arguments) => held::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Audit(command) => audit::run(&command),
        Command::Token(arguments) => token::run(&arguments),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { directory } => shell::man(&directory),
        Command::WhatIf(arguments) => what_if::run(&arguments),
        Command::Config(command) => config_command::run(&command),
        Command::Registry(RegistryCommand::Serve(file)) => {
            let config = file.load()?;
            config.require_embedded_registry()?;
            crate::app::serve_registry(&config)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Registry(RegistryCommand::Import(arguments)) => registry::import(&arguments),
        Command::Registry(RegistryCommand::Export(arguments)) => registry::export(&arguments),
        Command::Registry(RegistryCommand::Order(command)) => orders::order(&command),
        Command::Registry(RegistryCommand::Filing(command)) => orders::filing(&command),
        Command::Registry(RegistryCommand::History(arguments)) => orders::history(&arguments),
        Command::Registry(RegistryCommand::Due(arguments)) => orders::due(&arguments),
        Command::Registry(RegistryCommand::Server(arguments)) => orders::server(&arguments),
        Command::Registry(RegistryCommand::ServiceCode(arguments)) => orders::code(&arguments),
        Command::Registry(RegistryCommand::NewEpoch(file)) => registry::new_epoch(&file),
    }
}

/// Says what went wrong; a config's mistakes stand as they are, position first.
fn failed(error: &anyhow::Error) -> ExitCode {
    let (text, code) = match error.downcast_ref::<ConfigError>() {
        Some(error) => (error.to_string(), BAD_CONFIG),
        None => (format!("error: {error:#}"), FAILED),
    };
    // Where standard error is closed, the exit code has to say it alone.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}

/// The day in UTC+8, by which the operator's lists run.
fn today() -> jiff::civil::Date {
    crate::verdict::day(jiff::Timestamp::now())
}

/// Runs a command's async part to its end.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn usage() {
        #[track_caller]
        fn check(line: &str, expected: i32) {
            let words = std::iter::once("beian-gate").chain(line.split_whitespace());
            let code = Arguments::try_parse_from(words).map_or_else(|error| error.exit_code(), |_| 0);
            assert_eq!(code, expected, "{line}");
        }
        check("run", 0);
        check("run -c x.toml", 0);
        check("--help", 0);
        check("--version", 0);
        check("check example.com --scenario cdn --region overseas --json -c x", 0);
        check("registry import - --replace --strict --report refused.ndjson", 0);
        check("registry import names.txt --format map --number 京ICP备12345678号-1 --access p=active", 0);
        check("registry export", 0);
        check("registry export --format ndjson", 0);
        check("registry order open --intent cancel_access --domain a.cn --confirm-empty-shell", 0);
        check("registry order approve order-00000001 --dry-run --json", 0);
        check("registry order open --intent nothing", 2);
        check("registry filing show a.cn -c x", 0);
        check("registry history a.cn --json", 0);
        check("registry due --kind empty_shell", 0);
        check("registry server s1 --quota 5", 0);
        check("registry service-code s1 --account a1", 0);
        check("registry new-epoch -c x", 0);
        check("config check", 0);
        check("held", 0);
        check("held apply -c x.toml", 0);
        check("held refuse", 0);
        check("held nonsense", 2);
        check("replay access.log --json", 0);
        check("replay --host a.cn --at 2026-01-01 --json", 0);
        check("replay --host a.cn --at 2026-01-01 --audit a b -c x", 0);
        check("replay --host a.cn", 2);
        check("replay access.log --host a.cn --at 2026-01-01", 2);
        check("audit verify a b --head 00", 0);
        check("audit verify", 2);
        check("what-if new.csv --traffic access.log --replace", 0);
        check("what-if new.csv", 2);
        check("token li.wei operator", 0);
        check("token gate-1 gate --stdin", 0);
        check("token li.wei admin", 2);
        check("token li.wei", 2);
        check("completions bash", 0);
        check("completions tcsh", 2);
        check("man target/man", 0);
        for wrong in ["", "nonsense", "run --x", "check", "registry", "config", "registry import", "replay"] {
            check(wrong, 2);
        }
        check("check a --scenario nothing", 2);
        check("check a --region moon", 2);
    }
}
