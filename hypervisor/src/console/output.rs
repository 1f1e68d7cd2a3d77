//! The physical UART, shared: what the hypervisor and the guests say, each on its channel.
//!
//! A byte stream with channel switches, `0xFF c`, and `0xFF 0xFF` for a literal 0xFF; see
//! `docs/console.md`.

use super::log::{InJson, Level, LogLine, Stamp};
use super::monitor::Session;
use super::monitor::port::Terminal;
use super::mux::{Channel, Encoder};
use super::recent::Recent;
use super::uart::{Registers, Uart};
use crate::arch::percpu;
use crate::arch::timer;
use crate::arch::uart::UartRegisters;
use crate::lock::{Class, Lock};
use core::fmt::{self, Write};
use spin::Once;

/// The driver of the machine's UART.
pub type MachineUart = Uart<UartRegisters>;

impl Registers for UartRegisters {
    fn read(&self, offset: u16) -> u32 {
        Self::read(*self, offset)
    }

    fn write(&self, offset: u16, value: u32) {
        Self::write(*self, offset, value);
    }
}

struct Output {
    uart: MachineUart,
    encoder: Encoder,
    /// What stands in the line that a user of the monitor edits, on the hypervisor's channel:
    /// written again after whatever comes in between.
    edited: heapless::String<128>,
}

/// The end of the log.
static RECENT: Lock<Recent<16_384>> = Lock::new(Class::Recent, Recent::new());
static UART: Once<MachineUart> = Once::new();
static OUTPUT: Once<Lock<Output>> = Once::new();

impl Output {
    const fn new(uart: MachineUart) -> Self {
        Self {
            uart,
            encoder: Encoder::new(),
            edited: heapless::String::new(),
        }
    }

    fn send(&mut self, channel: Channel, bytes: &[u8]) {
        self.encoder
            .encode_all(channel, bytes, |byte| send_waiting(self.uart, byte));
    }

    /// A line on the hypervisor's channel, past the one that is being edited.
    fn line(&mut self, bytes: &[u8]) {
        if self.edited.is_empty() {
            return self.send(Channel::HYPERVISOR, bytes);
        }
        self.send(Channel::HYPERVISOR, b"\r\x1b[K");
        self.send(Channel::HYPERVISOR, bytes);
        let edited = core::mem::take(&mut self.edited);
        self.send(Channel::HYPERVISOR, edited.as_bytes());
        self.edited = edited;
    }
}

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.send(Channel::HYPERVISOR, text.as_bytes());
        Ok(())
    }
}

/// Sends a byte, waiting for room.
pub fn send_waiting(uart: MachineUart, byte: u8) {
    while !uart.try_send(byte) {
        core::hint::spin_loop();
    }
}

/// Everything goes to this UART from here on; before, it goes nowhere.
pub fn init(registers: UartRegisters) {
    let uart = Uart::new(registers);
    UART.call_once(|| uart);
    OUTPUT.call_once(|| Lock::new(Class::Output, Output::new(uart)));
}

/// The UART that [`init`] was given.
pub fn uart() -> Option<MachineUart> {
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

impl Line {
    fn of(text: fmt::Arguments<'_>) -> Self {
        let mut line = Self(heapless::Vec::new());
        let _ = line.write_fmt(text);
        line
    }

    fn send(mut self) {
        let _ = self.0.extend_from_slice(b"\r\n");
        if let Some(output) = OUTPUT.get() {
            output.lock().line(&self.0);
        }
    }
}

fn micros() -> u64 {
    timer::now() / (timer::frequency() / 1_000_000).max(1)
}

/// Sends one line on the hypervisor's channel. Events are kept for the monitor, without the mark by
/// which programs know them: they happen once.
pub fn line(text: fmt::Arguments<'_>) {
    let line = Line::of(text);
    if let Some(event) = line.0.strip_prefix(b"@postern ")
        && let Ok(event) = core::str::from_utf8(event)
    {
        keep(&Line::of(format_args!(
            "{} event: {event}",
            Stamp(micros())
        )));
    }
    line.send();
}

/// Sends one log line with the time since the counter started, and keeps it for the monitor.
pub fn log(level: Level, text: fmt::Arguments<'_>) {
    let line = LogLine {
        micros: micros(),
        level,
        text,
    };
    let line = Line::of(format_args!("{line}"));
    keep(&line);
    line.send();
}

fn keep(line: &Line) {
    RECENT.lock().push(&line.0);
}

/// Gives `each` the last `lines` lines of the log, oldest first; those only that are there now.
pub fn recent(lines: usize, each: &mut dyn FnMut(&str) -> fmt::Result) -> fmt::Result {
    let (mut place, end) = {
        let recent = RECENT.lock();
        (recent.last(lines), recent.end())
    };
    while place < end {
        let mut line = heapless::Vec::<u8, 2048>::new();
        let next = RECENT.lock().line(place, |byte| {
            let _ = line.push(byte);
        });
        let Some(next) = next else { break };
        place = next;
        let text = match core::str::from_utf8(&line) {
            Ok(text) => text,
            // It was cut in the middle of a character.
            Err(error) => core::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default(),
        };
        each(text)?;
    }
    Ok(())
}

/// Sends what the monitor says on the hypervisor's channel, in one piece. `session` has what then
/// stands in the line that is being edited.
pub fn monitor(session: Option<&Session>, write: &mut dyn FnMut(&mut dyn Write) -> fmt::Result) {
    let Some(output) = OUTPUT.get() else {
        return;
    };
    let mut output = output.lock();
    // What the UART is given does not fail.
    let _ = write(&mut Terminal(&mut *output));
    output.edited.clear();
    if let Some(session) = session {
        // It has room for what a screen's line has.
        let _ = session.show(&mut output.edited);
    }
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
