// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The physical UART, shared: what the hypervisor and the guests say, each on its channel.
//!
//! A byte stream with channel switches, `0xFF c`, and `0xFF 0xFF` for a literal 0xFF; see
//! `docs/console.md`.

use core::fmt::{self, Display, Write};
use postern_arch::percpu;
use postern_arch::timer;
use postern_arch::uart::UartRegisters;
use postern_base::ids::VmIndex;
use postern_base::lock::{Class, Lock};
use postern_base::ticks::Ticks;
use postern_console::flow::ANSWER_BYTES;
use postern_console::guest::{ConsoleLink, GuestConsole};
use postern_console::lines::{LineKind, Lines};
use postern_console::log::{Level, LogLine, Timestamp};
use postern_console::log_ring::LogRing;
use postern_console::monitor::WriteReply;
use postern_console::monitor::port::ReplyChunks;
use postern_console::mux::{Channel, Encoder};
use postern_console::transmit::ReadyChannels;
use postern_console::uart::{Layout, Registers, Uart, Width};
use postern_monitor::{Event, MARK};
use spin::Once;

/// The driver of the machine's UART.
pub type MachineUart = Uart<MachineRegisters>;

/// The registers of the machine's UART.
#[derive(Clone, Copy)]
pub struct MachineRegisters(
    /// The registers, as EL2 maps them.
    pub UartRegisters,
);

impl Registers for MachineRegisters {
    fn layout(&self) -> Layout {
        self.0.layout()
    }

    fn read(&self, offset: u16, width: Width) -> u32 {
        self.0.read(offset, width)
    }

    fn write(&self, offset: u16, width: Width, value: u32) {
        self.0.write(offset, width, value);
    }
}

/// Looks at the UART, while it has no room, before it counts as stuck. One takes 100 ns and more, a
/// byte 87 µs at 115,200 baud.
pub const LOOKS: u32 = 100_000;

/// One static, of zeros only, so that it takes no room in the image. So the UART is beside it: an
/// absent one is no zeros.
struct ConsoleOutput {
    lines: Lines,
    /// Whether to wait for the UART: at boot, while no interrupt would come.
    is_waiting: bool,
}

/// The end of the log.
static RECENT: Lock<LogRing<16_384>> = Lock::new(Class::LogRing, LogRing::new());
static UART: Once<MachineUart> = Once::new();
static OUTPUT: Lock<ConsoleOutput> = Lock::new(Class::Output, ConsoleOutput::new());

impl ConsoleOutput {
    const fn new() -> Self {
        Self {
            lines: Lines::new(),
            is_waiting: false,
        }
    }

    /// Gives the UART what it takes now; at boot, all there is.
    fn go(&mut self) {
        if let Some(uart) = UART.get() {
            let transmitter = &mut self.lines.transmitter;
            if self.is_waiting {
                transmitter.flush(uart, timer::now, patience());
            } else {
                transmitter.pump(uart);
            }
        }
    }
}

/// How long the UART may take for a byte: a tenth of a second.
fn patience() -> Ticks {
    timer::second() / 10
}

/// Sends everything to this UART from here on; before, it goes nowhere. Once.
pub fn init(registers: UartRegisters) {
    let uart = Uart::new(MachineRegisters(registers));
    UART.call_once(|| uart);
    let mut output = OUTPUT.lock();
    output.is_waiting = true;
}

/// The UART that [`init`] was given.
pub fn uart() -> Option<MachineUart> {
    UART.get().copied()
}

/// A guest's way to the machine's UART.
pub struct UartLink;

/// A guest's console on the machine's UART.
pub type MachineConsole = GuestConsole<UartLink>;

impl ConsoleLink for UartLink {
    fn send(&self, channel: Channel, byte: u8) -> bool {
        let mut output = OUTPUT.lock();
        let fits = output.lines.transmitter.push_guest(channel, byte);
        output.go();
        fits
    }

    fn tell(&self, about: Channel, answer: &[u8; ANSWER_BYTES]) -> bool {
        let mut output = OUTPUT.lock();
        let fits = output.lines.transmitter.push_flow(about, answer);
        output.go();
        fits
    }
}

/// From now on the UART's interrupt is handled by [`transmit`], and nobody waits.
pub fn allow_interrupt() {
    let mut output = OUTPUT.lock();
    let output = &mut *output;
    output.is_waiting = false;
    if let Some(uart) = UART.get() {
        output.lines.transmitter.allow_interrupt(uart);
    }
}

/// Who may go on.
pub struct ReadyToSend {
    /// Guests that were refused, and those about which an answer of the flow control's was.
    pub guests: ReadyChannels,
    /// The monitor, which waited with an answer.
    pub monitor: bool,
}

/// What there is to do in the UART's interrupt.
pub fn transmit() -> ReadyToSend {
    let mut output = OUTPUT.lock();
    let output = &mut *output;
    let Some(uart) = UART.get() else {
        return ReadyToSend {
            guests: ReadyChannels::NOBODY,
            monitor: false,
        };
    };
    let transmitter = &mut output.lines.transmitter;
    transmitter.pump(uart);
    ReadyToSend {
        guests: transmitter.take_ready(uart),
        monitor: transmitter.take_wanted(uart, Lines::answer_needs()),
    }
}

