// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes each guest's devices and the decoder in front of them: any traps, any accesses to the
//! interrupt controller and the UART, from several vCPUs.

mod physical;
mod uart;
mod vgic;

use crate::input::Input;
use mediator::addr::PAGE_SIZE;
use postern_base::gic::GicVersion;
use postern_exceptions::decode::{Esr, GuestVa, Hpfar, Trap};

/// The most steps.
const STEPS: usize = 400;

/// Runs the devices: the bytes decide the GIC's version, the numbers of vCPUs and list registers,
/// then each step.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let shape = input.below(8) as usize;
    let version = if shape < 4 {
        GicVersion::V3
    } else {
        GicVersion::V2
    };
    let mut gic = vgic::Machine::new(version, 1 + shape % 4, 1 + input.below(6) as usize);
    let mut uart = uart::Uart::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() {
            0..=7 => trap(&mut input),
            8..=63 => uart.step(&mut input),
            _ => gic.step(&mut input),
        }
    }
    gic.end();
}

/// Decodes any syndrome, and checks that the result is within bounds.
fn trap(input: &mut Input<'_>) {
    let (esr, hpfar, far) = (input.double(), input.double(), input.double());
    let trap = Trap::decode(Esr::new(esr), Hpfar::new(hpfar), GuestVa::new(far));
    match trap {
        Trap::DataAbort(abort) => {
            let transfer = abort.transfer;
            assert!(transfer.is_none_or(|t| t.size.bytes() <= 8));
            assert!(transfer.is_none_or(|t| t.register.index().is_none_or(|index| index < 31)));
            let offset = abort.ipa.map(|ipa| ipa.page_offset());
            assert!(offset.is_none_or(|offset| offset == far % PAGE_SIZE || offset == 0));
            // Stage 2 translates 48 bits at most.
            assert!(abort.ipa.is_none_or(|ipa| ipa.get() < 1 << 56));
        }
        Trap::SysReg(access) => {
            assert!(access.reg.op0 < 4 && access.reg.crn < 16 && access.reg.crm < 16);
            assert!(access.rt.index().is_none_or(|index| index < 31));
        }
        _ => {}
    }
}
