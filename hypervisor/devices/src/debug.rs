// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A vCPU's self-hosted debug registers (Arm ARM DDI 0487, D2): breakpoints, watchpoints, single step, the OS lock.
//!
//! All accesses trap, and what the guest reads is kept here. The hardware's registers are only ever written, by what
//! [`DebugUnit::is_in_use`] and the methods beside it say. So nothing of the debug communications channel, which is
//! shared with whoever debugs the machine from outside, reaches a guest, and a guest's breakpoints match in its own
//! exception levels and security state only, whatever the guest wrote.

/// The most breakpoints, and the most watchpoints, that the architecture has without FEAT_Debugv8p9.
pub const MAX_PAIRS: usize = 16;

/// MDSCR_EL1.SS: software step.
const SS: u64 = 1;
/// MDSCR_EL1.TDCC: traps EL0's accesses to the debug communications channel.
pub const TDCC: u64 = 1 << 12;
/// MDSCR_EL1.KDE: debug exceptions from EL1 itself.
const KDE: u64 = 1 << 13;
/// MDSCR_EL1.MDE: breakpoints and watchpoints.
const MDE: u64 = 1 << 15;

/// OSLSR_EL1.OSLK: the OS lock is locked.
const OSLK: u64 = 1 << 1;
/// OSLSR_EL1.OSLM, 0b10: there is an OS lock.
const OSLM: u64 = 1 << 3;
/// The claim tags, eight.
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
/// DBGBCR.BT: what is compared, and whether it is linked.
const BT: u64 = 0xf << 20;
/// The highest BT without a VMID or EL2's context, which a guest does not have: Linked Context ID.
const BT_LINKED_CONTEXT: u64 = 0b0011 << 20;
/// DBGWCR.LSC, BAS, WT, MASK.
const WATCHPOINT_OWN: u64 = 0b11 << 3 | 0xff << 5 | 1 << 20 | 0x1f << 24;
/// SSC, HMC and PMC of either.
const WHERE: u64 = SSC | 1 << 13 | PRIVILEGE;
const BREAKPOINT_FIELDS: u64 = BT | LBN | WHERE | BREAKPOINT_BAS | ENABLE;
const WATCHPOINT_FIELDS: u64 = WATCHPOINT_OWN | LBN | WHERE | ENABLE;

/// A register that [`DebugUnit`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugRegister {
    /// MDSCR_EL1.
    Control,
    /// OSLAR_EL1, written only.
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

/// A breakpoint or a watchpoint: its value and its control register.
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

    /// Returns what the hardware is to have: the same, with the guest's EL1 and EL0 in Non-secure state at most. `own`
    /// are the fields that are kept. HMC is zero and SSC 0b01, with which each PMC but 0b00 is valid (DDI 0487,
    /// D2.8.3); secure or higher levels alone are nowhere the guest is.
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
    /// MDSCR_EL1: those of its bits that a guest can set.
    control: u64,
    os_lock: bool,
    claimed: u64,
    breakpoints: [Pair; MAX_PAIRS],
    watchpoints: [Pair; MAX_PAIRS],
}

impl DebugUnit {
    /// Returns the registers of a vCPU that was just turned on: nothing is enabled, and the OS lock is locked.
    pub const fn new() -> Self {
        Self {
            control: 0,
            os_lock: true,
            claimed: 0,
            breakpoints: [Pair::OFF; MAX_PAIRS],
            watchpoints: [Pair::OFF; MAX_PAIRS],
        }
    }

    /// Returns what a read of `register` finds.
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

    /// Whether the guest can get a debug exception but for BRK's: then the hardware is to have its registers while
    /// it runs. While the OS lock is locked there are none (DDI 0487, D2.5).
    #[inline]
    pub fn is_in_use(&self) -> bool {
        !self.os_lock && self.control & (SS | MDE) != 0
    }

    /// Returns the hardware's MDSCR_EL1 while the guest runs and [`DebugUnit::is_in_use`]. TDCC is always set: there
    /// is no communications channel for EL0.
    pub const fn control_in_use(&self) -> u64 {
        self.control & (SS | KDE | MDE) | TDCC
    }

    /// Returns breakpoint `index` for the hardware.
    pub fn breakpoint(&self, index: usize) -> Pair {
        let Some(&pair) = self.breakpoints.get(index) else {
            return Pair::OFF;
        };
        match pair.control & BT {
            // What it is linked to says where; of its own fields only these count.
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
