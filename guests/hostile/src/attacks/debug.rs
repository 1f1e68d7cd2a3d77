// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 66 and 67: the debug registers, while OP-TEE and other vCPUs run on the same pCPU.
//!
//! The guest itself has debug exceptions masked (PSTATE.D), so it takes none.

use crate::attack::{Attack, Observation, Verdict, same};
use crate::kit::{Kit, failure};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use guest_bare::debug::{self, KDE, MDE, SS};
use guest_bare::expect::{self, Code, How};
use guest_bare::tee::apps;
use guest_bare::timer;

/// The attacks, in numerical order.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 66,
        title: "breakpoints and watchpoints are on every address, in every security state, while OP-TEE is called",
        expected: "none of them fires: OP-TEE and its applications serve, and other vCPUs run",
        run: everywhere,
    },
    Attack {
        number: 67,
        title: "software step is enabled while OP-TEE is called",
        expected: "neither OP-TEE nor an application is stepped",
        run: stepping,
    },
];

/// DBGBCR and DBGWCR: enabled.
const ENABLE: u64 = 1;
/// All combinations of PMC or PAC, HMC and SSC.
const LEVELS: u64 = 4;
const STATES: u64 = 8;
/// All bytes, loads and stores.
const BYTES: u64 = 0xff << 5 | 0b11 << 3;
/// DBGWCR.MASK: the surrounding 2 GiB.
const ALL_OF_IT: u64 = 31 << 24;
/// DBGBCR.BT: address mismatch.
const MISMATCH: u64 = 0b0100 << 20;
/// A breakpoint for the guest itself: all bytes of the instruction, at EL1.
const AT_EL1: u64 = INSTRUCTION | 0b01 << 1 | ENABLE;
/// The exception class of a breakpoint exception.
const BREAKPOINT: u64 = 0x31;
/// DBGBCR.BAS: all bytes of the instruction.
const INSTRUCTION: u64 = 0b1111 << 5;
/// Addresses of breakpoints: where EL2, OP-TEE, its applications and Linux may have code.
const CODE: [u64; 6] = [
    0x4020_0000,
    0x0e10_0000,
    0x4000_0000,
    0x0000_0000,
    0xffff_8000_8000_0000,
    0x1_0020_0000,
];
/// Addresses of watchpoints: everything below 8 GiB in blocks of 2 GiB, and Linux's kernel.
const DATA: [u64; 4] = [0, 0x8000_0000, 0x1_0000_0000, 0xffff_8000_8000_0000];

/// Puts the registers into their reset state, except that the OS lock is open.
fn clear() {
    debug::set_os_lock(false);
    debug::set_mdscr(0);
    let (breakpoints, watchpoints) = debug::pairs();
    (0..breakpoints).for_each(|index| debug::set_breakpoint(index, 0, 0));
    (0..watchpoints).for_each(|index| debug::set_watchpoint(index, 0, 0));
}

/// Checks that OP-TEE serves: it loads and runs an application, reads and writes memory; another
/// vCPU may run here meanwhile.
fn serves(kit: &Kit) -> Result<(), String> {
    let session = kit
        .client
        .open(&kit.supplicant, apps::SMALL)
        .map_err(|why| failure("an application", why))?;
    kit.close(session)?;
    kit.alive()?;
    timer::sleep(Duration::from_millis(20));
    Ok(())
}

/// Sets all pairs, with `level` in PMC and PAC, and `state` in HMC and SSC.
fn set_all(level: u64, state: u64) {
    let (breakpoints, watchpoints) = debug::pairs();
    let place = level << 1 | (state & 1) << 13 | (state >> 1) << 14;
    for index in 0..breakpoints {
        let kind = if index % 2 == 0 { 0 } else { MISMATCH };
        let control = ENABLE | INSTRUCTION | kind | place;
        debug::set_breakpoint(index, CODE[index % CODE.len()], control);
    }
    for index in 0..watchpoints {
        let control = ENABLE | BYTES | ALL_OF_IT | place;
        debug::set_watchpoint(index, DATA[index % DATA.len()], control);
    }
}

fn everywhere(kit: &Kit) -> Verdict {
    clear();
    let mut rounds = 0;
    for state in 0..STATES {
        for level in 1..LEVELS {
            set_all(level, state);
            debug::set_mdscr(MDE | KDE);
            let served = serves(kit);
            clear();
            served.map_err(|why| format!("level {level}, state {state}: {why}"))?;
            rounds += 1;
        }
    }
    let (breakpoints, watchpoints) = debug::pairs();
    Ok(Observation::new(format!(
        "{breakpoints} breakpoints, {watchpoints} watchpoints, {rounds} times"
    )))
}

fn stepping(kit: &Kit) -> Verdict {
    for control in [SS, SS | KDE, SS | KDE | MDE] {
        clear();
        debug::set_mdscr(control);
        let served = serves(kit);
        clear();
        served.map_err(|why| format!("MDSCR {control:#x}: {why}"))?;
    }
    // Afterwards the register is the guest's again.
    debug::set_breakpoint(0, Code::Nops.address(), AT_EL1);
    debug::set_mdscr(MDE | KDE);
    let served = kit.alive();
    let mut taken = Vec::new();
    expect::run(Code::Nops, How::default(), &mut |one| {
        taken.push(one.class());
    });
    clear();
    served?;
    same("a breakpoint after a call", &taken, &[BREAKPOINT].to_vec())?;
    Ok(Observation::new(
        "an application, OP-TEE, another vCPU".into(),
    ))
}
