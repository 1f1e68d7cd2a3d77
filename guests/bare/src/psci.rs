// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PSCI (DEN0022), by SMC or as the tree says.

use crate::machine::machine;
use crate::smccc;
use optee_proto::smc::FunctionId;
use postern_smccc::psci::{
    AFFINITY_INFO_64, CPU_OFF, CPU_ON_64, OFF, PsciError, SYSTEM_OFF, SYSTEM_RESET, VERSION,
};

/// One call by its number, whatever it is. Back: x0, signed.
pub fn raw(function: u64, arguments: [u64; 3]) -> i64 {
    let [x1, x2, x3] = arguments;
    full([function, x1, x2, x3])[0].cast_signed()
}

fn call(function: FunctionId, arguments: [u64; 3]) -> u64 {
    let [x1, x2, x3] = arguments;
    full([function.into(), x1, x2, x3])[0]
}

fn full(arguments: [u64; 4]) -> [u64; 18] {
    let [function, x1, x2, x3] = arguments;
    let registers = [function, x1, x2, x3, 0, 0, 0, 0];
    if machine().psci_by_hvc {
        smccc::hvc(registers)
    } else {
        smccc::smc(registers)
    }
}

/// The version, major in the upper half.
pub fn version() -> u32 {
    call(VERSION, [0; 3]) as u32
}

/// Starts the CPU with this MPIDR affinity.
///
/// # Errors
/// PSCI's.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Result<(), PsciError> {
    PsciError::check(call(CPU_ON_64, [mpidr, entry, context]))
}

/// Whether the CPU is off.
pub fn is_off(mpidr: u64) -> bool {
    call(AFFINITY_INFO_64, [mpidr, 0, 0]) as u32 == OFF
}

/// Turns this CPU off.
pub fn cpu_off() -> ! {
    call(CPU_OFF, [0; 3]);
    panic!("CPU_OFF came back");
}

/// Powers the machine off.
pub fn system_off() -> ! {
    loop {
        call(SYSTEM_OFF, [0; 3]);
    }
}

/// Restarts the machine.
pub fn system_reset() -> ! {
    loop {
        call(SYSTEM_RESET, [0; 3]);
    }
}
