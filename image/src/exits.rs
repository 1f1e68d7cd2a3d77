// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the exception vectors go on in Rust with a guest's call (`hypervisor/src/arch/vectors.S`).

use hypervisor::arch::vectors;
use hypervisor::arch::world::CallFrame;

#[unsafe(no_mangle)]
extern "C" fn guest_smc(frame: &mut CallFrame) -> bool {
    vectors::smc(frame)
}

#[unsafe(no_mangle)]
extern "C" fn guest_hvc(frame: &mut CallFrame) -> bool {
    vectors::hvc(frame)
}
