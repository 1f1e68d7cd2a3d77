// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Holds the hypervisor to the table: a register without a row fails, and so does a row that the rest of the code
//! contradicts.

use super::architecture::{Register, registers};
use super::table::{Decision, TABLE, decision, fits};
use crate::ids::IdValues;
use crate::switched_registers;
use crate::sysreg::{self, Outcome};

/// What a guest gets of a register that traps: for the directions that it has.
fn answers(register: &Register) -> Vec<Outcome> {
    let ids = IdValues::new(|_| u64::MAX, 40, false);
    let read = register
        .read
        .then(|| sysreg::access(register.reg, None, &ids));
    let write = register
        .write
        .then(|| sysreg::access(register.reg, Some(0), &ids));
    read.into_iter().chain(write).collect()
}

macro_rules! listed {
    ($($feature:ident { $($field:ident = $reset:literal,)+ })+) => {
        /// Feature and name of what `arch/src/vcpu_context.rs` saves and loads.
        const LISTED: &[(&str, &str)] = &[
            $($((stringify!($feature), stringify!($field)),)+)+
        ];
    };
}

switched_registers!(listed);

#[test]
fn every_register_has_one_row_and_every_row_a_register() {
    let registers = registers();
    assert!(registers.len() > 1000, "{}", registers.len());
    for register in &registers {
        let _ = decision(register);
    }
    for (names, _) in TABLE {
        for pattern in names.split_whitespace() {
            let is_used = |register: &Register| fits(pattern.as_bytes(), register.name.as_bytes());
            assert!(registers.iter().any(is_used), "{pattern} names nothing");
        }
    }
}

#[test]
fn what_is_switched_is_in_the_list_and_nothing_else() {
    let of = |name: &str| {
        LISTED
            .iter()
            .find(|(_, field)| field.eq_ignore_ascii_case(name))
    };
    let registers = registers();
    for register in &registers {
        let is_listed = of(register.name);
        if decision(register) == Decision::Switched {
            assert!(is_listed.is_some(), "{register:?} is not switched");
        } else {
            assert_eq!(is_listed, None, "{register:?}");
        }
    }
    // Two are reached from EL2 by other names than a guest's.
    for (feature, name) in LISTED {
        let known = registers
            .iter()
            .any(|register| register.name.eq_ignore_ascii_case(name));
        let el2 = [("always", "sp_el1"), ("RAS", "vdisr_el2")];
        assert!(known || el2.contains(&(feature, name)), "{name}");
    }
}

#[test]
fn what_turns_stage_1_on_is_put_on_last() {
    let last = LISTED
        .iter()
        .filter(|(feature, _)| *feature == "translation");
    let names: Vec<_> = last.map(|(_, name)| *name).collect();
    assert_eq!(names, ["sctlr_el1", "tcr_el1"]);
}

#[test]
fn what_traps_has_its_trap_and_the_answer_that_the_table_says() {
    for register in registers() {
        match decision(&register) {
            Decision::Trapped(trap) => {
                assert!(trap.is_set(), "{register:?}: {trap:?}");
                let answers = answers(&register);
                // The debug registers beyond those that the guest is told of are undefined.
                let all_undefined = answers.iter().all(|answer| *answer == Outcome::Undefined);
                let beyond = register.name.starts_with("DBG") && register.reg.crn == 0;
                assert!(!all_undefined || beyond, "{register:?} has no answer");
            }
            Decision::Absent(trap) | Decision::Optional { trap, .. } => {
                assert!(trap.is_set(), "{register:?}: {trap:?}");
                let answers = answers(&register);
                assert!(
                    answers.iter().all(|answer| *answer == Outcome::Undefined),
                    "{register:?}: {answers:?}"
                );
            }
            _ => {}
        }
    }
}

#[test]
fn what_guests_do_not_have_is_hidden_in_the_id_registers() {
    let ids = IdValues::new(|_| u64::MAX, 40, false);
    for register in registers() {
        if let Decision::AbsentYet {
            feature,
            id: (crm, op2),
        } = decision(&register)
        {
            let value = ids.get(crm, op2).unwrap();
            // ID_AA64PFR1_EL1 has fields that guests do see: BT and SSBS.
            assert_eq!(value & !0xff, 0, "{register:?}: {feature}");
        }
    }
}

#[test]
fn no_guest_writes_what_is_constant() {
    for register in registers() {
        if matches!(decision(&register), Decision::Constant(_)) {
            // CNTFRQ_EL0 is written at the highest exception level only (DDI 0487, D24.10.1).
            assert!(
                !register.write || register.name == "CNTFRQ_EL0",
                "{register:?}"
            );
        }
    }
}

#[test]
fn what_belongs_to_el2_and_el3_is_not_on_the_list() {
    for register in registers() {
        assert!(!matches!(register.reg.op1, 4..=6), "{register:?}");
    }
}
