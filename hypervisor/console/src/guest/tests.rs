// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's console, and the tool at the other end of the line, which asks how much input has
//! room.

use super::*;
use crate::mux::Decoder;
use crate::transmit::{FLOW_SHARE, Transmitter};
use crate::uart::Uart;
use crate::uart::model::{Kind, Model};
use postern_base::ids::MAX_VMS;
use postern_base::mmio::AccessSize;
use postern_devices::pl011::INPUT_QUEUE;
use std::cell::RefCell;

/// The machine's UART.
struct Machine {
    model: Model,
    transmitter: RefCell<Box<Transmitter>>,
}

impl Machine {
    fn new(kind: Kind) -> Self {
        let machine = Self {
            model: Model::new(kind),
            transmitter: RefCell::new(Box::new(Transmitter::new())),
        };
        let uart = Uart::new(&machine.model);
        uart.listen(|_| ());
        machine.transmitter.borrow_mut().allow_interrupt(&uart);
        machine
    }

    /// Returns the bytes that arrived on a channel.
    fn heard(&self, channel: Channel) -> Vec<u8> {
        let mut decoder = Decoder::new(None);
        let sent = self.model.sent();
        let heard = sent.iter().filter_map(|&byte| decoder.push(byte));
        let of_it = heard.filter(|decoded| decoded.channel == Some(channel));
        of_it.map(|decoded| decoded.byte).collect()
    }

    /// Lets the time of one character pass, and takes the interrupt.
    fn pass(&self, consoles: &[GuestConsole<&Self>]) {
        self.model.character_time();
        if !self.model.interrupts() {
            return;
        }
        let uart = Uart::new(&self.model);
        self.transmitter.borrow_mut().pump(&uart);
        let ready = self.transmitter.borrow_mut().take_ready(&uart);
        for channel in ready.channels() {
            let mut named = consoles.iter().filter(|console| console.channel == channel);
            named.next().unwrap().resume_output(|_| ());
        }
    }
}

impl ConsoleLink for &Machine {
    fn send(&self, channel: Channel, byte: u8) -> bool {
        let mut transmitter = self.transmitter.borrow_mut();
        let fits = transmitter.push_guest(channel, byte);
        transmitter.pump(&Uart::new(&self.model));
        fits
    }

    fn tell(&self, about: Channel, answer: &[u8; ANSWER_BYTES]) -> bool {
        let mut transmitter = self.transmitter.borrow_mut();
        let fits = transmitter.push_flow(about, answer);
        transmitter.pump(&Uart::new(&self.model));
        fits
    }
}

/// A tool asks more questions than the line has room to answer. Its last question is always
/// answered.
#[test]
fn flow_question_is_answered_on_a_slow_line() {
    for kind in [Kind::Qemu, Kind::Part(1), Kind::Part(32)] {
        let machine = Machine::new(kind);
        let channels = (1..=MAX_VMS as u8).filter_map(Channel::new);
        let consoles: Vec<_> = channels
            .map(|channel| GuestConsole::new(channel, &machine))
            .collect();
        let questions = 3 * FLOW_SHARE / ANSWER_BYTES / consoles.len();
        for _ in 0..questions {
            consoles.iter().for_each(GuestConsole::tell_room);
        }
        // Questions that were asked while an answer waited are one question.
        for _ in 0..20_000 {
            machine.pass(&consoles);
        }
        assert!(machine.transmitter.borrow().is_empty());
        assert!(!machine.model.interrupts(), "{kind:?}");
        let heard = machine.heard(Channel::FLOW);
        for console in &consoles {
            let [low, high] = (INPUT_QUEUE as u16).to_le_bytes();
            let answer = [console.channel.get(), low, high];
            let answers = heard.chunks(ANSWER_BYTES).filter(|told| **told == answer);
            // Two answers were queued when there was no more room.
            assert!(answers.count() >= 3, "{kind:?}: {heard:?}");
            assert_eq!(console.line.lock().flow, FlowState::new());
        }
    }
}

/// The question stays while the guest's queue is full, and is answered when the guest reads.
#[test]
fn flow_answer_is_sent_when_guest_has_read() {
    let machine = Machine::new(Kind::Qemu);
    let channel = Channel::new(2).unwrap();
    let console = GuestConsole::new(channel, &machine);
    for _ in 0..INPUT_QUEUE {
        console.receive(b'x', |_| ());
    }
    console.tell_room();
    assert_eq!(machine.heard(Channel::FLOW), b"");
    let mut read = 0;
    while machine.heard(Channel::FLOW).is_empty() {
        console.access(Access::read(0, AccessSize::Word), |_| ());
        read += 1;
    }
    assert_eq!(read, INPUT_QUEUE / 2);
    assert_eq!(machine.heard(Channel::FLOW), [2, 0x00, 0x08]);
}

/// The interrupt controller keeps the level, so an access that does not change it does not reach it.
#[test]
fn interrupt_line_is_driven_when_its_level_changes() {
    const DR: u64 = 0;
    const FR: u64 = 0x18;
    const IMSC: u64 = 0x38;
    const ICR: u64 = 0x44;
    const RECEIVE: u64 = 0x50;
    let machine = Machine::new(Kind::Qemu);
    let console = GuestConsole::new(Channel::new(1).unwrap(), &machine);
    let write = |register, value| {
        let access = Access::write(register, AccessSize::Word, value);
        console.access(access, |level| level).1
    };
    let read = |register| {
        let access = Access::read(register, AccessSize::Word);
        console.access(access, |level| level).1
    };
    assert_eq!(write(IMSC, RECEIVE), None);
    assert_eq!(console.receive(b'x', |level| level), Some(true));
    assert_eq!(console.receive(b'y', |level| level), None);
    assert_eq!(read(FR), None);
    assert_eq!(console.resume_output(|level| level), None);
    assert_eq!(write(ICR, RECEIVE), Some(false));
    while console.line.lock().device.has_input() {
        let _ = read(DR);
    }
    let _ = write(ICR, RECEIVE);
    assert_eq!(console.receive(b'z', |level| level), Some(true));
    // A reset lowers it, and the interrupt controller's reset follows.
    console.reset();
    assert_eq!(read(FR), None);
    assert_eq!(write(IMSC, RECEIVE), None);
    assert_eq!(console.receive(b'x', |level| level), Some(true));
}
