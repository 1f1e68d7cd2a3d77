// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the boot CPU needs to know before it has an MMU, a heap or atomics: where to write.
//!
//! These functions only read the tree: no allocation, no atomic, no lock, no global.

use super::devices::{Conduit, psci_node};
use super::{tree, uart};
use mediator::addr::Pa;
use postern_uart::Layout;

/// The address and the layout of the console's registers, or `None` where the tree is unusable or names none.
pub fn early_uart(tree: &[u8]) -> Option<(Pa, Layout)> {
    uart::early(tree::open(tree).ok()?)
}

/// How PSCI is called, or `None` where the tree is unusable or has no PSCI 0.2 or later.
pub fn early_psci(tree: &[u8]) -> Option<Conduit> {
    Conduit::of(psci_node(tree::open(tree).ok()?)?)
}
