//! Holds the hypervisor to the table: a register without a row fails, and so does a row that the rest of the code
//! contradicts.

use super::switched::switched_registers;
use super::table::{Decision, TABLE};
use crate::trap::decode::SysReg;
use crate::trap::ids::IdValues;
use crate::trap::sysreg::{self, Outcome};

/// All registers that the architecture names.
const ARCHITECTURE: &str = include_str!("architecture.txt");

/// Whether a name is what a pattern says: `?` is one letter, `*` any, and a `~` at the end any but "ITECR_EL1".
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'~'], rest) => rest != b"ITECR_EL1",
        ([b'*', rest @ ..], _) => {
            fits(rest, name)
                || name
                    .split_first()
                    .is_some_and(|(_, tail)| fits(pattern, tail))
        }
        ([b'?', rest @ ..], [_, tail @ ..]) => fits(rest, tail),
        ([a, rest @ ..], [b, tail @ ..]) => a == b && fits(rest, tail),
        _ => false,
    }
}

/// One of the architecture's registers.
#[derive(Clone, Debug)]
struct Register {
    name: &'static str,
    reg: SysReg,
    read: bool,
    write: bool,
}

/// The register that `S<op0>_<op1>_C<CRn>_C<CRm>_<op2>` names.
fn parse(name: &str) -> SysReg {
    let parts: Vec<u8> = name
        .split('_')
        .map(|part| part.trim_start_matches(['S', 'C']).parse().unwrap())
        .collect();
    let [op0, op1, crn, crm, op2] = parts[..] else {
        panic!("{name}");
    };
    SysReg::new(op0, op1, crn, crm, op2)
}

fn registers() -> Vec<Register> {
    let lines = ARCHITECTURE.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let [name, encoding, access] = words[..] else {
                panic!("{line}");
            };
            Register {
                name,
                reg: parse(encoding),
                read: access.contains('r'),
                write: access.contains('w'),
            }
        })
        .collect()
}

fn decision(register: &Register) -> Decision {
    let all: Vec<_> = TABLE
        .iter()
        .filter(|(names, _)| {
            names
                .split_whitespace()
                .any(|pattern| fits(pattern.as_bytes(), register.name.as_bytes()))
        })
        .collect();
    let [(_, decision)] = all[..] else {
        panic!("{register:?} has {} rows: {all:?}", all.len());
    };
    *decision
}

/// What a guest gets of a register that traps: for the directions that it has.
fn answers(register: &Register) -> Vec<Outcome> {
    let ids = IdValues::new(|_| u64::MAX, 40);
    let read = register
        .read
        .then(|| sysreg::access(register.reg, None, &ids));
    let write = register
        .write
        .then(|| sysreg::access(register.reg, Some(0), &ids));
    read.into_iter().chain(write).collect()
}

macro_rules! listed {
    ($($feature:ident { $($field:ident $encoding:literal = $reset:literal,)+ })+) => {
        /// Feature, name and encoding of what `arch/world.rs` saves and loads.
        const LISTED: &[(&str, &str, &str)] = &[
            $($((stringify!($feature), stringify!($field), $encoding),)+)+
        ];
    };
}

switched_registers!(listed);

#[test]
fn every_register_has_one_row_and_every_row_a_register() {
    let registers = registers();
    assert!(registers.len() > 1000, "{}", registers.len());
    for register in &registers {
        decision(register);
    }
    for (names, _) in TABLE {
        for pattern in names.split_whitespace() {
            let is_used = |register: &Register| fits(pattern.as_bytes(), register.name.as_bytes());
            assert!(registers.iter().any(is_used), "{pattern} names nothing");
        }
    }
}

#[test]
fn what_is_switched_is_in_the_list_and_the_list_says_where_it_is() {
    let of = |name: &str| {
        LISTED
            .iter()
            .find(|(_, field, _)| field.to_uppercase() == name)
    };
    let registers = registers();
    for register in &registers {
        let is_listed = of(register.name);
        if decision(register) == Decision::Switched {
            let (_, _, encoding) =
                is_listed.unwrap_or_else(|| panic!("{register:?} is not switched"));
            assert_eq!(parse(encoding), register.reg, "{register:?}");
        } else {
            assert_eq!(is_listed, None, "{register:?}");
        }
    }
    // Two are reached from EL2 by other names than a guest's.
    for (feature, name, encoding) in LISTED {
        let known = registers
            .iter()
            .any(|register| register.name == name.to_uppercase());
        let el2 = [
            ("always", "sp_el1", "S3_4_C4_C1_0"),
            ("RAS", "vdisr_el2", "S3_4_C12_C1_1"),
        ];
        assert!(known || el2.contains(&(feature, name, encoding)), "{name}");
    }
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
            Decision::Absent(trap) => {
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
    let ids = IdValues::new(|_| u64::MAX, 40);
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
