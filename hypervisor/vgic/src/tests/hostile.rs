// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random accesses of a guest that follows no rules: no panic, and list registers that the hardware
//! can take ([`Machine::apply`] checks them).

use super::harness::*;
use crate::{IrqLine, SgiRegister, Window};
use postern_base::mmio::{Access, AccessSize};
use proptest::prelude::*;

const VCPUS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Access(usize, Window, Access),
    Sgi(usize, u64),
    Dir(usize, u32),
    Eoi(usize, u32),
    Take(usize),
    Vmcr(usize, u32),
    Line(u32, bool),
    Timer(usize),
    Move(usize),
    OffAndOn(usize),
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(u64::MAX),
        (0_u32..64).prop_map(|bit| 1 << bit)
    ]
}

fn access() -> impl Strategy<Value = Access> {
    let offset = prop_oneof![
        8 => 0_u64..0x1000,
        2 => (0_u64..8, 0_u64..0x1000).prop_map(|(vcpu, at)| vcpu << 17 | 1 << 16 | at),
        2 => 0_u64..0x8_0000,
        1 => any::<u64>(),
    ];
    // Most accesses are aligned.
    let aligned = prop_oneof![8 => Just(true), 1 => Just(false)];
    (
        offset,
        0_u64..4,
        aligned,
        prop::option::weighted(0.8, word()),
    )
        .prop_map(|(offset, sas, aligned, value)| {
            let size = AccessSize::from_sas(sas);
            let offset = if aligned {
                offset & !(size.bytes() - 1)
            } else {
                offset
            };
            match value {
                Some(value) => Access::write(offset, size, value),
                None => Access::read(offset, size),
            }
        })
}

fn op() -> impl Strategy<Value = Op> {
    let vcpu = 0..VCPUS;
    let window = prop_oneof![3 => Just(Window::Distributor), 1 => Just(Window::Redistributors)];
    prop_oneof![
        20 => (vcpu.clone(), window, access()).prop_map(|(by, window, access)| {
            Op::Access(by, window, access)
        }),
        // SGIs by GICD_SGIR.
        5 => (vcpu.clone(), any::<u32>()).prop_map(|(by, value)| {
            let access = Access::write(0xf00, AccessSize::Word, value.into());
            Op::Access(by, Window::Distributor, access)
        }),
        2 => (vcpu.clone(), word()).prop_map(|(by, value)| Op::Sgi(by, value)),
        3 => (vcpu.clone(), 0_u32..0x2000).prop_map(|(by, value)| Op::Dir(by, value)),
        1 => (vcpu.clone(), any::<u32>()).prop_map(|(by, value)| Op::Dir(by, value)),
        5 => (vcpu.clone(), prop_oneof![0_u32..0x2000, 0_u32..32])
            .prop_map(|(by, value)| Op::Eoi(by, value)),
        10 => vcpu.clone().prop_map(Op::Take),
        2 => (vcpu.clone(), any::<u32>()).prop_map(|(by, value)| Op::Vmcr(by, value)),
        3 => (32_u32..288, any::<bool>()).prop_map(|(intid, level)| Op::Line(intid, level)),
        2 => vcpu.clone().prop_map(Op::Timer),
        1 => vcpu.clone().prop_map(Op::Move),
        1 => vcpu.prop_map(Op::OffAndOn),
    ]
}

fn step(machine: &mut Machine, op: &Op) {
    match *op {
        Op::Access(by, window, access) => {
            let value = machine.access(by, window, access);
            assert_eq!(value, access.size.truncate(value), "wider than {access:?}");
        }
        Op::Sgi(by, value) => machine.sgi(by, SgiRegister::Sgi1r, value),
        Op::Dir(by, value) => machine.write_dir(by, value),
        Op::Eoi(by, value) => machine.write_eoir(by, value),
        Op::Take(by) => {
            machine.acknowledge(by);
        }
        Op::Vmcr(by, value) => {
            machine.icv[by].vmcr = value.into();
            machine.settle();
        }
        Op::Line(intid, level) => {
            let line = IrqLine::spi(id(intid)).unwrap();
            let kick = machine.vgic.set_line(line, level);
            machine.kick(kick);
        }
        Op::Timer(vcpu) => {
            if !machine.icv[vcpu].timer_active {
                machine.icv[vcpu].timer_active = true;
                let kick = machine.vgic.timer_fired(cpu(vcpu));
                machine.kick(kick);
            }
        }
        Op::Move(vcpu) => {
            machine.unload(vcpu);
            machine.load(vcpu);
        }
        Op::OffAndOn(vcpu) => {
            machine.unload(vcpu);
            let kick = machine.vgic.vcpu_off(cpu(vcpu));
            machine.kick(kick);
            let kick = machine.vgic.vcpu_on(cpu(vcpu));
            machine.kick(kick.without(cpu(vcpu)));
            machine.icv[vcpu].running.clear();
            machine.load(vcpu);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_access_is_answered_with_valid_list_registers(
        version in prop::sample::select(&BOTH_VERSIONS[..]),
        lrs in 1_usize..=4,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut machine = Machine::configured_of(version, VCPUS, lrs);
        for op in &ops {
            step(&mut machine, op);
        }
    }
}
