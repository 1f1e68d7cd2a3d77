// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The TEE mediator: lets several virtual machines share one OP-TEE, each as if it had OP-TEE to itself.
//!
//! There is one [`Mediator`] per VM. The hypervisor
//!
//! 1. asks once at boot what the TEE is: [`probe`];
//! 2. creates a [`Mediator`] per VM and calls [`Mediator::create_step`] before the first vCPU runs, until it
//!    returns [`Progress::Done`];
//! 3. passes every SMC and HVC from the VM that [`Mediator::owns`] to [`Mediator::smc`], on the pCPU that
//!    trapped it, and writes the result to x0..x3 (x4..x17 keep the guest's values);
//! 4. calls [`Mediator::destroy_step`] when the VM is off and its vCPUs are stopped, until it returns
//!    [`Progress::Done`]. Then `create_step` may be called again: that is a reset.
//!
//! The mediator uses the hypervisor through the trait [`Host`], and through [`EndingHost`] where a VM begins and
//! ends. All state that decides anything is in private memory. What a guest or the TEE can write is fetched once,
//! checked, and only then used.
//!
//! The path of a call: `smc::begin` or `ffa::call` finds the guest's message, `call::prepare` fetches it, `message`
//! classifies each parameter, and `vm_state` replaces the guest's names of buffers by OP-TEE's. `call::run` has the call enter
//! OP-TEE, by the transport of the VM. `rpc::ask` translates OP-TEE's requests for the guest, and `rpc::answer` copies what the
//! guest may answer. `call::settle` writes the outputs back. `memory` has what is shared, `create` and `teardown` the beginning
//! and the end of a VM. `smc` and `ffa` alone know registers and function identifiers.
//!
//! Where OP-TEE is reached over FF-A, the hypervisor asks by [`ffa::probe`], creates mediators by [`Mediator::new_ffa`], and
//! passes on what [`Mediator::owns_ffa`] to [`Mediator::ffa`].
//!
//! The vCPUs of a VM share its state behind one ticket lock, held for look-ups only. Its holder must not be
//! interrupted by code that calls the mediator again: the hypervisor calls with interrupts masked, or without
//! preemption at EL2.
#![cfg_attr(
    feature = "fakes",
    doc = concat!(
        "\n# Example\n\nA hypervisor of 130 lines: `cargo run --example toy_hypervisor --features fakes`.\n\n```\n",
        include_str!("../examples/toy_hypervisor.rs"),
        "```"
    )
)]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
mod call;
pub mod config;
mod create;
mod creation;
mod denied;
#[cfg(any(test, feature = "fakes"))]
pub mod fake;
pub mod ffa;
pub mod host;
mod mapped_pages;
mod memory;
mod message;
mod pages;
mod policy;
mod pseudo_tas;
mod rpc;
mod sessions;
mod smc;
mod stats;
mod sync;
mod teardown;
mod tee_info;
#[cfg(test)]
mod tests;
mod transport;
mod vm_state;

pub use config::{ClientId, Config, Features, Policy, Quotas};
pub use host::{
    ForeignInterrupt, GuestMemoryError, Host, Leak, LongOperation, PinError, SecureMonitor,
    SharedPage,
};
pub use smc::{ProbeError, probe};
pub use stats::{RpcKind, Stats};
pub use teardown::{EndingCall, EndingHost, Progress};
pub use tee_info::TeeInfo;

use alloc::sync::Arc;
use ffa::{FfaVm, Spmc};
use optee_proto::caps::SecureCaps;
use optee_proto::msg::PAGE_LIST_ENTRIES;
use stats::Counters;
use sync::{AtomicBool, AtomicU32, Ordering, TicketMutex};
use teardown::Teardown;
use thiserror::Error;
use transport::MemoryNames;
use vm_state::VmState;

