// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The probe of the TEE, once at boot, before any VM exists.

use crate::host::SecureMonitor;
use crate::tee_info::TeeInfo;
use optee_proto::caps::SecureCaps;
use optee_proto::{FunctionId, Return, smc, uuid};
use thiserror::Error;

/// Why the TEE cannot be shared. Each text says what is wrong and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProbeError {
    /// No trusted OS answers.
    #[error(
        "no trusted OS answers at S-EL1: build TF-A with SPD=opteed and pass it OP-TEE as BL32"
    )]
    Absent,
    /// TF-A waits for the kernel to load OP-TEE.
    #[error(
        "OP-TEE is not loaded yet: build TF-A without OPTEE_ALLOW_SMC_LOAD, so that BL2 app_load it"
    )]
    NotLoaded,
    /// The trusted OS is not OP-TEE.
    #[error(
        "the trusted OS is not OP-TEE (its UID is {:08x}-{:08x}-{:08x}-{:08x}): only OP-TEE can be shared",
        .0[0], .0[1], .0[2], .0[3]
    )]
    NotOptee([u32; 4]),
    /// OP-TEE speaks another revision of the API.
    #[error("OP-TEE speaks revision {major}.{minor} of its API, not 2.x: use OP-TEE 3.x or 4.x")]
    Revision {
        /// Major revision of the API.
        major: u32,
        /// Minor revision of the API.
        minor: u32,
    },
    /// OP-TEE does not exchange capabilities.
    #[error("OP-TEE refuses to exchange capabilities (code {0:#x}): its log says more")]
    Capabilities(u32),
    /// OP-TEE is not built for several guests, and another VM has it. [`probe`] never returns this.
    #[error(
        "OP-TEE is not virtualised, and another VM has it: build it with CFG_NS_VIRTUALIZATION=y (CFG_VIRTUALIZATION=y before 4.0)"
    )]
    NotVirtualised,
    /// OP-TEE has no shared memory except a carve-out.
    #[error(
        "OP-TEE has no dynamic shared memory: build it with CFG_CORE_DYN_SHM=y, and describe the normal world's memory to it"
    )]
    NoDynamicSharedMemory,
}

/// Asks the TEE what it is. Makes only calls that are safe with client id 0.
///
/// # Errors
/// When it is not an OP-TEE that VMs can use; see [`ProbeError`].
pub fn probe<M: SecureMonitor>(monitor: &M) -> Result<TeeInfo, ProbeError> {
    let ask = |id: FunctionId, a1: u64| {
        let [a0, a1, a2, a3, ..] = monitor.smc([id.get().into(), a1, 0, 0, 0, 0, 0, 0]);
        [a0, a1, a2, a3].map(|word| word as u32)
    };
    let unknown = Return::UNKNOWN_FUNCTION.get() as u32;

    let uid = ask(smc::CALLS_UID, 0);
    match uid {
        uuid::API_UID => {}
        uuid::IMAGE_LOAD_UID => return Err(ProbeError::NotLoaded),
        [first, ..] if first == unknown => return Err(ProbeError::Absent),
        other => return Err(ProbeError::NotOptee(other)),
    }
    let [major, minor, ..] = ask(smc::CALLS_REVISION, 0);
    if major != 2 {
        return Err(ProbeError::Revision { major, minor });
    }
    let [result, caps, max_notif, rpc_params] = ask(smc::EXCHANGE_CAPABILITIES, 0);
    if result != 0 {
        return Err(ProbeError::Capabilities(result));
    }
    let caps = SecureCaps::from_bits_retain(caps.into());
    if !caps.contains(SecureCaps::DYNAMIC_SHM) {
        return Err(ProbeError::NoDynamicSharedMemory);
    }
    // An OP-TEE that does not know the call has two threads by default.
    let threads = match ask(smc::GET_THREAD_COUNT, 0) {
        [0, threads, ..] if threads != 0 => threads,
        _ => 2,
    };
    let [major, minor, build, _] = ask(smc::GET_OS_REVISION, 0);
    Ok(TeeInfo {
        major,
        minor,
        build,
        virtualised: caps.contains(SecureCaps::VIRTUALIZATION),
        caps,
        max_notif: if caps.contains(SecureCaps::ASYNC_NOTIF) {
            max_notif
        } else {
            0
        },
        rpc_params: if caps.contains(SecureCaps::RPC_ARG) {
            rpc_params
        } else {
            0
        },
        threads,
        over_ffa: false,
        static_tables: false,
    })
}
