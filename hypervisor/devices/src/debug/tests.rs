// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use DebugRegister::{
    BreakpointControl, BreakpointValue, ClaimClear, ClaimSet, Control, OsLockAccess, OsLockStatus,
    WatchpointControl, WatchpointValue,
};
use proptest::prelude::*;

/// BAS 0b1111, EL1 and EL0, enabled.
const BREAK_HERE: u64 = 0x1e7;
/// Eight bytes, loads and stores, EL1 and EL0, enabled.
const WATCH_HERE: u64 = 0x1fff;
const HMC: u64 = 1 << 13;

fn open() -> DebugUnit {
    let mut unit = DebugUnit::new();
    unit.write(OsLockAccess, 0);
    unit
}

fn breakpoint(control: u64) -> Pair {
    let mut unit = open();
    unit.write(BreakpointValue(3), 0x4000);
    unit.write(BreakpointControl(3), control);
    unit.breakpoint(3)
}

fn watchpoint(control: u64) -> Pair {
    let mut unit = open();
    unit.write(WatchpointValue(3), 0x4000);
    unit.write(WatchpointControl(3), control);
    unit.watchpoint(3)
}

#[test]
fn after_reset_nothing_is_in_use() {
    let unit = DebugUnit::new();
    assert!(!unit.is_in_use());
    assert_eq!(unit.read(OsLockStatus), 0b1010);
    assert_eq!(unit.read(Control), 0);
    assert_eq!(unit.read(ClaimSet), 0xff);
    for index in 0..MAX_PAIRS {
        assert_eq!(unit.breakpoint(index), Pair::OFF);
        assert_eq!(unit.watchpoint(index), Pair::OFF);
    }
}

#[test]
fn what_linux_does_at_boot_uses_nothing() {
    let mut unit = DebugUnit::new();
    unit.write(Control, TDCC);
    unit.write(OsLockAccess, 0);
    for index in 0..6 {
        unit.write(BreakpointControl(index), 0);
        unit.write(BreakpointValue(index), 0);
        unit.write(WatchpointControl(index), 0);
        unit.write(WatchpointValue(index), 0);
    }
    assert_eq!(unit.read(OsLockStatus), 0b1000);
    assert_eq!(unit.read(Control), TDCC);
    assert!(!unit.is_in_use());
}

#[test]
fn the_os_lock_keeps_the_hardware_quiet() {
    for bit in [SS, MDE] {
        let mut unit = DebugUnit::new();
        unit.write(Control, bit);
        assert!(!unit.is_in_use());
        unit.write(OsLockAccess, !1);
        assert!(unit.is_in_use());
        unit.write(OsLockAccess, 1);
        assert!(!unit.is_in_use());
    }
}

#[test]
fn what_of_mdscr_reaches_the_hardware() {
    let mut unit = open();
    unit.write(Control, u64::MAX);
    assert_eq!(unit.read(Control), SS | TDCC | KDE | MDE);
    // Not HDE, by which EL2 would stop for a debugger outside, and not TDA.
    assert_eq!(unit.control_in_use(), SS | TDCC | KDE | MDE);
    unit.write(Control, MDE);
    assert_eq!(unit.control_in_use(), TDCC | MDE);
}

#[test]
fn a_guest_reads_what_it_wrote() {
    let mut unit = open();
    unit.write(BreakpointValue(15), 0xffff_8000_1234_5678);
    unit.write(BreakpointControl(15), u64::MAX);
    unit.write(WatchpointValue(15), 0xffff_8000_1234_567f);
    unit.write(WatchpointControl(15), u64::MAX);
    assert_eq!(unit.read(BreakpointValue(15)), 0xffff_8000_1234_5678);
    assert_eq!(unit.read(BreakpointControl(15)), 0x00ff_e1e7);
    assert_eq!(unit.read(WatchpointValue(15)), 0xffff_8000_1234_567c);
    assert_eq!(unit.read(WatchpointControl(15)), 0x1f1f_ffff);
    unit.write(ClaimSet, 0x1f0);
    unit.write(ClaimClear, 0x10);
    assert_eq!(unit.read(ClaimClear), 0xe0);
    assert_eq!(unit.read(ClaimSet), 0xff);
    // Beyond what there can be.
    unit.write(BreakpointControl(16), u64::MAX);
    assert_eq!(unit.read(BreakpointControl(16)), 0);
    assert_eq!(unit.breakpoint(16), Pair::OFF);
}

#[test]
fn in_non_secure_state_and_at_its_own_levels() {
    let non_secure = 1 << 14;
    for (control, expected) in [
        (BREAK_HERE, BREAK_HERE | non_secure),
        (BREAK_HERE | non_secure, BREAK_HERE | non_secure),
        // And at EL2: not.
        (BREAK_HERE | HMC, BREAK_HERE | non_secure),
        // At EL2 and above only, in Secure state only, or reserved.
        (BREAK_HERE & !PRIVILEGE | HMC | SSC, 0),
        (BREAK_HERE | 2 << 14, 0),
        (BREAK_HERE | SSC, 0),
        (BREAK_HERE & !PRIVILEGE, 0),
        (BREAK_HERE & !ENABLE, 0),
        // Linked to a context; unlinked context.
        (
            BREAK_HERE | 1 << 20 | 5 << 16,
            BREAK_HERE | 1 << 20 | 5 << 16 | non_secure,
        ),
        (BREAK_HERE | 2 << 20, BREAK_HERE | 2 << 20 | non_secure),
        (3 << 20 | 0x1e1, 3 << 20 | 0x1e1),
        (3 << 20 | 0x1e0, 0),
        (3 << 20 | WHERE | LBN | 0x1e1, 3 << 20 | 0x1e1),
        // Mismatch is AArch32's; VMIDs are EL2's.
        (BREAK_HERE | 4 << 20, 0),
        (BREAK_HERE | 8 << 20, 0),
        (BREAK_HERE | 0xf << 20, 0),
    ] {
        let found = breakpoint(control);
        assert_eq!(found.control, expected, "{control:#x}");
        assert_eq!(found.value, if expected == 0 { 0 } else { 0x4000 });
    }
    for (control, expected) in [
        (WATCH_HERE, WATCH_HERE | non_secure),
        (WATCH_HERE | HMC, WATCH_HERE | non_secure),
        (WATCH_HERE | 7 << 24, WATCH_HERE | 7 << 24 | non_secure),
        (WATCH_HERE | SSC, 0),
        (WATCH_HERE & !PRIVILEGE, 0),
        (WATCH_HERE & !ENABLE, 0),
    ] {
        assert_eq!(watchpoint(control).control, expected, "{control:#x}");
    }
}

proptest! {
    /// Whatever a guest writes, no enabled pair matches in Secure state or at EL2 by its own fields.
    #[test]
    fn never_beyond_the_guest(control in any::<u64>()) {
        for pair in [breakpoint(control), watchpoint(control)] {
            let by_itself = pair.control & ENABLE != 0 && pair.control & BT != BT_LINKED_CONTEXT;
            if by_itself {
                prop_assert_eq!(pair.control & SSC, SSC_NON_SECURE);
                prop_assert_eq!(pair.control & HMC, 0);
            } else if pair.control & ENABLE != 0 {
                // A context by itself stops nothing, or this is a watchpoint, for which these bits are others.
                prop_assert!(pair.control & HMC == 0);
            } else {
                prop_assert_eq!(pair, Pair::OFF);
            }
        }
    }
}