/// Why a VM gets no TEE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CreateError {
    /// The hypervisor has no page left to share with OP-TEE.
    #[error("out of pages to share with OP-TEE: give the hypervisor more memory")]
    NoSharedPages,
    /// The hypervisor has no memory for the VM's state.
    #[error("out of memory for the mediator's state: give the hypervisor more memory")]
    NoMemory,
    /// OP-TEE has no room for another VM.
    #[error(
        "OP-TEE has no room for this VM (code {0:#x}): build it with a larger CFG_VIRT_GUEST_COUNT"
    )]
    Refused(u32),
    /// OP-TEE has no memory for the tables that map what it shares with the VM, or does not create them.
    #[error(
        "OP-TEE does not make its tables for this VM (code {0:#x}): build it with a larger \
         CFG_CORE_HEAP_SIZE, or for fewer VMs, so that each has more memory"
    )]
    TablesRefused(u32),
    /// The VM may see none of OP-TEE's partitions, of which this is the first.
    #[error(
        "its description lets this VM see no partition that is OP-TEE: add {0:#x} to tee_policy.partitions"
    )]
    NoPartition(u32),
    /// The SPMC does not take the memory that the mediator shares for this VM.
    #[error("the SPMC does not take the memory that calls of this VM need (code {0:#x})")]
    SharesRefused(u32),
    /// OP-TEE does not finish these tables.
    #[error(
        "OP-TEE has not made its tables for this VM after {0} entries: it hangs in that call, so \
         restart the machine, or use another version of OP-TEE"
    )]
    TablesUnfinished(u32),
    /// The VM was created this many times, and this OP-TEE leaks memory each time.
    #[error(
        "this OP-TEE leaks memory with every VM, and stops when there is none left: after {0} starts \
         of this VM restart the machine, or use another version of OP-TEE"
    )]
    TooManyCreations(u32),
    /// Earlier creations of the VM have left this many applications in OP-TEE.
    #[error(
        "{0} applications of this VM's earlier lives stay in OP-TEE, which has numbers for few: \
         restart the machine, or raise the VM's quota of max_leaked_asids"
    )]
    TooManyLeakedAsids(u64),
    /// The VM has its TEE already.
    #[error("the VM has been created already")]
    Exists,
}

/// Why a VM's TEE cannot be destroyed now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DestroyError {
    /// A vCPU is inside the mediator or OP-TEE. Stop it first. Nothing was done.
    #[error("a vCPU is still inside the TEE")]
    Busy,
    /// OP-TEE does not forget the VM, so everything stays with the VM: pages, pinned or not.
    #[error("OP-TEE refuses to forget the VM (code {0:#x})")]
    Refused(u32),
    /// An OP-TEE that is not virtualised has not returned everything that belongs to the VM.
    #[error("OP-TEE, which is not virtualised, still has {0} things of the VM's")]
    Held(u64),
}

/// Returns how many yielding calls a VM can have in flight.
const fn call_limit(config: &Config, tee: &TeeInfo) -> u32 {
    let calls = if config.quotas.calls < tee.threads {
        config.quotas.calls
    } else {
        tee.threads
    };
    match calls {
        0 => 1,
        more if more > call::MAX_CALLS => call::MAX_CALLS,
        few => few,
    }
}

/// Returns a VM's quotas. Over FF-A its buffers and the mediator's own objects together are bounded.
fn quotas(config: &Config, tee: &TeeInfo, names: MemoryNames) -> Quotas {
    let most = match names {
        MemoryNames::Guest => u32::MAX,
        MemoryNames::Spmc => ffa::MAX_OBJECTS - call_limit(config, tee) - ffa::LENDABLE as u32,
    };
    Quotas {
        buffers: config.quotas.buffers.min(most),
        ..config.quotas
    }
}

/// The TEE as one virtual machine sees it.
#[derive(Debug)]
pub struct Mediator {
    client: ClientId,
    config: Config,
    tee: TeeInfo,
    /// How the VM reaches OP-TEE over FF-A; `None` over the SMC ABI.
    ffa: Option<FfaVm>,
    counters: Counters,
    state: TicketMutex<VmState>,
    /// Progress of the VM's teardown. Taken out during a step.
    teardown: TicketMutex<Option<Teardown>>,
    /// Number of vCPUs in [`Mediator::smc`] or [`Mediator::ffa`].
    inside: AtomicU32,
    /// OP-TEE knows the VM, and its calls are served.
    live: AtomicBool,
    /// Number of times that the VM was created.
    creations: AtomicU32,
    /// The guest has enabled notifications, since this or an earlier creation.
    notifications_were_enabled: AtomicBool,
    /// The guest must not enable notifications until the next creation.
    notifications_disabled: AtomicBool,
}

impl Mediator {
    /// Creates the mediator of a VM that does not run yet. No other VM has the same `client`.
    ///
    /// A feature that `config` offers and the TEE does not have is not offered.
    pub fn new(client: ClientId, config: Config, tee: TeeInfo) -> Self {
        Self::by(client, config, tee, None)
    }

    /// Creates the mediator of a VM that does not run yet, and reaches the TEE over FF-A. No other VM has the same
    /// `client`, which is the VM's id for the framework, too: below 0x7fff.
    ///
    /// A feature that `config` offers and the TEE does not have is not offered.
    pub fn new_ffa(client: ClientId, config: Config, tee: TeeInfo, spmc: Arc<Spmc>) -> Self {
        let ffa = FfaVm::new(spmc, client, &config.policy);
        Self::by(client, config, tee, Some(ffa))
    }

