// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Executes the host's commands.

use alloc::format;
use alloc::vec::Vec;
use guest_bare::event::Event;
use guest_bare::sve::Vectors;
use guest_bare::sysreg::{COUNT, SystemRegisters, encoding};
use guest_bare::{console, psci, smccc};

const CPACR_EL1: u32 = encoding(3, 0, 1, 0, 2);
/// With this value FP, SVE and SME do not trap to EL1: a trap is EL2's.
const CPACR_OPEN: u64 = 3 << 24 | 3 << 20 | 3 << 16;

/// Registers that are not read: reading acknowledges an interrupt that is never ended.
const UNREAD: [u32; 3] = [
    encoding(3, 0, 12, 8, 0),  // ICC_IAR0_EL1
    encoding(3, 0, 12, 9, 5),  // ICC_NMIAR1_EL1
    encoding(3, 0, 12, 12, 0), // ICC_IAR1_EL1
];

/// Registers that are not written: the program itself depends on them.
const UNWRITTEN: [u32; 31] = [
    encoding(3, 0, 1, 0, 0),   // SCTLR_EL1
    encoding(3, 0, 2, 0, 0),   // TTBR0_EL1
    encoding(3, 0, 2, 0, 2),   // TCR_EL1
    encoding(3, 0, 4, 2, 0),   // SPSel
    encoding(3, 0, 4, 2, 3),   // PAN
    encoding(3, 0, 4, 2, 4),   // UAO
    encoding(3, 0, 4, 3, 0),   // ALLINT
    encoding(3, 0, 4, 6, 0),   // ICC_PMR_EL1
    encoding(3, 0, 10, 2, 0),  // MAIR_EL1
    encoding(3, 0, 12, 0, 0),  // VBAR_EL1
    encoding(3, 0, 12, 8, 4),  // ICC_AP0R0_EL1
    encoding(3, 0, 12, 8, 5),  // ICC_AP0R1_EL1
    encoding(3, 0, 12, 8, 6),  // ICC_AP0R2_EL1
    encoding(3, 0, 12, 8, 7),  // ICC_AP0R3_EL1
    encoding(3, 0, 12, 9, 0),  // ICC_AP1R0_EL1
    encoding(3, 0, 12, 9, 1),  // ICC_AP1R1_EL1
    encoding(3, 0, 12, 9, 2),  // ICC_AP1R2_EL1
    encoding(3, 0, 12, 9, 3),  // ICC_AP1R3_EL1
    encoding(3, 0, 12, 12, 4), // ICC_CTLR_EL1
    encoding(3, 0, 12, 12, 6), // ICC_IGRPEN0_EL1
    encoding(3, 0, 12, 12, 7), // ICC_IGRPEN1_EL1
    encoding(3, 3, 4, 2, 0),   // NZCV
    encoding(3, 3, 4, 2, 1),   // DAIF
    encoding(3, 3, 14, 3, 0),  // CNTV_TVAL_EL0
    encoding(3, 3, 14, 3, 1),  // CNTV_CTL_EL0
    encoding(3, 3, 14, 3, 2),  // CNTV_CVAL_EL0
    encoding(3, 3, 14, 2, 0),  // CNTP_TVAL_EL0
    encoding(3, 3, 14, 2, 1),  // CNTP_CTL_EL0
    encoding(2, 0, 0, 2, 2),   // MDSCR_EL1
    encoding(2, 0, 1, 3, 4),   // OSDLR_EL1
    encoding(2, 0, 1, 0, 4),   // OSLAR_EL1
];

/// Registers that are written last: exceptions from other accesses change them.
const LAST: [u32; 4] = [
    encoding(3, 0, 4, 0, 0), // SPSR_EL1
    encoding(3, 0, 4, 0, 1), // ELR_EL1
    encoding(3, 0, 5, 2, 0), // ESR_EL1
    encoding(3, 0, 6, 0, 0), // FAR_EL1
];

/// A register that keeps part of a written value.
struct Mark {
    encoding: u32,
    value: u64,
}

