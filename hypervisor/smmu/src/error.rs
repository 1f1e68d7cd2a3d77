// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The failure of an SMMU in operation.

use thiserror::Error;

/// The failure of an SMMU in operation. What it was to forget it may still know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SmmuError {
    /// A command is not complete after a second.
    #[error("the SMMU does not execute a command within a second")]
    Timeout,
    /// A command is none that the SMMU knows.
    #[error("the SMMU refuses a command (CMDQ_CONS.ERR = {code})")]
    Command {
        /// CMDQ_CONS.ERR.
        code: u8,
    },
    /// It has failed before.
    #[error("the SMMU has failed before")]
    Failed,
}
