// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of a vCPU's CPU interface that are common to both groups, for CPUs on which they
//! trap.
//!
//! The hardware implements these registers. But a CPU that cannot trap writes to ICC_DIR_EL1 alone
//! (ICH_VTR_EL2.TDS is 0, as on Cortex-A57 and Cortex-A72) traps all of them with ICH_HCR_EL2.TC.

use super::lr::Vmcr;

/// A register that [`super::Hcr::TC`] traps, besides ICC_DIR_EL1 and those that generate SGIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceRegister {
    /// ICC_CTLR_EL1.
    Control,
    /// ICC_PMR_EL1.
    PriorityMask,
    /// ICC_RPR_EL1, which is read only.
    RunningPriority,
}

/// The state from which the values of these registers are derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuInterface {
    /// ICH_VMCR_EL2 of the vCPU.
    pub vmcr: Vmcr,
    /// ICH_VTR_EL2 of the pCPU.
    pub vtr: u64,
    /// The active priorities of both groups: ICH_AP0R&lt;n&gt;_EL2 ORed with
    /// ICH_AP1R&lt;n&gt;_EL2.
    pub active: [u32; 4],
}

impl CpuInterface {
    /// Does a guest's access: a write of a value, or a read. Returns the value read, or zero for a
    /// write.
    pub fn access(&mut self, register: InterfaceRegister, write: Option<u64>) -> u64 {
        match (register, write) {
            (InterfaceRegister::Control, Some(value)) => {
                self.vmcr = self.vmcr.with_control(value);
                0
            }
            (InterfaceRegister::Control, None) => self.vmcr.control(self.vtr),
            (InterfaceRegister::PriorityMask, Some(value)) => {
                self.vmcr = self.vmcr.with_priority_mask(value as u8);
                0
            }
            (InterfaceRegister::PriorityMask, None) => self.vmcr.priority_mask().into(),
            (InterfaceRegister::RunningPriority, Some(_)) => 0,
            (InterfaceRegister::RunningPriority, None) => self.running_priority().into(),
        }
    }

    /// Returns the highest active priority, or the idle priority if no interrupt is active
    /// (IHI 0069H 4.8).
    fn running_priority(&self) -> u8 {
        let preemption_bits = (self.vtr >> 26 & 7) as u32 + 1;
        let words = (0..).step_by(32).zip(self.active);
        let mut levels = words
            .filter(|(_, word)| *word != 0)
            .map(|(first, word)| first + word.trailing_zeros());
        let level = levels.next();
        level.map_or(u8::MAX, |level| {
            (level << (8 - preemption_bits.min(8))) as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ICH_VTR_EL2 as on Cortex-A72: five priority and preemption bits, 16 INTID bits, no Aff3, no
    /// SEI.
    const A72: u64 = 0x9000_0003;
    /// ICH_VTR_EL2 with seven priority and preemption bits, 24 INTID bits, Aff3 and SEI.
    const MOST: u64 = 6 << 29 | 6 << 26 | 1 << 23 | 1 << 22 | 1 << 21;

    fn interface(vtr: u64) -> CpuInterface {
        CpuInterface {
            vmcr: Vmcr::from_bits(0xf0 << 24 | 3),
            vtr,
            active: [0; 4],
        }
    }

    #[test]
    fn control_has_cbpr_and_eoimode_of_the_guest_and_other_fields_of_the_cpu() {
        use InterfaceRegister::Control;
        for (vtr, fixed) in [(A72, 4 << 8), (MOST, 6 << 8 | 1 << 11 | 1 << 14 | 1 << 15)] {
            let mut interface = interface(vtr);
            // Each bit is set and cleared.
            for own in [0, 1, 2, 3, 0, 2, 1, 3] {
                let others = interface.vmcr.bits() & !(1 << 4 | 1 << 9);
                assert_eq!(interface.access(Control, Some(own | 0xffff_fffc)), 0);
                assert_eq!(interface.access(Control, None), own | fixed);
                assert_eq!(interface.vmcr.splits_eoi(), own & 2 != 0);
                let written = (own & 1) << 4 | (own & 2) << 8;
                assert_eq!(interface.vmcr.bits(), others | written);
            }
        }
    }

    #[test]
    fn priority_mask_write_changes_only_the_mask() {
        use InterfaceRegister::PriorityMask;
        let mut interface = interface(A72);
        assert_eq!(interface.access(PriorityMask, None), 0xf0);
        interface.access(PriorityMask, Some(0xffff_ff88));
        assert_eq!(interface.access(PriorityMask, None), 0x88);
        assert_eq!(interface.vmcr.bits(), 0x88 << 24 | 3);
    }

    #[test]
    fn running_priority_is_the_highest_active_priority() {
        use InterfaceRegister::RunningPriority;
        for (vtr, active, priority) in [
            (A72, [0; 4], 0xff),
            (A72, [1, 0, 0, 0], 0),
            (A72, [1 << 20 | 1 << 22, 0, 0, 0], 0xa0),
            (A72, [1 << 31, 0, 0, 0], 0xf8),
            (MOST, [0, 1 << 8 | 1 << 9, 0, 1], 40 << 1),
            (MOST, [0, 0, 0, 1 << 31], 0xfe),
        ] {
            let mut interface = CpuInterface {
                active,
                ..interface(vtr)
            };
            assert_eq!(interface.access(RunningPriority, None), priority);
            assert_eq!(interface.access(RunningPriority, Some(0)), 0);
            assert_eq!(interface.active, active);
        }
    }
}
