// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PSCI (DEN0022), by SMC or as the tree says.

use crate::machine::machine;
use crate::smccc;

const VERSION: u64 = 0x8400_0000;
const CPU_OFF: u64 = 0x8400_0002;
const CPU_ON: u64 = 0xc400_0003;
const AFFINITY_INFO: u64 = 0xc400_0004;
const SYSTEM_OFF: u64 = 0x8400_0008;
const SYSTEM_RESET: u64 = 0x8400_0009;

/// The answer ALREADY_ON.
pub const ALREADY_ON: i32 = -4;

/// One call by its number, whatever it is. Back: x0, signed.
pub fn raw(function: u64, arguments: [u64; 3]) -> i64 {
    let [x1, x2, x3] = arguments;
    full([function, x1, x2, x3])[0].cast_signed()
}

fn call(arguments: [u64; 4]) -> i32 {
    full(arguments)[0] as i32
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
    call([VERSION, 0, 0, 0]) as u32
}

/// Starts the CPU with this MPIDR affinity.
///
/// # Errors
/// PSCI's negative code.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Result<(), i32> {
    match call([CPU_ON, mpidr, entry, context]) {
        0 => Ok(()),
        error => Err(error),
    }
}

/// Whether the CPU is off.
pub fn is_off(mpidr: u64) -> bool {
    call([AFFINITY_INFO, mpidr, 0, 0]) == 1
}

/// Turns this CPU off.
pub fn cpu_off() -> ! {
    call([CPU_OFF, 0, 0, 0]);
    panic!("CPU_OFF came back");
}

/// Powers the machine off.
pub fn system_off() -> ! {
    loop {
        call([SYSTEM_OFF, 0, 0, 0]);
    }
}

/// Restarts the machine.
pub fn system_reset() -> ! {
    loop {
        call([SYSTEM_RESET, 0, 0, 0]);
    }
}
