// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls in the range of the hypervisor's vendor: its identity (DEN0028E 6.2), and Postern's own.

use optee_proto::smc::FunctionId;

/// The UID of the hypervisor, in W0 to W3.
pub const UID: FunctionId = FunctionId::new(0x8600_ff01);
/// The revision of its calls: major in W0, minor in W1.
pub const REVISION: FunctionId = FunctionId::new(0x8600_ff03);
/// `POSTERN_MEM_RELINQUISH`: a guest gives pages back.
pub const MEM_RELINQUISH: FunctionId = FunctionId::new(0xc600_0010);
