// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a hypervisor implements for the mediator: guest memory, pins, shared pages, the SMC.
//!
//! One `Host` stands for one virtual machine and the pCPU that the call runs on. All methods take `&self`,
//! since several vCPUs of a VM are inside the mediator at once. The mediator calls none of them with a lock
//! held that another call waits for.

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use optee_proto::Uuid;
use thiserror::Error;

/// An access by a guest to something that is not the VM's own RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("not the virtual machine's own memory: {0}")]
pub struct GuestMemoryError(pub Ipa);

/// Why a page was not pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PinError {
    /// The guest named an address without RAM of its own.
    #[error("not the virtual machine's own memory: {0}")]
    NotOwnMemory(Ipa),
    /// The page's pin counter is exhausted, because the guest registered the page too often.
    #[error("page pinned too often: {0}")]
    TooManyPins(Ipa),
}

/// A page of the hypervisor that OP-TEE may see: shadow pages of messages, and page lists.
///
/// The type is neither `Clone` nor `Copy`: its owner may use the page, and returns it by [`Host::free_shared`].
#[derive(PartialEq, Eq, Debug)]
pub struct SharedPage(Pa);

impl SharedPage {
    /// Returns the page at a physical address, for implementations of [`Host::alloc_shared`].
    ///
    /// # Panics
    /// When the address is not a multiple of the page size, which is the hypervisor's fault.
    #[inline]
    pub const fn new(at: Pa) -> Self {
        assert!(at.is_page_aligned());
        Self(at)
    }

    /// Returns the page's address.
    #[inline]
    pub const fn pa(&self) -> Pa {
        self.0
    }
}

/// What becomes of a call that a normal-world interrupt took out of OP-TEE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForeignInterrupt {
    /// The interrupt does not concern the vCPU: the call returns to OP-TEE at once, without the guest.
    Resume,
    /// The guest must run: it has an interrupt pending, or its time slice is over. The guest resumes the call
    /// itself, by `OPTEE_SMC_CALL_RETURN_FROM_RPC`.
    ReturnToGuest,
}

/// What a VM leaves in OP-TEE when it ends. It costs OP-TEE an ASID until the machine restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leak {
    /// A session that could not be closed, or whose opening did not end.
    Session,
    /// An application that OP-TEE keeps although no session to it is open.
    Application,
}

/// An operation outside of the secure world that takes longer than others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LongOperation {
    /// Reserving what calls need.
    Reserve,
    /// Importing some pages of a page list.
    Import,
    /// Unpinning some pages, and freeing what belongs to them.
    Unpin,
}

/// The path into the secure world.
pub trait SecureMonitor {
    /// Makes one SMC to the secure world, with `args` in x0..x7. Returns x0..x7.
    ///
    /// The implementation keeps the vCPU's context. The call takes unbounded time only where the secure world masks
    /// interrupts for that long.
    fn smc(&self, args: [u64; 8]) -> [u64; 8];
}

/// What the mediator needs of a hypervisor, for one VM.
pub trait Host: SecureMonitor {
    /// Copies guest memory, each byte once, into memory that no guest can reach. The range lies within one
    /// page.
    ///
    /// # Errors
    /// When a touched page is not the VM's own RAM. The content of `into` is then undefined.
    fn read_guest(&self, from: Ipa, into: &mut [u8]) -> Result<(), GuestMemoryError>;

    /// Copies to guest memory, under the same rules.
    ///
    /// # Errors
    /// When a touched page is not the VM's own RAM, or not writable. Nothing of that page is then changed.
    fn write_guest(&self, to: Ipa, bytes: &[u8]) -> Result<(), GuestMemoryError>;

    /// Pins one page of the VM's RAM and returns its address. Until as many calls of [`Host::unpin`] have
    /// followed, the page stays mapped where it is, with the same owner, writable and cacheable. `page` is a
    /// multiple of the page size.
    ///
    /// # Errors
    /// See [`PinError`]; nothing is pinned then.
    fn pin(&self, page: Ipa) -> Result<Pa, PinError>;

    /// Undoes one [`Host::pin`] of that page. Never called more often than `pin` succeeded.
    fn unpin(&self, page: Ipa);

    /// Returns a page of the hypervisor, filled with zeroes, that no guest maps and that OP-TEE accepts as
    /// normal-world memory, outside its own areas. Returns `None` when no page is left.
    fn alloc_shared(&self) -> Option<SharedPage>;

    /// Fills a page that OP-TEE does not use with zeroes.
    fn clear_shared(&self, page: &SharedPage);

    /// Frees a page.
    fn free_shared(&self, page: SharedPage);

    /// Copies out of a shared page, each byte once. `offset + into.len()` is at most a page.
    fn read_shared(&self, page: &SharedPage, offset: usize, into: &mut [u8]);

    /// Copies into a shared page. `offset + bytes.len()` is at most a page.
    fn write_shared(&self, page: &SharedPage, offset: usize, bytes: &[u8]);

    /// Writes to the hypervisor's TX buffer, which the SPMC reads ([`crate::ffa::ExchangeBuffers`]). `offset + bytes.len()` is at
    /// most the buffer's size. Without FF-A it is not called.
    fn write_tx(&self, offset: usize, bytes: &[u8]);

    /// Takes the interrupt that made OP-TEE leave a yielding call, and decides whether the guest has to run
    /// before the call continues. An interrupt that is not taken ends the next attempt at once.
    fn foreign_interrupt(&self) -> ForeignInterrupt;

    /// Takes the interrupts that are pending, between two pieces of an operation that cannot leave for the guest.
    fn take_interrupts(&self);

    /// Runs an operation that takes time in proportion to pages or calls, up to a bound. The hypervisor may
    /// read its clock before and after.
    #[inline]
    fn long_operation<T>(&self, what: LongOperation, act: impl FnOnce() -> T) -> T {
        let _ = what;
        act()
    }

    /// Reports that a VM that ends leaves something in OP-TEE: this application, or a session with it. Called
    /// once per leak that the counters contain.
    fn report_leak(&self, what: Leak, app: Uuid);
}

const _: () = assert!(PAGE_SIZE == optee_proto::msg::PAGE_LIST_SIZE as u64);
