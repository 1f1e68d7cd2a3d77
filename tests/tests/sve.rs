// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VMs have SVE with vectors of their own length.

use anyhow::Result;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::scan::vectors;
use postern_tests::{Lab, boot_error, without_firmware};

/// A machine with SVE and without firmware.
const BOARD: &str = "virt,virtualization=on,gic-version=3";

#[test]
fn sve_state_of_two_vms_on_one_cpu_is_kept_apart() -> Result<()> {
    let lab = Lab::new("sve")?;
    let mut system = lab.system("scan.toml")?;
    system.machine.cpu = Some("max".into());
    for (vm, bits) in system.vms.iter_mut().zip([256, 512]) {
        vm.sve = Some(bits);
    }
    let machine = lab.machine(&system, Flavour::Shared)?;
    let machine = without_firmware(&lab, machine, BOARD)?;
    vectors(&machine, &system, &lab.folder)
}

#[test]
fn length_that_the_cpu_lacks_is_reported() -> Result<()> {
    let lab = Lab::new("sve-length")?;
    let mut system = lab.system("scan.toml")?;
    system.machine.cpu = Some("max,sve512=off".into());
    system.vms[1].sve = Some(512);
    let machine = lab.machine(&system, Flavour::Shared)?;
    let machine = without_firmware(&lab, machine, BOARD)?;
    let text = boot_error(&mut Session::boot(&machine, &lab.folder)?)?;
    anyhow::ensure!(
        text.contains("vm `b`: sve = 512") && text.contains("128, 256"),
        "{text}"
    );
    Ok(())
}
