// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The calls about notifications: DEN0077A issue J, `FFA_NOTIFICATION_*`.

use crate::answer::{expect_success, success};
use crate::endpoint::{EndpointId, VcpuId, join, split};
use crate::error::{AnswerError, ReservedBits};
use crate::function::{Function, FunctionId, Width};
use crate::notification::{NotificationBitmap, NotificationGetFlags, PendingLists};
use crate::registers::Registers;
use crate::version::Version;

/// `FFA_NOTIFICATION_BITMAP_CREATE`, from the hypervisor to the SPMC. The answer is [`crate::answer::success`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotificationBitmapCreate {
    /// The VM.
    pub vm: EndpointId,
    /// The number of its vCPUs.
    pub vcpus: u32,
}

impl NotificationBitmapCreate {
    pub(super) fn decode(call: &Registers) -> Result<Self, ReservedBits> {
        call.require_zero_bits(1, 0xffff_0000)?;
        call.require_zero(3..=17)?;
        Ok(Self {
            vm: EndpointId::new(call.w(1) as u16),
            vcpus: call.w(2),
        })
    }

    pub(super) fn encode(&self) -> Registers {
        Registers::new(Function::NotificationBitmapCreate, Width::Smc32)
            .with(1, self.vm.get())
            .with(2, self.vcpus)
    }
}

/// `FFA_NOTIFICATION_BIND`, or `FFA_NOTIFICATION_UNBIND`, which has no flag. The answer is
/// [`crate::answer::success`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotificationBind {
    /// The endpoint that may signal.
    pub sender: EndpointId,
    /// The endpoint that is signalled.
    pub receiver: EndpointId,
    /// Whether each of the receiver's contexts has such notifications of its own.
    pub per_vcpu: bool,
    /// The notifications.
    pub bitmap: NotificationBitmap,
}

impl NotificationBind {
    pub(super) fn decode(call: &Registers, flags: u32) -> Result<Self, ReservedBits> {
        call.require_zero_bits(2, !flags)?;
        call.require_zero(5..=17)?;
        let (sender, receiver) = split(call.w(1));
        Ok(Self {
            sender: EndpointId::new(sender),
            receiver: EndpointId::new(receiver),
            per_vcpu: call.w(2) & 1 != 0,
            bitmap: NotificationBitmap::new(call.pair(3)),
        })
    }

    pub(super) fn encode(&self, function: Function) -> Registers {
        Registers::new(function, Width::Smc32)
            .with(1, join(self.sender.get(), self.receiver.get()))
            .with(2, u32::from(self.per_vcpu))
            .with_pair(3, self.bitmap.get())
    }
}

/// `FFA_NOTIFICATION_SET`. The answer is [`crate::answer::success`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotificationSet {
    /// The endpoint that signals.
    pub sender: EndpointId,
    /// The endpoint that is signalled.
    pub receiver: EndpointId,
    /// The receiver's context, for notifications of contexts.
    pub vcpu: Option<VcpuId>,
    /// Whether the schedule receiver interrupt may come later.
    pub delay: bool,
    /// The notifications.
    pub bitmap: NotificationBitmap,
}

/// Bits of w2 of `FFA_NOTIFICATION_SET`.
const SET_PER_VCPU: u32 = 1;
const SET_DELAY: u32 = 1 << 1;

impl NotificationSet {
    pub(super) fn decode(call: &Registers) -> Result<Self, ReservedBits> {
        let (vcpu, flags) = split(call.w(2));
        call.require_zero_bits(2, 0xffff & !(SET_PER_VCPU | SET_DELAY))?;
        let is_per_vcpu = u32::from(flags) & SET_PER_VCPU != 0;
        if !is_per_vcpu && vcpu != 0 {
            return Err(ReservedBits(2));
        }
        call.require_zero(5..=17)?;
        let (sender, receiver) = split(call.w(1));
        Ok(Self {
            sender: EndpointId::new(sender),
            receiver: EndpointId::new(receiver),
            vcpu: is_per_vcpu.then_some(VcpuId::new(vcpu)),
            delay: u32::from(flags) & SET_DELAY != 0,
            bitmap: NotificationBitmap::new(call.pair(3)),
        })
    }

    pub(super) fn encode(&self) -> Registers {
        let delay = if self.delay { SET_DELAY } else { 0 };
        let target = self
            .vcpu
            .map_or(0, |vcpu| u32::from(vcpu.get()) << 16 | SET_PER_VCPU);
        Registers::new(Function::NotificationSet, Width::Smc32)
            .with(1, join(self.sender.get(), self.receiver.get()))
            .with(2, target | delay)
            .with_pair(3, self.bitmap.get())
    }
}

/// `FFA_NOTIFICATION_GET`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotificationGet {
    /// The endpoint whose notifications are fetched.
    pub receiver: EndpointId,
    /// Its context.
    pub vcpu: VcpuId,
    /// The bitmaps that are fetched.
    pub flags: NotificationGetFlags,
}

