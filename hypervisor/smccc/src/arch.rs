// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls of the architecture itself (DEN0028E 7): which version, and which workarounds.

use optee_proto::smc::FunctionId;

/// SMCCC_VERSION.
pub const VERSION: FunctionId = FunctionId::new(0x8000_0000);
/// SMCCC_ARCH_FEATURES.
pub const FEATURES: FunctionId = FunctionId::new(0x8000_0001);
/// SMCCC_ARCH_WORKAROUND_1: CVE-2017-5715, branch target injection.
pub const WORKAROUND_1: FunctionId = FunctionId::new(0x8000_8000);
/// SMCCC_ARCH_WORKAROUND_2: CVE-2018-3639, speculative store bypass. It is a switch and not an action.
pub const WORKAROUND_2: FunctionId = FunctionId::new(0x8000_7fff);
/// SMCCC_ARCH_WORKAROUND_3: CVE-2022-23960, branch history injection.
pub const WORKAROUND_3: FunctionId = FunctionId::new(0x8000_3fff);

/// SMCCC 1.3, as [`VERSION`] returns it.
pub const VERSION_1_3: u32 = 0x1_0003;

/// Success.
pub const SUCCESS: i32 = 0;
/// No such function, or no such workaround.
pub const NOT_SUPPORTED: i32 = -1;
/// The CPU does not need the workaround.
pub const NOT_REQUIRED: i32 = -2;
