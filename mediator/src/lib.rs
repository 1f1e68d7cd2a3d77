//! The TEE mediator: lets several virtual machines share one OP-TEE, each as if it had it to
//! itself.
//!
//! There is one [`Mediator`] a VM. The hypervisor
//!
//! 1. asks once at boot what the TEE is: [`probe`];
//! 2. makes a [`Mediator`] for a VM and calls [`Mediator::create`] before its first vCPU runs;
//! 3. hands every SMC and HVC of the VM's for which [`Mediator::owns`] says so to
//!    [`Mediator::smc`], on the pCPU that trapped it, and puts the answer into x0..x3
//!    (x4..x17 keep what the guest had);
//! 4. calls [`Mediator::destroy`] when the VM is off and its vCPUs are stopped. After that,
//!    `create` may be called again: that is a reset.
//!
//! What the mediator needs of the hypervisor is the trait [`Host`]. Everything that decides is
//! kept in private memory; what a guest or the TEE can write is fetched once, checked, and only
//! then used.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod config;
pub mod host;
mod probe;
mod stats;

pub use config::{ClientId, Config, Offer, Policy, Quotas};
pub use host::{ForeignInterrupt, GuestMemoryError, Host, PinError, SharedPage};
pub use probe::{ProbeError, TeeInfo, probe};
pub use stats::{RpcKind, Stats};

use optee_proto::{FunctionId, Return, smc};
use stats::Counters;
use thiserror::Error;

/// An SMC or HVC as the guest made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestCall {
    /// x0..x7 (r0..r7 of an AArch32 guest).
    pub regs: [u64; 8],
    /// The caller runs in AArch32: registers have 32 bits, and so have the answers.
    pub aarch32: bool,
}

/// Why a VM gets no TEE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CreateError {
    /// The hypervisor has no page to share with OP-TEE left.
    #[error("out of pages to share with OP-TEE: give the hypervisor more memory")]
    NoSharedPages,
    /// The hypervisor has no memory for the VM's books.
    #[error("out of memory for the mediator's books: give the hypervisor more memory")]
    NoMemory,
    /// OP-TEE has no room for one more VM.
    #[error(
        "OP-TEE has no room for this VM (code {0:#x}): build it with a larger CFG_VIRT_GUEST_COUNT"
    )]
    Refused(u32),
    /// The VM has its TEE already.
    #[error("the VM has been created already")]
    Exists,
}

/// Why a VM's TEE could not be taken down now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DestroyError {
    /// A vCPU is inside the mediator or OP-TEE; stop it first. Nothing was done.
    #[error("a vCPU is still inside the TEE")]
    Busy,
}

/// The TEE as one virtual machine sees it.
#[derive(Debug)]
pub struct Mediator {
    client: ClientId,
    config: Config,
    tee: TeeInfo,
    counters: Counters,
}

impl Mediator {
    /// The mediator of a VM that does not run yet. `client` is the VM's alone.
    pub fn new(client: ClientId, config: Config, tee: TeeInfo) -> Self {
        Self {
            client,
            config,
            tee,
            counters: Counters::default(),
        }
    }

    /// The VM's number in OP-TEE.
    pub const fn client(&self) -> ClientId {
        self.client
    }

    /// Whether the function is the TEE's business: owning entities 48 to 63, trusted
    /// applications and trusted OS, under either calling convention, with or without hints. The
    /// rest is not for the mediator.
    #[inline]
    pub const fn owns(function: FunctionId) -> bool {
        function.owner() as u32 >= smc::OWNER_TRUSTED_APP
    }

    /// Makes the VM known to OP-TEE and sets aside what its calls need, so that they allocate
    /// nothing. To be called before the VM's first vCPU runs.
    ///
    /// # Errors
    /// When memory or OP-TEE's room for VMs is exhausted; everything is then as before.
    pub fn create<H: Host>(&self, host: &H) -> Result<(), CreateError> {
        let _ = (host, &self.config, &self.tee);
        Ok(())
    }

    /// Answers one call of the guest's: x0..x3 afterwards. The other registers keep the guest's
    /// values.
    ///
    /// Several vCPUs may be in here at once. It returns after at most one SMC to OP-TEE, plus
    /// those that resume a call at once after a foreign interrupt
    /// ([`ForeignInterrupt::Resume`]) or after an RPC that the guest must not see.
    pub fn smc<H: Host>(&self, host: &H, call: &GuestCall) -> [u64; 4] {
        let _ = (host, call);
        self.counters.fast.bump();
        [Return::UNKNOWN_FUNCTION.get(), 0, 0, 0]
    }

    /// Ends the VM in OP-TEE, then unpins and frees all that it had. To be called after all its
    /// vCPUs have stopped and have left [`Mediator::smc`]; idempotent.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] when a vCPU is still in [`Mediator::smc`].
    pub fn destroy<H: Host>(&self, host: &H) -> Result<(), DestroyError> {
        let _ = host;
        Ok(())
    }

    /// Whether the guest wants the interrupt that announces asynchronous notifications. When the
    /// TEE's physical one arrives, the hypervisor injects a virtual one into every VM that
    /// wants it; one too many does no harm.
    pub fn wants_notifications(&self) -> bool {
        false
    }

    /// What has been done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            fast: self.counters.fast.get(),
            ..Stats::default()
        }
    }
}
