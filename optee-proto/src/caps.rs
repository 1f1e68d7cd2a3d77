// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Capability bits: `OPTEE_SMC_NSEC_CAP_*` and `OPTEE_SMC_SEC_CAP_*` of `optee_smc.h`.

use bitflags::bitflags;

bitflags! {
    /// Capabilities of the normal world, in a1 of
    /// [`crate::smc::EXCHANGE_CAPABILITIES`]. OP-TEE refuses the call when a bit is set that
    /// it does not know.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct NormalCaps: u64 {
        /// `OPTEE_SMC_NSEC_CAP_UNIPROCESSOR`: one processor only.
        const UNIPROCESSOR = 1 << 0;
    }
}

bitflags! {
    /// Capabilities of the secure world, in a1 of the answer.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct SecureCaps: u64 {
        /// `OPTEE_SMC_SEC_CAP_HAVE_RESERVED_SHM`: there is a carve-out for shared memory.
        const HAVE_RESERVED_SHM = 1 << 0;
        /// `OPTEE_SMC_SEC_CAP_UNREGISTERED_SHM`: any physical address may be named.
        const UNREGISTERED_SHM = 1 << 1;
        /// `OPTEE_SMC_SEC_CAP_DYNAMIC_SHM`: memory can be registered.
        const DYNAMIC_SHM = 1 << 2;
        /// `OPTEE_SMC_SEC_CAP_VIRTUALIZATION`: built for several guests.
        const VIRTUALIZATION = 1 << 3;
        /// `OPTEE_SMC_SEC_CAP_MEMREF_NULL`: NULL memory references.
        const MEMREF_NULL = 1 << 4;
        /// `OPTEE_SMC_SEC_CAP_ASYNC_NOTIF`: asynchronous notifications; a2 of the answer is
        /// the largest notification value.
        const ASYNC_NOTIF = 1 << 5;
        /// `OPTEE_SMC_SEC_CAP_RPC_ARG`: room for RPC messages behind the message; a3 of the
        /// answer is the number of parameters to leave room for.
        const RPC_ARG = 1 << 6;
        /// `OPTEE_SMC_SEC_CAP_RPMB_PROBE`: wants the RPMB partition probed by the kernel.
        const RPMB_PROBE = 1 << 7;
        /// `OPTEE_SMC_SEC_CAP_PROTMEM`: protected memory from a carve-out.
        const PROTMEM = 1 << 8;
        /// `OPTEE_SMC_SEC_CAP_DYNAMIC_PROTMEM`: protected memory lent by the normal world.
        const DYNAMIC_PROTMEM = 1 << 9;
    }
}