    fn by(client: ClientId, mut config: Config, tee: TeeInfo, ffa: Option<FfaVm>) -> Self {
        config.features.rpc_arg &= tee.caps.contains(SecureCaps::RPC_ARG)
            && tee.rpc_params as usize == optee_proto::rpc::MAX_PARAMS;
        config.features.async_notif &= tee.caps.contains(SecureCaps::ASYNC_NOTIF);
        let names = match ffa {
            None => MemoryNames::Guest,
            Some(_) => MemoryNames::Spmc,
        };
        let quotas = quotas(&config, &tee, names);
        Self {
            client,
            tee,
            ffa,
            counters: Counters::default(),
            state: TicketMutex::new(VmState::new(quotas, names)),
            teardown: TicketMutex::new(None),
            inside: AtomicU32::new(0),
            live: AtomicBool::new(false),
            creations: AtomicU32::new(0),
            notifications_were_enabled: AtomicBool::new(false),
            notifications_disabled: AtomicBool::new(false),
            config,
        }
    }

    /// Returns whether the guest reaches the TEE over FF-A. Its device tree then has no node for OP-TEE, and the interrupt of
    /// notifications is [`ffa::NOTIFICATION_PENDING_SGI`].
    pub const fn speaks_ffa(&self) -> bool {
        self.ffa.is_some()
    }

    /// Returns the VM's client id in OP-TEE.
    pub const fn client(&self) -> ClientId {
        self.client
    }

    /// Returns how many yielding calls the VM can have in flight.
    const fn call_limit(&self) -> u32 {
        call_limit(&self.config, &self.tee)
    }

    /// Returns the quotas of a life of the VM.
    fn quotas(&self) -> Quotas {
        quotas(&self.config, &self.tee, self.memory_names())
    }

    /// Returns the most pages of [`Host::alloc_shared`] that the VM can hold at once. With as many per VM, no
    /// VM takes pages of another. The VM's quotas bound the number.
    pub fn shared_pages_max(&self) -> u32 {
        let quotas = &self.config.quotas;
        // A call has the page of its message, one page that OP-TEE is unmapping, and at most two page lists: of
        // the buffer that it registers, and of the last one that OP-TEE requested. All pages of all lists but
        // the last ones are full.
        let per_call = 4;
        let full = quotas.pages / PAGE_LIST_ENTRIES as u32;
        per_call * self.call_limit() + full + quotas.rpc_buffers + pages::SPARE_PAGES as u32
    }

    /// Has the guest's notifications enabled.
    ///
    /// OP-TEE may announce the first one before it has answered, and another pCPU may take that interrupt. So
    /// the guest wants it before OP-TEE is asked.
    fn enabling_notifications<T>(
        &self,
        enable: impl FnOnce() -> T,
        is_enabled: impl FnOnce(&T) -> bool,
    ) -> T {
        self.notifications_were_enabled
            .store(true, Ordering::Relaxed);
        let before = core::mem::replace(&mut self.state.lock().notify, true);
        let answer = enable();
        if !is_enabled(&answer) {
            self.state.lock().notify = before;
        }
        answer
    }

    /// Returns whether the guest wants the interrupt that announces asynchronous notifications. When the TEE's
    /// physical interrupt arrives, the hypervisor injects a virtual one into every VM that wants it. A spurious
    /// one does no harm.
    pub fn wants_notifications(&self) -> bool {
        self.state.lock().notify
    }

    /// Returns whether the VM is offered asynchronous notifications until its next creation. Its device tree
    /// then has to name the interrupt.
    pub fn offers_notifications(&self) -> bool {
        self.config.features.async_notif && !self.notifications_disabled.load(Ordering::Relaxed)
    }

    /// Returns a snapshot of the counters.
    pub fn stats(&self) -> Stats {
        let state = self.state.lock();
        let (pages_pinned, pages_pinned_max) = state.pages();
        let (buffers, buffers_max) = state.buffer_counts();
        Stats {
            pages_pinned,
            pages_pinned_max,
            buffers,
            buffers_max,
            rpc_buffers: state.rpc_buffers.len() as u64,
            sessions: state.sessions.len() as u64,
            calls: (state.suspended.len() - state.idle.len()) as u64,
            mapped_pages: state.mapped().into(),
            ..self.counters.snapshot()
        }
    }
}
