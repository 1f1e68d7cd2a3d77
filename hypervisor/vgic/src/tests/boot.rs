// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Linux's accesses to a GICv3 from the boot of the first vCPU to that of the last, in their order.

use super::harness::*;
use crate::{IrqLine, REDISTRIBUTOR_SIZE, SgiRegister, VcpuSet, Vgic, Window};
use postern_base::gic::GicVersion;
use postern_base::mmio::{Access, AccessSize};

const VCPUS: usize = 4;

fn redistributor(vcpu: usize) -> u64 {
    REDISTRIBUTOR_SIZE * vcpu as u64
}

/// Finds the redistributor of a vCPU by its affinity, as Linux's walk over the region does.
fn find_redistributor(machine: &mut Machine, vcpu: usize) -> u64 {
    let mut frame = 0;
    loop {
        let version = machine.read(vcpu, Window::Redistributors, frame + 0xffe8) & 0xf0;
        assert_eq!(version, 0x30, "a GICv3");
        let access = Access::read(frame + 8, AccessSize::Double);
        let typer = machine.access(vcpu, Window::Redistributors, access);
        assert_eq!(typer & 2, 0, "frames of 128 KiB");
        assert_eq!(typer >> 27 & 0x1f, 0, "16 PPIs");
        if typer >> 32 == vcpu as u64 {
            return frame;
        }
        assert_eq!(typer & 1 << 4, 0, "the last one");
        frame += REDISTRIBUTOR_SIZE;
    }
}

fn wait_for_rwp(machine: &mut Machine, vcpu: usize, window: Window, offset: u64) {
    let bit = match window {
        Window::Distributor => 31,
        Window::Redistributors => 3,
    };
    assert_eq!(machine.read(vcpu, window, offset) >> bit & 1, 0);
}

fn init_distributor(machine: &mut Machine) {
    let window = Window::Distributor;
    let version = machine.read(0, window, 0xffe8) & 0xf0;
    assert_eq!(version, 0x30);
    let typer = machine.read(0, window, 0x4);
    let lines = ((typer & 0x1f) + 1) * 32;
    assert_eq!(lines, 288);
    assert_eq!(
        typer & (1 << 8 | 1 << 16 | 1 << 17),
        0,
        "extended, messages, LPIs"
    );
    assert_eq!(machine.read(0, window, 0xc), 0, "TYPER2");
    machine.write(0, window, 0x0, 0);
    wait_for_rwp(machine, 0, window, 0);
    for i in (32..u64::from(lines)).step_by(32) {
        machine.write(0, window, 0x80 + i / 8, u32::MAX);
    }
    for i in (32..u64::from(lines)).step_by(16) {
        machine.write(0, window, 0xc00 + i / 4, 0);
    }
    for i in (32..u64::from(lines)).step_by(4) {
        machine.write(0, window, 0x400 + i, 0xa0a0_a0a0);
    }
    for i in (32..u64::from(lines)).step_by(32) {
        machine.write(0, window, 0x380 + i / 8, u32::MAX);
        machine.write(0, window, 0x180 + i / 8, u32::MAX);
    }
    wait_for_rwp(machine, 0, window, 0);
    machine.write(0, window, 0x0, 1 << 4 | 1 << 1 | 1);
    assert_eq!(machine.read(0, window, 0), 0x53, "DS, ARE, both groups");
    for i in 32..u64::from(lines) {
        let access = Access::write(0x6000 + 8 * i, AccessSize::Double, 0);
        machine.access(0, window, access);
    }
}

fn init_cpu(machine: &mut Machine, vcpu: usize) {
    let window = Window::Redistributors;
    let frame = find_redistributor(machine, vcpu);
    assert_eq!(frame, redistributor(vcpu));
    // The redistributor is woken, and ChildrenAsleep reads as zero.
    let waker = machine.read(vcpu, window, frame + 0x14);
    machine.write(vcpu, window, frame + 0x14, waker & !2);
    assert_eq!(machine.read(vcpu, window, frame + 0x14) & 4, 0);
    let sgi = frame + 0x1_0000;
    machine.write(vcpu, window, sgi + 0x80, u32::MAX);
    machine.write(vcpu, window, sgi + 0x380, u32::MAX);
    machine.write(vcpu, window, sgi + 0x180, u32::MAX);
    for i in (0..32).step_by(4) {
        machine.write(vcpu, window, sgi + 0x400 + i, 0xa0a0_a0a0);
    }
    wait_for_rwp(machine, vcpu, window, frame);
    // Writes to ICC_PMR, ICC_CTLR and ICC_IGRPEN1 cause no exits.
    machine.icv[vcpu].vmcr = 0xf0 << 24 | 2;
    machine.settle();
    // Linux enables the IPIs and the timer. It writes the timer's type, reads it back and compares.
    for ipi in 0..7 {
        machine.write(vcpu, window, sgi + 0x100, 1 << ipi);
        wait_for_rwp(machine, vcpu, window, frame);
    }
    let config = machine.read(vcpu, window, sgi + 0xc04) & !(2 << 22);
    machine.write(vcpu, window, sgi + 0xc04, config);
    assert_eq!(machine.read(vcpu, window, sgi + 0xc04), config);
    machine.write(vcpu, window, sgi + 0x100, 1 << 27);
    assert_eq!(machine.read(vcpu, window, sgi + 0x100), 0x0800_007f);
}

