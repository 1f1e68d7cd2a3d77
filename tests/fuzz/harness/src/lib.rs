// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the fuzz targets do with their input, and what must hold.
//!
//! Each module is one target: a function that takes any bytes and panics where a promise is
//! broken. It needs no fuzzer. `fuzz_targets/` gives these functions to libFuzzer, and the tests
//! here run them on the corpus in the repository.

pub mod boot_tree;
pub mod conversation;
pub mod devices;
mod input;
pub mod message;
pub mod page_list;
mod world;

#[cfg(test)]
mod tests;
