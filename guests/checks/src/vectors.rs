// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks exceptions that are taken to EL1: vector, ESR, ELR, SPSR and FAR (Arm ARM DDI 0487,
//! D1.3).

use crate::check::{Case, Found, exceptions, same, with};
use alloc::vec::Vec;
use guest_bare::expect::{self, Code, How, Taken};
use guest_bare::machine::machine;

/// The cases of this group.
pub const CASES: &[Case] = &[
    ("vectors/svc", || one(Code::Svc, 0, 0x5600_0234, 4)),
    ("vectors/brk", || one(Code::Brk, 0, 0xf200_0123, 0)),
    ("vectors/undefined", || {
        one(Code::Undefined, 0, 0x0200_0000, 0)
    }),
    ("vectors/illegal-state", illegal_state),
    ("vectors/load-unmapped", || {
        access(Code::Load, NOWHERE, 0x9600_0004)
    }),
    ("vectors/store-unmapped", || {
        access(Code::Store, NOWHERE, 0x9600_0044)
    }),
    ("vectors/jump-misaligned", || {
        jump(Code::Nops.address() + 2, 0x8a00_0000)
    }),
    ("vectors/jump-to-device", || {
        jump(machine().distributor, 0x8600_000d)
    }),
    ("vectors/el0-svc", || {
        from_el0(Code::El0Svc, 0, 0x5600_0345, 4)
    }),
    ("vectors/el0-undefined", || {
        from_el0(Code::El0Undefined, 0, 0x0200_0000, 0)
    }),
    ("vectors/el0-load-of-el1s", || {
        from_el0(Code::El0Load, Code::Nops.address(), 0x9200_000d, 0)
    }),
    ("vectors/el0-register-of-el1", || {
        from_el0(Code::El0Mrs, 0, 0x0200_0000, 0)
    }),
    ("vectors/el0-counter-forbidden", counter_forbidden),
    ("vectors/el0-counter-allowed", counter_allowed),
];

/// An address beyond the range that TTBR0_EL1 translates.
const NOWHERE: u64 = 1 << 39;
/// SPSR_EL1 of the code: EL1h or EL0t, all masked but D.
const SPSR_EL1H: u64 = 0x1c5;
const SPSR_EL0T: u64 = 0x1c0;

/// Returns the only exception that the code takes, after checking the fields that all exceptions
/// share.
fn only(code: Code, how: How, esr: u64) -> Result<Taken, alloc::string::String> {
    let taken = exceptions(code, how);
    let syndromes: Vec<u64> = taken.iter().map(|one| one.esr).collect();
    same("ESR", syndromes, [esr].to_vec())?;
    Ok(taken[0])
}

fn one(code: Code, argument: u64, esr: u64, behind: u64) -> Found {
    let taken = only(code, with(argument), esr)?;
    same("the vector", taken.vector, 4)?;
    same("ELR", taken.elr, code.address() + behind)?;
    same("SPSR", taken.spsr, SPSR_EL1H)
}

fn illegal_state() -> Found {
    let how = How {
        illegal: true,
        ..How::default()
    };
    let taken = only(Code::Nops, how, 0x3a00_0000)?;
    same("ELR", taken.elr, Code::Nops.address())?;
    same("SPSR", taken.spsr, SPSR_EL1H | 1 << 20)
}

fn access(code: Code, address: u64, esr: u64) -> Found {
    let taken = only(code, with(address), esr)?;
    same("FAR", taken.far, address)?;
    same("ELR", taken.elr, code.address())?;
    same("SPSR", taken.spsr, SPSR_EL1H)
}

fn jump(to: u64, esr: u64) -> Found {
    let taken = only(Code::Jump, with(to), esr)?;
    same("FAR", taken.far, to)?;
    same("ELR", taken.elr, to)?;
    same("SPSR", taken.spsr, SPSR_EL1H)
}

fn from_el0(code: Code, argument: u64, esr: u64, behind: u64) -> Found {
    let taken = only(code, with(argument), esr)?;
    same("the vector", taken.vector, 8)?;
    same("ELR", taken.elr, code.address_at_el0() + behind)?;
    same("SPSR", taken.spsr, SPSR_EL0T)
}

/// CNTKCTL_EL1.EL0PCTEN is 0: a trapped MRS of CNTPCT_EL0 to x0, S3_3_C14_C0_1.
fn counter_forbidden() -> Found {
    expect::let_el0_read_counter(false);
    let iss = 3 << 20 | 1 << 17 | 3 << 14 | 14 << 10 | 1;
    from_el0(Code::El0Counter, 0, 0x18 << 26 | 1 << 25 | iss, 0)
}

fn counter_allowed() -> Found {
    expect::let_el0_read_counter(true);
    let found = from_el0(Code::El0Counter, 0, 0x5600_0345, 8);
    expect::let_el0_read_counter(false);
    found
}
