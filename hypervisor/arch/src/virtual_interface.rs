// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control of the virtual CPU interface, with its list registers: by the system registers of a GICv3 ([`ich`]), or in
//! the memory of a GICv2 ([`gich`](super::gich)).

use super::bus::Machine;
use super::distributor::InterfaceBase;
use super::gich::Gich;
use super::{barrier, ich};
use core::sync::atomic::{AtomicU64, Ordering};
use mediator::addr::Pa;

pub use super::ich::Interface;

/// GICH's address; 0 in a machine with a GICv3.
static GICH: AtomicU64 = AtomicU64::new(0);

/// The registers of this machine.
#[derive(Clone, Copy)]
pub enum VirtualInterface {
    /// ICH_*_EL2.
    SystemRegisters,
    /// GICH_*.
    Memory(Gich<Machine>),
}

/// Returns the registers of this machine. The caller keeps them for a series of accesses.
#[inline]
pub fn this() -> VirtualInterface {
    match InterfaceBase::new(GICH.load(Ordering::Relaxed)) {
        None => VirtualInterface::SystemRegisters,
        Some(base) => VirtualInterface::Memory(Gich::new(Machine, base)),
    }
}

/// Makes the virtual interface one in memory, at `gich`. On the boot pCPU, before any of the functions here is used.
pub(super) fn set_memory(gich: Pa) {
    GICH.store(gich.get(), Ordering::Relaxed);
}

impl VirtualInterface {
    /// Returns the number of list registers.
    pub fn list_registers(self) -> usize {
        match self {
            Self::SystemRegisters => ich::list_registers(),
            Self::Memory(gich) => gich.list_registers(),
        }
    }

    /// Returns whether a guest's separate deactivation can be trapped alone. In a GICv2 it always is: GICC_DIR has a page of
    /// its own, which no guest has.
    pub fn traps_deactivation(self) -> bool {
        match self {
            Self::SystemRegisters => ich::traps_deactivation(),
            Self::Memory(_) => true,
        }
    }

    /// Turns the virtual interface off, with nothing in it: list registers and active priorities are UNKNOWN after a reset
    /// (IHI 0069H, 12.4, `ICH_LR<n>_EL2`, `ICH_AP0R<n>_EL2` and `ICH_AP1R<n>_EL2`).
    pub(super) fn init(self) {
        self.turn_off();
        for index in 0..self.list_registers() {
            match self {
                Self::SystemRegisters => ich::write_lr(index, 0),
                Self::Memory(gich) => gich.write_lr(index, 0),
            }
        }
        self.load(&Interface::new());
    }

    /// Returns whether LRENPIE raises the maintenance interrupt with nothing to report, as in QEMU 7.2. There a non-zero
    /// EOIcount raises it without.
    pub fn lrenpie_storms(self) -> bool {
        const EN_AND_LRENPIE: u64 = 1 | 1 << 2;
        const MISR_LRENP: u64 = 1 << 2;
        self.set_hcr(EN_AND_LRENPIE);
        barrier::isb();
        let misr = match self {
            Self::SystemRegisters => ich::misr(),
            Self::Memory(gich) => u64::from(gich.misr()),
        };
        self.turn_off();
        misr & MISR_LRENP != 0
    }

    /// Reads ICH_HCR_EL2 or GICH_HCR, with EOIcount in bits 31:27.
    #[inline]
    pub fn hcr(self) -> u64 {
        match self {
            Self::SystemRegisters => ich::hcr(),
            Self::Memory(gich) => u64::from(gich.hcr()),
        }
    }

    /// Sets ICH_HCR_EL2 or GICH_HCR; zero turns the virtual interface off.
    #[inline]
    pub fn set_hcr(self, value: u64) {
        match self {
            Self::SystemRegisters => ich::set_hcr(value),
            Self::Memory(gich) => gich.set_hcr(value as u32),
        }
    }

    /// Turns the virtual interface off: no maintenance interrupt is asserted on return, whatever the list
    /// registers hold (ICH_HCR_EL2.En), and EOIcount is zero.
    pub fn turn_off(self) {
        match self {
            Self::SystemRegisters => {
                ich::set_hcr(0);
                barrier::isb();
            }
            Self::Memory(gich) => {
                gich.set_hcr(0);
                // It has arrived when it can be read back.
                let _ = gich.hcr();
                barrier::dsb();
            }
        }
    }

    /// Reads ICH_VMCR_EL2 or GICH_VMCR of the running vCPU.
    #[inline]
    pub fn vmcr(self) -> u64 {
        match self {
            Self::SystemRegisters => ich::vmcr(),
            Self::Memory(gich) => u64::from(gich.vmcr()),
        }
    }

    /// Saves all but the list registers.
    #[inline]
    pub(super) fn save(self, into: &mut Interface) {
        match self {
            Self::SystemRegisters => ich::save(into),
            Self::Memory(gich) => {
                into.vmcr = u64::from(gich.vmcr());
                into.ap0[0] = u64::from(gich.active_priorities());
            }
        }
    }

    /// Puts a vCPU's virtual interface on this pCPU.
    #[inline]
    pub(super) fn load(self, from: &Interface) {
        match self {
            Self::SystemRegisters => ich::load(from),
            Self::Memory(gich) => {
                gich.set_vmcr(from.vmcr as u32);
                gich.set_active_priorities(from.ap0[0] as u32);
            }
        }
    }
}
