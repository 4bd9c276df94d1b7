//! From a file, or from the copy of the shipped config that the binary carries.

use super::error::{ConfigError, Problem};
use super::{Config, EmbeddedRegistry, Registry};
use std::path::{Path, PathBuf};

/// Where a config is looked for when none is named.
pub const DEFAULT_PATH: &str = "config/beian-gate.toml";

const SHIPPED_CONFIG: &str = include_str!("../../config/beian-gate.toml");
const SHIPPED_SAMPLE_PATH: &str = "config/sample-filings.csv";
const SHIPPED_SAMPLE: &str = include_str!("../../config/sample-filings.csv");

/// Where a config was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSource {
    /// This file.
    File(PathBuf),
    /// The binary's own copy of the shipped config, for there was no file at [`DEFAULT_PATH`].
    BuiltIn,
}

impl std::fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::BuiltIn => write!(f, "the built-in config (there is no {DEFAULT_PATH})"),
        }
    }
}

/// The token that commands show where the config has none to read, for it holds hashes only: `BEIAN_GATE_TOKEN`.
#[must_use]
pub fn token_of_environment() -> Option<String> {
    std::env::var("BEIAN_GATE_TOKEN").ok().filter(|token| !token.is_empty())
}

const NO_PROVIDER: &str = "our id as an access provider is missing; add provider = \"example-cloud\"";

impl Config {
    /// Reads and parses the file at `path`; without one, [`DEFAULT_PATH`], and where that does not exist, the
    /// shipped config and its sample filings out of the binary.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, is_default) = match path {
            Some(path) => (path.to_owned(), false),
            None => (PathBuf::from(DEFAULT_PATH), true),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path.display().to_string()),
            Err(error) if is_default && error.kind() == std::io::ErrorKind::NotFound => Self::shipped(),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    /// Parses `text`; `name` stands for the file in errors.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        super::parse::config(name, text)
    }

    /// The config in the binary; its sample filings come along where they are not on disk.
    pub(super) fn shipped() -> Result<Self, ConfigError> {
        let mut config = Self::parse(SHIPPED_CONFIG, DEFAULT_PATH)?;
        config.source = ConfigSource::BuiltIn;
        if let Some(Registry::Embedded(embedded)) = &mut config.registry
            && embedded.sample.as_deref().is_some_and(|path| path == Path::new(SHIPPED_SAMPLE_PATH))
        {
            embedded.sample_text = Some(SHIPPED_SAMPLE);
        }
        Ok(config)
    }

    /// Whether `run` can run it: an id, a listener, filings to go by.
    pub fn require_gate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut missing = |key, message: &str| {
            problems.push(Problem::missing(&self.source.to_string(), key, message.to_owned()));
        };
        if self.provider.is_empty() {
            missing("provider", NO_PROVIDER);
        }
        if self.listeners.is_empty() {
            missing("listener", "there is none; add [[listener]] with address = \"0.0.0.0:80\"");
        }
        if self.registry.is_none() {
            missing(
                "registry",
                "filings are missing; add [registry] with url = \"https://…\", or [registry.embedded]",
            );
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(problems)) }
    }

    /// Whether it says who we are: what a filing's status depends on.
    pub fn require_provider(&self) -> Result<(), ConfigError> {
        if self.provider.is_empty() {
            let problem = Problem::missing(&self.source.to_string(), "provider", NO_PROVIDER.to_owned());
            return Err(ConfigError::Invalid(vec![problem]));
        }
        Ok(())
    }

    /// The registry that runs in this process, which `registry serve`, `import` and `export` need.
    pub fn require_embedded_registry(&self) -> Result<&EmbeddedRegistry, ConfigError> {
        match &self.registry {
            Some(Registry::Embedded(embedded)) => Ok(embedded),
            _ => {
                let message = "this command works on a database of its own; add [registry.embedded] with \
                               database = \"sqlite:data/registry.db\"";
                let file = self.source.to_string();
                Err(ConfigError::Invalid(vec![Problem::missing(
                    &file,
                    "registry.embedded",
                    message.to_owned(),
                )]))
            }
        }
    }
}
