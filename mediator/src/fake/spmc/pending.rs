// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Notifications.

use super::vms::Vm;
use super::{PARTITION, Spmc, Trap};
use ffa_proto::call::{NotificationBind, NotificationGet, NotificationGetAnswer};
use ffa_proto::notification::{
    NotificationBitmap, NotificationGetFlags, PendingList, PendingLists,
};
use ffa_proto::{EndpointId, ErrorCode, Registers, Width, answer};

impl Spmc {
    /// Posts the event for which OP-TEE asks a VM for a bottom half, and returns whether it raises its SGI: the VM has
    /// enabled it and has a bitmap.
    pub fn post(&mut self, vm: EndpointId) -> bool {
        let vm = self.vms.get_mut(&vm);
        let Some(Vm {
            bottom_half: Some(bit),
            bitmap: Some((_, pending)),
            ..
        }) = vm
        else {
            return false;
        };
        *pending = pending.union(*bit);
        true
    }

    fn vm_of(&mut self, on_behalf: EndpointId, vm: EndpointId) -> Result<&mut Vm, ErrorCode> {
        self.check_owner(on_behalf, vm)?;
        self.vms.get_mut(&vm).ok_or(ErrorCode::INVALID_PARAMETERS)
    }

    pub(super) fn create_bitmap(
        &mut self,
        on_behalf: EndpointId,
        vm: EndpointId,
    ) -> Result<Registers, ErrorCode> {
        let state = self.vm_of(on_behalf, vm)?;
        if state.bitmap.is_some() {
            return Err(ErrorCode::DENIED);
        }
        if state.bottom_half.is_some() {
            self.step_on(Trap::BitmapAfterEnable, ErrorCode::DENIED)?;
        }
        if let Some(state) = self.vms.get_mut(&vm) {
            state.bitmap = Some(Default::default());
        }
        Ok(answer::success())
    }

    pub(super) fn destroy_bitmap(
        &mut self,
        on_behalf: EndpointId,
        vm: EndpointId,
    ) -> Result<Registers, ErrorCode> {
        let vm = self.vm_of(on_behalf, vm)?;
        let (bound, pending) = vm.bitmap.ok_or(ErrorCode::DENIED)?;
        if !bound.is_empty() || !pending.is_empty() {
            return Err(ErrorCode::DENIED);
        }
        vm.bitmap = None;
        Ok(answer::success())
    }

    pub(super) fn bind(
        &mut self,
        on_behalf: EndpointId,
        bind: &NotificationBind,
        is_bound: bool,
    ) -> Result<Registers, ErrorCode> {
        let vm = self.vm_of(on_behalf, bind.receiver)?;
        if bind.per_vcpu {
            return Err(ErrorCode::DENIED);
        }
        if bind.sender != PARTITION {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let (bound, pending) = vm.bitmap.as_mut().ok_or(ErrorCode::DENIED)?;
        let in_the_way = if is_bound { *bound } else { *pending };
        if !bind.bitmap.intersection(in_the_way).is_empty() {
            return Err(ErrorCode::DENIED);
        }
        *bound = if is_bound {
            bound.union(bind.bitmap)
        } else {
            bound.difference(bind.bitmap)
        };
        Ok(answer::success())
    }

    pub(super) fn fetch(
        &mut self,
        on_behalf: EndpointId,
        get: &NotificationGet,
    ) -> Result<Registers, ErrorCode> {
        let vm = self.vm_of(on_behalf, get.receiver)?;
        let (_, pending) = vm.bitmap.as_mut().ok_or(ErrorCode::INVALID_PARAMETERS)?;
        let mut answer = NotificationGetAnswer::default();
        if get.flags.contains(NotificationGetFlags::SECURE_PARTITIONS) {
            answer.secure_partitions = core::mem::take(pending);
        }
        Ok(answer.encode())
    }

    /// Names every VM with something pending, and clears nothing.
    pub(super) fn list_pending(&self, width: Width) -> Result<Registers, ErrorCode> {
        let mut lists = PendingLists::new(width);
        let is_pending = |vm: &Vm| {
            let pending = vm
                .bitmap
                .map_or(NotificationBitmap::EMPTY, |(_, pending)| pending);
            !pending.is_empty()
        };
        let vms = self.vms.iter().filter(|(_, vm)| is_pending(vm));
        for (&id, _) in vms {
            if let Some(list) = PendingList::new(id, &[]) {
                lists.more |= !lists.push(&list);
            }
        }
        let is_empty = lists.iter().next().is_none();
        (!is_empty)
            .then(|| lists.encode())
            .ok_or(ErrorCode::NO_DATA)
    }
}
