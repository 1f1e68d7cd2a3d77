// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Control of the machine from outside and by other pCPUs: console input, the monitor, and the
//! watchdog of the secure world.

pub mod input;
pub mod monitor;
pub mod watchdog;