/// Acknowledges and ends an interrupt, with EOImode 0.
fn handle(machine: &mut Machine, vcpu: usize, intid: u32) {
    assert_eq!(machine.acknowledge(vcpu), Some(id(intid)), "vCPU {vcpu}");
    machine.end(vcpu, id(intid));
    assert_eq!(machine.acknowledge(vcpu), None);
}

fn tick(machine: &mut Machine, vcpu: usize) {
    machine.icv[vcpu].timer_active = true;
    let kick = machine.vgic.timer_fired(cpu(vcpu));
    assert_eq!(kick, VcpuSet::only(cpu(vcpu)));
    machine.kick(kick);
    handle(machine, vcpu, 27);
    assert!(!machine.icv[vcpu].timer_active);
}

#[test]
fn linux_boots_with_all_its_vcpus() {
    let mut machine = Machine::new(VCPUS, 4);
    // Only the first vCPU is on.
    for vcpu in 1..VCPUS {
        machine.unload(vcpu);
        let _ = machine.vgic.vcpu_off(cpu(vcpu));
    }
    init_distributor(&mut machine);
    init_cpu(&mut machine, 0);
    tick(&mut machine, 0);
    for vcpu in 1..VCPUS {
        assert!(machine.vgic.vcpu_on(cpu(vcpu)).contains(cpu(vcpu)));
        machine.load(vcpu);
        init_cpu(&mut machine, vcpu);
        tick(&mut machine, vcpu);
        // The vCPU is sent an IPI, and sends one to vCPU 0.
        machine.sgi(0, SgiRegister::Sgi1r, 1 << vcpu);
        handle(&mut machine, vcpu, 0);
        machine.sgi(vcpu, SgiRegister::Sgi1r, 1 << 24 | 1);
        handle(&mut machine, 0, 1);
    }
    // The console's driver enables its interrupt.
    let window = Window::Distributor;
    let line = IrqLine::spi(id(33)).unwrap();
    machine.write(0, window, 0x104, 2);
    let kick = machine.vgic.set_line(line, true);
    machine.kick(kick);
    assert_eq!(machine.acknowledge(0), Some(id(33)));
    let kick = machine.vgic.set_line(line, false);
    machine.kick(kick);
    machine.end(0, id(33));
    assert_eq!(machine.acknowledge(0), None);
    // The interrupt moves to another vCPU: it is disabled, routed and enabled.
    assert_eq!(machine.read(0, window, 0x104), 2);
    machine.write(0, window, 0x184, 2);
    wait_for_rwp(&mut machine, 0, window, 0);
    let route = Access::write(0x6000 + 8 * 33, AccessSize::Double, 2);
    machine.access(0, window, route);
    machine.write(0, window, 0x104, 2);
    wait_for_rwp(&mut machine, 0, window, 0);
    let kick = machine.vgic.set_line(line, true);
    assert_eq!(kick, VcpuSet::only(cpu(2)));
    machine.kick(kick);
    assert_eq!(machine.acknowledge(2), Some(id(33)));
    // synchronize_irq on another vCPU reads that the interrupt is still active.
    assert_eq!(machine.read(1, window, 0x304), 2);
    let kick = machine.vgic.set_line(line, false);
    machine.kick(kick);
    machine.end(2, id(33));
    assert_eq!(machine.read(1, window, 0x304), 0);
    // An SGI to all other vCPUs at once.
    machine.sgi(3, SgiRegister::Sgi1r, 2 << 24 | 0x7);
    for vcpu in 0..3 {
        handle(&mut machine, vcpu, 2);
    }
    assert_eq!(machine.acknowledge(3), None);
}

#[test]
fn reset_restores_all_registers() {
    let mut machine = Machine::configured(2, 4);
    machine.sgi(0, SgiRegister::Sgi1r, 3);
    let kick = machine.vgic.set_line(IrqLine::spi(id(33)).unwrap(), true);
    machine.kick(kick);
    machine.unload(0);
    machine.unload(1);
    machine.vgic.reset();
    let fresh = Vgic::new(2, GicVersion::V3);
    for vgic in [&machine.vgic, &fresh] {
        let _ = vgic.vcpu_on(cpu(0));
    }
    for (window, size) in [
        (Window::Distributor, 0x1_0000),
        (Window::Redistributors, 2 * REDISTRIBUTOR_SIZE),
    ] {
        for offset in (0..size).step_by(4) {
            let access = Access::read(offset, AccessSize::Word);
            assert_eq!(
                machine.vgic.access(cpu(0), window, &access),
                fresh.access(cpu(0), window, &access),
                "{window:?} {offset:#x}"
            );
        }
    }
}
