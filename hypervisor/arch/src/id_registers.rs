// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ID registers of the pCPU: op0 3, op1 0, CRn 0, CRm 1 to 7.

use super::registers::read_register;
use aarch64_cpu::registers::CLIDR_EL1;
use postern_exceptions::decode::SysReg;
use tock_registers::interfaces::Readable;

/// Reads one of the ID registers with these CRm. By number, since guests read whole rows, and not all encodings have a name.
macro_rules! by_number {
    ($register:ident, $($crm:literal)+) => {
        match ($register.crm, $register.op2) {
            $(
                ($crm, 0) => read_register!(concat!("S3_0_C0_C", $crm, "_0")),
                ($crm, 1) => read_register!(concat!("S3_0_C0_C", $crm, "_1")),
                ($crm, 2) => read_register!(concat!("S3_0_C0_C", $crm, "_2")),
                ($crm, 3) => read_register!(concat!("S3_0_C0_C", $crm, "_3")),
                ($crm, 4) => read_register!(concat!("S3_0_C0_C", $crm, "_4")),
                ($crm, 5) => read_register!(concat!("S3_0_C0_C", $crm, "_5")),
                ($crm, 6) => read_register!(concat!("S3_0_C0_C", $crm, "_6")),
                ($crm, 7) => read_register!(concat!("S3_0_C0_C", $crm, "_7")),
            )+
            _ => 0,
        }
    };
}

/// Returns the value of an ID register; zero for any other register. Those that the architecture has not allocated read
/// as zero.
pub fn read(register: SysReg) -> u64 {
    if (register.op0, register.op1, register.crn) != (3, 0, 0) {
        return 0;
    }
    by_number!(register, 1 2 3 4 5 6 7)
}

/// Returns the number of levels of unified cache, by CLIDR_EL1.
pub fn unified_cache_levels() -> u32 {
    let clidr = CLIDR_EL1.get();
    (0..7).filter(|level| clidr >> (3 * level) & 7 == 4).count() as u32
}
