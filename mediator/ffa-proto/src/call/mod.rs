// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Requests: what a caller asks for, by registers, and the answers with results.
//!
//! [`Request::decode`] reads the calls of guests, and [`Request::encode`] writes those of a hypervisor. A request that
//! has been decoded is well-formed: nothing more. Whether a caller may name an endpoint, a handle or an address is for
//! its callee to decide.

mod memory;
mod message;
mod notify;
mod partitions;
mod setup;
pub mod usual;

pub use memory::{
    DescriptorBuffer, MemFragRx, MemFragTx, MemReclaim, MemReclaimFlags, MemSend, MemSendAnswer,
    MemSendKind,
};
pub use message::{DirectAnswer, DirectMessage, FrameworkMessage, Payload, Target};
pub use notify::{
    NotificationBind, NotificationBitmapCreate, NotificationGet, NotificationGetAnswer,
    NotificationSet,
};
pub use partitions::{
    PartitionInfoAnswer, PartitionInfoGet, PartitionInfoGetRegs, PartitionInfoRegsAnswer,
};
pub use setup::{FeatureId, FeatureQuery, Features, FeaturesAnswer, IdAnswer, RxtxMap};

use crate::endpoint::EndpointId;
use crate::error::RequestError;
use crate::function::{Function, Width};
use crate::notification::PendingLists;
use crate::registers::Registers;
use crate::version::Version;
use setup::{endpoint_above, endpoint_below};

/// A call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// `FFA_VERSION`, with w1. [`Version::from_w`] returns the caller's version, or `None` if bit 31 is set, for which
    /// the answer is `NOT_SUPPORTED`.
    Version(u32),
    /// `FFA_FEATURES`.
    Features(Features),
    /// `FFA_RX_ACQUIRE`, with the VM whose buffer it is.
    RxAcquire(EndpointId),
    /// `FFA_RX_RELEASE`, with the VM whose buffer it is if the hypervisor calls; zero else.
    RxRelease(EndpointId),
    /// `FFA_RXTX_MAP`.
    RxtxMap(RxtxMap),
    /// `FFA_RXTX_UNMAP`, with the VM whose buffers they are if the hypervisor calls; zero else.
    RxtxUnmap(EndpointId),
    /// `FFA_PARTITION_INFO_GET`.
    PartitionInfoGet(PartitionInfoGet),
    /// `FFA_PARTITION_INFO_GET_REGS`.
    PartitionInfoGetRegs(PartitionInfoGetRegs),
    /// `FFA_ID_GET`.
    IdGet,
    /// `FFA_SPM_ID_GET`.
    SpmIdGet,
    /// `FFA_RUN`.
    Run(Target),
    /// `FFA_MSG_SEND_DIRECT_REQ`.
    DirectRequest(DirectMessage),
    /// `FFA_MEM_DONATE`, `FFA_MEM_LEND`, `FFA_MEM_SHARE`.
    MemSend(MemSend),
    /// `FFA_MEM_FRAG_TX`.
    MemFragTx(MemFragTx),
    /// `FFA_MEM_FRAG_RX`.
    MemFragRx(MemFragRx),
    /// `FFA_MEM_RECLAIM`.
    MemReclaim(MemReclaim),
    /// `FFA_NOTIFICATION_BITMAP_CREATE`.
    NotificationBitmapCreate(NotificationBitmapCreate),
    /// `FFA_NOTIFICATION_BITMAP_DESTROY`, with the VM.
    NotificationBitmapDestroy(EndpointId),
    /// `FFA_NOTIFICATION_BIND`.
    NotificationBind(NotificationBind),
    /// `FFA_NOTIFICATION_UNBIND`. Its flag is false.
    NotificationUnbind(NotificationBind),
    /// `FFA_NOTIFICATION_SET`.
    NotificationSet(NotificationSet),
    /// `FFA_NOTIFICATION_GET`.
    NotificationGet(NotificationGet),
    /// `FFA_NOTIFICATION_INFO_GET`, by this convention.
    NotificationInfoGet(Width),
}

