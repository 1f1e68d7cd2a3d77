// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::mux::Decoder;
use crate::uart::model::{Kind, Model};
use proptest::prelude::*;
use std::collections::HashMap;

const KINDS: [Kind; 4] = [Kind::Qemu, Kind::Part(1), Kind::Part(16), Kind::Part(32)];

fn channel(number: u8) -> Channel {
    Channel::new(number).unwrap()
}

/// A machine with guests that print.
struct World {
    model: Model,
    transmitter: Box<Transmitter>,
    /// The bytes that each channel's owner has sent.
    said: HashMap<u8, Vec<u8>>,
    /// The bytes that the transmitter refused: they stay in the guests' own UARTs.
    held: HashMap<u8, Vec<u8>>,
}

impl World {
    fn new(kind: Kind) -> Self {
        let mut world = Self {
            model: Model::new(kind),
            transmitter: Box::new(Transmitter::new()),
            said: HashMap::new(),
            held: HashMap::new(),
        };
        Uart::new(&world.model).listen(|_| ());
        world.transmitter.allow_interrupt(&Uart::new(&world.model));
        world
    }

    fn own(&mut self, bytes: &[u8]) {
        self.transmitter.push_answer(bytes);
        self.said.entry(0).or_default().extend(bytes);
        self.transmitter.pump(&Uart::new(&self.model));
    }

    fn guest(&mut self, number: u8, byte: u8) {
        self.held.entry(number).or_default().push(byte);
        self.go_on(number);
    }

    fn go_on(&mut self, number: u8) {
        let held = self.held.entry(number).or_default();
        while let Some(&byte) = held.first()
            && self.transmitter.push_guest(channel(number), byte)
        {
            held.remove(0);
            self.said.entry(number).or_default().push(byte);
            self.transmitter.pump(&Uart::new(&self.model));
        }
        self.transmitter.pump(&Uart::new(&self.model));
    }

    /// Runs the interrupt's handler once, if the line is high.
    fn interrupt(&mut self) -> bool {
        if !self.model.interrupts() {
            return false;
        }
        let uart = Uart::new(&self.model);
        assert!(self.transmitter.pump(&uart) <= MOST_AT_ONCE);
        let ready = self.transmitter.take_ready(&uart);
        for channel in ready.channels() {
            self.go_on(channel.get());
        }
        true
    }

    /// Lets time pass until nothing happens any more.
    fn rest(&mut self) {
        for _ in 0..1_000_000 {
            let before = self.model.sent_count();
            let handled = self.interrupt();
            self.model.character_time();
            if !handled && self.model.sent_count() == before {
                return;
            }
        }
        panic!("the transmitter does not become idle");
    }

    fn check(&self) {
        assert_eq!(self.model.lost(), 0, "written into a full FIFO");
        let mut heard: HashMap<u8, Vec<u8>> = HashMap::new();
        let mut decoder = Decoder::new(None);
        for byte in self.model.sent() {
            if let Some(decoded) = decoder.push(byte) {
                let channel = decoded.channel.unwrap().get();
                heard.entry(channel).or_default().push(decoded.byte);
            }
        }
        for (channel, said) in &self.said {
            let heard = heard.get(channel).map_or(&[][..], Vec::as_slice);
            assert!(heard == said.as_slice(), "channel {channel}");
        }
    }
}

#[test]
fn long_answer_does_not_block_and_keeps_the_line_busy() {
    // 46,000 bytes, 4 s at 115,200 baud, with the interrupt taken ten characters late.
    let mut world = World::new(Kind::Part(32));
    let answer = vec![b'x'; 46_000];
    world.own(&answer);
    let mut late = 0;
    let mut time = 0;
    while !world.transmitter.is_empty() {
        world.model.character_time();
        time += 1;
        late = if world.model.interrupts() {
            late + 1
        } else {
            0
        };
        if late == 10 {
            assert!(world.interrupt());
            assert!(!world.model.interrupts(), "the level is not quiet");
        }
    }
    assert!(time <= answer.len(), "the line ran dry: {time}");
    world.rest();
    world.check();
}

#[test]
fn interrupt_is_low_when_queue_is_empty() {
    for kind in KINDS {
        let mut world = World::new(kind);
        assert!(!world.model.interrupts());
        world.own(b"a line\r\n");
        world.rest();
        assert!(!world.model.interrupts(), "{kind:?}");
        assert!(world.transmitter.is_empty());
        world.check();
    }
}

