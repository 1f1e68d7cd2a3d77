// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How the user calls the tool: by `make`, or by its own name. Errors speak of what was typed.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The Makefile sets it.
pub const VARIABLE: &str = "POSTERN_MAKE";

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The Makefile, for a user who typed `make run GUESTS=4`.
    Make,
    /// A user who typed `postern-tool run --guests 4`, or a program.
    Shell,
}

impl Caller {
    /// The caller of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        match std::env::var_os(VARIABLE) {
            Some(value) if !value.is_empty() => Self::Make,
            _ => Self::Shell,
        }
    }

    /// A command of the tool's as the user types it: `make run`.
    #[must_use]
    pub fn command(self, name: &str) -> String {
        match self {
            Self::Make => format!("make {name}"),
            Self::Shell => format!("postern-tool {name}"),
        }
    }

    /// An option with a value as the user types it: `GUESTS=4`.
    #[must_use]
    pub fn option(self, name: &str, value: &str) -> String {
        match self {
            Self::Make => format!("{}={value}", name.to_uppercase()),
            Self::Shell => format!("--{name} {value}"),
        }
    }

    /// What is wrong with the command line in a user's words; `None` where clap's own do.
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
