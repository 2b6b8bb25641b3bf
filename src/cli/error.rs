//! How a command fails: a code for scripts, a line for people.

use std::fmt;

use crate::config::ConfigError;
use crate::pki::PkiError;
use crate::server::StartError;
use crate::store::StoreError;

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was not done.
    Failed = 1,
    /// The command line or the configuration says nothing that could be done.
    Usage = 2,
    /// There is no such key.
    NoSuchKey = 3,
    /// A condition does not hold; nothing was changed but by what a transaction says for that case.
    ConditionFailed = 4,
    /// No node could do it now.
    Unavailable = 5,
    /// It may have been done or not.
    OutcomeUnknown = 6,
    /// Not allowed, or TLS failed.
    NotAllowed = 7,
    /// Ctrl-C.
    Interrupted = 130,
    /// Whoever read standard output went away: what a shell says of a process that SIGPIPE ended.
    ReaderGone = 141,
}

/// Why a command did not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl CliError {
    /// An error without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> CliError {
        CliError { exit, message: message.into(), hint: None }
    }

    /// The work failed.
    pub fn failed(message: impl Into<String>) -> CliError {
        CliError::new(Exit::Failed, message)
    }

    /// The command was not understood.
    pub fn usage(message: impl Into<String>) -> CliError {
        CliError::new(Exit::Usage, message)
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> CliError {
        CliError { hint: Some(hint.into()), ..self }
    }

    /// The same of something that was done all the same: `done` says what, and does not depend on what failed.
    #[must_use]
    pub fn although(self, done: &str) -> CliError {
        CliError { message: format!("{done}, but: {}", self.message), ..self }
    }

    /// What went wrong, alone.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the process exits with.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// `error: …`, and `hint: …` on a second line where there is one.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> CliError {
        CliError::failed(format!("{error:#}"))
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> CliError {
        let hint = error.hint();
        CliError { exit: Exit::Failed, message: error.to_string(), hint }
    }
}

impl From<PkiError> for CliError {
    fn from(error: PkiError) -> CliError {
        let hint = error.hint().map(str::to_owned);
        CliError { exit: Exit::Failed, message: error.to_string(), hint }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> CliError {
        CliError::failed(error.to_string())
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> CliError {
        match error {
            StartError::Config(error) => error.into(),
            StartError::Pki(error) => error.into(),
            error => CliError::failed(error.to_string()),
        }
    }
}
