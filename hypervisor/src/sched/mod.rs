// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which vCPU runs where.

pub mod deadlines;
pub mod idle_clock;
pub mod masked;
pub mod policy;
pub mod residency;
pub mod run_loop;
pub mod run_queues;
pub mod tee_watchdog;
