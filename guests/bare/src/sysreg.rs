// SPDX-License-Identifier: Apache-2.0 OR MIT
//! System registers by number: MRS and MSR of any encoding, which may be undefined.

use crate::exception::Fault;
use crate::mmu;
use crate::pages::Pages;
use core::arch::asm;

unsafe extern "C" {
    /// In `vectors.S`.
    fn probe_jump(to: u64, x0: u64) -> u64;
}

/// Encodings with op0 2 and 3: op0's lowest bit, op1, CRn, CRm, op2, from bit 14 down.
pub const COUNT: u32 = 1 << 15;
/// Instructions of a stub.
const STUB: u32 = 4;
/// `ret`.
const RET: u32 = 0xd65f_03c0;
/// `isb`.
const ISB: u32 = 0xd503_3fdf;
/// `mrs x1, …` and `msr …, x1` but for the register.
const MRS_X1: u32 = 0xd530_0001;
const MSR_X1: u32 = 0xd510_0001;
/// `str x1, [x0]` and `ldr x1, [x0]`.
const STR: u32 = 0xf900_0001;
const LDR: u32 = 0xf940_0001;

/// What the program's memory, stack and exceptions depend on.
const VITAL: [u32; 7] = [
    encoding(3, 0, 1, 0, 0),  // SCTLR_EL1
    encoding(3, 0, 2, 0, 0),  // TTBR0_EL1
    encoding(3, 0, 2, 0, 2),  // TCR_EL1
    encoding(3, 0, 4, 2, 0),  // SPSel
    encoding(3, 0, 10, 2, 0), // MAIR_EL1
    encoding(3, 0, 12, 0, 0), // VBAR_EL1
    encoding(3, 3, 4, 2, 1),  // DAIF
];

/// The number of `S<op0>_<op1>_C<CRn>_C<CRm>_<op2>`.
pub const fn encoding(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    (op0 & 1) << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// Returns ISR_EL1: the SError (bit 8), IRQ (bit 7) and FIQ (bit 6) that are pending.
pub fn pending_exceptions() -> u64 {
    let value: u64;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, isr_el1", out(reg) value, options(nostack, preserves_flags)) };
    value
}

/// Code that reads each register, and code that writes one.
pub struct SystemRegisters {
    readers: Pages,
    writer: Pages,
    value: Pages,
}

/// The bits of an instruction that name the register: bits 19 to 5.
const fn field(encoding: u32) -> u32 {
    encoding << 5
}

fn publish(pages: &Pages) {
    mmu::clean(pages.page(0), pages.bytes());
    // SAFETY: cache maintenance changes no content.
    unsafe {
        asm!(
            "ic iallu",
            "dsb nsh",
            "isb",
            options(nostack, preserves_flags)
        );
    };
}

impl SystemRegisters {
    /// Makes the code. The program is at EL1, with interrupts masked.
    pub fn new() -> Self {
        let readers = Pages::take((COUNT * STUB * 4 / 4096) as usize);
        for encoding in 0..COUNT {
            let code = [MRS_X1 | field(encoding), STR, RET, RET];
            for (word, at) in code.into_iter().zip(encoding * STUB..) {
                readers.write_u32(at as usize * 4, word);
            }
        }
        publish(&readers);
        Self {
            readers,
            writer: Pages::take(1),
            value: Pages::take(1),
        }
    }

    fn run(&self, at: u64) -> Result<(), Fault> {
        // SAFETY: the code there moves a value between x1, memory of `self.value` and a system register, and comes
        // back by itself or by an exception, which the vectors catch. None of `VITAL` is written.
        match unsafe { probe_jump(at, self.value.address()) } {
            0 => Ok(()),
            syndrome => Err(Fault(syndrome)),
        }
    }

    /// Reads a register. Some acknowledge something by that.
    ///
    /// # Errors
    /// Undefined, or trapped.
    pub fn read(&self, encoding: u32) -> Result<u64, Fault> {
        assert!(encoding < COUNT);
        self.run(self.readers.address() + u64::from(encoding * STUB * 4))?;
        Ok(self.value.read_u64(0))
    }

    /// Writes a register.
    ///
    /// # Errors
    /// Undefined, or trapped.
    ///
    /// # Panics
    /// The program's memory, stack or exceptions depend on it.
    pub fn write(&self, encoding: u32, value: u64) -> Result<(), Fault> {
        assert!(encoding < COUNT && !VITAL.contains(&encoding));
        self.value.write_u64(0, value);
        let code = [LDR, MSR_X1 | field(encoding), ISB, RET];
        for (number, word) in code.into_iter().enumerate() {
            self.writer.write_u32(number * 4, word);
        }
        publish(&self.writer);
        self.run(self.writer.address())
    }
}
