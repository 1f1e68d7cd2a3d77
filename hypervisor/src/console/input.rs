//! What arrives on the physical UART: for a guest, or for the hypervisor's monitor.

use super::monitor;
use super::output::{self, OWN_CHANNEL};
use crate::boot::start::machine;
use crate::vm;
use spin::mutex::SpinMutex;

const ESCAPE: u8 = 0xff;

struct Input {
    channel: u8,
    escaped: bool,
}

static INPUT: SpinMutex<Input> = SpinMutex::new(Input {
    channel: OWN_CHANNEL,
    escaped: false,
});

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
    let mut input = INPUT.lock();
    while let Some(byte) = uart.receive() {
        if input.escaped {
            input.escaped = false;
            if byte != ESCAPE {
                input.channel = byte;
                continue;
            }
        } else if byte == ESCAPE {
            input.escaped = true;
            continue;
        }
        match usize::from(input.channel).checked_sub(1) {
            None => monitor::receive(byte),
            Some(index) => {
                if let Some(vm) = vm::all().get(index) {
                    vm.receive(byte);
                }
            }
        }
    }
}
