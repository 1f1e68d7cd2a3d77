//! What arrives on the physical UART: for a guest, or for the hypervisor's monitor.

use super::monitor::machine as monitor;
use super::mux::{Channel, Decoder};
use super::output;
use crate::arch::{gic, percpu};
use crate::boot::start::machine;
use crate::ids::PcpuIndex;
use crate::vm;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::mutex::SpinMutex;

static DECODER: SpinMutex<Decoder> = SpinMutex::new(Decoder::new(Some(Channel::HYPERVISOR)));
/// The pCPU that the UART interrupts.
static TAKER: AtomicUsize = AtomicUsize::new(PcpuIndex::BOOT.get());

/// Has the boot pCPU take what arrives on the UART.
pub fn init() {
    take(PcpuIndex::BOOT);
    if let Some(uart) = output::uart() {
        uart.enable_receive_interrupt();
    }
}

/// A pCPU does not come back from the secure world: if it was to take what arrives, this one does.
/// A user can then still see what has happened, and type in guests that do not use the TEE.
pub fn instead_of(stuck: PcpuIndex) {
    if TAKER.load(Ordering::Relaxed) == stuck.get() {
        take(percpu::this().id());
    }
}

fn take(pcpu: PcpuIndex) {
    TAKER.store(pcpu.get(), Ordering::Relaxed);
    gic::enable_spi(machine().uart.interrupt.get(), vm::mpidr_of(pcpu));
}

/// Whether this INTID is the physical UART's.
pub fn is_console(intid: u32) -> bool {
    machine().uart.interrupt.get() == intid
}

/// Takes all that the UART has received.
pub fn receive() {
    let Some(uart) = output::uart() else {
        return;
    };
    uart.clear_receive_interrupt();
    let mut decoder = DECODER.lock();
    while let Some(byte) = uart.receive() {
        let Some(decoded) = decoder.push(byte) else {
            continue;
        };
        match decoded.channel {
            None | Some(Channel::HYPERVISOR) => monitor::receive(decoded.byte),
            Some(channel) => {
                let vm = channel.vm().and_then(|index| vm::all().get(index.get()));
                if let Some(vm) = vm {
                    vm.receive(decoded.byte);
                }
            }
        }
    }
}
