// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which line says what.

use super::super::command::{Command, Request};
use super::super::plain::{Assembler, LineError, Typed};
use super::super::specs::SPECS;
use crate::vm::life::Order;
use proptest::prelude::*;

fn command(line: &str) -> Result<Command<'_>, String> {
    let request = Request::parse(line).expect("something to answer");
    request.command.map_err(|mistake| mistake.to_string())
}

#[test]
fn commands() {
    for (line, expected) in [
        ("vm list", Command::List),
        ("  vm   list  ", Command::List),
        ("vm info a", Command::Info("a")),
        ("vm start a", Command::Order(Order::Start, "a")),
        ("vm stop a", Command::Order(Order::Stop, "a")),
        ("vm reset b.c-d_e", Command::Order(Order::Reset, "b.c-d_e")),
        ("vm kill a", Command::Order(Order::Kill, "a")),
        ("vm pause a", Command::Order(Order::Pause, "a")),
        ("vm resume -", Command::Order(Order::Resume, "-")),
        ("vm mem a 2048K", Command::VmMemory("a", 0x20_0000)),
        ("vm mem a 512M", Command::VmMemory("a", 0x2000_0000)),
        ("vm mem a 2g", Command::VmMemory("a", 0x8000_0000)),
        ("tee stats", Command::TeeStats(None)),
        ("tee stats a", Command::TeeStats(Some("a"))),
        ("cpu", Command::Cpu),
        ("mem", Command::Memory),
        ("log", Command::Log(20)),
        ("log 1", Command::Log(1)),
        ("help", Command::Help([None, None])),
        ("help vm", Command::Help([Some("vm"), None])),
        ("help vm mem", Command::Help([Some("vm"), Some("mem")])),
        ("terminal on", Command::Terminal(true)),
        ("terminal off", Command::Terminal(false)),
        ("stats", Command::Stats),
    ] {
        assert_eq!(command(line), Ok(expected), "{line}");
    }
}

#[test]
fn mistakes_say_what_to_write() {
    for (line, expected) in [
        ("#t", "no command: try help"),
        ("--json", "no command: try help"),
        ("vms", "unknown command `vms`: try help"),
        ("VM list", "unknown command `VM`: try help"),
        (
            "vm",
            "`vm` goes on with list, info, start, stop, reset, kill, pause, resume, mem",
        ),
        (
            "vm lst",
            "`vm` goes on with list, info, start, stop, reset, kill, pause, resume, mem, not with `lst`",
        ),
        ("tee", "`tee` goes on with stats"),
        ("tee state", "`tee` goes on with stats, not with `state`"),
        (
            "vm info",
            "`vm info` needs the name of a virtual machine: write `vm info NAME`",
        ),
        (
            "vm kill --json",
            "`vm kill` needs the name of a virtual machine: write `vm kill NAME`",
        ),
        (
            "vm mem a",
            "`vm mem` needs the name of a virtual machine and a size: write `vm mem NAME SIZE`",
        ),
        (
            "terminal",
            "`terminal` needs on or off: write `terminal on|off`",
        ),
        ("vm list a", "`a` is a word too many: write `vm list`"),
        (
            "vm start a b",
            "`b` is a word too many: write `vm start NAME`",
        ),
        (
            "tee stats a b c d e f g",
            "`b` is a word too many: write `tee stats [NAME]`",
        ),
        ("log 1 2", "`2` is a word too many: write `log [N]`"),
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
        (
            "vm mem a 512",
            "`512` is no size: write a multiple of 2 MiB, such as 512M or 1G",
        ),
        (
            "vm mem a 3M",
            "`3M` is no size: write a multiple of 2 MiB, such as 512M or 1G",
        ),
        (
            "vm mem a 0M",
            "`0M` is no size: write a multiple of 2 MiB, such as 512M or 1G",
        ),
        (
            "vm mem a +2M",
            "`+2M` is no size: write a multiple of 2 MiB, such as 512M or 1G",
        ),
        (
            "vm mem a M",
            "`M` is no size: write a multiple of 2 MiB, such as 512M or 1G",
        ),
        (
            "vm mem a 99999999999G",
            "`99999999999G` is no size: write a multiple of 2 MiB, such as 512M or 1G",
        ),
        (
            "log 0",
            "`0` is no number of lines: write a number from 1 on",
        ),
        (
            "log -5",
            "`-5` is no number of lines: write a number from 1 on",
        ),
        (
            "terminal maybe",
            "`terminal` goes on with on or off, not with `maybe`",
        ),
        ("help me", "no command begins with `me`: `help` lists them"),
        (
            "help vm lst",
            "no command begins with `vm lst`: `help` lists them",
        ),
    ] {
        assert_eq!(command(line), Err(expected.into()), "{line}");
    }
}

