// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What runs in Postern's Linux guests.
//!
//! One static program with three faces, chosen by the name it is started under:
//!
//! - `/init`: the guest's first process. It makes the system usable ([`init`]), announces itself with a
//!   `ready` event on the console and then carries out command lines ([`command`]): it runs `xtest` and
//!   tells each case's result as it comes ([`xtest`]), measures the way into the TEE and back
//!   ([`latency`]), gives a shell, powers off.
//! - `tee-latency`: the meter alone, for people at a shell prompt.
//! - `postern-ctl`: the hypervisor's monitor, in a privileged guest ([`postern_ctl`]).
//!
//! What the guest tells the host is one JSON object a line behind the word `@postern` ([`guest_agent::event`]).

mod command;
mod console;
mod init;
mod latency;
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
            "{program}: this is a guest's first process; the meter is `{program} tee-latency`"
        );
        return ExitCode::from(2);
    }
    init::run()
}
