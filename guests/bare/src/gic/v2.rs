// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What only a GICv2 has (IHI 0048B.b): banked registers of the distributor, targets as a bit for each CPU, SGIs that
//! name their source, and a CPU interface in memory.
//!
//! CPU interfaces have the numbers of vCPUs, as on all machines that these programs run on.

use super::{Group, SPURIOUS, read, read_byte, write, write_byte};
use crate::MAX_CPUS;
use crate::machine::{cpu_index, machine};
use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};

/// GICD_ITARGETSR0, 4.3.12: a byte for each interrupt.
pub const GICD_ITARGETSR: u64 = 0x800;
/// GICD_SGIR, 4.3.15.
pub const GICD_SGIR: u64 = 0xf00;
/// GICD_CPENDSGIR0, 4.3.16: a byte for each SGI, a bit for each source.
pub const GICD_CPENDSGIR: u64 = 0xf10;
/// GICD_SPENDSGIR0, 4.3.17.
pub const GICD_SPENDSGIR: u64 = 0xf20;
/// Bytes of the distributor.
pub const DISTRIBUTOR_BYTES: u64 = 0x1000;

/// GICC_CTLR, 4.4.1.
pub const GICC_CTLR: u64 = 0;
const GICC_PMR: u64 = 4;
const GICC_BPR: u64 = 8;
/// GICC_IAR, 4.4.4.
pub const GICC_IAR: u64 = 0xc;
/// GICC_EOIR, 4.4.5.
pub const GICC_EOIR: u64 = 0x10;
const GICC_RPR: u64 = 0x14;
const GICC_ABPR: u64 = 0x1c;
const GICC_APR: u64 = 0xd0;
/// GICC_DIR, 4.4.15: in the second page.
pub const GICC_DIR: u64 = 0x1000;

/// GICC_CTLR.EnableGrp0, where the program sees both groups; otherwise the only group.
pub const ENABLE_GRP0: u32 = 1;
/// GICC_CTLR.EnableGrp1, where the program sees both groups.
pub const ENABLE_GRP1: u32 = 1 << 1;
/// GICC_CTLR.AckCtl: GICC_IAR acknowledges interrupts of group 1, too.
pub const ACK_CTL: u32 = 1 << 2;
/// GICC_CTLR.FIQEn: interrupts of group 0 are FIQs.
pub const FIQ_EN: u32 = 1 << 3;
const EOI_MODE: u32 = 1 << 9;

/// The source of each SGI that a vCPU has acknowledged last: ending it needs the source again. An SGI is active once
/// per vCPU, whatever its source (4.1.4).
static SOURCES: [[AtomicU8; 16]; MAX_CPUS] = [const { [const { AtomicU8::new(0) }; 16] }; MAX_CPUS];

/// Reads a register of the distributor.
pub fn read_distributor(offset: u64) -> u32 {
    read(machine().distributor + offset)
}

/// Writes a register of the distributor.
pub fn write_distributor(offset: u64, value: u32) {
    write(machine().distributor + offset, value);
    barrier();
}

/// Returns the vCPU that has sent the SGI which this vCPU has acknowledged last under that number.
pub fn source(sgi: u32) -> usize {
    let sources = SOURCES
        .get(cpu_index())
        .and_then(|own| own.get(sgi as usize));
    sources.map_or(0, |source| source.load(Ordering::Relaxed).into())
}

/// Returns what GICC_IAR gave for an interrupt: its INTID, and an SGI's source.
pub fn word(intid: u32) -> u32 {
    intid | (source(intid) as u32) << 10
}

/// Delivers an SPI to the vCPUs of `targets`, a bit each.
pub fn set_targets(intid: u32, targets: u8) {
    write_byte(
        machine().distributor + GICD_ITARGETSR + u64::from(intid),
        targets,
    );
}

/// Returns the targets of an interrupt, a bit each.
pub fn targets(intid: u32) -> u8 {
    read_byte(machine().distributor + GICD_ITARGETSR + u64::from(intid))
}

/// What GICD_SGIR takes for an SGI to the vCPUs of `targets`.
pub const fn sgi(sgi: u32, targets: u16) -> u32 {
    sgi & 0xf | (targets as u32 & 0xff) << 16
}

