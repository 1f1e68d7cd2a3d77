// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The traps.

/// What OP-TEE 4.10 does wrong, and a mediator must therefore not reach.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trap {
    /// UNREGISTER_SHM with a handle of all ones.
    UnregisterAllOnes,
    /// A 65th object of a VM.
    TooManyObjects,
    /// RXTX_MAP of secure memory, or of an address that is not a page's.
    BadBuffers,
    /// VM_CREATED before RXTX_MAP.
    VmBeforeBuffers,
    /// BITMAP_CREATE after ENABLE_ASYNC_NOTIF.
    BitmapAfterEnable,
    /// ENABLE_ASYNC_NOTIF by an id that has made it in an earlier life, which has not been shown to work.
    EnableInSecondLife,
    /// INFO_GET while VM_DESTROYED runs.
    InfoGetDuringDestroy,
    /// A share whose sender is no VM: SUCCESS with handle 0.
    ShareOfUnknownVm,
    /// A framework message that is not the hypervisor's.
    ForeignFrameworkMessage,
    /// A call for a VM that names another one, or its world.
    ForeignObject,
    /// VM_CREATED of an id whose last life has left objects, which the new life's handles will name again.
    StaleHandles,
    /// PARTITION_INFO_GET after one that has failed, without RX_RELEASE: the failure has taken the buffer.
    RxAfterError,
    /// A descriptor in fragments, or in another buffer than TX.
    Fragments,
    /// A handle of the hypervisor's in a descriptor: such objects leak.
    HypervisorHandle,
    /// VM_CREATED of a VM that lives, or VM_DESTROYED of one that does not.
    WrongLife,
    /// More lives than OP-TEE has tables for.
    TooManyLives,
    /// A call that OP-TEE prints a line about.
    Logged,
}

impl Trap {
    /// Returns whether OP-TEE stops, for all VMs, at once or at the next use.
    pub const fn stops(self) -> bool {
        matches!(
            self,
            Self::UnregisterAllOnes
                | Self::TooManyObjects
                | Self::BadBuffers
                | Self::VmBeforeBuffers
                | Self::BitmapAfterEnable
                | Self::InfoGetDuringDestroy
                | Self::TooManyLives
        )
    }
}
