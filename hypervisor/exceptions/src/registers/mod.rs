// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The decision on every system register: what a guest meets behind its name.
//!
//! Each register is *switched*, *trapped*, *constant* or *absent*. Four places make it so: the list of what a
//! switch of vCPUs saves ([`switched`]), the traps that EL2 sets ([`controls`]), the answers to what traps
//! (`exceptions/src/sysreg.rs`) and the features that guests are told of (`exceptions/src/ids.rs`). `table.rs` says,
//! register by register, which of the four it must be. `tests.rs` holds the four places to the table; so does a guest
//! that reads all registers (`guests/scan`).

#[cfg(not(target_os = "none"))]
pub mod architecture;
pub mod controls;
pub mod features;
pub mod switched;
#[cfg(not(target_os = "none"))]
pub mod table;
#[cfg(test)]
mod tests;
