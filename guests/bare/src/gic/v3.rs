// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What only a GICv3 has (IHI 0069H): redistributors, and a CPU interface of system registers.

use super::{GICD_CTLR, GICD_IGROUPR, Group, SPURIOUS, write};
use crate::machine::{cpu_index, machine};
use core::arch::asm;

const GICD_IROUTER: u64 = 0x6000;
const GICR_WAKER: u64 = 0x14;
const SGI_BASE: u64 = 0x1_0000;
const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;

/// The redistributors' registers, those of CPU 0 first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redistributors(pub u64);

impl Redistributors {
    fn own(self) -> u64 {
        self.0 + cpu_index() as u64 * REDISTRIBUTOR_BYTES
    }

    /// This vCPU's frame for SGIs and PPIs.
    pub fn private_frame(self) -> u64 {
        self.own() + SGI_BASE
    }

    /// Wakes this vCPU's redistributor, and puts its interrupts into group 1.
    pub fn init(self) {
        let waker = self.own() + GICR_WAKER;
        write(waker, super::read(waker) & !(1 << 1));
        while super::read(waker) & 1 << 2 != 0 {
            core::hint::spin_loop();
        }
        write(self.private_frame() + GICD_IGROUPR, u32::MAX);
    }

    /// Waits until a write to the registers of an interrupt is seen: RWP.
    pub fn settle(self, intid: u32) {
        let (control, pending_write) = if intid < 32 {
            (self.own() + GICD_CTLR, 1 << 3)
        } else {
            (machine().distributor + GICD_CTLR, 1 << 31)
        };
        while super::read(control) & pending_write != 0 {
            core::hint::spin_loop();
        }
    }
}

/// Turns the distributor on.
pub fn init_distributor() {
    // Affinity routing and group 1, where there is one security state and where there are two.
    write(machine().distributor + GICD_CTLR, 1 << 4 | 1 << 1);
}

/// Delivers an SPI to a vCPU.
pub fn route(intid: u32, cpu: usize) {
    let route = machine().distributor + GICD_IROUTER + u64::from(intid) * 8;
    write(route, cpu as u32);
    write(route + 4, 0);
}

/// Turns this vCPU's interface on.
pub fn init_interface() {
    // SAFETY: the CPU interface's registers. Interrupts are masked, so no handler is needed.
    unsafe {
        asm!(
            "mrs {level}, CurrentEL",
            "cmp {level}, #8",
            "b.ne 2f",
            "msr icc_sre_el2, {sre}",
            "isb",
            "2: msr icc_sre_el1, {sre}",
            "isb",
            "msr icc_pmr_el1, {pmr}",
            "msr icc_igrpen1_el1, {one}",
            "isb",
            level = out(reg) _,
            sre = in(reg) 0xf_u64,
            pmr = in(reg) 0xff_u64,
            one = in(reg) 1_u64,
            options(nostack)
        );
    }
}

/// Has no priority active, and the mode of reset.
pub fn reset_interface() {
    // SAFETY: the CPU interface's registers (ICC_AP0R0_EL1, ICC_AP1R0_EL1); interrupts are masked.
    unsafe {
        asm!(
            "msr S3_0_C12_C8_4, xzr",
            "msr S3_0_C12_C9_0, xzr",
            "isb",
            options(nostack, preserves_flags)
        );
    }
    split_end(false);
}

/// Enables or disables a group at this vCPU's interface (ICC_IGRPEN0_EL1, ICC_IGRPEN1_EL1).
pub fn enable_group(group: Group, on: bool) {
    let on = u64::from(on);
    // SAFETY: the CPU interface's registers; interrupts are masked, so no handler is needed.
    unsafe {
        match group {
            Group::Zero => asm!("msr S3_0_C12_C12_6, {}", "isb", in(reg) on, options(nostack)),
            Group::One => asm!("msr S3_0_C12_C12_7, {}", "isb", in(reg) on, options(nostack)),
        }
    }
}

/// What ICC_SGI0R_EL1 and ICC_SGI1R_EL1 take for an SGI to the vCPUs of `targets`.
pub const fn sgi(sgi: u32, targets: u16) -> u64 {
    (sgi as u64) << 24 | targets as u64
}

/// Generates an SGI of a group.
pub fn send(group: Group, value: u64) {
    // SAFETY: generating an interrupt changes the interrupt controller's state only.
    unsafe {
        match group {
            Group::Zero => asm!("msr S3_0_C12_C11_7, {}", "isb", in(reg) value, options(nostack)),
            Group::One => {
                asm!("msr icc_sgi1r_el1, {}", "isb", in(reg) value, options(nostack, preserves_flags));
            }
        }
    }
}

/// Acknowledges the most urgent pending interrupt of a group (ICC_IAR0_EL1, ICC_IAR1_EL1).
pub fn take(group: Group) -> Option<u32> {
    let intid: u64;
    // SAFETY: acknowledging changes the interrupt controller's state only.
    unsafe {
        match group {
            Group::Zero => {
                asm!("dsb sy", "mrs {}, S3_0_C12_C8_0", "dsb sy", out(reg) intid, options(nostack));
            }
            Group::One => asm!("dsb sy", "mrs {}, icc_iar1_el1", "dsb sy", out(reg) intid,
                options(nostack, preserves_flags)),
        }
    }
    (intid < u64::from(SPURIOUS)).then_some(intid as u32)
}

/// Ends an interrupt of a group (ICC_EOIR0_EL1, ICC_EOIR1_EL1).
pub fn end(group: Group, intid: u32) {
    let value = u64::from(intid);
    // SAFETY: ending changes the interrupt controller's state only.
    unsafe {
        match group {
            Group::Zero => asm!("msr S3_0_C12_C8_1, {}", "isb", in(reg) value, options(nostack)),
            Group::One => {
                asm!("msr icc_eoir1_el1, {}", "isb", in(reg) value, options(nostack, preserves_flags));
            }
        }
    }
}

/// Deactivates an interrupt (ICC_DIR_EL1).
pub fn deactivate(intid: u32) {
    // SAFETY: it changes the interrupt controller's state only.
    unsafe {
        asm!("msr icc_dir_el1, {}", "isb", in(reg) u64::from(intid), options(nostack, preserves_flags));
    }
}

/// Reads ICC_PMR_EL1.
pub fn priority_mask() -> u8 {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe { asm!("mrs {}, icc_pmr_el1", out(reg) value, options(nostack, preserves_flags)) };
    value as u8
}

/// Writes ICC_PMR_EL1.
pub fn set_priority_mask(priority: u8) {
    // SAFETY: it changes the interrupt controller's state only.
    unsafe {
        asm!("msr icc_pmr_el1, {}", "isb", in(reg) u64::from(priority), options(nostack, preserves_flags));
    }
}

/// Reads ICC_RPR_EL1.
pub fn running_priority() -> u8 {
    let priority: u64;
    // SAFETY: reading has no effect.
    unsafe { asm!("mrs {}, icc_rpr_el1", out(reg) priority, options(nostack, preserves_flags)) };
    priority as u8
}

/// Reads ICC_CTLR_EL1.EOImode.
pub fn is_split_end() -> bool {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe { asm!("mrs {}, icc_ctlr_el1", out(reg) value, options(nostack, preserves_flags)) };
    value & 2 != 0
}

/// Writes ICC_CTLR_EL1.EOImode.
pub fn split_end(split: bool) {
    // SAFETY: it changes the interrupt controller's state only.
    unsafe {
        asm!("msr icc_ctlr_el1, {}", "isb", in(reg) u64::from(split) << 1, options(nostack, preserves_flags));
    }
}
