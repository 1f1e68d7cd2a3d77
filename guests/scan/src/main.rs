// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that reads every system register, and leaves marks in those that it can write.
//!
//! Two of them on one pCPU show what leaks from VM to VM: `tests/src/scan.rs` gives the commands
//! and compares both results with each other and with the hypervisor's table. Commands are lines on
//! the console, answers are lines of `@postern ` and a JSON object:
//!
//! | command | answer |
//! |---|---|
//! | | `{"event":"ready","program":"scan"}` when it has started |
//! | `scan` | a `{"event":"register","encoding":N,"value":"0x…"}` for each register that can be read, in order, then `{"event":"scanned","registers":N}` |
//! | `mark SALT` | writes a pattern of its own to each register that it can do without; `{"event":"marked","registers":N}` says how many have kept some of it |
//! | `check` | `{"event":"lost","encoding":N,"wrote":"0x…","value":"0x…"}` for each that is not as it was after `mark`, then `{"event":"checked","registers":N}` |
//! | `fill SALT` | fills all registers of SVE, as long as they can be; `{"event":"filled","registers":N}` says how many bits a vector has |
//! | `compare`, `compare 1`, `compare 2` | `{"event":"compared","registers":N}`: the bytes of SVE's registers that are not as they were filled; 1 calls OP-TEE before, 2 writes a SIMD register |
//! | `poweroff` | `{"event":"bye"}`, then the VM is off |
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod scan;

#[cfg(target_os = "none")]
guest_bare::program!(scan::main);

/// The program runs only in a VM.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("a bare-metal program: build it for aarch64-unknown-none-softfloat");
    std::process::exit(2);
}
