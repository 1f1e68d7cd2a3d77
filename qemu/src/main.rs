// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `postern-tool`: boots Postern with its guests in QEMU and reports the result.

use clap::Parser;
use postern_qemu::caller::Caller;
use postern_qemu::cli::Cli;
use postern_qemu::session::InterruptedError;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match Caller::of_this_process().explain(&error) {
            Some(text) => {
                eprintln!("postern-tool: {text}");
                return ExitCode::from(2);
            }
            // Help and version come here too, with exit status 0.
            None => error.exit(),
        },
    };
    match cli.execute() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if let Some(InterruptedError(signal)) = error.downcast_ref() {
                eprintln!("postern-tool: interrupted; the machine has been stopped");
                return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
            }
            eprintln!("postern-tool: {error:#}");
            ExitCode::FAILURE
        }
    }
}