#[test]
fn guest_that_prints_endlessly_waits_and_others_do_not() {
    for kind in [Kind::Part(1), Kind::Part(32)] {
        let mut world = World::new(kind);
        for _ in 0..3 * GUEST_SHARE {
            world.guest(1, b'a');
        }
        assert!(!world.held[&1].is_empty());
        world.guest(2, b'b');
        assert!(world.held[&2].is_empty());
        world.own(b"log");
        // The output of others is sent after one share of the first guest, its switches and a FIFO.
        for _ in 0..GUEST_SHARE + 64 {
            world.model.character_time();
            world.interrupt();
        }
        let sent = world.model.sent();
        assert!(sent.contains(&b'b') && sent.windows(3).any(|part| part == b"log"));
        world.rest();
        assert!(
            world.held[&1].is_empty(),
            "{kind:?}: the guest was not resumed"
        );
        world.check();
    }
}

/// Returns all owners of bytes.
fn owners() -> impl Iterator<Item = ByteOwner> {
    (0..).map_while(ByteOwner::at)
}

#[test]
fn owner_index_round_trip() {
    for (index, owner) in owners().enumerate() {
        assert_eq!(owner.index(), index);
    }
    assert_eq!(owners().count(), ByteOwner::COUNT);
    assert_eq!(owners().map(ByteOwner::share).sum::<usize>(), QUEUE);
}

/// An owner finds its whole share, whatever all others have in the queue.
#[test]
fn each_owner_has_its_share_when_others_are_full() {
    for last in owners() {
        let mut world = World::new(Kind::Part(32));
        let order = owners().filter(|owner| *owner != last).chain([last]);
        for owner in order {
            let share = vec![0xff; owner.share()];
            assert_eq!(world.transmitter.room(owner), share.len());
            assert!(
                world.transmitter.push(owner, &share),
                "{owner:?} after {last:?}"
            );
            let channel = owner.channel().get();
            world.said.entry(channel).or_default().extend(&share);
            // Bytes that do not fit are refused, without an effect on others.
            assert!(!world.transmitter.push(owner, &[1]));
        }
        world.transmitter.push_answer(b"too much");
        // All bytes are sent, which takes long, so one order suffices.
        if last == ByteOwner::Answer {
            world.transmitter.pump(&Uart::new(&world.model));
            world.rest();
            assert!(world.transmitter.is_empty());
            assert!(owners().all(|owner| world.transmitter.room(owner) == owner.share()));
            world.check();
        }
    }
}

#[test]
fn wanted_interrupt_comes_when_answer_has_room() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let uart = Uart::new(&world.model);
        world.transmitter.want_interrupt(&uart);
        assert!(!world.transmitter.take_wanted(&uart, ANSWER_SHARE + 1));
        world.own(&[b'x'; 300]);
        let uart = Uart::new(&world.model);
        let mut called = false;
        for _ in 0..400 {
            if world.model.interrupts() {
                world.transmitter.pump(&uart);
                called |= world.transmitter.take_wanted(&uart, ANSWER_SHARE);
            }
            world.model.character_time();
        }
        assert!(called, "{kind:?}");
        assert!(!world.model.interrupts(), "{kind:?}");
    }
}

#[test]
fn flush_waits_for_line_and_gives_up_on_stuck_line() {
    let model = Model::new(Kind::Part(16));
    let uart = Uart::new(&model);
    let mut transmitter = Box::new(Transmitter::new());
    transmitter.push_answer(&[b'x'; 1000]);
    let mut clock = 0;
    let now = || {
        clock += 1;
        model.character_time();
        Ticks::new(clock)
    };
    // The patience covers the bytes in the FIFO at least.
    assert!(transmitter.flush(&uart, now, Ticks::new(20)));
    assert_eq!(model.sent().len(), 1002);
    assert!(!uart.is_busy());

    transmitter.push_answer(&[b'x'; 100]);
    let mut clock = 0;
    let stuck = || {
        clock += 1;
        Ticks::new(clock)
    };
    assert!(!transmitter.flush(&uart, stuck, Ticks::new(1000)));
    assert!(clock < 1100);
}

proptest! {
    /// For every sequence of senders and interrupts: every byte that was not refused is sent, on
    /// its channel and in order, refused guests continue, and then the line is low.
    #[test]
    fn accepted_bytes_are_sent_in_order(
        kind in prop::sample::select(&KINDS),
        steps in prop::collection::vec((0_u8..8, any::<u8>(), 1_usize..400), 0..120),
    ) {
        let mut world = World::new(kind);
        for (step, byte, count) in steps {
            match step {
                0 | 1 => world.own(&vec![byte; count]),
                2..=4 => (0..count).for_each(|_| world.guest(step, byte)),
                5 => (0..count).for_each(|_| world.model.character_time()),
                _ => { world.interrupt(); }
            }
            for owner in owners() {
                let waiting = world.transmitter.waiting[owner.index()];
                prop_assert!(usize::from(waiting) <= owner.share());
            }
        }
        world.rest();
        prop_assert!(world.transmitter.is_empty());
        prop_assert!(!world.model.interrupts());
        prop_assert!(world.held.values().all(Vec::is_empty));
        world.check();
    }
}
