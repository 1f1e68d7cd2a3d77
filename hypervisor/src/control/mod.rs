// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What users and other pCPUs see of the machine: console input, and the watchdog of the secure world.

pub mod input;
pub mod monitor;
pub mod watchdog;
