// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which vCPU runs where.

pub mod deadlines;
pub mod idle;
pub mod masked;
pub mod policy;
pub mod queues;
pub mod seat;
pub mod turn;
pub mod watch;
