// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares tables character by character, for JSON as the hypervisor writes it.

use super::*;

fn answer(command: &str, members: &str) -> String {
    text(&format!(
        r#"{{"event":"answer","tag":"t","command":"{command}","ok":true,{members}}}"#
    ))
    .unwrap()
}

const A: &str = r#""name":"a","index":0,"phase":"running","vcpus":2,"memory_kib":524288,"tee":true,"privileged":true,"starts":1,"up_ms":93784999"#;

#[test]
fn vm_list_is_a_table() {
    let members = format!(
        r#""vms":[{{{A}}},{{"name":"builder","index":1,"phase":"off","vcpus":1,"memory_kib":10240,"tee":false,"privileged":false,"starts":0,"up_ms":0,"newer":[]}},{{"name":"blue-2","index":2,"phase":"off","vcpus":1,"memory_kib":10240,"tee":false,"privileged":false,"starts":0,"up_ms":0}}]"#
    );
    assert_eq!(
        answer("vm list", &members),
        "\
NAME     STATE     VCPUS      MEMORY  TEE  PRIVILEGED  STARTS  UP
a        running       2     512 MiB  yes  yes              1  1d 2:03:04
builder  off           1      10 MiB  no   no               0  0:00:00
blue-2   off           1      10 MiB  no   no               0  0:00:00
"
    );
}

#[test]
fn vm_info_is_a_table() {
    let members = format!(
        r#""vm":{{{A},"channel":1,"vcpu":[{{"on":true,"cpu":3}},{{"on":true,"cpu":null}},{{"on":false,"cpu":null}}],"affinity":[0,3],"next_memory_kib":1024,"pages_held":7,"exits":{{"smc":5,"mmio":0,"irq":6}},"refused":{{"abort":0,"call":0}},"frames":{{"sent":4,"received":3,"dropped":0}},"bytes":{{"sent":70,"received":0,"dropped":5}}}}"#
    );
    assert_eq!(
        answer("vm info", &members),
        "\
vm a: running
  starts      1, up 1d 2:03:04
  memory      512 MiB, 1 MiB at its next start; 7 pages held by OP-TEE
  tee         yes
  privileged  yes
  channel     1
  vcpu 0      on CPU 3
  vcpu 1      waits
  vcpu 2      off
  may use     CPUs 0 3
  exits       smc 5, irq 6
  refused     none
  frames      sent 4, received 3
  bytes       sent 70, dropped 5
"
    );
}

#[test]
fn tee_status_is_a_table() {
    let members = r#""vms":[{"vm":"a","pages_pinned":11,"pages_held":7,"buffers":13,"rpc_buffers":15,"sessions":16,"calls":17,"mapped_pages":18,"smc_fast":1,"smc_yielding":2,"smcs":10,"foreign_intr":4,"pages_pinned_max":12,"buffers_max":14,"denied":5,"withheld":6,"poisoned":7,"leaked":8,"kept":9,"rpc":{"fs":12,"free":0,"shm_alloc":3},"exits":{"smc":5},"refused":{"call":1},"shared_pages":3}],"shared_pages_used":3,"shared_pages_total":512"#;
    assert_eq!(
        answer("tee stats", members),
        "\
vm a:
  calls       fast 1, yielding 2, SMCs 10, foreign interrupts 4, refused 5
  now         pages_pinned 11, pages_held 7, buffers 13, rpc_buffers 15, sessions 16, calls 17, mapped_pages 18
  at most     pages_pinned 12, buffers 14
  RPCs        fs 12, shm_alloc 3
  lasting     withheld 6, poisoned 7, leaked 8, kept 9
pages shared with OP-TEE: 3 of 512
"
    );
}

#[test]
fn cpu_and_mem_are_tables() {
    let members = r#""cpus":[{"cpu":0,"vm":"a","vcpu":1,"secure":true,"idle_percent":3,"idle_ms":61500,"masked_ns":123456,"masked_by":"unpin"},{"cpu":1,"vm":null,"vcpu":null,"secure":false,"idle_percent":100,"idle_ms":12345678,"masked_ns":0,"masked_by":"other"}]"#;
    assert_eq!(
        answer("cpu", members),
        "\
CPU  IDLE NOW  IDLE IN ALL  LONGEST MASKED           RUNS
  0       3 %         61 s       123 us, unpin      vm a, vCPU 1, in the secure world
  1     100 %      12345 s         0 us, other      nothing
"
    );
    let members = r#""total_kib":3145728,"hypervisor_kib":1048577,"guests_kib":1048576,"free_kib":1048575,"heap_used_bytes":123,"heap_total_bytes":456,"shared_pages_used":3,"shared_pages_total":512"#;
    assert_eq!(
        answer("mem", members),
        "\
RAM           3072 MiB
hypervisor  1048577 KiB
guests        1024 MiB
free        1048575 KiB
heap: 123 of 456 bytes used
pages shared with OP-TEE: 3 of 512
"
    );
    let members = r#""lines":["[    0.000001] info: first","say \"hi\\\" ä","","last"]"#;
    assert_eq!(
        answer("log", members),
        "[    0.000001] info: first\nsay \"hi\\\" ä\n\nlast\n"
    );
}

#[test]
fn vm_commands_give_a_sentence() {
    for (command, expected) in [
        ("vm start", "vm b starts\n"),
        ("vm stop", "vm b was asked to shut down\n"),
        ("vm reset", "vm b ends and starts again\n"),
        ("vm kill", "vm b ends\n"),
        ("vm pause", "vm b pauses\n"),
        ("vm resume", "vm b goes on\n"),
        (
            "vm mem",
            "vm b has this much memory from its next start on\n",
        ),
    ] {
        assert_eq!(answer(command, r#""vm":"b""#), expected);
    }
    // The answer comes from a hypervisor that knows more.
    assert_eq!(
        answer("vm dance", r#""vm":"b""#),
        "{\"event\":\"answer\",\"tag\":\"t\",\"command\":\"vm dance\",\"ok\":true,\"vm\":\"b\"}\n"
    );
}

#[test]
fn failed_commands_give_the_reason() {
    for (json, expected) in [
        (
            r#"{"event":"answer","command":"vm kill","ok":false,"error":"vm b: it is off: start it first"}"#,
            "vm b: it is off: start it first",
        ),
        (r#"{"event":"answer","command":"","ok":false}"#, "refused"),
    ] {
        assert_eq!(text(json), Err(expected.to_owned()));
    }
    for json in ["", "{}", r#"{"ok":true,"command":"mem"}"#] {
        let error = text(json).unwrap_err();
        assert!(error.starts_with("the answer cannot be read: "), "{error}");
    }
}
