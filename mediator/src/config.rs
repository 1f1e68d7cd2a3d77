// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a VM may have: identity, quotas, policy, and the features of the ABI that it is offered.

use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU16;
use ffa_proto::EndpointId;
use optee_proto::Uuid;

/// A VM's client id in OP-TEE, a7 of every call: 16 bits, never zero, since zero is the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(NonZeroU16);

impl ClientId {
    /// Returns the client id with this number.
    #[inline]
    pub const fn new(number: NonZeroU16) -> Self {
        Self(number)
    }

    /// Returns the number, which is the VM's id for the framework of FF-A.
    #[inline]
    pub const fn number(self) -> NonZeroU16 {
        self.0
    }

    /// Returns the number, as a7 carries it.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0.get() as u64
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How much of the TEE, and of the hypervisor's memory for it, one VM may use at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quotas {
    /// Shared buffers: registered ones, and those that OP-TEE asked the guest for. 1..=65,000.
    pub buffers: u32,
    /// Pages of 4 KiB in all these buffers together, counted once per buffer.
    pub pages: u32,
    /// Yielding calls in flight, running or suspended, 1..=64. OP-TEE's number of threads bounds them too.
    pub calls: u32,
    /// Open sessions.
    pub sessions: u32,
    /// Buffers for RPC messages. OP-TEE uses one per thread, so twice the number of threads is enough.
    pub rpc_buffers: u32,
    /// Pages that OP-TEE's core may have mapped at once: those that it requested from the guest, and those of
    /// buffers that calls in flight pass to an application that may be a pseudo TA.
    ///
    /// OP-TEE maps such a buffer as a whole, in an address space of the VM for which it reserves few tables,
    /// and panics when they do not suffice. That stops OP-TEE for all VMs.
    pub mapped_pages: u32,
    /// Address space identifiers (ASIDs) that all creations of the VM together may leave in use in OP-TEE, one
    /// per application that stays. OP-TEE has 64 for all VMs. Without a free one no VM can use a user TA. A VM
    /// that has reached the limit gets no TEE when it starts again.
    pub max_leaked_asids: u32,
    /// ASIDs that the VM may use at once: for its sessions with user TAs, one per instance, and for those that
    /// its earlier creations have leaked.
    pub address_spaces: u32,
}

impl Default for Quotas {
    /// Returns enough for all of `xtest`, and for 64 MiB in one registration next to it.
    ///
    /// OP-TEE 4.5 and 4.10 as Debian builds them for QEMU have tables for 11 MiB of a VM's shared memory.
    /// OP-TEE assigns the address space first fit, so mapped buffers can be spread over several times their
    /// size. So the default is a quarter of 11 MiB, less some room for messages.
    fn default() -> Self {
        Self {
            buffers: 8192,
            pages: 65_536,
            calls: 16,
            sessions: 256,
            rpc_buffers: 64,
            mapped_pages: 640,
            max_leaked_asids: 24,
            address_spaces: 64,
        }
    }
}

/// What a VM may do, beyond what isolation requires.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The trusted applications that the VM may open a session to; `None` allows all.
    pub trusted_apps: Option<Vec<Uuid>>,
    /// With a list: allows user TAs that are not in the list too, but no pseudo TAs. Those are parts of
    /// OP-TEE's core and drive devices that the machine has once.
    pub user_tas: bool,
    /// The login methods that the VM's clients may claim ([`optee_proto::msg::login`]); `None` allows all.
    pub logins: Option<Vec<u32>>,
    /// The partitions of OP-TEE, by their ids in FF-A, of which the VM sees the first that is there; `None` allows all. The SMC ABI has
    /// no partitions.
    pub partitions: Option<Vec<EndpointId>>,
    /// The VM owns the machine's RPMB device: OP-TEE's RPMB requests reach it. At most one VM does.
    pub rpmb: bool,
    /// The VM owns the I2C buses: OP-TEE's transfers reach it. At most one VM does.
    pub i2c: bool,
}

impl Default for Policy {
    /// Returns a policy that allows all applications and all logins, and no devices.
    fn default() -> Self {
        Self {
            trusted_apps: None,
            user_tas: false,
            logins: None,
            partitions: None,
            rpmb: false,
            i2c: false,
        }
    }
}

/// The optional parts of the ABI that the VM is offered, as far as OP-TEE has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// `OPTEE_SMC_SEC_CAP_RPC_ARG`: RPC messages behind the call's message, which saves the guest two round
    /// trips per call.
    pub rpc_arg: bool,
    /// `OPTEE_SMC_SEC_CAP_ASYNC_NOTIF`: only where the hypervisor injects the interrupt.
    pub async_notif: bool,
}

/// Everything that a VM may have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// How much the VM may use.
    pub quotas: Quotas,
    /// What the VM may do.
    pub policy: Policy,
    /// The features that the VM is offered.
    pub features: Features,
    /// Number of times that the VM may be created in OP-TEE, once per start; `None` is no limit. The VM's share
    /// of [`crate::TeeInfo::max_creations`].
    pub max_creations: Option<u32>,
}
