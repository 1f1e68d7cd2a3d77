// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The commands that lines are parsed as.

use super::*;
use proptest::prelude::*;

fn command(line: &str) -> Result<Command<'_>, String> {
    let request = Request::parse(line).expect("something to answer");
    request.command.map_err(|error| error.to_string())
}

#[test]
fn commands_are_parsed() {
    for (line, expected) in [
        ("vm list", Command::List),
        ("  vm   list  ", Command::List),
        ("vm info a", Command::Info("a")),
        (
            "vm start a",
            Command::Lifecycle(LifecycleRequest::Start, "a"),
        ),
        ("vm stop a", Command::Lifecycle(LifecycleRequest::Stop, "a")),
        (
            "vm reset b.c-d_e",
            Command::Lifecycle(LifecycleRequest::Reset, "b.c-d_e"),
        ),
        ("vm kill a", Command::Lifecycle(LifecycleRequest::Kill, "a")),
        (
            "vm pause a",
            Command::Lifecycle(LifecycleRequest::Pause, "a"),
        ),
        (
            "vm resume -",
            Command::Lifecycle(LifecycleRequest::Resume, "-"),
        ),
        ("vm mem a 2048K", Command::VmMemory("a", 0x20_0000)),
        ("vm mem a 512M", Command::VmMemory("a", 0x2000_0000)),
        ("vm mem a 2g", Command::VmMemory("a", 0x8000_0000)),
        ("tee stats", Command::TeeStats(None)),
        ("tee stats a", Command::TeeStats(Some("a"))),
        ("cpu", Command::Cpu),
        ("mem", Command::Memory),
        ("log", Command::Log(20)),
        ("log 1", Command::Log(1)),
        ("help", Command::Help),
        ("help vm mem", Command::Help),
        ("echo on", Command::Echo(true)),
        ("echo off", Command::Echo(false)),
        ("stats", Command::Stats),
    ] {
        assert_eq!(command(line), Ok(expected), "{line}");
    }
}

#[test]
fn errors_say_what_to_write() {
    for (line, expected) in [
        ("#t", "no command: try help"),
        ("--json", "no command: try help"),
        ("vms a", "unknown command `vms`: try help"),
        ("VM list", "unknown command `VM`: try help"),
        ("vm", "unknown command `vm`: try help"),
        ("vm lst", "unknown command `vm lst`: try help"),
        ("tee state a", "unknown command `tee state`: try help"),
        ("vm info", "write `vm info NAME`"),
        ("vm kill --json", "write `vm kill NAME`"),
        ("vm mem a", "write `vm mem NAME SIZE`"),
        ("echo", "write `echo on|off`"),
        ("vm list a", "not `a`: write `vm list`"),
        ("vm start a b", "not `b`: write `vm start NAME`"),
        (
            "tee stats a b c d e f g",
            "not `b`: write `tee stats [NAME]`",
        ),
        ("log 1 2", "not `2`: write `log [N]`"),
        (
            "vm list --JSON",
            "unknown option `--JSON`: there is --json only",
        ),
        (
            "vm list --json --yaml",
            "unknown option `--yaml`: there is --json only",
        ),
        (
            "# vm list",
            "a tag is # and 1 to 16 of A-Z a-z 0-9 _ -, then a blank",
        ),
        (
            "#a.b vm list",
            "a tag is # and 1 to 16 of A-Z a-z 0-9 _ -, then a blank",
        ),
        (
            "#12345678901234567 vm list",
            "a tag is # and 1 to 16 of A-Z a-z 0-9 _ -, then a blank",
        ),
        ("vm mem a 512", "not `512`: write `vm mem NAME SIZE`"),
        ("vm mem a 3M", "not `3M`: write `vm mem NAME SIZE`"),
        ("vm mem a 0M", "not `0M`: write `vm mem NAME SIZE`"),
        ("vm mem a +2M", "not `+2M`: write `vm mem NAME SIZE`"),
        ("vm mem a M", "not `M`: write `vm mem NAME SIZE`"),
        (
            "vm mem a 99999999999G",
            "not `99999999999G`: write `vm mem NAME SIZE`",
        ),
        ("log 0", "not `0`: write `log [N]`"),
        ("log -5", "not `-5`: write `log [N]`"),
        ("echo maybe", "not `maybe`: write `echo on|off`"),
        ("help a b c", "not `c`: write `help [COMMAND]`"),
    ] {
        assert_eq!(command(line), Err(expected.into()), "{line}");
    }
}

#[test]
fn tags_and_options_are_parsed() {
    for (line, tag, json, path) in [
        ("cpu", None, false, "cpu"),
        ("cpu --json", None, true, "cpu"),
        ("--json tee --json stats", None, true, "tee stats"),
        ("#1 cpu", Some("1"), false, "cpu"),
        (
            "#aZ_-5678901234_6 cpu --json",
            Some("aZ_-5678901234_6"),
            true,
            "cpu",
        ),
        // The tag is known even if nothing else is.
        ("#1 vms --json", Some("1"), true, ""),
        ("#1 vm kill --json", Some("1"), true, "vm kill"),
        ("#a.b cpu --json", None, true, "cpu"),
    ] {
        let request = Request::parse(line).unwrap();
        assert_eq!(
            (
                request.tag,
                request.json,
                request.spec.map_or("", |spec| spec.path)
            ),
            (tag, json, path),
            "{line}"
        );
    }
}

/// A guest's terminal with echo sends output back. To answer that would never end.
#[test]
fn echoed_output_is_not_a_command() {
    for line in [
        "",
        "  ",
        "monitor: try help",
        "@postern {}",
        "#1 monitor: x",
        "#1 @postern",
    ] {
        assert_eq!(Request::parse(line), None, "{line}");
    }
}

#[test]
fn each_command_is_in_the_table_once() {
    for spec in &SPECS {
        let same = SPECS.iter().filter(|other| other.path == spec.path);
        assert_eq!(same.count(), 1, "{}", spec.path);
    }
}

proptest! {
    /// Any line is parsed or refused, and the error is one line without the first words of an
    /// answer.
    #[test]
    fn any_line_is_parsed_or_refused(line in "(#[a-z]{0,3} )?((vm|tee|help|log|list|mem|a|512M|--json|-x) ?){0,7}[ -~]{0,20}") {
        if let Some(Request { command: Err(error), .. }) = Request::parse(&line) {
            let said = error.to_string();
            prop_assert!(said.is_ascii() && !said.contains('\n'), "{said}");
        }
    }
}
