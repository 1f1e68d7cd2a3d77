// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The PL011, polled, or Xen's console where there is none. A line goes out in one piece, whoever says it.

use crate::machine::machine;
use crate::timer;
use alloc::format;
use alloc::string::String;
use core::arch::asm;
use core::fmt::{self, Write};
use core::time::Duration;
use spin::mutex::SpinMutex;

const DR: u64 = 0x00;
const FR: u64 = 0x18;
const IMSC: u64 = 0x38;
const INT_TX: u32 = 1 << 5;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
/// How long a program that waits for input sleeps between looks.
const GLANCE: Duration = Duration::from_millis(2);
/// The longest command line.
const MAX_LINE: usize = 256;

static OUTPUT: SpinMutex<()> = SpinMutex::new(());

/// The PL011's registers.
struct Uart(u64);

impl Uart {
    fn find() -> Option<Self> {
        machine().uart.map(Self)
    }

    fn register(&self, offset: u64) -> u32 {
        // SAFETY: a register of the PL011 that the tree names, mapped as device memory.
        unsafe { core::ptr::read_volatile((self.0 + offset) as *const u32) }
    }

    fn send(&self, byte: u8) {
        while self.register(FR) & FR_TXFF != 0 {
            core::hint::spin_loop();
        }
        // SAFETY: as above; the device masters no memory.
        unsafe { core::ptr::write_volatile((self.0 + DR) as *mut u32, byte.into()) };
    }

    fn receive(&self) -> Option<u8> {
        (self.register(FR) & FR_RXFE == 0).then(|| self.register(DR) as u8)
    }
}

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.send(byte));
        Ok(())
    }
}

/// Gives a text to Xen: the hypercall `HYPERVISOR_console_io`, `CONSOLEIO_write`.
fn write_by_hypercall(text: &str) {
    // SAFETY: Xen reads `text` and changes nothing but the registers that a hypercall may change.
    unsafe {
        asm!(
            "hvc #0xea1",
            inout("x0") 0_u64 => _,
            inout("x1") text.len() => _,
            inout("x2") text.as_ptr() => _,
            out("x3") _,
            out("x4") _,
            inout("x16") 18_u64 => _,
            out("x17") _,
            options(readonly, nostack)
        );
    }
}

/// Writes a line; [`crate::say!`] is the convenient way.
pub fn line(arguments: fmt::Arguments<'_>) {
    let guard = OUTPUT.lock();
    match Uart::find() {
        // The UART takes everything.
        Some(mut uart) => drop(uart.write_fmt(format_args!("{arguments}\r\n"))),
        None if machine().xen => write_by_hypercall(&format!("{arguments}\n")),
        None => {}
    }
    drop(guard);
}

/// Whether [`read_line`] has something to read.
pub fn has_input() -> bool {
    Uart::find().is_some_and(|uart| uart.register(FR) & FR_RXFE == 0)
}

/// Has the UART interrupt while it has room for output, which is always, or not any more. `false` where
/// there is no UART.
pub fn set_transmit_interrupt(on: bool) -> bool {
    let Some(uart) = Uart::find() else {
        return false;
    };
    let mask = if on { INT_TX } else { 0 };
    // SAFETY: the interrupt mask of the PL011 that the tree names.
    unsafe { core::ptr::write_volatile((uart.0 + IMSC) as *mut u32, mask) };
    true
}

/// The next line of input, without its end. Sleeps while there is none.
pub fn read_line() -> String {
    let uart = Uart::find();
    let mut text = String::new();
    loop {
        match uart.as_ref().and_then(Uart::receive) {
            None => timer::sleep(GLANCE),
            Some(b'\r' | b'\n') if text.is_empty() => {}
            Some(b'\r' | b'\n') => return text,
            Some(byte) if text.len() < MAX_LINE => text.push(char::from(byte)),
            Some(_) => {}
        }
    }
}
