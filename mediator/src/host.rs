// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a hypervisor implements for the mediator: guest memory, pins, shared pages, the SMC.
//!
//! One `Host` stands for one virtual machine and the pCPU that the call runs on. All methods
//! take `&self`, since several vCPUs of a VM are inside the mediator at once; none is called
//! with the mediator's lock held.

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use optee_proto::Uuid;
use thiserror::Error;

/// The access that a guest asked for touches something that is not the VM's own RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("not the virtual machine's own memory: {0}")]
pub struct GuestMemoryError(pub Ipa);

/// Why a page was not pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PinError {
    /// The guest's fault: no RAM of its own is there.
    #[error("not the virtual machine's own memory: {0}")]
    NotOwnMemory(Ipa),
    /// The page's pin counter is exhausted, because the guest registered the page too often.
    #[error("page pinned too often: {0}")]
    TooManyPins(Ipa),
}

/// A page of the hypervisor's that OP-TEE may see: shadows of messages and page lists.
///
/// It is neither `Clone` nor `Copy`: who holds it may use it, and it goes back by
/// [`Host::free_shared`].
#[derive(PartialEq, Eq, Debug)]
pub struct SharedPage(Pa);

impl SharedPage {
    /// The page at a physical address; for implementations of [`Host::alloc_shared`].
    ///
    /// # Panics
    /// When the address is not a multiple of the page size, which is the hypervisor's fault.
    #[inline]
    pub const fn new(at: Pa) -> Self {
        assert!(at.is_page_aligned());
        Self(at)
    }

    /// Where the page is.
    #[inline]
    pub const fn pa(&self) -> Pa {
        self.0
    }
}

/// What becomes of a call that a normal-world interrupt took out of OP-TEE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForeignInterrupt {
    /// Nothing concerns the vCPU: back into OP-TEE at once, without a look at the guest.
    Resume,
    /// The guest must run: it has an interrupt pending, or its time slice is over. It resumes
    /// the call itself, by `OPTEE_SMC_CALL_RETURN_FROM_RPC`.
    ReturnToGuest,
}

/// What a VM leaves behind in OP-TEE when it ends. It costs OP-TEE an address space number for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leak {
    /// A session that could not be closed, or whose opening did not end.
    Session,
    /// An application that OP-TEE keeps although no session to it is open.
    Application,
}

/// What takes longer than the rest, outside of the secure world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LongOperation {
    /// What calls need is set aside.
    Reserve,
    /// Some pages of a list are taken in.
    Import,
    /// Some pages are unpinned, and what belongs to them is freed.
    Unpin,
}

/// The way into the secure world.
pub trait SecureMonitor {
    /// Makes one SMC to the secure world, with `args` in x0..x7. Returns x0..x3.
    ///
    /// The implementation keeps the vCPU's context. The call takes unbounded time only where the secure world masks
    /// interrupts for that long.
    fn smc(&self, args: [u64; 8]) -> [u64; 4];
}

/// What the mediator needs of a hypervisor, for one VM.
pub trait Host: SecureMonitor {
    /// Copies guest memory, each byte once, into memory that no guest can reach. The range lies
    /// within one page.
    ///
    /// # Errors
    /// When a page touched is not RAM of the VM's own; `into` is then worth nothing.
    fn read_guest(&self, from: Ipa, into: &mut [u8]) -> Result<(), GuestMemoryError>;

    /// Copies to guest memory; same rules.
    ///
    /// # Errors
    /// When a page touched is not RAM of the VM's own that it may write; nothing of that page is
    /// then changed.
    fn write_guest(&self, to: Ipa, bytes: &[u8]) -> Result<(), GuestMemoryError>;

    /// Pins one page of the VM's RAM and says where it is. Until as many [`Host::unpin`] as
    /// `pin` have come, the page stays mapped where it is, with the same owner, writable and
    /// cacheable. `page` is a multiple of the page size.
    ///
    /// # Errors
    /// See [`PinError`]; nothing is pinned then.
    fn pin(&self, page: Ipa) -> Result<Pa, PinError>;

    /// Takes back one [`Host::pin`] of that page. Never called more often than `pin` succeeded.
    fn unpin(&self, page: Ipa);

    /// A page of the hypervisor's, filled with zeroes, that no guest maps and OP-TEE accepts as
    /// normal-world memory: outside its own areas. `None` when there is none left.
    fn alloc_shared(&self) -> Option<SharedPage>;

    /// Fills a page that OP-TEE does not use with zeroes.
    fn clear_shared(&self, page: &SharedPage);

    /// Gives a page back.
    fn free_shared(&self, page: SharedPage);

    /// Copies out of a shared page, each byte once. `offset + into.len()` is at most a page.
    fn read_shared(&self, page: &SharedPage, offset: usize, into: &mut [u8]);

    /// Copies into a shared page. `offset + bytes.len()` is at most a page.
    fn write_shared(&self, page: &SharedPage, offset: usize, bytes: &[u8]);

    /// OP-TEE left a yielding call because an interrupt for the normal world is pending at this
    /// pCPU. The hypervisor takes it (otherwise the same interrupt ends the next attempt at
    /// once) and says whether the guest has to run before the call goes on.
    fn foreign_interrupt(&self) -> ForeignInterrupt;

    /// Does something that takes as long as there are pages or calls, up to a bound. The hypervisor may look at
    /// its clock before and after.
    #[inline]
    fn long_operation<T>(&self, what: LongOperation, act: impl FnOnce() -> T) -> T {
        let _ = what;
        act()
    }

    /// The VM, which ends, leaves something behind in OP-TEE: this application, or a session with it.
    /// Told once for each that the counters have, for whoever wants to know which they are.
    fn report_leak(&self, what: Leak, app: Uuid);
}

const _: () = assert!(PAGE_SIZE == optee_proto::msg::PAGE_LIST_SIZE as u64);
