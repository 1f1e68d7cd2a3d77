// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Makes the running vCPU take an exception at its EL1.

use aarch64_cpu::registers::{ELR_EL1, ESR_EL1, FAR_EL1, SCTLR_EL1, SPSR_EL1, VBAR_EL1};
use postern_arch::id_registers;
use postern_arch::vcpu_context::Frame;
use postern_exceptions::decode::GuestVa;
use postern_exceptions::decode::SysReg;
use postern_exceptions::inject::{self, Exception, Interrupted, PstateFeatures, Spsr};
use tock_registers::interfaces::{Readable, Writeable};

/// Makes the running vCPU take `exception` when it continues. `frame` is its frame.
pub fn inject(frame: &mut Frame, exception: Exception) {
    let mmfr1 = id_registers::read(SysReg::new(3, 0, 0, 7, 1));
    let pfr1 = id_registers::read(SysReg::new(3, 0, 0, 4, 1));
    let features = PstateFeatures {
        pan: mmfr1 >> 20 & 0xf != 0,
        ssbs: pfr1 >> 4 & 0xf != 0,
        mte: pfr1 >> 8 & 0xf != 0,
    };
    let from = Interrupted {
        elr: GuestVa::new(frame.pc),
        spsr: Spsr::new(frame.pstate),
        vbar: GuestVa::new(VBAR_EL1.get()),
        sctlr: SCTLR_EL1.get(),
    };
    let taken = inject::take_exception_to_el1(&from, exception, features);
    frame.pc = taken.elr.get();
    frame.pstate = taken.spsr.get();
    ELR_EL1.set(taken.elr_el1.get());
    SPSR_EL1.set(taken.spsr_el1.get());
    ESR_EL1.set(taken.esr_el1.get());
    if let Some(far) = taken.far_el1 {
        FAR_EL1.set(far.get());
    }
}
