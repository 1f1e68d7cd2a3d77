// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fuzz targets' functions, and the properties that they check.
//!
//! Each module is one target: a function that takes any bytes and panics when a property is
//! violated. It needs no fuzzer. `fuzz_targets/` passes these functions to libFuzzer, and the tests
//! here run them on the corpus in the repository.

pub mod boot_tree;
pub mod conversation;
pub mod conversation_ffa;
pub mod devices;
pub mod ffa_memory;
pub mod ffa_registers;
mod input;
pub mod message;
pub mod page_list;
pub mod rings;
mod world;

#[cfg(test)]
mod tests;
