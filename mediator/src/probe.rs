// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the TEE is, asked once at boot, before any VM exists.

use crate::host::Host;
use optee_proto::caps::SecureCaps;
use optee_proto::{FunctionId, Return, smc, uuid};
use thiserror::Error;

/// What the hypervisor knows of the TEE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TeeInfo {
    /// Major revision of the OS, 4 for instance.
    pub major: u32,
    /// Minor revision of the OS.
    pub minor: u32,
    /// Build identifier; zero is unspecified.
    pub build: u32,
    /// Several VMs can share it. If not, one VM can have it, and calls carry no number.
    pub virtualised: bool,
    /// Capabilities, unfiltered.
    pub caps: SecureCaps,
    /// The largest notification value, where there are notifications.
    pub max_notif: u32,
    /// How many parameters an RPC message behind a call's message has room for.
    pub rpc_params: u32,
    /// How many yielding calls each VM can have under way at once: `CFG_NUM_THREADS`.
    pub threads: u32,
    /// It was built with a fixed number of translation tables a VM, `CFG_DYN_CONFIG=n`. It does not say so itself, so
    /// [`probe`] leaves this unset, and whoever knows sets it. Up to 4.5 there is nothing else.
    pub static_tables: bool,
}

/// Of an OP-TEE that leaks memory with each VM, how many VMs it is asked to create in all. 4.10.0 as
/// Debian builds it stops for all VMs at about the 56th.
const LIVES: u32 = 40;

impl TeeInfo {
    /// It is a version that was tried, and does not do what newer ones do: docs/optee-facts.md.
    const fn is_sound(&self) -> bool {
        self.major < 4 || self.major == 4 && self.minor <= 5
    }

    /// How many VMs it can be asked to create before the machine restarts, resets included; `None` is
    /// no limit. What leaks are translation tables.
    pub const fn lives(&self) -> Option<u32> {
        if self.is_sound() || self.static_tables || !self.virtualised {
            None
        } else {
            Some(LIVES)
        }
    }

    /// Whether it makes translation tables for a VM when they are needed, of memory that the VM can use up:
    /// 4.6 and newer, as they are built where nobody says otherwise.
    pub(crate) const fn makes_tables_late(&self) -> bool {
        self.virtualised
            && !self.is_sound()
            && !self.static_tables
            && self.caps.contains(SecureCaps::RPC_ARG)
    }

    /// Whether a VM may enable notifications in more than one of its lives: 4.10.0 stops for all VMs
    /// at the second time.
    pub(crate) const fn notifies_again(&self) -> bool {
        self.is_sound()
    }
}

/// Why the TEE cannot be shared. Each text says what is wrong and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProbeError {
    /// Nothing answers for the trusted OS.
    #[error(
        "no trusted OS answers at S-EL1: build TF-A with SPD=opteed and pass it OP-TEE as BL32"
    )]
    Absent,
    /// TF-A waits for the kernel to load OP-TEE.
    #[error(
        "OP-TEE is not loaded yet: build TF-A without OPTEE_ALLOW_SMC_LOAD, so that BL2 loads it"
    )]
    NotLoaded,
    /// Some other trusted OS.
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
    /// It does not exchange capabilities.
    #[error("OP-TEE refuses to exchange capabilities (code {0:#x}): its log says more")]
    Capabilities(u32),
    /// Not built for several guests: one can have it. Never the answer of [`probe`].
    #[error(
        "OP-TEE is not virtualised, and another VM has it: build it with CFG_NS_VIRTUALIZATION=y (CFG_VIRTUALIZATION=y before 4.0)"
    )]
    NotVirtualised,
    /// No shared memory but a carve-out.
    #[error(
        "OP-TEE has no dynamic shared memory: build it with CFG_CORE_DYN_SHM=y, and describe the normal world's memory to it"
    )]
    NoDynamicSharedMemory,
}

/// Asks the TEE what it is. Only calls that are safe with client id 0 are made.
///
/// # Errors
/// When it is not an OP-TEE that several VMs can share; see [`ProbeError`].
pub fn probe<H: Host>(host: &H) -> Result<TeeInfo, ProbeError> {
    let ask = |id: FunctionId, a1: u64| {
        host.smc([id.get().into(), a1, 0, 0, 0, 0, 0, 0])
            .map(|word| word as u32)
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
    // An OP-TEE that does not know the call has two threads, unless it was built otherwise.
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
        static_tables: false,
    })
}
