// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The life of a VM: how it starts, pauses and ends.

pub mod transitions;
pub mod work_steps;
