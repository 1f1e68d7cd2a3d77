// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FF-A (DEN0077A), the second transport: what a VM is for the framework, and what it may ask of it.
//!
//! The SPMC acts for whoever is named in a call: OP-TEE 4.10 checks neither the sender of a framework message nor the owner of
//! a handle or a buffer. So a guest's calls end here. What reaches the SPMC is made anew, with the VM's own id and handles of
//! its own table.
//!
//! What a guest and OP-TEE say in memory is the business of `message`, `call`, `rpc`, `memory`, `sessions`, `vm_state`,
//! `create` and `teardown`, as for the SMC ABI.
//!
//! * `probe`, `spmc`: what the SPMC is, and the buffers that it has with the hypervisor.
//! * `dispatch`: which function a guest calls.
//! * `endpoint`, `negotiation`, `buffers`, `features`, `partitions`: setup, answered without the SPMC.
//! * `service`, `call`: direct requests to OP-TEE, at once and yielding.
//! * `share`, `fragments`, `reclaim`, `alloc`: objects, from the guest's descriptor to their end, and those that OP-TEE requests.
//! * `notifications`: asynchronous notifications.
//! * `vm`, `creation`: what the hypervisor itself asks for a VM.

mod alloc;
mod buffers;
mod call;
mod creation;
mod dispatch;
mod endpoint;
mod features;
mod fragments;
mod negotiation;
mod notifications;
mod partitions;
mod probe;
mod reclaim;
mod service;
mod share;
mod spmc;
mod vm;

pub(crate) use creation::FfaCreation;
pub use dispatch::{Answer, GuestRegisters};
pub use endpoint::{VmEndpoint, VmEndpointConfig};
pub use ffa_proto::EndpointId;
pub use notifications::NOTIFICATION_PENDING_SGI;
pub use probe::{ProbeError, probe};
pub use spmc::{ExchangeBuffers, Spmc};

use crate::addr::PAGE_SIZE;
use crate::config::{ClientId, Policy};
use crate::denied::DeniedError;
use crate::sync::TicketMutex;
use ::alloc::sync::Arc;
use ffa_proto::ErrorCode;
use ffa_proto::memory::{DescriptorHead, Receiver};
use ffa_proto::notification::NotificationBitmap;
use fragments::Slot;
use optee_proto::TeeResult;
use optee_proto::ffa::Fmem;
use optee_proto::msg::Param;
use share::transaction;

/// The most objects of a VM. OP-TEE 4.10 has room for 64, and breaks at the request for one more.
pub(crate) const MAX_OBJECTS: u32 = 63;

/// The most bytes of a heap for the descriptor that a guest sends in fragments: its ranges.
pub(crate) const SHARE_HEAP_BYTES: u64 = 1 << 16;

/// Returns the offset in its object of a memory reference of a guest's.
pub(crate) fn offset(param: &Param) -> Result<u64, DeniedError> {
    let fmem = Fmem::read(param);
    let internal = u64::from(fmem.internal_offset);
    if internal >= PAGE_SIZE {
        return Err(DeniedError(TeeResult::BAD_PARAMETERS));
    }
    // Both have fewer than 64 bits.
    Ok(fmem.offset + internal)
}

/// Objects per VM to lend at teardown. OP-TEE requests one at a time.
pub(crate) const LENDABLE: usize = 2;

/// A VM's side of FF-A.
#[derive(Debug)]
pub(crate) struct FfaVm {
    spmc: Arc<Spmc>,
    /// OP-TEE's partition of the VM; without one the VM is not created.
    tee: EndpointId,
    /// The policy lets the VM use it.
    sees_tee: bool,
    /// What the descriptors of all memory that the VM shares begin with.
    head: DescriptorHead,
    endpoint: VmEndpoint,
    /// The descriptor that the guest sends in fragments. One at a time.
    open: TicketMutex<Slot>,
    /// The notifications that the guest has bound to OP-TEE.
    bound: TicketMutex<NotificationBitmap>,
}

impl FfaVm {
    /// Returns the endpoint of a VM that does not run yet. Its id is the VM's client id.
    pub(crate) fn new(spmc: Arc<Spmc>, client: ClientId, policy: &Policy) -> Self {
        let tee = spmc.tees.iter().find(|info| policy.sees(info.id)).copied();
        let endpoint = VmEndpoint::new(VmEndpointConfig {
            id: EndpointId::new(client.number().get()),
            spm: spmc.id,
            // Others would need a mediator for what they serve.
            partitions: tee.into_iter().collect(),
        });
        let id = tee.map_or(EndpointId::HYPERVISOR, |info| info.id);
        let receiver = Receiver::read_write(id);
        let head = transaction(endpoint.id());
        let head = DescriptorHead::new(&head, spmc.access_size(), &receiver);
        Self {
            spmc,
            tee: id,
            head,
            sees_tee: endpoint.sees(id),
            endpoint,
            open: TicketMutex::new(Slot::Empty),
            bound: TicketMutex::new(NotificationBitmap::EMPTY),
        }
    }

    /// Returns the VM's id.
    fn id(&self) -> EndpointId {
        self.endpoint.id()
    }

    /// Returns the id of the first partition that is OP-TEE, seen by the VM or not.
    pub(crate) fn first_tee(&self) -> u16 {
        self.spmc.tees.first().map_or(0, |info| info.id.get())
    }

    /// Returns whether the guest may use OP-TEE's partition.
    pub(crate) const fn sees_tee(&self) -> bool {
        self.sees_tee
    }

    /// Returns whether the guest has begun to send a descriptor in fragments.
    fn is_sending(&self) -> bool {
        !matches!(*self.open.lock(), Slot::Empty)
    }

    /// Begins a descriptor in fragments, at which a vCPU is at work from here on. Returns `false` if there is one.
    fn begin_open(&self) -> bool {
        let mut slot = self.open.lock();
        let is_empty = matches!(*slot, Slot::Empty);
        if is_empty {
            *slot = Slot::Busy;
        }
        is_empty
    }

    /// Takes the descriptor that the guest sends in fragments. A vCPU is at work on it from here on, until
    /// [`FfaVm::set_open`]. Whoever finds that a vCPU was at work on it already sets nothing.
    fn take_open(&self) -> Slot {
        core::mem::replace(&mut *self.open.lock(), Slot::Busy)
    }

    /// Sets the descriptor that the guest sends in fragments.
    fn set_open(&self, slot: Slot) {
        *self.open.lock() = slot;
    }

    /// Notes that the guest binds notifications.
    ///
    /// # Errors
    /// `DENIED` if it has bound one of them.
    fn bind(&self, bitmap: NotificationBitmap) -> Result<(), ErrorCode> {
        let mut bound = self.bound.lock();
        if !bound.intersection(bitmap).is_empty() {
            return Err(ErrorCode::DENIED);
        }
        *bound = bound.union(bitmap);
        Ok(())
    }

    /// Notes that the guest has notifications no longer bound.
    fn unbind(&self, bitmap: NotificationBitmap) {
        let mut bound = self.bound.lock();
        *bound = bound.difference(bitmap);
    }

    /// Returns whether the guest has bound a notification to OP-TEE.
    fn has_bound(&self, bit: NotificationBitmap) -> bool {
        self.bound.lock().contains(bit)
    }
}
