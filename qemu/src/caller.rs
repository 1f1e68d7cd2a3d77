// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How the user calls the tool: through `make`, or by its own name. Errors use the words that the
//! user typed.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The environment variable that the Makefile sets.
pub const VARIABLE: &str = "POSTERN_MAKE";

/// The way in which the tool was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The Makefile, for a user who typed `make run GUESTS=4`.
    Make,
    /// A user who typed `postern-tool run --guests 4`, or a program.
    Shell,
}

impl Caller {
    /// Returns the caller of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        match std::env::var_os(VARIABLE) {
            Some(value) if !value.is_empty() => Self::Make,
            _ => Self::Shell,
        }
    }

    /// Returns a command of the tool as the user types it: `make run`.
    #[must_use]
    pub fn command(self, name: &str) -> String {
        match self {
            Self::Make => format!("make {name}"),
            Self::Shell => format!("postern-tool {name}"),
        }
    }

    /// Returns an option with a value as the user types it: `GUESTS=4`.
    #[must_use]
    pub fn option(self, name: &str, value: &str) -> String {
        match self {
            Self::Make => format!("{}={value}", name.to_uppercase()),
            Self::Shell => format!("--{name} {value}"),
        }
    }

    /// Explains an error in the command line in a user's words; returns `None` where clap's message
    /// serves.
    #[must_use]
    pub fn explain(self, error: &clap::Error) -> Option<String> {
        if self == Self::Shell {
            return None;
        }
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        let option = context(ContextKind::InvalidArg)?;
        // `--guests <GUESTS>`
        let option = option.split(' ').next()?.strip_prefix("--")?;
        let value = context(ContextKind::InvalidValue).unwrap_or_default();
        let typed = self.option(option, value);
        match error.kind() {
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                let why = std::error::Error::source(error)
                    .map_or_else(|| "it has no value".to_owned(), ToString::to_string);
                Some(format!("{typed}: {why}"))
            }
            _ => None,
        }
    }
}
