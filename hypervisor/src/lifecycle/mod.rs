// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lifecycle of a VM on the machine: start, pause, end.

pub mod transitions;
pub mod watchdogs;
pub mod work_steps;
