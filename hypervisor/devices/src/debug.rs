// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A vCPU's self-hosted debug registers (Arm ARM DDI 0487 D2): breakpoints, watchpoints, single
//! step and the OS lock.
//!
//! All accesses trap, and [`DebugUnit`] holds the values that the guest reads. The hypervisor never
//! reads the hardware's registers, and writes to them only values that [`DebugUnit`] returns. So no
//! data of the debug communications channel, which an external debugger shares, reaches a guest. A
//! guest's breakpoints match only in its own exception levels and security state, whatever the
//! guest wrote.

/// The maximum number of breakpoints, and of watchpoints, without FEAT_Debugv8p9.
pub const MAX_PAIRS: usize = 16;

/// MDSCR_EL1.SS: software step.
const SS: u64 = 1;
/// MDSCR_EL1.TDCC, which traps EL0's accesses to the debug communications channel.
pub const TDCC: u64 = 1 << 12;
/// MDSCR_EL1.KDE: debug exceptions from EL1 itself.
const KDE: u64 = 1 << 13;
/// MDSCR_EL1.MDE: breakpoints and watchpoints.
const MDE: u64 = 1 << 15;

/// OSLSR_EL1.OSLK: the OS lock is locked.
const OSLK: u64 = 1 << 1;
/// OSLSR_EL1.OSLM, 0b10: the OS lock is implemented.
const OSLM: u64 = 1 << 3;
/// The eight claim tags.
const CLAIM_TAGS: u64 = 0xff;

/// DBGBCR.E and DBGWCR.E.
const ENABLE: u64 = 1;
/// PMC and PAC: at EL1, at EL0.
const PRIVILEGE: u64 = 0b11 << 1;
/// SSC, the security states.
const SSC: u64 = 0b11 << 14;
/// SSC, 0b01: Non-secure state only.
const SSC_NON_SECURE: u64 = 0b01 << 14;
const LBN: u64 = 0xf << 16;
/// DBGBCR.BAS.
const BREAKPOINT_BAS: u64 = 0xf << 5;
/// DBGBCR.BT: the type of the comparison, and whether it is linked.
const BT: u64 = 0xf << 20;
/// BT for a linked Context ID: the highest value without a VMID or EL2's Context ID, which a guest
/// does not have.
const BT_LINKED_CONTEXT: u64 = 0b0011 << 20;
/// DBGWCR.LSC, BAS, WT, MASK.
const WATCHPOINT_OWN: u64 = 0b11 << 3 | 0xff << 5 | 1 << 20 | 0x1f << 24;
/// SSC, HMC and PMC or PAC, of DBGBCR and DBGWCR.
const WHERE: u64 = SSC | 1 << 13 | PRIVILEGE;
const BREAKPOINT_FIELDS: u64 = BT | LBN | WHERE | BREAKPOINT_BAS | ENABLE;
const WATCHPOINT_FIELDS: u64 = WATCHPOINT_OWN | LBN | WHERE | ENABLE;

/// A register whose value [`DebugUnit`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugRegister {
    /// MDSCR_EL1.
    Control,
    /// OSLAR_EL1, write only.
    OsLockAccess,
    /// OSLSR_EL1, read only.
    OsLockStatus,
    /// DBGCLAIMSET_EL1.
    ClaimSet,
    /// DBGCLAIMCLR_EL1.
    ClaimClear,
    /// DBGBVR&lt;n&gt;_EL1.
    BreakpointValue(u8),
    /// DBGBCR&lt;n&gt;_EL1.
    BreakpointControl(u8),
    /// DBGWVR&lt;n&gt;_EL1.
    WatchpointValue(u8),
    /// DBGWCR&lt;n&gt;_EL1.
    WatchpointControl(u8),
}

/// The value and the control register of a breakpoint or a watchpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pair {
    /// DBGBVR&lt;n&gt;_EL1 or DBGWVR&lt;n&gt;_EL1.
    pub value: u64,
    /// DBGBCR&lt;n&gt;_EL1 or DBGWCR&lt;n&gt;_EL1.
    pub control: u64,
}

impl Pair {
    const OFF: Self = Self {
        value: 0,
        control: 0,
    };

    /// Returns the values for the hardware: the same, confined to the guest's EL1 and EL0 in
    /// Non-secure state. `own` are the fields that are kept. HMC becomes zero and SSC 0b01, with
    /// which each PMC except 0b00 is valid (DDI 0487 D2.8.3). The pair is off if it would match
    /// only in Secure state or at higher exception levels, where the guest never runs.
    const fn confined(self, own: u64) -> Self {
        let somewhere = self.control & PRIVILEGE != 0 && self.control & SSC <= SSC_NON_SECURE;
        if self.control & ENABLE == 0 || !somewhere {
            return Self::OFF;
        }
        Self {
            value: self.value,
            control: self.control & (own | PRIVILEGE | ENABLE) | SSC_NON_SECURE,
        }
    }
}

