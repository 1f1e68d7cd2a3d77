// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest meets behind the name of a system register, for every register that there is.
//!
//! Each register is *switched*, *trapped*, *constant* or *absent*. Four places make it so: the list of what a
//! switch of vCPUs saves ([`switched`]), the traps that EL2 sets ([`controls`]), the answers to what traps
//! (`exceptions/src/sysreg.rs`) and the features that guests are told of (`exceptions/src/ids.rs`). `table.rs` says which of the four it
//! is to be, register by register, and `tests.rs` holds the four places to it; so does a guest that reads all of them
//! (`guests/scan`).

#[cfg(not(target_os = "none"))]
pub mod architecture;
pub mod controls;
pub mod features;
pub mod switched;
#[cfg(not(target_os = "none"))]
pub mod table;
#[cfg(test)]
mod tests;
