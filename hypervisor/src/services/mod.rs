// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The services that answer SMCs and HVCs, one file per owner of function identifiers.

pub mod discovery;
pub mod memory;
pub mod psci;
pub mod seeds;
pub mod smccc;
pub mod trng;
pub mod vcpu_power;
pub mod wall_clock;
