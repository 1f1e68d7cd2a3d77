// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the TEE is, whichever transport has asked it.

use optee_proto::caps::SecureCaps;

/// What the hypervisor knows of the TEE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TeeInfo {
    /// Major revision of the OS, 4 for instance.
    pub major: u32,
    /// Minor revision of the OS.
    pub minor: u32,
    /// Build identifier; zero is unspecified.
    pub build: u32,
    /// Several VMs can share it. Otherwise one VM can have it, and calls carry no client id.
    pub virtualised: bool,
    /// Capabilities, unfiltered.
    pub caps: SecureCaps,
    /// The largest notification value, with asynchronous notifications.
    pub max_notif: u32,
    /// Number of parameters for which an RPC message behind a call's message has room.
    pub rpc_params: u32,
    /// Number of yielding calls that each VM can have in flight: `CFG_NUM_THREADS`.
    pub threads: u32,
    /// OP-TEE is reached over FF-A. Otherwise it is reached over the SMC ABI.
    pub over_ffa: bool,
    /// OP-TEE was built with a fixed number of translation tables per VM, `CFG_DYN_CONFIG=n`. OP-TEE does not
    /// report that, so [`crate::probe`] leaves this unset and the hypervisor sets it. Versions up to 4.5 have
    /// nothing else.
    pub static_tables: bool,
}

/// Number of VMs that an OP-TEE which leaks memory with each VM is asked to create in total. 4.10.0 as Debian
/// builds it stops for all VMs at about the 56th.
const MAX_CREATIONS: u32 = 40;

/// The same over FF-A. 4.10.0 as Debian's sources build it stops at the 32nd to 51st, depending on where it has placed
/// itself (docs/optee-facts.md).
const MAX_CREATIONS_BY_FFA: u32 = 24;

impl TeeInfo {
    /// Returns whether it is a version that was tried and lacks the faults of newer ones: docs/optee-facts.md.
    const fn is_sound(&self) -> bool {
        self.major < 4 || self.major == 4 && self.minor <= 5
    }

    /// Returns how many VMs it can be asked to create before the machine restarts, resets included; `None` is
    /// no limit. It leaks translation tables.
    pub const fn max_creations(&self) -> Option<u32> {
        if self.is_sound() || self.static_tables || !self.virtualised {
            None
        } else if self.over_ffa {
            Some(MAX_CREATIONS_BY_FFA)
        } else {
            Some(MAX_CREATIONS)
        }
    }

    /// Returns whether it creates translation tables for a VM on demand, from memory that the VM can use up:
    /// 4.6 and newer, by default.
    pub(crate) const fn makes_tables_late(&self) -> bool {
        self.virtualised
            && !self.is_sound()
            && !self.static_tables
            && self.caps.contains(SecureCaps::RPC_ARG)
    }

    /// Returns whether a VM may enable notifications after more than one of its creations. 4.10.0 stops for all
    /// VMs at the second time.
    pub(crate) const fn notifies_again(&self) -> bool {
        self.is_sound()
    }
}
