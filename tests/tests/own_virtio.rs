// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The virtio devices that a guest has for itself, with Debian's own drivers: random numbers, and a disk that two guests
//! read.

use anyhow::{Context, Result, ensure};
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::guest_shell::shell;
use postern_tests::{BOOT, Lab, WORK, power_off, stopped};
use std::process::Command;

/// The bytes of the disk.
const BYTES: usize = 8 << 20;
/// Reads from the hypervisor's device and from no other; all bytes equal would be no random numbers.
const RANDOM: &str = "cd /sys/class/misc/hw_random && echo virtio_rng.0 > rng_current && \
                      grep virtio_rng.0 rng_current && dd if=/dev/hwrng of=/one bs=256 count=1 && \
                      dd if=/dev/hwrng of=/two bs=256 count=1 && ! cmp -s /one /two && \
                      test $(wc -c < /one) -gt 0 && echo \"random\"";

/// Checks what a guest reads from its disk, and that it can only read.
fn check_disk(session: &mut Session, guest: Channel, sum: &str) -> Result<()> {
    let sectors = BYTES / 512;
    let commands = format!(
        "grep -x {sectors} /sys/block/vda/size && grep -x 1 /sys/block/vda/ro && \
         sha256sum /dev/vda | grep {sum} && ! dd if=/dev/zero of=/dev/vda bs=512 count=1"
    );
    shell(session, guest, WORK, &commands)
}

#[test]
fn guests_read_random_numbers_and_a_disk_in_ram() -> Result<()> {
    let lab = Lab::new("own-virtio")?;
    let mut system = lab.system("two.toml")?;
    // The model that has RNDRRS, which QEMU's firmware does not replace.
    system.machine.cpu = Some("max".into());
    let disk = lab.folder.join("content.img");
    let content: Vec<u8> = (0..BYTES)
        .map(|at| (at * 7 / 512) as u8 ^ at as u8)
        .collect();
    std::fs::write(&disk, &content)?;
    let output = Command::new("sha256sum").arg(&disk).output()?;
    let output = String::from_utf8(output.stdout)?;
    let sum = output.split_whitespace().next().context("no sum")?;
    for vm in &mut system.vms {
        vm.disk = Some(disk.clone());
    }
    system.vms[0].rng = true;
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    session.expect(a, BOOT).ready()?;
    session.expect(b, BOOT).ready()?;
    check_disk(&mut session, b, sum)?;
    // In two lives: the second finds everything as the first did.
    for is_first in [true, false] {
        shell(&mut session, a, WORK, RANDOM)?;
        check_disk(&mut session, a, sum)?;
        if is_first {
            session.send(Channel::Hypervisor, "vm reset a")?;
            stopped(&mut session, "a", "reset")?;
            session.expect(a, BOOT).ready()?;
        }
    }
    let log = std::fs::read_to_string(lab.folder.join("hypervisor.log"))?;
    ensure!(!log.contains("gets no rng"), "the machine has no source");
    power_off(session, &["a", "b"])
}