/// The debug registers of one vCPU.
#[derive(Clone, Debug)]
pub struct DebugUnit {
    /// The bits of MDSCR_EL1 that a guest can set.
    control: u64,
    os_lock: bool,
    claimed: u64,
    breakpoints: [Pair; MAX_PAIRS],
    watchpoints: [Pair; MAX_PAIRS],
}

impl DebugUnit {
    /// Returns the registers of a vCPU that was just turned on: nothing is enabled, and the OS lock
    /// is locked.
    pub const fn new() -> Self {
        Self {
            control: 0,
            os_lock: true,
            claimed: 0,
            breakpoints: [Pair::OFF; MAX_PAIRS],
            watchpoints: [Pair::OFF; MAX_PAIRS],
        }
    }

    /// Returns the value that a read of `register` returns.
    pub fn read(&self, register: DebugRegister) -> u64 {
        let pair = |pairs: &[Pair; MAX_PAIRS], index: u8| {
            pairs.get(usize::from(index)).copied().unwrap_or(Pair::OFF)
        };
        match register {
            DebugRegister::Control => self.control,
            DebugRegister::OsLockAccess => 0,
            DebugRegister::OsLockStatus if self.os_lock => OSLM | OSLK,
            DebugRegister::OsLockStatus => OSLM,
            DebugRegister::ClaimSet => CLAIM_TAGS,
            DebugRegister::ClaimClear => self.claimed,
            DebugRegister::BreakpointValue(index) => pair(&self.breakpoints, index).value,
            DebugRegister::BreakpointControl(index) => pair(&self.breakpoints, index).control,
            DebugRegister::WatchpointValue(index) => pair(&self.watchpoints, index).value,
            DebugRegister::WatchpointControl(index) => pair(&self.watchpoints, index).control,
        }
    }

    /// Writes `value` to `register`.
    pub fn write(&mut self, register: DebugRegister, value: u64) {
        match register {
            DebugRegister::Control => self.control = value & (SS | TDCC | KDE | MDE),
            DebugRegister::OsLockAccess => self.os_lock = value & 1 != 0,
            DebugRegister::OsLockStatus => {}
            DebugRegister::ClaimSet => self.claimed |= value & CLAIM_TAGS,
            DebugRegister::ClaimClear => self.claimed &= !value,
            DebugRegister::BreakpointValue(index) => {
                if let Some(pair) = self.breakpoints.get_mut(usize::from(index)) {
                    pair.value = value;
                }
            }
            DebugRegister::BreakpointControl(index) => {
                if let Some(pair) = self.breakpoints.get_mut(usize::from(index)) {
                    pair.control = value & BREAKPOINT_FIELDS;
                }
            }
            DebugRegister::WatchpointValue(index) => {
                if let Some(pair) = self.watchpoints.get_mut(usize::from(index)) {
                    pair.value = value & !3;
                }
            }
            DebugRegister::WatchpointControl(index) => {
                if let Some(pair) = self.watchpoints.get_mut(usize::from(index)) {
                    pair.control = value & WATCHPOINT_FIELDS;
                }
            }
        }
    }

    /// Returns whether the guest can take a debug exception other than that of BRK. If it can, the
    /// hardware needs its registers while it runs. While the OS lock is locked, there are no such
    /// exceptions (DDI 0487 D2.5).
    #[inline]
    pub fn is_in_use(&self) -> bool {
        !self.os_lock && self.control & (SS | MDE) != 0
    }

    /// Returns the hardware's MDSCR_EL1 for a guest that runs while [`DebugUnit::is_in_use`]. TDCC
    /// is always set: EL0 has no communications channel.
    pub const fn control_in_use(&self) -> u64 {
        self.control & (SS | KDE | MDE) | TDCC
    }

    /// Returns breakpoint `index` for the hardware.
    pub fn breakpoint(&self, index: usize) -> Pair {
        let Some(&pair) = self.breakpoints.get(index) else {
            return Pair::OFF;
        };
        match pair.control & BT {
            // The linked breakpoint or watchpoint has the exception level and security state.
            // Only these fields of the Context breakpoint are used.
            BT_LINKED_CONTEXT if pair.control & ENABLE != 0 => Pair {
                value: pair.value,
                control: pair.control & (BT | BREAKPOINT_BAS | ENABLE),
            },
            0..BT_LINKED_CONTEXT => pair.confined(BT | LBN | BREAKPOINT_BAS),
            _ => Pair::OFF,
        }
    }

    /// Returns watchpoint `index` for the hardware.
    pub fn watchpoint(&self, index: usize) -> Pair {
        let pair = self.watchpoints.get(index).copied();
        pair.unwrap_or_default().confined(LBN | WATCHPOINT_OWN)
    }
}

#[cfg(test)]
mod tests;
