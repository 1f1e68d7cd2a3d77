// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The limits of the machine that QEMU emulates.

use super::pci::IOMMU_QEMU;
use super::{MAX_CPUS, MAX_VMS, MachineConfig, cpu};

impl MachineConfig {
    /// Leaves of the CPUs those that the board has.
    pub(super) fn fit_cpus(&mut self) {
        if self.cpus <= MAX_CPUS {
            self.cpus = self.cpus.min(self.board.board().most_cpus);
        }
    }

    /// Returns the first QEMU that has the board and the CPUs: major and minor version.
    pub(crate) fn least_qemu(&self) -> (u32, u32) {
        let board = self.board.board();
        let iommu = if self.iommu { IOMMU_QEMU } else { (0, 0) };
        board
            .qemu
            .max(cpu::least_qemu(board.cpu(self.cpu.as_deref())))
            .max(iommu)
    }

    /// Checks the limits that a type cannot express.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_CPUS).contains(&self.cpus) {
            return Err(format!(
                "machine.cpus = {}: it must be 1 to {MAX_CPUS}, as OP-TEE is built for {MAX_CPUS} cores",
                self.cpus
            ));
        }
        let board = self.board.board();
        if let (Some(own), Some(cpu)) = (board.cpu, &self.cpu) {
            return Err(format!(
                "machine.cpu = \"{cpu}\": the board {} has {own} CPUs: remove machine.cpu",
                board.name
            ));
        }
        if let Some(cpu) = &self.cpu {
            cpu::check(cpu)?;
        }
        let (least, most) = (board.least_ram_mib, board.most_ram_mib());
        if !(least..=most).contains(&self.memory_mib) {
            return Err(format!(
                "machine.memory_mib = {}: it must be {least} to {most} on the board {}",
                self.memory_mib, board.name
            ));
        }
        self.check_pci()?;
        self.check_abi()?;
        match self.optee_guests {
            Some(_) if !self.optee_virtualised => {
                return Err(
                    "machine.optee_guests: an OP-TEE without virtualisation serves one VM; \
                     drop optee_guests or optee_virtualised = false"
                        .into(),
                );
            }
            Some(guests) if !(1..=MAX_VMS).contains(&(guests as usize)) => {
                return Err(format!(
                    "machine.optee_guests = {guests}: it must be 1 to {MAX_VMS}"
                ));
            }
            _ => {}
        }
        if let Some(flag) = self.optee_flags.iter().find(|flag| !is_setting(flag)) {
            return Err(format!(
                "machine.optee_flags: \"{flag}\" is no setting of OP-TEE's build; write for example \"CFG_TEE_CORE_LOG_LEVEL=1\""
            ));
        }
        if !self.optee_flags.is_empty() && !self.optee_virtualised {
            return Err(
                "machine.optee_flags: only the OP-TEE for virtualisation is built; \
                 drop optee_flags or optee_virtualised = false"
                    .into(),
            );
        }
        Ok(())
    }
}

/// Returns whether a text is a setting of OP-TEE's build, and not something that make would read
/// differently.
fn is_setting(flag: &str) -> bool {
    let word = |text: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !text.is_empty() && text.chars().all(good)
    };
    flag.strip_prefix("CFG_")
        .and_then(|rest| rest.split_once('='))
        .is_some_and(|(name, value)| word(name) && word(value))
}
