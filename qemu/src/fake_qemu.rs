// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A shell script in QEMU's place, for tests.

use crate::board::BoardName;
use crate::launch::{Firmware, Machine, VmInfo, Wiring};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Returns a machine with these VMs whose QEMU is `script`, which is written into `folder`.
pub fn machine(folder: &Path, script: &str, vms: &[&str]) -> Machine {
    let qemu = folder.join("fake-qemu");
    std::fs::write(&qemu, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let vm = |name: &&str| VmInfo {
        name: (*name).to_owned(),
        vcpus: 1,
        memory_kib: 1024,
        tee: true,
        program: false,
        disk: false,
        served: false,
        network: false,
    };
    Machine {
        qemu,
        board: BoardName::Virt.board(),
        model: "virt".into(),
        cpu: "x".into(),
        cpus: 1,
        memory_mib: 1,
        firmware: Firmware::Flash("/flash".into()),
        tree: None,
        loads: Vec::new(),
        pci: Vec::new(),
        extra: Vec::new(),
        vms: vms.iter().map(vm).collect(),
        wiring: Wiring::Multiplexed,
    }
}
