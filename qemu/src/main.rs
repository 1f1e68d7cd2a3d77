//! `postern-tool`: boots Postern with its guests in QEMU and tells how it went.

use clap::Parser;
use postern_qemu::cli::Cli;
use postern_qemu::session::Interrupted;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().carry_out() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if let Some(Interrupted(signal)) = error.downcast_ref() {
                eprintln!("postern-tool: interrupted; what was started is ended");
                return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
            }
            eprintln!("postern-tool: {error:#}");
            ExitCode::FAILURE
        }
    }
}
