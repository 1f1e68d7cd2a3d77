// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random operations of guests and devices.

use proptest::prelude::*;

/// An operation of a guest or a device. An index selects one of the model's interrupts.
#[derive(Clone, Debug)]
pub enum Op {
    Line(usize, bool),
    Pulse(usize),
    Sgi {
        from: usize,
        sgi: u32,
        targets: u8,
    },
    Timer(usize),
    TimerWithdrawn(usize),
    /// The input of a linked physical SPI.
    Physical(usize, bool),
    Enable(usize, bool),
    Pend(usize, bool),
    Activate(usize, bool),
    Priority(usize, u8),
    Group(usize, bool),
    Edge(usize, bool),
    Route(usize, u32),
    Distributor(u32),
    InterfaceState {
        vcpu: usize,
        mask: u8,
        groups: u8,
    },
    Take(usize),
    End(usize),
    Deactivate {
        vcpu: usize,
        nth: usize,
    },
    Move(usize),
    Unload(usize),
    Update(usize),
    Off(usize),
    On(usize),
}

pub fn op() -> impl Strategy<Value = Op> {
    let irq = 0_usize..64;
    let vcpu = 0_usize..3;
    prop_oneof![
        4 => (irq.clone(), any::<bool>()).prop_map(|(i, level)| Op::Line(i, level)),
        2 => irq.clone().prop_map(Op::Pulse),
        4 => (vcpu.clone(), 0_u32..3, any::<u8>())
            .prop_map(|(from, sgi, targets)| Op::Sgi { from, sgi, targets }),
        2 => vcpu.clone().prop_map(Op::Timer),
        1 => vcpu.clone().prop_map(Op::TimerWithdrawn),
        3 => (0_usize..2, any::<bool>()).prop_map(|(i, level)| Op::Physical(i, level)),
        2 => (irq.clone(), any::<bool>()).prop_map(|(i, on)| Op::Enable(i, on)),
        4 => (irq.clone(), any::<bool>()).prop_map(|(i, on)| Op::Pend(i, on)),
        2 => (irq.clone(), any::<bool>()).prop_map(|(i, on)| Op::Activate(i, on)),
        4 => (irq.clone(), 0_u8..32).prop_map(|(i, priority)| Op::Priority(i, priority * 8)),
        2 => (irq.clone(), any::<bool>()).prop_map(|(i, group1)| Op::Group(i, group1)),
        2 => (irq.clone(), any::<bool>()).prop_map(|(i, edge)| Op::Edge(i, edge)),
        3 => (irq.clone(), prop_oneof![0_u32..8, Just(1 << 31), Just(1 << 16)])
            .prop_map(|(i, route)| Op::Route(i, route)),
        1 => (0_u32..4).prop_map(Op::Distributor),
        2 => (vcpu.clone(), any::<u8>(), 0_u8..4)
            .prop_map(|(vcpu, mask, groups)| Op::InterfaceState { vcpu, mask, groups }),
        12 => vcpu.clone().prop_map(Op::Take),
        10 => vcpu.clone().prop_map(Op::End),
        3 => (vcpu.clone(), 0_usize..8).prop_map(|(vcpu, nth)| Op::Deactivate { vcpu, nth }),
        1 => vcpu.clone().prop_map(Op::Move),
        1 => vcpu.clone().prop_map(Op::Unload),
        1 => vcpu.clone().prop_map(Op::Update),
        1 => vcpu.clone().prop_map(Op::Off),
        1 => vcpu.prop_map(Op::On),
    ]
}
