// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The protocol between the guests' first process and the host tool, for both ends.

pub mod event;
pub mod input;
pub mod interrupts;
pub mod role;
pub mod transfer;
