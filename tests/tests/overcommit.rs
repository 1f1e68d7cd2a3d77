// SPDX-License-Identifier: Apache-2.0 OR MIT
//! More vCPUs than CPUs: eight on two.

use anyhow::{Result, ensure};
use guest_agent::event::Event;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, power_off, xtest_end};

#[test]
fn eight_vcpus_share_two_cpus() -> Result<()> {
    let lab = Lab::new("overcommit")?;
    let system = lab.system("overcommit.toml")?;
    let vcpus: u32 = system.vms.iter().map(|vm| vm.vcpus).sum();
    ensure!(
        vcpus >= 3 * system.machine.cpus,
        "{vcpus} vCPUs on {} CPUs",
        system.machine.cpus
    );
    let mut session = Session::boot(&lab.machine(&system, Flavour::Shared)?, &lab.folder)?;
    let guests = [session.vm("a")?, session.vm("b")?];
    for (guest, vm) in guests.into_iter().zip(&system.vms) {
        let online =
            session
                .expect(guest, BOOT)
                .event("the guest's \"ready\"", |event| match event {
                    Event::Ready { cpus, .. } => Some(*cpus),
                    _ => None,
                })?;
        ensure!(
            u32::try_from(online)? == vm.vcpus,
            "{}: {online} CPUs of {}",
            vm.name,
            vm.vcpus
        );
    }
    // Threads that wait for each other, on vCPUs that do not all run, in both guests at once.
    for guest in guests {
        session.send(guest, "xtest -t regression 1003 1004 1009 1012 1040")?;
    }
    for guest in guests {
        xtest_end(&mut session, guest, 5)?;
    }
    power_off(session, &["a", "b"])
}
