// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The exact text of answers. JSON is read back by another parser.

use super::super::respond;
use super::super::session::LineError;
use super::Fake;
use postern_monitor::specs::SPECS;
use serde_json::{Value, json};

/// Returns the answer, and the new echo setting if the line changes it.
fn answer(system: &Fake, line: &str) -> (String, Option<bool>) {
    let mut text = String::new();
    let echo = respond(&Ok(line.try_into().unwrap()), system, &mut |write| {
        write(&mut text);
    });
    (text, echo)
}

fn said(line: &str) -> String {
    answer(&Fake::new(), line).0
}

#[test]
fn answers_as_text() {
    for (line, expected) in [
        (
            "vm list",
            "\
name=a index=0 phase=running vcpus=2 memory_kib=524288 tee=true privileged=true starts=1 up_ms=93784999
name=builder index=1 phase=off vcpus=1 memory_kib=10240 tee=false privileged=false starts=0 up_ms=0
name=blue-2 index=2 phase=off vcpus=1 memory_kib=10240 tee=false privileged=false starts=0 up_ms=0
",
        ),
        (
            "vm info a",
            "\
name=a index=0 phase=running vcpus=2 memory_kib=524288 tee=true privileged=true starts=1 up_ms=93784999 \
channel=1 vcpu=[{on=true cpu=3} {on=true cpu=null} {on=false cpu=null}] affinity=[0 3] next_memory_kib=1024 \
pages_held=7 watchdog_resets=2 exits={smc=5 mmio=0 irq=6} refused={abort=0 call=0} \
frames={sent=4 received=3 dropped=0} bytes={sent=70 received=0 dropped=5}
",
        ),
        ("vm start builder", "ok\n"),
        ("vm kill blue-2", "monitor: vm blue-2: it is off: start it first\n"),
        ("vm mem a 2M", "ok\n"),
        (
            "vm info nobody",
            "monitor: no virtual machine is called `nobody`: see vm list\n",
        ),
        (
            "cpu",
            "\
cpu=0 vm=a vcpu=1 secure=true idle_percent=3 idle_ms=61500 masked_ns=123456 masked_by=unpin
cpu=1 vm=null vcpu=null secure=false idle_percent=100 idle_ms=12345678 masked_ns=0 masked_by=other
",
        ),
        (
            "mem",
            "\
total_kib=3145728 hypervisor_kib=1048577 guests_kib=1048576 free_kib=1048575 heap_used_bytes=123 \
heap_total_bytes=456 shared_pages_used=3 shared_pages_total=512
",
        ),
        ("log 2", "\nlast\n"),
        ("echo off", "echo=false\n"),
        ("x", "monitor: unknown command `x`: try help\n"),
        ("monitor: unknown command `x`: try help", ""),
        // With a tag the answer is an event, so that its end is known.
        (
            "#t1 vm",
            "\
@postern {\"event\":\"answer\",\"tag\":\"t1\",\"command\":\"\",\"ok\":false,\"error\":\"unknown command `vm`: try help\"}
",
        ),
    ] {
        assert_eq!(said(line), expected, "{line}");
    }
    let tee = said("tee stats a");
    assert!(
        tee.starts_with("vm=a pages_pinned=11 pages_held=7 "),
        "{tee}"
    );
    assert!(
        tee.ends_with("\nshared_pages_used=3 shared_pages_total=512\n"),
        "{tee}"
    );
    assert_eq!(tee.lines().count(), 2);
}

#[test]
fn help_lists_all_commands_within_screen_width() {
    let help = said("help");
    assert_eq!(help.lines().count(), SPECS.len());
    assert!(help.lines().all(|line| line.len() < 80), "{help}");
    assert!(help.contains("\nvm mem NAME SIZE\n"));
}

/// Returns the one line of an answer, parsed.
fn event(line: &str) -> Value {
    let text = said(line);
    let json = text.strip_prefix("@postern ").expect(&text);
    assert_eq!(text.find('\n'), Some(text.len() - 1), "{text}");
    serde_json::from_str(json).expect(json)
}

