// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EL2's replies, read by the program at the other end, `guests/ctl`.

use super::super::respond;
use super::Fake;
use core::fmt::Display;
use postern_ctl::messages::{HypervisorEvent, MonitorMessage, Stats};
use postern_ctl::{Plan, plan};
use postern_monitor::specs::{Arguments, SPECS, Spec};
use postern_monitor::{Event, MARK};

/// Returns everything that EL2 replies to a line.
fn reply(line: &str) -> String {
    let mut text = String::new();
    respond(&Ok(line.try_into().unwrap()), &Fake::new(), &mut |write| {
        write(&mut text);
    });
    text
}

/// Returns what the terminal shows for a line; `None` where it does not ask EL2.
fn shown(line: &str) -> Option<Result<String, String>> {
    let Plan::Ask(command) = plan(line) else {
        return None;
    };
    let reply = reply(&command.tagged("t1"));
    let Some(Ok(MonitorMessage::Answer(answer))) = MonitorMessage::find(&reply) else {
        panic!("{line}: the reply is no answer: {reply}");
    };
    assert_eq!(answer.tag.as_deref(), Some("t1"), "{line}");
    let (_, json) = reply.trim_end().split_once(MARK).unwrap();
    Some(command.show(json))
}

fn example(spec: &Spec) -> String {
    let arguments = match spec.arguments {
        Arguments::None => "",
        Arguments::Vm | Arguments::AnyVm => " a",
        Arguments::VmAndSize => " a 4M",
        Arguments::Count => " 2",
        Arguments::Command => " cpu",
        Arguments::OnOff => " on",
    };
    format!("{}{arguments}", spec.path)
}

#[test]
fn replies_to_all_commands_are_shown_as_text() {
    let mut asked = 0;
    for spec in &SPECS {
        let line = example(spec);
        let Some(text) = shown(&line) else {
            continue;
        };
        let text = text.unwrap_or_else(|why| panic!("{line}: {why}"));
        // A reply to a command that the terminal does not know is shown as it came.
        assert!(!text.starts_with('{'), "{line}: {text}");
        asked += 1;
    }
    assert!(asked >= 12, "{asked} commands go to EL2");
}

#[test]
fn figures_of_replies_arrive_in_the_terminal() {
    for (line, figures) in [
        (
            "vm list",
            &["builder", "running", "512 MiB", "10 MiB", "1d 2:03:04"][..],
        ),
        (
            "vm info a",
            &[
                "running",
                "7 pages",
                "1 MiB at its next start",
                "on CPU 3",
                "smc 5, irq 6",
            ],
        ),
        (
            "tee stats a",
            &[
                "fast 1,",
                "yielding 2,",
                "SMCs 10,",
                "pages_pinned 12",
                "buffers 14",
            ],
        ),
        ("cpu", &["unpin", "12"]),
        ("mem", &["3072 MiB", "1048577 KiB"]),
        ("log 1", &["last"]),
        ("vm reset builder", &["vm builder "]),
    ] {
        let text = shown(line).expect(line).expect(line);
        for figure in figures {
            assert!(text.contains(figure), "{line}: no {figure} in\n{text}");
        }
    }
}

#[test]
fn refused_requests_are_shown_with_their_reason() {
    let why = shown("vm start blue-2").unwrap().unwrap_err();
    assert!(why.contains("it is off: start it first"), "{why}");
    let why = shown("vm info nobody").unwrap().unwrap_err();
    assert!(why.contains("nobody"), "{why}");
}

#[test]
fn stats_events_are_read_with_all_counters() {
    let reply = reply("stats");
    let MonitorMessage::Stats(stats) = MonitorMessage::find(reply.lines().next().unwrap())
        .unwrap()
        .unwrap()
    else {
        panic!("{reply}");
    };
    let Stats {
        vm,
        smc_fast,
        smc_yielding,
        smcs,
        foreign_intr,
        pages_pinned,
        pages_pinned_max,
        buffers,
        buffers_max,
        denied,
        rpc,
        exits,
        ..
    } = *stats;
    assert_eq!(vm, "a");
    assert_eq!(
        (smc_fast, smc_yielding, foreign_intr, denied, smcs),
        (1, 2, 4, 5, 10)
    );
    assert_eq!(
        (pages_pinned, pages_pinned_max, buffers, buffers_max),
        (11, 12, 13, 14)
    );
    assert!(rpc.values().any(|&count| count == 12), "{rpc:?}");
    assert_eq!(exits.get("smc"), Some(&5));
}

#[test]
fn events_are_read_as_they_were_written() {
    let vm = || "a".to_owned();
    for event in [
        HypervisorEvent::Up {
            version: "0.1".into(),
            cpus: 4,
        },
        HypervisorEvent::VmStarted {
            vm: vm(),
            channel: 1,
            vcpus: 2,
            memory_kib: 3,
            tee: true,
        },
        HypervisorEvent::VmOff {
            vm: vm(),
            reason: "reset".into(),
        },
        HypervisorEvent::VmPaused { vm: vm() },
        HypervisorEvent::VmResumed { vm: vm() },
        HypervisorEvent::BootError {
            text: "no \"kernel\"".into(),
        },
        HypervisorEvent::AllOff,
        HypervisorEvent::TeeStuck { cpu: 3, vm: vm() },
        HypervisorEvent::TeeBack { cpu: 3, vm: vm() },
    ] {
        let mut line = String::from(MARK);
        write_event(&event, &mut line);
        assert_eq!(
            MonitorMessage::find(&line).unwrap().unwrap(),
            MonitorMessage::Event(event),
            "{line}"
        );
    }
}

fn write_event(event: &Event<impl Display>, out: &mut String) {
    event.write(out);
}