/// Writes GICD_SGIR.
pub fn send(value: u32) {
    write_distributor(GICD_SGIR, value);
}

/// Makes an SGI of this vCPU pending as if the vCPUs of `sources`, a bit each, had sent it.
pub fn set_sgi_pending(sgi: u32, sources: u8) {
    write_byte(
        machine().distributor + GICD_SPENDSGIR + u64::from(sgi),
        sources,
    );
}

/// Takes the pending state of an SGI of this vCPU back, for each of `sources`.
pub fn clear_sgi_pending(sgi: u32, sources: u8) {
    write_byte(
        machine().distributor + GICD_CPENDSGIR + u64::from(sgi),
        sources,
    );
}

/// Returns the sources from which an SGI of this vCPU is pending, a bit each.
pub fn pending_sources(sgi: u32) -> u8 {
    read_byte(machine().distributor + GICD_SPENDSGIR + u64::from(sgi))
}

fn barrier() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// The address of the vCPU's own interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuInterface(pub u64);

impl CpuInterface {
    /// Reads a register.
    pub fn read(self, offset: u64) -> u32 {
        read(self.0 + offset)
    }

    /// Writes a register.
    pub fn write(self, offset: u64, value: u32) {
        write(self.0 + offset, value);
        barrier();
    }

    /// Turns it on, for the group that the program's interrupts belong to at reset.
    pub fn init(self) {
        self.write(GICC_PMR, 0xff);
        self.write(GICC_CTLR, ENABLE_GRP0);
    }

    /// Has no priority active, and the binary points and modes of reset.
    pub fn reset(self) {
        for register in [GICC_APR, GICC_CTLR, GICC_BPR, GICC_ABPR] {
            self.write(register, 0);
        }
    }

    /// Acknowledges the most urgent pending interrupt.
    pub fn take(self) -> Option<u32> {
        barrier();
        let word = self.read(GICC_IAR);
        barrier();
        let intid = word & 0x3ff;
        let sources = SOURCES.get(cpu_index());
        if let Some(source) = sources.and_then(|own| own.get(intid as usize)) {
            source.store((word >> 10 & 7) as u8, Ordering::Relaxed);
        }
        (intid < SPURIOUS).then_some(intid)
    }

    /// Ends an interrupt that [`CpuInterface::take`] gave.
    pub fn end(self, intid: u32) {
        self.write(GICC_EOIR, word(intid));
    }

    /// Deactivates an interrupt.
    pub fn deactivate(self, intid: u32) {
        self.write(GICC_DIR, word(intid));
    }

    /// Reads GICC_PMR.
    pub fn priority_mask(self) -> u8 {
        self.read(GICC_PMR) as u8
    }

    /// Writes GICC_PMR.
    pub fn set_priority_mask(self, priority: u8) {
        self.write(GICC_PMR, priority.into());
    }

    /// Reads GICC_RPR.
    pub fn running_priority(self) -> u8 {
        self.read(GICC_RPR) as u8
    }

    /// Reads GICC_CTLR.EOImode.
    pub fn is_split_end(self) -> bool {
        self.read(GICC_CTLR) & EOI_MODE != 0
    }

    fn control(self, bits: u32, on: bool) {
        let others = self.read(GICC_CTLR) & !bits;
        self.write(GICC_CTLR, if on { others | bits } else { others });
    }

    /// Writes GICC_CTLR.EOImode.
    pub fn split_end(self, split: bool) {
        self.control(EOI_MODE, split);
    }

    /// Enables or disables a group, which needs a program that sees both. From then on GICC_IAR acknowledges
    /// interrupts of both groups (AckCtl).
    pub fn enable_group(self, group: Group, on: bool) {
        self.control(ACK_CTL, true);
        match group {
            Group::Zero => self.control(ENABLE_GRP0, on),
            Group::One => self.control(ENABLE_GRP1, on),
        }
    }

    /// Has GICC_CTLR as [`CpuInterface::init`] leaves it.
    pub fn restore_groups(self) {
        self.write(GICC_CTLR, ENABLE_GRP0);
    }
}
