// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Emulated devices: plain state machines that handle one access at a time.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod debug;
pub mod generic_watchdog;
pub mod physical_timer;
pub mod pl011;
pub mod pl031;
pub mod pl061;
