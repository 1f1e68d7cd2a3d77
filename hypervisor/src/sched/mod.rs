// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The scheduler: which vCPU runs on which pCPU, and for how long.

pub mod deadlines;
pub mod idle_clock;
pub mod masked;
pub mod policy;
pub mod residency;
pub mod run_loop;
pub mod run_queues;
pub mod tee_watchdog;
