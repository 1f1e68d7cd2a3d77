// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the boot CPU needs to know before it has an MMU, a heap or atomics: where to write.
//!
//! These functions only read the tree: no allocation, no atomic, no lock, no global.

use super::devices::{Conduit, Uart, psci_node};
use super::tree;
use mediator::addr::Pa;

/// The address of the console's PL011, or `None` where the tree is unusable or names none.
pub fn early_uart(tree: &[u8]) -> Option<Pa> {
    let node = Uart::node(tree::open(tree).ok()?)?;
    Some(node.reg(0).ok()?.start())
}

/// How PSCI is called, or `None` where the tree is unusable or has no PSCI 0.2 or later.
pub fn early_psci(tree: &[u8]) -> Option<Conduit> {
    Conduit::of(psci_node(tree::open(tree).ok()?)?)
}
