// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command queue (IHI 0070F.b 3.5.1, chapter 4).

use super::error::SmmuError;
use super::registers::{
    BASE_ALLOCATE, CMDQ_BASE, CMDQ_CONS, CMDQ_PROD, GERROR, GERROR_CMDQ_ERR, GERRORN,
};
use super::{Hardware, wait_until};
use mediator::addr::{Ipa, Pa};

/// The bytes of a command.
const BYTES: u64 = 16;

/// A command: two double words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command([u64; 2]);

impl Command {
    /// CMD_CFGI_ALL (4.3): forgets the whole stream table, its first level included.
    pub const CFGI_ALL: Self = Self([0x04, 31]);
    /// CMD_TLBI_NSNH_ALL (4.4): forgets all translations of EL1 and EL0.
    pub const TLBI_NSNH_ALL: Self = Self([0x30, 0]);
    /// CMD_SYNC (4.7): is consumed when all earlier commands are complete. It signals nothing.
    pub const SYNC: Self = Self([0x46, 0]);

    /// CMD_TLBI_S12_VMALL (4.4): forgets all translations with a VMID.
    pub const fn tlbi_s12_vmall(vmid: u16) -> Self {
        Self([0x28 | (vmid as u64) << 32, 0])
    }

    /// CMD_TLBI_S2_IPA (4.4): forgets the translation of a page or block with a VMID, and the entries of tables that
    /// lead to it.
    pub const fn tlbi_s2_ipa(vmid: u16, ipa: Ipa) -> Self {
        Self([0x2a | (vmid as u64) << 32, ipa.page().get()])
    }
}

/// The queue by which EL2 gives the SMMU commands.
#[derive(Debug)]
pub struct CommandQueue {
    base: Pa,
    /// The base-2 logarithm of the number of entries.
    bits: u32,
    /// Where the next command goes: an index, and above it the bit that changes at each wrap.
    producer: u32,
}

impl CommandQueue {
    /// Makes an empty queue and tells the SMMU, whose queue is off. Returns `None` where there is no memory.
    pub fn new(hardware: &mut impl Hardware, bits: u32) -> Option<Self> {
        let base = hardware.allocate(((BYTES as usize) << bits).next_power_of_two().max(64))?;
        hardware.write_double(CMDQ_BASE, BASE_ALLOCATE | base.get() | u64::from(bits));
        hardware.write(CMDQ_PROD, 0);
        hardware.write(CMDQ_CONS, 0);
        Some(Self {
            base,
            bits,
            producer: 0,
        })
    }

    /// Executes commands. On return they are complete, and so are all accesses by what they made the SMMU forget.
    ///
    /// # Errors
    /// They are not: see [`SmmuError`].
    pub fn execute(
        &mut self,
        hardware: &mut impl Hardware,
        commands: &[Command],
    ) -> Result<(), SmmuError> {
        // The SMMU sees what was written to tables before it sees the commands.
        hardware.order();
        for command in commands.iter().chain([&Command::SYNC]) {
            self.push(hardware, *command)?;
        }
        let producer = self.producer;
        self.wait(hardware, |consumer| consumer == producer)?;
        // What is read or written from here on comes after what the SMMU did.
        hardware.order();
        Ok(())
    }

    fn push(&mut self, hardware: &mut impl Hardware, command: Command) -> Result<(), SmmuError> {
        let (producer, entries) = (self.producer, 1 << self.bits);
        // Full where only the wrap bits differ.
        self.wait(hardware, |consumer| consumer ^ producer != entries)?;
        let slot = u64::from(producer & (entries - 1));
        let at = self.base.get() + BYTES * slot;
        for (at, double) in [at, at + 8].into_iter().zip(command.0) {
            hardware.write_memory(Pa::new(at), double);
        }
        // The command is there before the SMMU hears of it.
        hardware.order();
        self.producer = (producer + 1) & self.index_mask();
        hardware.write(CMDQ_PROD, self.producer);
        Ok(())
    }

    /// Waits until `done` of the consumer's index.
    fn wait(
        &mut self,
        hardware: &mut impl Hardware,
        done: impl Fn(u32) -> bool,
    ) -> Result<(), SmmuError> {
        let mask = self.index_mask();
        let mut is_done = false;
        let in_time = wait_until(hardware, |hardware| {
            is_done = done(hardware.read(CMDQ_CONS) & mask);
            is_done || has_stopped(hardware)
        });
        match (is_done, in_time) {
            (true, _) => Ok(()),
            (false, true) => Err(self.recover(hardware)),
            (false, false) => Err(SmmuError::Timeout),
        }
    }

    /// Drops the command that the SMMU did not understand and all later ones, and lets the SMMU go on (7.1).
    fn recover(&mut self, hardware: &mut impl Hardware) -> SmmuError {
        let consumer = hardware.read(CMDQ_CONS);
        self.producer = consumer & self.index_mask();
        hardware.write(CMDQ_PROD, self.producer);
        let acknowledged = hardware.read(GERRORN) ^ GERROR_CMDQ_ERR;
        hardware.write(GERRORN, acknowledged);
        SmmuError::Command {
            code: (consumer >> 24 & 0x7f) as u8,
        }
    }

    const fn index_mask(&self) -> u32 {
        (2 << self.bits) - 1
    }
}

/// Returns whether the SMMU has stopped to execute commands because of one that it does not understand.
fn has_stopped(hardware: &impl Hardware) -> bool {
    (hardware.read(GERROR) ^ hardware.read(GERRORN)) & GERROR_CMDQ_ERR != 0
}
