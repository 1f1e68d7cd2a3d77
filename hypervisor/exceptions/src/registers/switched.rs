// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers that each vCPU has for itself, loaded and saved with it.

/// Calls the macro `$then` with the one list of them: groups, of which each has the feature that brings its
/// registers, and in it each register's name, which is the assembler's too, and its value at a vCPU's start.
///
/// What saves them, what loads them and what the tests compare with the architecture are made from this list. By
/// hand are switched: the virtual timer, which must be stopped in between, FP and SIMD, and the virtual
/// interface of the GIC. PSTATE, the general registers and the program counter are in the frame.
#[macro_export]
macro_rules! switched_registers {
    ($then:ident) => {
        $then! {
            always {
                sp_el0 = 0,
                sp_el1 = 0,
                elr_el1 = 0,
                spsr_el1 = 0,
                ttbr0_el1 = 0,
                ttbr1_el1 = 0,
                mair_el1 = 0,
                amair_el1 = 0,
                vbar_el1 = 0,
                contextidr_el1 = 0,
                tpidr_el0 = 0,
                tpidrro_el0 = 0,
                tpidr_el1 = 0,
                cpacr_el1 = 0,
                esr_el1 = 0,
                far_el1 = 0,
                afsr0_el1 = 0,
                afsr1_el1 = 0,
                par_el1 = 0,
                cntkctl_el1 = 0,
                csselr_el1 = 0,
            }
            // With or without its stage 2 these have the CPU walk its stage 1: see `Context::load`.
            translation {
                // The RES1 bits; MMU and caches off.
                sctlr_el1 = 0x30d0_0800,
                tcr_el1 = 0,
            }
            RAS {
                // What DISR_EL1 is at EL1, since HCR_EL2.AMO is set.
                vdisr_el2 = 0,
            }
            OPEN_TPIDR2 {
                tpidr2_el0 = 0,
            }
            // The keys of pointer authentication, of 128 bits each.
            PAC {
                apiakeylo_el1 = 0,
                apiakeyhi_el1 = 0,
                apibkeylo_el1 = 0,
                apibkeyhi_el1 = 0,
                apdakeylo_el1 = 0,
                apdakeyhi_el1 = 0,
                apdbkeylo_el1 = 0,
                apdbkeyhi_el1 = 0,
                apgakeylo_el1 = 0,
                apgakeyhi_el1 = 0,
            }
        }
    };
}