#[test]
fn answers_as_json() {
    let a = json!({
        "name": "a", "index": 0, "phase": "running", "vcpus": 2, "memory_kib": 524_288,
        "tee": true, "privileged": true, "starts": 1, "up_ms": 93_784_999_u64,
    });
    let mut whole_a = a.clone();
    let more = json!({
        "channel": 1, "affinity": [0, 3], "next_memory_kib": 1024, "pages_held": 7,
        "watchdog_resets": 2,
        "vcpu": [{"on": true, "cpu": 3}, {"on": true, "cpu": null}, {"on": false, "cpu": null}],
        "exits": {"smc": 5, "mmio": 0, "irq": 6}, "refused": {"abort": 0, "call": 0},
        "frames": {"sent": 4, "received": 3, "dropped": 0},
        "bytes": {"sent": 70, "received": 0, "dropped": 5},
    });
    let more = more.as_object().unwrap().clone();
    whole_a.as_object_mut().unwrap().extend(more);
    let off = |name: &str, index: usize| {
        json!({
            "name": name, "index": index, "phase": "off", "vcpus": 1, "memory_kib": 10_240,
            "tee": false, "privileged": false, "starts": 0, "up_ms": 0,
        })
    };
    for (line, command, members) in [
        (
            "vm list",
            "vm list",
            json!({"vms": [a, off("builder", 1), off("blue-2", 2)]}),
        ),
        ("vm info a", "vm info", json!({"vm": whole_a})),
        ("vm reset builder", "vm reset", json!({"vm": "builder"})),
        ("vm mem builder 4M", "vm mem", json!({"vm": "builder"})),
        (
            "cpu",
            "cpu",
            json!({"cpus": [
                {"cpu": 0, "vm": "a", "vcpu": 1, "secure": true, "idle_percent": 3, "idle_ms": 61_500,
                 "masked_ns": 123_456, "masked_by": "unpin"},
                {"cpu": 1, "vm": null, "vcpu": null, "secure": false, "idle_percent": 100,
                 "idle_ms": 12_345_678, "masked_ns": 0, "masked_by": "other"},
            ]}),
        ),
        (
            "mem",
            "mem",
            json!({
                "total_kib": 3_145_728, "hypervisor_kib": 1_048_577, "guests_kib": 1_048_576,
                "free_kib": 1_048_575, "heap_used_bytes": 123, "heap_total_bytes": 456,
                "shared_pages_used": 3, "shared_pages_total": 512,
            }),
        ),
        (
            "log",
            "log",
            json!({"lines": ["[    0.000001] info: first", "say \"hi\\\" ä", "", "last"]}),
        ),
        ("log 1", "log", json!({"lines": ["last"]})),
        ("echo on", "echo", json!({"echo": true})),
    ] {
        let mut expected = json!({"event": "answer", "tag": "7", "command": command, "ok": true});
        let members = members.as_object().unwrap().clone();
        expected.as_object_mut().unwrap().extend(members);
        assert_eq!(event(&format!("#7 {line} --json")), expected, "{line}");
        assert_eq!(event(&format!("#7 {line}")), expected, "{line}");
        expected.as_object_mut().unwrap().remove("tag");
        assert_eq!(event(&format!("--json {line}")), expected, "{line}");
    }
}

#[test]
fn errors_as_json() {
    for (line, command, error) in [
        ("x\"\\ --json", "", "unknown command `x\"\\`: try help"),
        (
            "vm kill blue-2 --json",
            "vm kill",
            "vm blue-2: it is off: start it first",
        ),
        (
            "vm mem blue-2 4M --json",
            "vm mem",
            "vm blue-2: it is running: a VM gets its memory when it starts, so stop it first",
        ),
        (
            "vm info \"; --json",
            "vm info",
            "no virtual machine is called `\";`: see vm list",
        ),
    ] {
        let expected = json!({"event": "answer", "command": command, "ok": false, "error": error});
        assert_eq!(event(line), expected, "{line}");
    }
}

/// The `stats` event, which is older than answers, has its exact text, and the answer has the same
/// members.
#[test]
fn stats_as_events_and_answers() {
    let counts = r#"{"event":"stats","vm":"a","pages_pinned":11,"pages_held":7,"buffers":13,"rpc_buffers":15,"sessions":16,"calls":17,"mapped_pages":18,"smc_fast":1,"smc_yielding":2,"smcs":10,"foreign_intr":4,"pages_pinned_max":12,"buffers_max":14,"denied":5,"withheld":6,"poisoned":7,"leaked":8,"kept":9,"rpc":{"alloc":0,"free":0,"load_ta":0,"rpmb":0,"fs":12,"get_time":0,"notification":0,"suspend":0,"shm_alloc":3,"shm_free":0,"gprof":0,"socket":0,"ftrace":0,"plugin":0,"i2c":0,"other":0},"exits":{"smc":5,"mmio":0,"irq":6},"refused":{"abort":0,"call":1},"shared_pages":3}"#;
    let text = said("stats");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], format!("@postern {counts}"));
    assert!(lines[2].starts_with(r#"@postern {"event":"stats","vm":"blue-2","pages_pinned":0"#));

    let mut expected: Value = serde_json::from_str(counts).unwrap();
    expected.as_object_mut().unwrap().remove("event");
    let answer = event("tee stats a --json");
    assert_eq!(answer["vms"], json!([expected]));
    assert_eq!(answer["shared_pages_total"], 512);
    assert_eq!(
        event("tee stats --json")["vms"].as_array().unwrap().len(),
        3
    );
    // With a tag, a program knows when all events have come.
    assert_eq!(said("#1 stats").lines().count(), 4);
}

#[test]
fn requests_reach_the_machine() {
    let system = Fake::new();
    for line in [
        "vm start a",
        "vm stop a --json",
        "#1 vm reset builder",
        "vm kill a",
        "vm pause a",
        "vm resume builder",
        "vm mem a 512M",
        "vm kill blue-2",
        "vm mem blue-2 2M",
        "vm kill nobody",
        "vm kill",
        "vm list",
    ] {
        assert_eq!(answer(&system, line).1, None);
    }
    let expected = [
        "start 0",
        "stop 0",
        "reset 1",
        "kill 0",
        "pause 0",
        "resume 1",
        "memory 0 536870912",
    ];
    assert_eq!(*system.orders.lock().unwrap(), expected);
    assert_eq!(answer(&system, "echo on").1, Some(true));
    assert_eq!(answer(&system, "#1 echo off --json").1, Some(false));
}

#[test]
fn overlong_line_is_refused() {
    let mut text = String::new();
    let echo = respond(&Err(LineError::TooLong), &Fake::new(), &mut |write| {
        write(&mut text);
    });
    let expected = "monitor: the line has more than 160 characters: write it shorter\n";
    assert_eq!((text.as_str(), echo), (expected, None));
}
