// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests flow control against the hypervisor's own code: its multiplexer, its questions and
//! answers, and the guests' PL011.

use super::*;
use crate::console::Demux;
use postern_base::mmio::{Access, AccessSize};
use postern_base::ring::Ring;
use postern_console::flow::{ANSWER_BYTES, FlowState};
use postern_console::mux;
use postern_devices::pl011::{INPUT_QUEUE, Pl011};

const DR: u64 = 0;
const FR: u64 = 0x18;
const FR_RXFE: u64 = 1 << 4;

/// The machine's end of the UART, as in `hypervisor/src/control/input.rs`
/// and `hypervisor/console/src/guest.rs`.
struct Far {
    decoder: mux::Decoder,
    encoder: mux::Encoder,
    guests: Vec<(Pl011, FlowState)>,
    /// The bytes that the monitor got, and how much input was lost.
    monitor: Vec<u8>,
    lost: usize,
    /// The bytes for the tool.
    line: Vec<u8>,
}

impl Far {
    fn new(guests: usize) -> Self {
        Self {
            decoder: mux::Decoder::new(Some(mux::Channel::HYPERVISOR)),
            encoder: mux::Encoder::new(),
            guests: (0..guests)
                .map(|_| (Pl011::new(), FlowState::new()))
                .collect(),
            monitor: Vec::new(),
            lost: 0,
            line: Vec::new(),
        }
    }

    fn tell_room(&mut self, index: usize) {
        let (device, flow) = &mut self.guests[index];
        let channel = mux::Channel::new(u8::try_from(index + 1).unwrap()).unwrap();
        if let Some(answer) = flow.answer(channel, device.input_room()) {
            flow.told();
            self.encoder
                .encode_all(mux::Channel::FLOW, &answer, |byte| self.line.push(byte));
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let Some(decoded) = self.decoder.push(byte) else {
                continue;
            };
            match decoded.channel {
                None | Some(mux::Channel::HYPERVISOR) => self.monitor.push(decoded.byte),
                Some(mux::Channel::FLOW) => {
                    let index = usize::from(decoded.byte - 1);
                    self.guests[index].1.ask();
                    self.tell_room(index);
                }
                Some(channel) => {
                    let index = channel.vm().unwrap().get();
                    if !self.guests[index].0.receive(decoded.byte) {
                        self.lost += 1;
                    }
                }
            }
        }
    }

    /// Lets a guest read up to `most` bytes.
    fn read(&mut self, index: usize, most: usize) -> Vec<u8> {
        let mut nowhere = Ring::<1>::new();
        let mut got = Vec::new();
        while got.len() < most {
            let device = &mut self.guests[index].0;
            let mut read =
                |register| device.access(Access::read(register, AccessSize::Word), &mut nowhere);
            if read(FR) & FR_RXFE != 0 {
                break;
            }
            got.push(read(DR) as u8);
            self.tell_room(index);
        }
        got
    }

    /// Returns the bytes for the tool, which may be answers only.
    fn answers(&mut self) -> Vec<u8> {
        let mut answers = Vec::new();
        let mut demux = Demux::multiplexed();
        demux.feed(&std::mem::take(&mut self.line), |channel, bytes| {
            assert_eq!(channel, Channel::Flow);
            answers.extend_from_slice(bytes);
        });
        self.encoder = mux::Encoder::new();
        answers
    }
}

/// Reproducible pseudo-random numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % end
    }
}

/// Makes a paste of all byte values, with more escapes than by chance.
fn paste(length: usize, numbers: &mut Numbers) -> Vec<u8> {
    (0..length)
        .map(|_| match numbers.below(300) {
            byte @ 0..=255 => byte as u8,
            _ => 0xff,
        })
        .collect()
}

#[test]
fn queue_size_and_channel_of_both_ends_match() {
    assert_eq!(INITIAL, INPUT_QUEUE);
    assert_eq!(Channel::Flow.number(), Some(mux::Channel::FLOW.get()));
    assert_eq!(
        Channel::from_number(mux::Channel::FLOW.get()),
        Channel::Flow
    );
}

