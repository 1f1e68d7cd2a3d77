// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The physical UART's interrupt, and the delivery of received bytes to a guest or to the monitor.

use crate::console::output;
use crate::control::monitor;
use crate::irq::Handled;
use crate::irq::owners::register_spi;
use crate::platform::machine;
use crate::vm::instance::Vm;
use crate::vm::registry;
use core::sync::atomic::{AtomicUsize, Ordering};
use postern_arch::{gic, percpu};
use postern_base::ids::PcpuIndex;
use postern_base::lock::{Class, Lock};
use postern_console::mux::{Channel, Decoder};

static DECODER: Lock<Decoder> = Lock::new(Class::Decoder, Decoder::new(Some(Channel::HYPERVISOR)));
/// The pCPU to which the UART's interrupt is routed.
static IRQ_PCPU: AtomicUsize = AtomicUsize::new(PcpuIndex::BOOT.get());

/// Routes the UART's interrupt to the boot pCPU, and delivers the bytes that arrived before.
pub fn init() {
    for interrupt in &machine().uart.interrupts {
        register_spi(interrupt.intid.get(), on_interrupt);
        gic::enable_spi(*interrupt, PcpuIndex::BOOT);
    }
    if let Some(uart) = output::uart() {
        let mut decoder = DECODER.lock();
        uart.listen(|byte| deliver(&mut decoder, byte));
    }
    output::allow_interrupt();
}

/// Routes the UART's interrupt to this pCPU, if it is routed to a pCPU that does not return from
/// the secure world. A user can then still see what has happened, and type in guests that do not
/// use the TEE.
pub fn take_over_uart_irq(stuck: PcpuIndex) {
    if IRQ_PCPU.load(Ordering::Relaxed) == stuck.get() {
        let here = percpu::id();
        IRQ_PCPU.store(here.get(), Ordering::Relaxed);
        for interrupt in &machine().uart.interrupts {
            gic::route_spi(*interrupt, here);
        }
    }
}

/// Delivers the bytes that the UART has received, and gives it queued bytes to send. If one visit
/// does not suffice, the interrupt stays asserted and is taken again.
fn on_interrupt() -> Handled {
    if let Some(uart) = output::uart() {
        let mut decoder = DECODER.lock();
        uart.drain(|byte| deliver(&mut decoder, byte));
        drop(decoder);
        let ready = output::transmit();
        for channel in ready.guests.channels() {
            if let Some(vm) = vm_of(channel) {
                vm.resume_console();
            }
        }
        if ready.monitor {
            monitor::resume();
        }
    }
    Handled::Quiet
}

/// Decodes a byte from the line and delivers the result.
fn deliver(decoder: &mut Decoder, byte: u8) {
    let Some(decoded) = decoder.push(byte) else {
        return;
    };
    match decoded.channel {
        None | Some(Channel::HYPERVISOR) => monitor::receive(decoded.byte),
        Some(Channel::FLOW) => {
            if let Some(vm) = Channel::new(decoded.byte).and_then(vm_of) {
                vm.console.tell_room();
            }
        }
        Some(channel) => {
            if let Some(vm) = vm_of(channel) {
                vm.receive(decoded.byte);
            }
        }
    }
}

/// Returns the VM whose console has this channel.
fn vm_of(channel: Channel) -> Option<&'static Vm> {
    channel
        .vm()
        .and_then(|index| registry::all().get(index.get()))
}
