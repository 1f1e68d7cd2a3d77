// SPDX-License-Identifier: Apache-2.0 OR MIT
//! On other boards than `virt`: real firmware, OP-TEE and two Linux guests, which run a case of xtest
//! at the same time.

use anyhow::{Result, ensure};
use postern_qemu::board::BoardName;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, power_off, xtest_end};

/// Boots two guests on a board, whose hypervisor must find these CPUs and this GIC.
fn two_guests_on(board: BoardName, found: &str) -> Result<()> {
    let lab = Lab::new(&format!("board-{board}"))?;
    let system = lab.system("two.toml")?.on_board(board);
    let system = system.map_err(anyhow::Error::msg)?;
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let guests = [session.vm("a")?, session.vm("b")?];
    for guest in guests {
        session.expect(guest, BOOT).ready()?;
    }
    let log = std::fs::read_to_string(lab.folder.join("hypervisor.log"))?;
    ensure!(log.contains(found), "there is no {found:?} in the log");
    for guest in guests {
        session.send(guest, "xtest -t regression 1001")?;
    }
    for guest in guests {
        xtest_end(&mut session, guest, 1)?;
    }
    power_off(session, &["a", "b"])
}

#[test]
fn virt_with_gicv2_runs_two_guests() -> Result<()> {
    two_guests_on(BoardName::VirtGicv2, "4 CPUs, GICv2")
}

#[test]
fn zcu102_runs_two_guests_from_the_tree_of_debian_s_kernel() -> Result<()> {
    two_guests_on(BoardName::Zcu102, "4 CPUs, GICv2")
}

#[test]
fn imx8mp_evk_runs_two_guests_on_its_one_cpu() -> Result<()> {
    two_guests_on(BoardName::Imx8mpEvk, "1 CPUs, GICv3")
}
