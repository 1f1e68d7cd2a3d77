// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls by SMC and HVC (SMCCC, DEN0028), with every argument register under the caller's control.

pub use crate::exception::Fault;

unsafe extern "C" {
    fn call_smc(registers: *mut [u64; 18]) -> u64;
    fn call_hvc(registers: *mut [u64; 18]) -> u64;
    fn call_smc_1(registers: *mut [u64; 18]) -> u64;
    fn call_hvc_1(registers: *mut [u64; 18]) -> u64;
}

/// The instruction that makes the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `smc #0`.
    Smc,
    /// `hvc #0`.
    Hvc,
    /// `smc #1`, which SMCCC reserves.
    SmcImmediate1,
    /// `hvc #1`, which SMCCC reserves.
    HvcImmediate1,
}

/// One call with x0..x17 as they are in `registers`, and their values afterwards in it.
///
/// # Errors
/// The instruction itself was refused: the registers are as before.
pub fn call(conduit: Conduit, registers: &mut [u64; 18]) -> Result<(), Fault> {
    let instruction = match conduit {
        Conduit::Smc => call_smc,
        Conduit::Hvc => call_hvc,
        Conduit::SmcImmediate1 => call_smc_1,
        Conduit::HvcImmediate1 => call_hvc_1,
    };
    // SAFETY: `vectors.S` loads x0..x17 from there, keeps x18..x30 by SMCCC and the procedure call
    // standard, and stores x0..x17 there. Whom the call has write memory, writes `Pages`, which are
    // only reached by volatile accesses.
    match unsafe { instruction(registers) } {
        0 => Ok(()),
        syndrome => Err(Fault(syndrome)),
    }
}

/// `smc #0` with x0..x7; x8..x17 are zero. Back: x0..x17.
///
/// # Panics
/// The instruction is undefined.
pub fn smc(arguments: [u64; 8]) -> [u64; 18] {
    quick(Conduit::Smc, arguments)
}

/// `hvc #0` with x0..x7; x8..x17 are zero. Back: x0..x17.
///
/// # Panics
/// The instruction is undefined.
pub fn hvc(arguments: [u64; 8]) -> [u64; 18] {
    quick(Conduit::Hvc, arguments)
}

fn quick(conduit: Conduit, arguments: [u64; 8]) -> [u64; 18] {
    let mut registers = [0; 18];
    registers[..8].copy_from_slice(&arguments);
    call(conduit, &mut registers).expect("the conduit exists");
    registers
}
