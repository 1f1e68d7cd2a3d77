// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of SVE: filled with a pattern, and compared with it later. The compiler uses none of them.

use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;

/// The contents of Z0 to Z31, P0 to P15 and FFR, in this order without gaps.
pub struct Vectors {
    bytes: Vec<u8>,
    length: usize,
}

impl Vectors {
    /// Makes the vectors as long as they can be, and fills all registers with a pattern of this salt. SVE must not be
    /// trapped by CPACR_EL1.
    pub fn fill(salt: u64) -> Self {
        let length: usize;
        // SAFETY: ZCR_EL1 limits vectors, which the compiler does not use; RDVL only reads.
        unsafe {
            asm!(".arch_extension sve", "mov {0}, #15", "msr zcr_el1, {0}", "isb", "rdvl {0}, #1",
                out(reg) length, options(nomem, nostack, preserves_flags));
        }
        let mut bytes = vec![0; 32 * length + 17 * (length / 8)];
        let mut value = salt;
        for byte in &mut bytes {
            value = value
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(salt | 1);
            *byte = (value >> 56) as u8;
        }
        // FFR takes ones up to some element, and zeros from there on.
        let ffr = bytes.len() - length / 8;
        bytes[ffr..].fill(0);
        bytes[ffr] = (1 << (salt & 7)) - 1;
        let new = Self { bytes, length };
        new.load();
        new
    }

    /// Returns the length of the vectors in bits.
    pub fn bits(&self) -> usize {
        self.length * 8
    }

    /// Writes one V register, which clears the rest of its Z register.
    pub fn write_simd(&mut self) {
        // SAFETY: nothing else uses the register.
        unsafe {
            asm!(
                ".arch_extension simd",
                "movi v31.16b, #0x5a",
                options(nomem, nostack)
            );
        };
        let z31 = &mut self.bytes[31 * self.length..32 * self.length];
        z31.fill(0);
        z31[..16].fill(0x5a);
    }

    /// Returns the number of bytes of all registers that are not as they were filled.
    pub fn differences(&self) -> usize {
        let found = self.store();
        let pairs = self.bytes.iter().zip(&found);
        pairs.filter(|(expected, found)| expected != found).count()
    }

    fn predicates(&self) -> usize {
        32 * self.length
    }

    fn load(&self) {
        let base = self.bytes.as_ptr();
        // SAFETY: reads the bytes of `self`, which are as many as the registers have. Nothing else uses the registers.
        unsafe {
            asm!(
                ".arch_extension sve",
                "ldr p0, [{predicates}, #16, mul vl]",
                "wrffr p0.b",
                ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                "ldr p\\n, [{predicates}, #\\n, mul vl]",
                ".endr",
                ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, \
                 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
                "ldr z\\n, [{base}, #\\n, mul vl]",
                ".endr",
                base = in(reg) base,
                predicates = in(reg) base.wrapping_add(self.predicates()),
                options(nostack, preserves_flags, readonly),
            );
        }
    }

    fn store(&self) -> Vec<u8> {
        let mut found = vec![0; self.bytes.len()];
        let base = found.as_mut_ptr();
        // SAFETY: writes the bytes of `found`, which are as many as the registers have. P0 is stored before it is
        // FFR's copy, and gets its value back.
        unsafe {
            asm!(
                ".arch_extension sve",
                ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                "str p\\n, [{predicates}, #\\n, mul vl]",
                ".endr",
                ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, \
                 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
                "str z\\n, [{base}, #\\n, mul vl]",
                ".endr",
                "rdffr p0.b",
                "str p0, [{predicates}, #16, mul vl]",
                "ldr p0, [{predicates}]",
                base = in(reg) base,
                predicates = in(reg) base.wrapping_add(self.predicates()),
                options(nostack, preserves_flags),
            );
        }
        found
    }
}
