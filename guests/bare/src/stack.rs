// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stacks of the vCPUs.

use crate::MAX_CPUS;
use core::cell::UnsafeCell;

/// Bytes of stack of each vCPU.
pub const STACK_SIZE: usize = 64 * 1024;

/// The stacks of all vCPUs, each used by its own.
#[repr(C, align(4096))]
pub struct Stacks(UnsafeCell<[[u8; STACK_SIZE]; MAX_CPUS]>);

// SAFETY: no Rust reference to a stack's bytes is ever made.
unsafe impl Sync for Stacks {}

/// All of them; `entry.S` takes the first.
pub static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK_SIZE]; MAX_CPUS]));

/// Where the stack of a vCPU begins: its highest address.
pub fn top(cpu: usize) -> u64 {
    (&raw const STACKS) as u64 + ((cpu + 1) * STACK_SIZE) as u64
}
