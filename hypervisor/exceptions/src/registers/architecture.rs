// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers that the architecture names, on the host: `architecture.txt` as values.

use crate::decode::SysReg;

/// All registers that the architecture names.
const ARCHITECTURE: &str = include_str!("architecture.txt");

/// One of the architecture's registers.
#[derive(Clone, Debug)]
pub struct Register {
    /// Arm's name.
    pub name: &'static str,
    /// Its encoding.
    pub reg: SysReg,
    /// Whether it can be read.
    pub read: bool,
    /// Whether it can be written.
    pub write: bool,
}

/// Returns the register that `S<op0>_<op1>_C<CRn>_C<CRm>_<op2>` names.
///
/// # Panics
/// The text is no such name.
#[must_use]
pub fn parse(name: &str) -> SysReg {
    let parts: Vec<u8> = name
        .split('_')
        .map(|part| part.trim_start_matches(['S', 'C']).parse().unwrap())
        .collect();
    let [op0, op1, crn, crm, op2] = parts[..] else {
        panic!("{name}");
    };
    SysReg::new(op0, op1, crn, crm, op2)
}

/// Returns all registers, in the order of their encodings.
///
/// # Panics
/// A line of the list is none.
#[must_use]
pub fn registers() -> Vec<Register> {
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
