//! The physical UART, shared: what the hypervisor and the guests say, each on its channel.
//!
//! A byte stream with channel switches, `0xFF c`, and `0xFF 0xFF` for a literal 0xFF; see
//! `docs/console.md`.

use super::log::{InJson, Level, LogLine};
use super::mux::{Channel, Encoder};
use crate::arch::percpu;
use crate::arch::timer;
use crate::arch::uart::Uart;
use core::fmt::{self, Write};
use spin::Once;
use spin::mutex::SpinMutex;

struct Output {
    uart: Uart,
    encoder: Encoder,
}

static UART: Once<Uart> = Once::new();
static OUTPUT: Once<SpinMutex<Output>> = Once::new();

impl Output {
    const fn new(uart: Uart) -> Self {
        Self {
            uart,
            encoder: Encoder::new(),
        }
    }

    fn send(&mut self, channel: Channel, bytes: &[u8]) {
        self.encoder
            .encode_all(channel, bytes, |byte| self.uart.send(byte));
    }
}

/// Everything goes to this UART from here on; before, it goes nowhere.
pub fn init(uart: Uart) {
    UART.call_once(|| uart);
    OUTPUT.call_once(|| SpinMutex::new(Output::new(uart)));
}

/// The UART that [`init`] was given.
pub fn uart() -> Option<Uart> {
    UART.get().copied()
}

/// Sends bytes on a channel, in one piece.
pub fn send(channel: Channel, bytes: &[u8]) {
    if let Some(output) = OUTPUT.get() {
        output.lock().send(channel, bytes);
    }
}

/// One log line, longer ones are cut.
struct Line(heapless::Vec<u8, 2048>);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // Room for the end of the line stays.
            if self.0.len() + 2 < self.0.capacity() {
                let _ = self.0.push(byte);
            }
        }
        Ok(())
    }
}

/// Sends one line on the hypervisor's channel.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = Line(heapless::Vec::new());
    let _ = line.write_fmt(text);
    let _ = line.0.extend_from_slice(b"\r\n");
    send(Channel::HYPERVISOR, &line.0);
}

/// Sends one log line with the time since the counter started.
pub fn log(level: Level, text: fmt::Arguments<'_>) {
    let micros = timer::now() / (timer::frequency() / 1_000_000).max(1);
    line(format_args!(
        "{}",
        LogLine {
            micros,
            level,
            text
        }
    ));
}

/// Says why there will be no guests, for people and for programs.
pub fn boot_error(why: fmt::Arguments<'_>) {
    log(Level::Error, why);
    line(format_args!(
        "@postern {{\"event\":\"boot-error\",\"text\":\"{}\"}}",
        InJson(why)
    ));
}

/// The last words: past the lock, whose holder may be who panicked.
pub fn panic(text: fmt::Arguments<'_>) {
    let Some(&uart) = UART.get() else {
        return;
    };
    let mut line = Line(heapless::Vec::new());
    let pcpu = if percpu::is_ready() {
        percpu::this().index
    } else {
        0
    };
    let _ = write!(line, "\r\npostern: panic on CPU {pcpu}: {text}\r\n");
    Output::new(uart).send(Channel::HYPERVISOR, &line.0);
}

/// Logs for the user.
#[macro_export]
macro_rules! info {
    ($($text:tt)*) => {
        $crate::console::output::log($crate::console::log::Level::Info, format_args!($($text)*))
    };
}

/// Logs what is not as it should be.
#[macro_export]
macro_rules! warn {
    ($($text:tt)*) => {
        $crate::console::output::log($crate::console::log::Level::Warn, format_args!($($text)*))
    };
}

/// Logs what does not work.
#[macro_export]
macro_rules! error {
    ($($text:tt)*) => {
        $crate::console::output::log($crate::console::log::Level::Error, format_args!($($text)*))
    };
}