impl NotificationGet {
    pub(super) fn decode(call: &Registers) -> Result<Self, ReservedBits> {
        let flags = NotificationGetFlags::from_bits(call.w(2)).ok_or(ReservedBits(2))?;
        call.require_zero(3..=17)?;
        let (vcpu, receiver) = split(call.w(1));
        Ok(Self {
            receiver: EndpointId::new(receiver),
            vcpu: VcpuId::new(vcpu),
            flags,
        })
    }

    pub(super) fn encode(&self) -> Registers {
        Registers::new(Function::NotificationGet, Width::Smc32)
            .with(1, join(self.vcpu.get(), self.receiver.get()))
            .with(2, self.flags.bits())
    }
}

/// The success of `FFA_NOTIFICATION_GET`: what was pending, by sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NotificationGetAnswer {
    /// From secure partitions.
    pub secure_partitions: NotificationBitmap,
    /// From VMs.
    pub vms: NotificationBitmap,
    /// From the SPMC: bits 31:0 of its bitmap.
    pub spm: u32,
    /// From the hypervisor: bits 31:0 of its bitmap.
    pub hypervisor: u32,
}

impl NotificationGetAnswer {
    /// Returns the answer as registers.
    pub fn encode(&self) -> Registers {
        success()
            .with_pair(2, self.secure_partitions.get())
            .with_pair(4, self.vms.get())
            .with(6, self.spm)
            .with(7, self.hypervisor)
    }

    /// Reads the answer to a call. The bitmaps that were not asked for are empty, whatever the answer has in their place.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Refused`] for `FFA_ERROR`, and others for what is no answer.
    pub fn read(
        answer: &Registers,
        version: Version,
        asked: NotificationGetFlags,
    ) -> Result<Self, AnswerError> {
        let answer = expect_success(answer, version)?;
        answer.require_zero(8..=17)?;
        let bitmap = |flag, n| {
            let bits = if asked.contains(flag) {
                answer.pair(n)
            } else {
                0
            };
            NotificationBitmap::new(bits)
        };
        let word = |flag, n| if asked.contains(flag) { answer.w(n) } else { 0 };
        Ok(Self {
            secure_partitions: bitmap(NotificationGetFlags::SECURE_PARTITIONS, 2),
            vms: bitmap(NotificationGetFlags::VMS, 4),
            spm: word(NotificationGetFlags::SPM, 6),
            hypervisor: word(NotificationGetFlags::HYPERVISOR, 7),
        })
    }
}

impl PendingLists {
    /// Reads the answer to `FFA_NOTIFICATION_INFO_GET` of a convention.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Refused`] with [`crate::ErrorCode::NO_DATA`] if nothing is pending, and others for what is no
    /// answer.
    pub fn read_answer(
        answer: &Registers,
        version: Version,
        width: Width,
    ) -> Result<Self, AnswerError> {
        Self::read(&expect_success(answer, version)?, width)
    }

    /// Returns the call of a convention.
    pub(super) fn encode_call(width: Width) -> Registers {
        Registers::from_id(FunctionId::new(Function::NotificationInfoGet, width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmap_that_was_not_asked_for_is_ignored() {
        let answer = NotificationGetAnswer {
            secure_partitions: NotificationBitmap::new(1 << 63 | 1),
            vms: NotificationBitmap::new(2),
            spm: 3,
            hypervisor: 4,
        };
        let registers = answer.encode();
        let expected = [0x8400_0061, 0, 1, 0x8000_0000, 2, 0, 3, 4];
        assert_eq!(registers.to_8(), expected);
        let read = |asked| NotificationGetAnswer::read(&registers, Version::V1_2, asked);
        let all = NotificationGetFlags::all();
        assert_eq!(read(all), Ok(answer));
        let mut only = answer;
        only.secure_partitions = NotificationBitmap::EMPTY;
        assert_eq!(
            read(all - NotificationGetFlags::SECURE_PARTITIONS),
            Ok(only)
        );
        only.vms = NotificationBitmap::EMPTY;
        only.spm = 0;
        assert_eq!(read(NotificationGetFlags::HYPERVISOR), Ok(only));
        let nothing = NotificationGetAnswer::default();
        assert_eq!(read(NotificationGetFlags::empty()), Ok(nothing));
    }

    #[test]
    fn nothing_pending_is_no_data() {
        let call = PendingLists::encode_call(Width::Smc64);
        assert_eq!(call.id().get(), 0xc400_0083);
        let answer = crate::answer::refusal(call.id(), crate::ErrorCode::NO_DATA);
        let error = Err(AnswerError::Refused(crate::ErrorCode::NO_DATA));
        let read = PendingLists::read_answer(&answer, Version::V1_2, Width::Smc64);
        assert_eq!(read, error);
    }
}