/// Pastes for several guests at once, each of which reads at its own pace, arrive whole and in
/// order.
#[test]
fn slow_readers_lose_no_input() {
    for seed in 0..20 {
        let mut numbers = Numbers(seed);
        let mut far = Far::new(3);
        let mut sender = FlowControl::multiplexed();
        let pastes: Vec<Vec<u8>> = (0..3).map(|_| paste(34_000, &mut numbers)).collect();
        let mut sent = [0; 3];
        let mut got: Vec<Vec<u8>> = vec![Vec::new(); 3];
        let mut turns = 0;
        while (0..3).any(|index| got[index].len() < pastes[index].len()) {
            turns += 1;
            assert!(
                turns < 100_000,
                "it does not go on: {:?}",
                got.iter().map(Vec::len).collect::<Vec<_>>()
            );
            let index = numbers.below(3);
            if numbers.below(3) == 0 {
                let end = (sent[index] + numbers.below(6000)).min(pastes[index].len());
                let channel = Channel::Vm(u8::try_from(index + 1).unwrap());
                let wire = sender
                    .send(channel, &pastes[index][sent[index]..end])
                    .unwrap();
                sent[index] = end;
                far.receive(&wire);
            } else {
                let most = numbers.below(500);
                let read = far.read(index, most);
                got[index].extend(read);
            }
            // The answers arrive cut anywhere.
            let answers = far.answers();
            let cut = numbers.below(answers.len() + 1);
            for part in [&answers[..cut], &answers[cut..]] {
                let wire = sender.take_answers(part);
                far.receive(&wire);
            }
        }
        assert!(
            got == pastes,
            "seed {seed}: what arrived is not what was sent"
        );
        assert_eq!(far.lost, 0);
        assert!(far.monitor.is_empty());
    }
}

#[test]
fn paste_without_flow_control_is_lost() {
    let mut far = Far::new(1);
    let mut mux = Mux::multiplexed();
    far.receive(&mux.encode(Channel::Vm(1), &[b'x'; 34_000]));
    assert_eq!(far.lost, 34_000 - INPUT_QUEUE);
}

#[test]
fn unread_input_of_one_guest_delays_no_other() {
    let mut far = Far::new(2);
    let mut sender = FlowControl::multiplexed();
    far.receive(&sender.send(Channel::Vm(1), &[b'x'; 100_000]).unwrap());
    assert_eq!(far.answers(), b"");
    // The tool keeps what waits; the wire carries the full queue and one question.
    for _ in 0..100 {
        far.receive(&sender.send(Channel::Vm(1), b"more").unwrap());
    }
    assert_eq!((far.lost, far.read(0, 1).len()), (0, 1));
    far.receive(&sender.send(Channel::Hypervisor, b"vm list\n").unwrap());
    assert_eq!(far.monitor, b"vm list\n");
    far.receive(&sender.send(Channel::Vm(2), b"ls\n").unwrap());
    assert_eq!(far.read(1, 100), b"ls\n");
    assert_eq!(
        sender.send(Channel::Vm(1), &vec![b'x'; LONGEST]),
        Err(InputFullError)
    );
    // The guest begins to read: everything goes on.
    let mut got = 1;
    while got < 100_400 {
        let read = far.read(0, 5000).len();
        assert!(read > 0, "stuck at {got}");
        got += read;
        let answers = far.answers();
        assert!(answers.len() <= 2 * ANSWER_BYTES);
        far.receive(&sender.take_answers(&answers));
    }
    assert_eq!(far.lost, 0);
}

#[test]
fn input_within_room_asks_no_question() {
    let mut sender = FlowControl::multiplexed();
    let wire = sender.send(Channel::Vm(1), &[b'x'; INITIAL]).unwrap();
    assert_eq!(wire.len(), INITIAL + 2);
    assert_eq!(sender.send(Channel::Vm(1), b"y").unwrap(), [0xff, 0xfe, 1]);
    // An answer without a question changes nothing.
    assert_eq!(sender.take_answers(&[2, 0, 16]), b"");
    assert_eq!(sender.take_answers(&[1, 0, 16]), [0xff, 1, b'y']);
    assert_eq!(
        FlowControl::plain()
            .send(Channel::Vm(1), &[0xff; 9000])
            .unwrap()
            .len(),
        9000
    );
}
