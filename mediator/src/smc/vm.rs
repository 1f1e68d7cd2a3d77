// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hypervisor tells OP-TEE of a VM: VM_CREATED, VM_DESTROYED, and the cache of memory for RPC messages.

use crate::Mediator;
use crate::host::Host;
use optee_proto::{FunctionId, Return, smc};

impl Mediator {
    /// Tells OP-TEE that the VM begins, where OP-TEE is virtualised.
    ///
    /// # Errors
    /// OP-TEE's code.
    pub(crate) fn tell_created<H: Host>(&self, host: &H) -> Result<(), u32> {
        self.tell(host, smc::VM_CREATED)
    }

    /// Tells a virtualised OP-TEE that the VM has ended.
    ///
    /// # Errors
    /// OP-TEE's code.
    pub(crate) fn tell_destroyed<H: Host>(&self, host: &H) -> Result<(), u32> {
        self.tell(host, smc::VM_DESTROYED)
    }

    fn tell<H: Host>(&self, host: &H, function: FunctionId) -> Result<(), u32> {
        if !self.tee.virtualised {
            return Ok(());
        }
        let function = function.get().into();
        let args = [function, self.client.get(), 0, 0, 0, 0, 0, 0];
        let [a0, ..] = self.secure(host, args);
        if Return::from_x0(a0) == Return::OK {
            Ok(())
        } else {
            Err(a0 as u32)
        }
    }

    /// Has OP-TEE give back one buffer for RPC messages. Returns `false` where OP-TEE has none, or names none that it has.
    pub(crate) fn drop_cached_rpc_buffer<H: Host>(&self, host: &H) -> bool {
        let function = smc::DISABLE_SHM_CACHE.get().into();
        let args = [function, 0, 0, 0, 0, 0, 0, self.client_id()];
        let [a0, a1, a2, ..] = self.secure(host, args);
        if Return::from_x0(a0) != Return::OK {
            return false;
        }
        let Some((_, shadow)) = self.forget_rpc_buffer(smc::unpair(a1, a2)) else {
            return false;
        };
        self.give_page(host, shadow);
        true
    }
}