#[test]
fn tags_and_options() {
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
        // The tag is known even where nothing else is.
        ("#1 vms --json", Some("1"), true, ""),
        ("#1 vm kill --json", Some("1"), true, "vm kill"),
        ("#a.b cpu --json", None, true, "cpu"),
    ] {
        let request = Request::parse(line).unwrap();
        assert_eq!(
            (request.tag, request.json, request.path),
            (tag, json, path),
            "{line}"
        );
    }
}

/// A guest's terminal with echo sends back what it is told. To answer that would never end.
#[test]
fn what_the_monitor_says_is_no_command() {
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
fn each_command_is_explained_once() {
    for spec in &SPECS {
        let same = SPECS.iter().filter(|other| other.path == spec.path);
        assert_eq!(same.count(), 1, "{}", spec.path);
        assert!(!spec.summary.is_empty());
        // In the help it fits into a line.
        assert!(spec.summary.len() <= 55, "{}", spec.summary);
    }
}

fn typed(bytes: &[u8]) -> Vec<Typed> {
    let mut assembler = Assembler::new();
    let typed = bytes.iter().map(|&byte| assembler.push(byte));
    typed.filter(|typed| *typed != Typed::Nothing).collect()
}

#[test]
fn plain_lines() {
    let line = |text: &str| Typed::Line(text.try_into().unwrap());
    let long = "x".repeat(super::super::MAX_LINE);
    let too_long = [long.as_bytes(), b"x\nok\n"].concat();
    let long_echo = ["@postern ".as_bytes(), long.as_bytes(), b"\nok\n"].concat();
    for (bytes, expected) in [
        (&b"stats\n"[..], vec![line("stats")]),
        (b"a\rb\nc", vec![line("a"), line("b")]),
        (b"\n \n", vec![]),
        (b"\r \r", vec![Typed::Enter, Typed::Enter]),
        (b" a\tb \n", vec![line(" a b ")]),
        (b"sx\x7ftx\x08ats\n", vec![line("stats")]),
        (b"\x7f\x7fa\n", vec![line("a")]),
        (b"half\x15a\nhalf\x03b\n", vec![line("a"), line("b")]),
        (b"\x1b[A\x15a\n", vec![line("a")]),
        (
            b"a\x00b\nok\n",
            vec![Typed::Wrong(LineError::NotText), line("ok")],
        ),
        (
            b"\xc3\xa4\nok\n",
            vec![Typed::Wrong(LineError::NotText), line("ok")],
        ),
        (b"\x1b[A\n", vec![Typed::Wrong(LineError::NotText)]),
        (b"\x1b\n", vec![Typed::Wrong(LineError::NotText)]),
        (
            &too_long,
            vec![Typed::Wrong(LineError::TooLong), line("ok")],
        ),
        (&too_long[1..], vec![line(&long), line("ok")]),
        (&long_echo, vec![line("ok")]),
    ] {
        assert_eq!(typed(bytes), expected, "{:?}", bytes.escape_ascii());
    }
}

proptest! {
    /// Nothing that is typed makes it stumble.
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        bytes.extend(b"\nend\n");
        prop_assert_eq!(typed(&bytes).pop(), Some(Typed::Line("end".try_into().unwrap())));
    }

    /// No line makes it stumble, and what it says is one line without the words of an answer.
    #[test]
    fn any_line_is_survived(line in "(#[a-z]{0,3} )?((vm|tee|help|log|list|mem|a|512M|--json|-x) ?){0,7}[ -~]{0,20}") {
        if let Some(Request { command: Err(mistake), .. }) = Request::parse(&line) {
            let said = mistake.to_string();
            prop_assert!(said.is_ascii() && !said.contains('\n'), "{said}");
        }
    }
}
