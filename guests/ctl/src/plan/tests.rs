// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the answers that are given here.

use super::*;

fn refused(line: &str) -> String {
    match plan(line) {
        Plan::Refuse(why) => why,
        other => panic!("{line}: {other:?}"),
    }
}

fn said(line: &str) -> String {
    match plan(line) {
        Plan::Say(text) => text,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn commands_go_to_the_monitor() {
    for (line, expected, json) in [
        ("vm list", "vm list", false),
        ("  vm   mem  a  512M ", "vm mem a 512M", false),
        ("--json tee stats", "tee stats", true),
        ("log 7 --json", "log 7", true),
    ] {
        let command = Command {
            line: expected.into(),
            json,
        };
        assert_eq!(command.tagged("t"), format!("#t {expected} --json"));
        assert_eq!(plan(line), Plan::Ask(command), "{line}");
    }
    assert_eq!(plan(""), Plan::Nothing);
    assert_eq!(plan("   "), Plan::Nothing);
}

#[test]
fn answers_show_as_text_or_json() {
    let answer = r#"{"event":"answer","tag":"t","command":"vm kill","ok":true,"vm":"b"}"#;
    let mut command = Command {
        line: "vm kill b".into(),
        json: false,
    };
    assert_eq!(command.show(answer), Ok("vm b ends\n".into()));
    command.json = true;
    assert_eq!(command.show(answer), Ok(format!("{answer}\n")));
    let answer = r#"{"event":"answer","tag":"t","command":"vm kill","ok":false,"error":"no"}"#;
    assert_eq!(command.show(answer), Err("no".into()));
}

#[test]
fn wrong_commands_give_the_fix() {
    for (line, expected) in [
        ("--json", "no command: try help"),
        ("vms", "unknown command `vms`: try help"),
        ("VM list", "unknown command `VM`: try help"),
        (
            "vm",
            "`vm` is followed by list, info, start, stop, reset, kill, pause, resume, mem",
        ),
        (
            "vm lst",
            "`vm` is followed by list, info, start, stop, reset, kill, pause, resume, mem, not by `lst`",
        ),
        ("tee", "`tee` is followed by stats"),
        ("tee state", "`tee` is followed by stats, not by `state`"),
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
        ("vm list a", "`a` is one word too many: write `vm list`"),
        (
            "vm start a b",
            "`b` is one word too many: write `vm start NAME`",
        ),
        (
            "tee stats a b c d e f g",
            "`b` is one word too many: write `tee stats [NAME]`",
        ),
        ("log 1 2", "`2` is one word too many: write `log [N]`"),
        (
            "vm list --JSON",
            "unknown option `--JSON`: the only option is --json",
        ),
        (
            "vm list --json --yaml",
            "unknown option `--yaml`: the only option is --json",
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
            "log 0",
            "`0` is no number of lines: write a number of 1 or more",
        ),
        (
            "log -5",
            "`-5` is no number of lines: write a number of 1 or more",
        ),
        (
            "help me",
            "no command begins with `me`; `help` lists the commands",
        ),
        (
            "help vm lst",
            "no command begins with `vm lst`; `help` lists the commands",
        ),
        ("#1 vm list", "this program sets the tag itself"),
        ("# vm list", "this program sets the tag itself"),
        ("echo on", "this is a terminal already"),
        (
            "stats",
            "the same figures are in `tee stats`, with --json for programs",
        ),
        ("vm list\nvm kill a", "a command must be plain ASCII"),
        ("vm info ä", "a command must be plain ASCII"),
    ] {
        assert_eq!(refused(line), expected, "{line}");
    }
    assert_eq!(
        refused(&"x".repeat(MAX_LINE + 1)),
        "a command has at most 128 characters"
    );
}

#[test]
fn help_lists_all_commands_within_screen_width() {
    let text = said("help");
    assert_eq!(text.lines().count(), help::specs().count() + 1);
    assert!(text.lines().all(|line| line.len() < 80), "{text}");
    assert!(text.starts_with("vm list           the virtual machines and their states\n"));
    for (line, expected) in [
        (
            "help tee",
            "tee stats [NAME]  the calls to OP-TEE, and what it holds\n",
        ),
        (
            "help vm kill",
            "vm kill NAME  end it at once\nPostern closes what it has open in the TEE.\n",
        ),
    ] {
        assert_eq!(said(line), expected);
    }
    let json: serde_json::Value = serde_json::from_str(&said("help tee --json")).unwrap();
    assert_eq!(
        json["commands"],
        serde_json::json!([{
            "command": "tee stats", "arguments": "[NAME]",
            "summary": "the calls to OP-TEE, and what it holds",
        }])
    );
}
