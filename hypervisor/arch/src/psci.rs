// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PSCI calls to EL3 (DEN0022): start pCPUs, power off.

use super::{barrier, mmu, smc, stack};
use alloc::boxed::Box;
use postern_base::ids::PcpuIndex;
use postern_boot_tree::Mpidr;
use postern_smccc::psci::{CPU_ON_64, PsciError, SYSTEM_OFF};

/// The arguments of a starting pCPU, which `entry.S` reads with the MMU off.
#[repr(C, align(64))]
struct SecondaryStart {
    stack_top: u64,
    root_table: u64,
    index: u64,
}

unsafe extern "C" {
    /// In `entry.S`.
    fn secondary_entry();
}

/// Starts the pCPU with this affinity; it runs the image's `boot_secondary`.
///
/// # Errors
/// The firmware's.
pub fn start_pcpu(mpidr: Mpidr, pcpu: PcpuIndex) -> Result<(), PsciError> {
    let start = Box::leak(Box::new(SecondaryStart {
        stack_top: stack::top(pcpu),
        root_table: mmu::root(),
        index: pcpu.get() as u64,
    }));
    let address = core::ptr::from_ref(start) as u64;
    mmu::clean_to_memory(address, size_of::<SecondaryStart>() as u64);
    barrier::dsb();
    let entry = secondary_entry as *const () as u64;
    let [x0, ..] = smc::call([CPU_ON_64.into(), mpidr.get(), entry, address, 0, 0, 0, 0]);
    PsciError::check(x0)
}

/// Calls SYSTEM_OFF, which powers the machine off. Returns its error code if the call comes back.
pub fn system_off() -> i32 {
    smc::call([SYSTEM_OFF.into(), 0, 0, 0, 0, 0, 0, 0])[0] as i32
}

/// Powers off from a place where the conduit may be HVC and Postern is not at EL2.
pub fn off_from_boot_check(conduit_is_hvc: bool) -> ! {
    if conduit_is_hvc {
        smc::call_hvc(SYSTEM_OFF.into());
    } else {
        smc::call([SYSTEM_OFF.into(), 0, 0, 0, 0, 0, 0, 0]);
    }
    loop {
        barrier::wait_for_interrupt();
    }
}
