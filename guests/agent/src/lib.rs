// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The language between the guests' first process and the host tool, for both of them.

pub mod event;
pub mod input;
