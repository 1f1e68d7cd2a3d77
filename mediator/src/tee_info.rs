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
    /// [`crate::probe`] leaves this unset, and whoever knows sets it. Up to 4.5 there is nothing else.
    pub static_tables: bool,
}

/// Of an OP-TEE that leaks memory with each VM, how many VMs it is asked to create in all. 4.10.0 as
/// Debian builds it stops for all VMs at about the 56th.
const MAX_CREATIONS: u32 = 40;

impl TeeInfo {
    /// It is a version that was tried, and does not do what newer ones do: docs/optee-facts.md.
    const fn is_sound(&self) -> bool {
        self.major < 4 || self.major == 4 && self.minor <= 5
    }

    /// How many VMs it can be asked to create before the machine restarts, resets included; `None` is
    /// no limit. What leaks are translation tables.
    pub const fn max_creations(&self) -> Option<u32> {
        if self.is_sound() || self.static_tables || !self.virtualised {
            None
        } else {
            Some(MAX_CREATIONS)
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
