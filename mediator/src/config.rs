// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a VM may have: identity, quotas, policy, and which parts of the ABI it is offered.

use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU16;
use optee_proto::Uuid;

/// A VM's number in OP-TEE, a7 of every call: 16 bits, never zero, since zero is the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(NonZeroU16);

impl ClientId {
    /// The client of this number.
    #[inline]
    pub const fn new(number: NonZeroU16) -> Self {
        Self(number)
    }

    /// Its number, as a7 carries it.
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
    /// Pages in all these buffers together, counted once a buffer: 4 KiB each.
    pub pages: u32,
    /// Yielding calls under way, running or suspended; what OP-TEE has threads for bounds it as
    /// well. 1..=64.
    pub calls: u32,
    /// Open sessions.
    pub sessions: u32,
    /// Buffers for RPC messages. OP-TEE uses one a thread, so twice the threads are plenty.
    pub rpc_buffers: u32,
    /// Pages that OP-TEE's core may have mapped at once: those that it asked the guest for, and
    /// those of buffers that calls under way hand to an application that may be a pseudo TA.
    ///
    /// OP-TEE maps such a buffer whole, in an address space of the VM's for which it sets few
    /// tables aside, and panics when they do not suffice. That stops it for all VMs.
    pub mapped_pages: u32,
    /// Applications that all lives of the VM together may leave behind in OP-TEE. Each takes one
    /// of the 64 address space numbers that OP-TEE has for all VMs; no VM can use a user TA any
    /// more when there is none left. A VM with so many gets no TEE when it starts again.
    pub max_leaked_asids: u32,
    /// Of these numbers, those that the VM may have at once: for its sessions with user TAs, as many as
    /// have an instance of the application to themselves, and for what its earlier lives have left behind.
    pub address_spaces: u32,
}

impl Default for Quotas {
    /// Enough for all of `xtest`, and for 64 MiB in one registration next to it.
    ///
    /// OP-TEE 4.5 and 4.10 as Debian builds them for QEMU have tables for 11 MiB of a VM's shared
    /// memory. Space is given out first fit, so what is mapped can be spread over several times its
    /// size: a quarter of 11 MiB is left for it, and something for messages.
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

/// What a VM may do that is a matter of taste and not of isolation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The trusted applications that it may open a session to; `None` is all of them.
    pub trusted_apps: Option<Vec<Uuid>>,
    /// With a list: user TAs that are not in it, too, but no pseudo TAs, which are parts of OP-TEE's core and drive
    /// what the machine has once.
    pub user_tas: bool,
    /// The login methods that its clients may claim ([`optee_proto::msg::login`]); `None` is all
    /// of them.
    pub logins: Option<Vec<u32>>,
    /// It owns the machine's RPMB device: OP-TEE's RPMB requests reach it. One VM at most.
    pub rpmb: bool,
    /// It owns the I2C buses: OP-TEE's transfers reach it. One VM at most.
    pub i2c: bool,
}

impl Default for Policy {
    /// All applications, all logins, no devices.
    fn default() -> Self {
        Self {
            trusted_apps: None,
            user_tas: false,
            logins: None,
            rpmb: false,
            i2c: false,
        }
    }
}

/// Which optional parts of the ABI the VM is offered, as far as OP-TEE has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// `OPTEE_SMC_SEC_CAP_RPC_ARG`: RPC messages behind the call's message, which saves the
    /// guest two round trips a call.
    pub rpc_arg: bool,
    /// `OPTEE_SMC_SEC_CAP_ASYNC_NOTIF`: only where the hypervisor injects the interrupt.
    pub async_notif: bool,
}

/// All that a VM may have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// How much.
    pub quotas: Quotas,
    /// What.
    pub policy: Policy,
    /// Which parts of the ABI.
    pub features: Features,
    /// How often the VM may be made known to OP-TEE, once at each of its starts; `None` is no limit.
    /// Its share of [`crate::TeeInfo::max_creations`].
    pub max_creations: Option<u32>,
}
