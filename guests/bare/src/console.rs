//! The PL011, polled. A line goes out in one piece, whoever says it.

use crate::machine::{Machine, machine};
use crate::timer;
use alloc::string::String;
use core::fmt::{self, Write};
use core::time::Duration;
use spin::mutex::SpinMutex;

const DR: u64 = 0x00;
const FR: u64 = 0x18;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
/// How long a program that waits for input sleeps between looks.
const GLANCE: Duration = Duration::from_millis(2);
/// The longest command line.
const MAX_LINE: usize = 256;

static OUTPUT: SpinMutex<()> = SpinMutex::new(());

struct Uart<'a>(&'a Machine);

impl Uart<'_> {
    fn register(&self, offset: u64) -> u32 {
        // SAFETY: a register of the PL011 that the tree names, mapped as device memory.
        unsafe { core::ptr::read_volatile((self.0.uart + offset) as *const u32) }
    }

    fn send(&self, byte: u8) {
        while self.register(FR) & FR_TXFF != 0 {
            core::hint::spin_loop();
        }
        // SAFETY: as above; the device masters no memory.
        unsafe { core::ptr::write_volatile((self.0.uart + DR) as *mut u32, byte.into()) };
    }

    fn receive(&self) -> Option<u8> {
        (self.register(FR) & FR_RXFE == 0).then(|| self.register(DR) as u8)
    }
}

impl Write for Uart<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.send(byte));
        Ok(())
    }
}

/// Writes a line; [`crate::say!`] is the convenient way.
pub fn line(arguments: fmt::Arguments<'_>) {
    let guard = OUTPUT.lock();
    // The UART takes everything.
    let _ = Uart(machine()).write_fmt(format_args!("{arguments}\r\n"));
    drop(guard);
}

/// Whether [`read_line`] has something to read.
pub fn has_input() -> bool {
    Uart(machine()).register(FR) & FR_RXFE == 0
}

/// The next line of input, without its end. Sleeps while there is none.
pub fn read_line() -> String {
    let uart = Uart(machine());
    let mut text = String::new();
    loop {
        match uart.receive() {
            None => timer::sleep(GLANCE),
            Some(b'\r' | b'\n') if text.is_empty() => {}
            Some(b'\r' | b'\n') => return text,
            Some(byte) if text.len() < MAX_LINE => text.push(char::from(byte)),
            Some(_) => {}
        }
    }
}