impl Request {
    /// Decodes a call of a caller of this version. A caller that has not agreed on a version has the callee's.
    ///
    /// # Errors
    ///
    /// [`RequestError::Unknown`] for what is no request that is listed here, by the ids of the version;
    /// [`RequestError::Reserved`] for bits that must be zero; [`RequestError::Value`] for what no version defines.
    /// [`crate::answer::refusal`] makes an answer of the error's code.
    pub fn decode(call: &Registers, version: Version) -> Result<Self, RequestError> {
        let unknown = RequestError::Unknown(call.id());
        let function = call.id().function();
        let function = function.filter(|function| function.since() <= version);
        let function = function.ok_or(unknown)?;
        let call = &call.significant(version);
        let nothing = || call.require_zero(1..=17);
        Ok(match function {
            Function::Version => {
                call.require_zero(2..=17)?;
                Self::Version(call.w(1))
            }
            Function::Features => Self::Features(Features::decode(call)?),
            Function::RxAcquire => Self::RxAcquire(endpoint_below(call)?),
            Function::RxRelease => Self::RxRelease(endpoint_below(call)?),
            Function::RxtxMap => Self::RxtxMap(RxtxMap::decode(call)?),
            Function::RxtxUnmap => Self::RxtxUnmap(endpoint_above(call)?),
            Function::PartitionInfoGet => {
                Self::PartitionInfoGet(PartitionInfoGet::decode(call, version)?)
            }
            Function::PartitionInfoGetRegs => {
                let get = PartitionInfoGetRegs::decode(call)?;
                // The tag is of an answer before this call.
                if get.start == 0 && get.tag != 0 {
                    return Err(RequestError::Value { register: 3 });
                }
                Self::PartitionInfoGetRegs(get)
            }
            Function::IdGet => nothing().map(|()| Self::IdGet)?,
            Function::SpmIdGet => nothing().map(|()| Self::SpmIdGet)?,
            Function::Run => Self::Run(Target::decode(call)?),
            Function::MsgSendDirectReq => Self::DirectRequest(DirectMessage::decode(call)?),
            Function::MemDonate | Function::MemLend | Function::MemShare => {
                let kind = match function {
                    Function::MemDonate => MemSendKind::Donate,
                    Function::MemLend => MemSendKind::Lend,
                    _ => MemSendKind::Share,
                };
                let send = MemSend::decode(call, kind)?;
                if send.fragment_length > send.total_length {
                    return Err(RequestError::Value { register: 2 });
                }
                Self::MemSend(send)
            }
            Function::MemFragTx => Self::MemFragTx(MemFragTx::decode(call)?),
            Function::MemFragRx => Self::MemFragRx(MemFragRx::decode(call)?),
            Function::MemReclaim => Self::MemReclaim(MemReclaim::decode(call)?),
            Function::NotificationBitmapCreate => {
                Self::NotificationBitmapCreate(NotificationBitmapCreate::decode(call)?)
            }
            Function::NotificationBitmapDestroy => {
                Self::NotificationBitmapDestroy(endpoint_below(call)?)
            }
            Function::NotificationBind => {
                Self::NotificationBind(NotificationBind::decode(call, 1)?)
            }
            Function::NotificationUnbind => {
                Self::NotificationUnbind(NotificationBind::decode(call, 0)?)
            }
            Function::NotificationSet => Self::NotificationSet(NotificationSet::decode(call)?),
            Function::NotificationGet => Self::NotificationGet(NotificationGet::decode(call)?),
            Function::NotificationInfoGet => {
                nothing().map(|()| Self::NotificationInfoGet(call.id().width()))?
            }
            _ => return Err(unknown),
        })
    }

    /// Returns the call as registers. Those that it does not use are zero.
    pub fn encode(&self) -> Registers {
        let plain = |function| Registers::new(function, Width::Smc32);
        match self {
            Self::Version(w1) => plain(Function::Version).with(1, *w1),
            Self::Features(call) => call.encode(),
            Self::RxAcquire(vm) => plain(Function::RxAcquire).with(1, vm.get()),
            Self::RxRelease(vm) => plain(Function::RxRelease).with(1, vm.get()),
            Self::RxtxMap(call) => call.encode(),
            Self::RxtxUnmap(vm) => {
                let w1 = u32::from(vm.get()) << 16;
                plain(Function::RxtxUnmap).with(1, w1)
            }
            Self::PartitionInfoGet(call) => call.encode(),
            Self::PartitionInfoGetRegs(call) => call.encode(),
            Self::IdGet => plain(Function::IdGet),
            Self::SpmIdGet => plain(Function::SpmIdGet),
            Self::Run(target) => target.encode(Function::Run),
            Self::DirectRequest(message) => message.encode_request(),
            Self::MemSend(call) => call.encode(),
            Self::MemFragTx(call) => call.encode(),
            Self::MemFragRx(call) => call.encode(),
            Self::MemReclaim(call) => call.encode(),
            Self::NotificationBitmapCreate(call) => call.encode(),
            Self::NotificationBitmapDestroy(vm) => {
                plain(Function::NotificationBitmapDestroy).with(1, vm.get())
            }
            Self::NotificationBind(call) => call.encode(Function::NotificationBind),
            Self::NotificationUnbind(call) => NotificationBind {
                per_vcpu: false,
                ..*call
            }
            .encode(Function::NotificationUnbind),
            Self::NotificationSet(call) => call.encode(),
            Self::NotificationGet(call) => call.encode(),
            Self::NotificationInfoGet(width) => PendingLists::encode_call(*width),
        }
    }
}

#[cfg(test)]
mod tests;
