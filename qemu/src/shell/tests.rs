use super::*;
use crate::launch::{Firmware, Vm};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

/// Connects a user who types nothing with a QEMU that is a shell script: why the machine did not end well.
fn play(script: &str) -> (Option<String>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("vm-old.log"), "of another system").expect("written");
    let qemu = folder.path().join("fake-qemu");
    std::fs::write(&qemu, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let machine = Machine {
        qemu,
        board: "virt".into(),
        cpu: "x".into(),
        cpus: 1,
        memory_mib: 1,
        firmware: Firmware::Flash("/flash".into()),
        tree: None,
        loads: Vec::new(),
        extra: Vec::new(),
        vms: vec![Vm {
            name: "a".into(),
            vcpus: 1,
            memory_kib: 1024,
            tee: true,
            program: false,
        }],
        wiring: Wiring::Multiplexed,
    };
    let (_user, keys) = UnixStream::pair().expect("a pair");
    let (over, failure) = connect(&machine, folder.path(), keys).expect("connected");
    assert_eq!(over, Over::Machine);
    (failure, folder)
}

/// A line of the hypervisor's, as the script prints it.
fn says(line: &str) -> String {
    format!("printf '\\377\\000%s\\n' '{line}'\n")
}

const UP: &str = r#"@postern {"event":"up","version":"0.1.0","cpus":4}"#;
const ALL_OFF: &str = r#"@postern {"event":"all-off"}"#;

#[test]
fn a_machine_whose_guests_power_off_has_ended_well() {
    let (failure, folder) = play(&(says(UP) + &says(ALL_OFF)));
    assert_eq!(failure, None);
    assert!(
        !folder.path().join("vm-old.log").exists(),
        "a log of an earlier system is left"
    );
}

#[test]
fn a_boot_error_is_told() {
    let error = r#"@postern {"event":"boot-error","text":"no OP-TEE"}"#;
    let (failure, _folder) = play(&says(error));
    assert_eq!(failure.as_deref(), Some("the boot failed: no OP-TEE"));
    // Also where it comes before the hypervisor has switched to its channel.
    let (failure, _folder) = play(&format!("echo '{error}'"));
    assert_eq!(failure.as_deref(), Some("the boot failed: no OP-TEE"));
}

#[test]
fn qemu_s_own_errors_are_told() {
    let (failure, _folder) = play("echo 'unable to find CPU model' >&2; exit 1");
    let failure = failure.expect("a failure");
    assert!(
        failure.contains("QEMU ended with exit status: 1"),
        "{failure}"
    );
    assert!(failure.contains("unable to find CPU model"), "{failure}");
}

#[test]
fn a_machine_that_dies_has_not_powered_off() {
    let (failure, _folder) = play(&says(UP));
    assert!(failure.is_some_and(|why| why.contains("while guests were running")));
    let (failure, _folder) = play("echo NOTICE: BL1");
    assert!(failure.is_some_and(|why| why.contains("before Postern was up")));
    let (failure, _folder) = play(&(says(UP) + &says("postern: panic on CPU 0: overflow")));
    assert!(
        failure.is_some_and(
            |why| why.contains("the hypervisor died: postern: panic on CPU 0: overflow")
        )
    );
    let stopped = says("[    1.2] error: vm a: its memory is too small")
        + &says(r#"@postern {"event":"vm-off","vm":"a","reason":"error"}"#);
    let (failure, _folder) = play(&(says(UP) + &stopped + &says(ALL_OFF)));
    assert_eq!(
        failure.as_deref(),
        Some("the hypervisor stopped vm a: vm a: its memory is too small")
    );
}
