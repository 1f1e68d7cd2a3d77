// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use DebugRegister::{
    BreakpointControl, BreakpointValue, ClaimClear, ClaimSet, Control, OsLockAccess, OsLockStatus,
    WatchpointControl, WatchpointValue,
};
use proptest::prelude::*;

/// A breakpoint's control register: BAS 0b1111, EL1 and EL0, enabled.
const BREAK_HERE: u64 = 0x1e7;
/// A watchpoint's control register: eight bytes, loads and stores, EL1 and EL0, enabled.
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
fn debug_unit_is_not_in_use_after_reset() {
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
fn debug_unit_is_not_in_use_after_linux_boots() {
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
fn locked_os_lock_keeps_the_debug_unit_out_of_use() {
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
fn hardware_mdscr_has_only_the_permitted_bits() {
    let mut unit = open();
    unit.write(Control, u64::MAX);
    assert_eq!(unit.read(Control), SS | TDCC | KDE | MDE);
    // HDE, with which EL2 would halt for an external debugger, and TDA are never set.
    assert_eq!(unit.control_in_use(), SS | TDCC | KDE | MDE);
    unit.write(Control, MDE);
    assert_eq!(unit.control_in_use(), TDCC | MDE);
}

#[test]
fn registers_read_back_their_implemented_bits() {
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
    // An index beyond the maximum.
    unit.write(BreakpointControl(16), u64::MAX);
    assert_eq!(unit.read(BreakpointControl(16)), 0);
    assert_eq!(unit.breakpoint(16), Pair::OFF);
}

#[test]
fn pairs_are_confined_to_non_secure_el1_and_el0() {
    let non_secure = 1 << 14;
    for (control, expected) in [
        (BREAK_HERE, BREAK_HERE | non_secure),
        (BREAK_HERE | non_secure, BREAK_HERE | non_secure),
        // EL2 is removed.
        (BREAK_HERE | HMC, BREAK_HERE | non_secure),
        // Only at EL2 and above, only in Secure state, or reserved.
        (BREAK_HERE & !PRIVILEGE | HMC | SSC, 0),
        (BREAK_HERE | 2 << 14, 0),
        (BREAK_HERE | SSC, 0),
        (BREAK_HERE & !PRIVILEGE, 0),
        (BREAK_HERE & !ENABLE, 0),
        // Linked to a Context breakpoint; an unlinked Context breakpoint.
        (
            BREAK_HERE | 1 << 20 | 5 << 16,
            BREAK_HERE | 1 << 20 | 5 << 16 | non_secure,
        ),
        (BREAK_HERE | 2 << 20, BREAK_HERE | 2 << 20 | non_secure),
        (3 << 20 | 0x1e1, 3 << 20 | 0x1e1),
        (3 << 20 | 0x1e0, 0),
        (3 << 20 | WHERE | LBN | 0x1e1, 3 << 20 | 0x1e1),
        // Address mismatch exists only in AArch32, and VMIDs belong to EL2.
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
    /// After any guest writes, no enabled pair matches in Secure state or at EL2 by its own fields.
    #[test]
    fn enabled_pair_never_matches_outside_the_guest(control in any::<u64>()) {
        for pair in [breakpoint(control), watchpoint(control)] {
            let by_itself = pair.control & ENABLE != 0 && pair.control & BT != BT_LINKED_CONTEXT;
            if by_itself {
                prop_assert_eq!(pair.control & SSC, SSC_NON_SECURE);
                prop_assert_eq!(pair.control & HMC, 0);
            } else if pair.control & ENABLE != 0 {
                // A linked Context breakpoint alone raises no exception. In a watchpoint, the bits
                // of BT have another meaning.
                prop_assert!(pair.control & HMC == 0);
            } else {
                prop_assert_eq!(pair, Pair::OFF);
            }
        }
    }
}
