//! What arrives on the physical UART: for a guest, or for the hypervisor's monitor.

use super::monitor::machine as monitor;
use super::mux::{Channel, Decoder};
use super::output;
use crate::boot::start::machine;
use crate::vm;
use spin::mutex::SpinMutex;

static DECODER: SpinMutex<Decoder> = SpinMutex::new(Decoder::new(Some(Channel::HYPERVISOR)));

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