/// Returns the value for a register and a VM's salt; no two registers or VMs share one.
fn pattern(encoding: u32, salt: u64) -> u64 {
    let value = (u64::from(encoding) << 8 | salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // Breakpoints and watchpoints stay disabled; the alignment of their addresses does not matter
    // here.
    value & !1
}

/// Runs on the boot vCPU; never returns.
pub fn main() -> ! {
    let registers = SystemRegisters::new();
    registers
        .write(CPACR_EL1, CPACR_OPEN)
        .expect("CPACR_EL1 is there");
    let mut marks = Vec::new();
    let mut vectors = None;
    Event::new("ready").text("program", "scan").send();
    loop {
        let line = console::read_line();
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next().map(str::parse)) {
            (Some("scan"), None) => scan(&registers),
            (Some("mark"), Some(Ok(salt))) => marks = mark(&registers, salt),
            (Some("check"), None) => check(&registers, &marks),
            (Some("fill"), Some(Ok(salt))) => vectors = Some(fill(salt)),
            (Some("compare"), how) => compare(vectors.as_mut(), how.and_then(Result::ok)),
            (Some("poweroff"), None) => {
                Event::new("bye").send();
                psci::system_off()
            }
            _ => Event::new("error")
                .text("text", &format!("unknown command {line:?}"))
                .send(),
        }
    }
}

fn fill(salt: u64) -> Vectors {
    let vectors = Vectors::fill(salt);
    let bits = vectors.bits() as u64;
    Event::new("filled").number("registers", bits).send();
    vectors
}

/// Compares the vector registers with what they were filled with: at once, after a call to OP-TEE (1), or after a
/// write of a SIMD register (2).
fn compare(vectors: Option<&mut Vectors>, first: Option<u64>) {
    let Some(vectors) = vectors else {
        return Event::new("error").text("text", "nothing is filled").send();
    };
    match first {
        // CALLS_UID of the trusted OS.
        Some(1) => {
            let _ = smccc::smc([0xbf00_ff01, 0, 0, 0, 0, 0, 0, 0]);
        }
        Some(2) => vectors.write_simd(),
        _ => {}
    }
    let bytes = vectors.differences() as u64;
    Event::new("compared").number("registers", bytes).send();
}

fn hexadecimal(value: u64) -> alloc::string::String {
    format!("{value:#x}")
}

fn scan(registers: &SystemRegisters) {
    let mut count = 0;
    for encoding in (0..COUNT).filter(|encoding| !UNREAD.contains(encoding)) {
        if let Ok(value) = registers.read(encoding) {
            count += 1;
            Event::new("register")
                .number("encoding", encoding.into())
                .text("value", &hexadecimal(value))
                .send();
        }
    }
    Event::new("scanned").number("registers", count).send();
}

fn mark(registers: &SystemRegisters, salt: u64) -> Vec<Mark> {
    let can_do_without =
        |encoding: &u32| !UNREAD.contains(encoding) && !UNWRITTEN.contains(encoding);
    // CPACR_EL1 keeps FP enabled for the read of FPCR_EL1 that follows.
    let bulk = (0..COUNT)
        .filter(|encoding| !LAST.contains(encoding) && *encoding != CPACR_EL1)
        .filter(can_do_without)
        .filter(|&encoding| registers.read(encoding).is_ok());
    let written: Vec<u32> = bulk
        .chain(LAST)
        .filter(|&encoding| keeps(registers, encoding, salt))
        .collect();
    // Some registers are views of others: what counts is the final state of all.
    let marks: Vec<Mark> = written
        .into_iter()
        .filter_map(|encoding| {
            let value = registers.read(encoding).ok()?;
            Some(Mark { encoding, value })
        })
        .collect();
    Event::new("marked")
        .number("registers", marks.len() as u64)
        .send();
    marks
}

/// Writes the pattern's complement, then the pattern; returns whether the register distinguishes
/// them.
fn keeps(registers: &SystemRegisters, encoding: u32, salt: u64) -> bool {
    let pattern = pattern(encoding, salt);
    let mut written = [!pattern & !1, pattern].map(|value| {
        let done = registers.write(encoding, value);
        done.and_then(|()| registers.read(encoding)).ok()
    });
    written.sort_unstable();
    matches!(written, [Some(one), Some(other)] if one != other)
}

fn check(registers: &SystemRegisters, marks: &[Mark]) {
    // Registers that an exception changes come first, before any exception is taken.
    let found: Vec<_> = marks
        .iter()
        .rev()
        .map(|mark| (mark, registers.read(mark.encoding)))
        .collect();
    for (mark, value) in &found {
        if *value != Ok(mark.value) {
            Event::new("lost")
                .number("encoding", mark.encoding.into())
                .text("wrote", &hexadecimal(mark.value))
                .text(
                    "value",
                    &value.map_or_else(|_| "undefined".into(), hexadecimal),
                )
                .send();
        }
    }
    Event::new("checked")
        .number("registers", found.len() as u64)
        .send();
}
