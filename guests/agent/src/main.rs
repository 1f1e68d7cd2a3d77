// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program in Postern's Linux guests.
//!
//! One static program with three functions, chosen by the name under which it is started:
//!
//! - `/init`: the guest's first process. It sets the system up ([`init`]), sends a `ready` event to
//!   the console and then executes command lines ([`command`]): it runs `xtest` and reports each
//!   case's result at once ([`xtest`]), measures the round trip to the TEE ([`latency`]), disk and
//!   network ([`measure`]), starts a shell, powers off.
//! - `tee-latency`: the measurement alone, for users at a shell.
//! - `postern-ctl`: the hypervisor's monitor, in a privileged guest ([`postern_ctl`]).
//!
//! An event for the host is one JSON object per line after the mark `@postern`
//! ([`guest_agent::event`]).

mod command;
mod console;
mod init;
mod latency;
mod measure;
mod process;
mod sys;
mod tee;
mod xtest;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let program = args
        .first()
        .map_or("", |name| name.rsplit('/').next().unwrap_or(name))
        .to_owned();
    if program == "tee-latency" || args.get(1).is_some_and(|word| word == "tee-latency") {
        let skip = if program == "tee-latency" { 1 } else { 2 };
        return latency::program(args.drain(..).skip(skip));
    }
    if program == "postern-ctl" {
        return postern_ctl::program(args.drain(..).skip(1));
    }
    if std::process::id() != 1 {
        eprintln!(
            "{program}: this program is a guest's first process; run the measurement as `{program} tee-latency`"
        );
        return ExitCode::from(2);
    }
    init::run()
}