/// Whether the longest answer fits. If not, [`transmit`] tells when it does.
pub fn has_room_for_answer() -> bool {
    let mut output = OUTPUT.lock();
    let output = &mut *output;
    let fits = output.lines.has_room_for_answer();
    if !fits && let Some(uart) = UART.get() {
        output.lines.transmitter.want_interrupt(uart);
    }
    fits
}

/// Whether all has room that a VM says by itself from its start to its end.
pub fn has_room_for_life(vm: VmIndex) -> bool {
    OUTPUT.lock().lines.has_room_for_life(vm)
}

/// Waits until all that was said is out, as long as the UART gets on with it: the machine is to be
/// powered off.
pub fn flush() {
    let mut output = OUTPUT.lock();
    let output = &mut *output;
    if let Some(uart) = UART.get() {
        output.lines.transmitter.flush(uart, timer::now, patience());
    }
}

/// One log line, longer ones are cut.
struct LineBuffer(heapless::Vec<u8, 2048>);

impl Write for LineBuffer {
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

impl LineBuffer {
    fn of(text: fmt::Arguments<'_>) -> Self {
        let mut line = Self(heapless::Vec::new());
        let _ = line.write_fmt(text);
        line
    }

    fn send(mut self, cause: Option<VmIndex>, kind: LineKind) {
        let _ = self.0.extend_from_slice(b"\r\n");
        let mut output = OUTPUT.lock();
        output.lines.line(cause, kind, &self.0, micros());
        output.go();
    }
}

fn micros() -> u64 {
    timer::now().get() / (timer::frequency() / 1_000_000).max(1)
}

/// Sends an event on the hypervisor's channel, behind the mark by which programs know it. It is kept for the
/// monitor, without the mark: it happens once. `cause` is the VM that it happens to, or because of.
pub fn event(cause: Option<VmIndex>, event: &Event<&dyn Display>) {
    let mut line = LineBuffer::of(format_args!("{} event: ", Timestamp(micros())));
    event.write(&mut line);
    keep(&line);
    let mut line = LineBuffer::of(format_args!("{MARK}"));
    event.write(&mut line);
    line.send(cause, LineKind::Event);
}

/// Sends one log line of which no VM is the cause.
#[cold]
pub fn log(level: Level, text: fmt::Arguments<'_>) {
    log_of(None, level, text);
}

/// Sends one log line with the time since the counter started, and keeps it for the monitor. `cause` is the VM
/// because of which it is said.
pub fn log_of(cause: Option<VmIndex>, level: Level, text: fmt::Arguments<'_>) {
    let line = LogLine {
        micros: micros(),
        level,
        text,
    };
    let line = LineBuffer::of(format_args!("{line}"));
    keep(&line);
    line.send(cause, LineKind::Log);
}

fn keep(line: &LineBuffer) {
    RECENT.lock().push(&line.0);
}

/// Gives `each` the last `lines` lines of the log, oldest first; those only that are there now.
pub fn recent(lines: usize, each: &mut dyn FnMut(&str)) {
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
        each(text);
    }
}

/// Sends what the monitor says on the hypervisor's channel, with nothing of others in between: their lines come behind it.
/// After each piece `between` is called, with the lock free. One caller at a time.
pub fn monitor(between: &dyn Fn(), write: WriteReply<'_>) {
    OUTPUT.lock().lines.begin_answer();
    let mut send = |piece: &[u8]| {
        let mut output = OUTPUT.lock();
        output.lines.answer(piece);
        output.go();
        drop(output);
        between();
    };
    let mut pieces = ReplyChunks::new(true, &mut send);
    write(&mut pieces);
    let in_line = pieces.end();
    let mut output = OUTPUT.lock();
    output.lines.end_answer(in_line);
    output.go();
}

/// Says why there will be no guests, for people and for programs.
pub fn boot_error(why: fmt::Arguments<'_>) {
    log_of(None, Level::Error, why);
    event(None, &Event::BootError { text: &why });
}

/// Says what has gone wrong for good on this pCPU, as [`last_words`].
pub fn panic(text: fmt::Arguments<'_>) {
    let pcpu = percpu::index();
    last_words(format_args!("panic on CPU {pcpu}: {text}"));
}

/// The last words: after what waits, unless the lock's holder is who says them; then past it.
pub fn last_words(text: fmt::Arguments<'_>) {
    let Some(&uart) = UART.get() else {
        return;
    };
    let mut line = LineBuffer(heapless::Vec::new());
    let _ = write!(line, "\r\npostern: {text}\r\n");
    let held = (0..LOOKS).find_map(|_| {
        core::hint::spin_loop();
        OUTPUT.try_lock()
    });
    if let Some(mut output) = held {
        output
            .lines
            .transmitter
            .flush(&uart, timer::now, patience());
    }
    let mut gets_on = true;
    Encoder::new().encode_all(Channel::HYPERVISOR, &line.0, |byte| {
        gets_on = gets_on && uart.send_within(byte, LOOKS);
    });
    // The FIFO's content, before the power goes.
    let _ = (0..LOOKS).find(|_| !uart.is_busy());
}
