// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The output on the hypervisor's channel, on a line of at most 115,200 baud.

use super::*;
use crate::mux::{Channel, Decoder};
use crate::uart::Uart;
use crate::uart::model::{Kind as Part, Model};
use proptest::prelude::*;

const A: VmIndex = VmIndex::new(0).unwrap();
const B: VmIndex = VmIndex::new(1).unwrap();
/// The number of characters that the line carries per second.
const SECOND: usize = 11_520;

struct World {
    model: Model,
    lines: Box<Lines>,
    /// The number of characters that the line has had time for.
    time: usize,
}

impl World {
    fn new() -> Self {
        let model = Model::new(Part::Part(32));
        let mut lines = Box::new(Lines::new());
        Uart::new(&model).listen(|_| ());
        lines.transmitter.allow_interrupt(&Uart::new(&model));
        Self {
            model,
            lines,
            time: 0,
        }
    }

    fn go(&mut self) {
        self.lines.transmitter.pump(&Uart::new(&self.model));
    }

    fn event(&mut self, cause: Option<VmIndex>, text: &str) {
        let line = format!("@postern {text}\r\n");
        self.lines.line(cause, LineKind::Event, line.as_bytes(), 0);
        self.go();
    }

    fn log(&mut self, cause: Option<VmIndex>, text: &str) {
        let line = format!("[    0.000000] warn: {text}\r\n");
        self.lines.line(cause, LineKind::Log, line.as_bytes(), 0);
        self.go();
    }

    fn answer(&mut self, text: &str) {
        self.lines.begin_answer();
        for piece in text.as_bytes().chunks(128) {
            self.lines.answer(piece);
            self.go();
        }
        self.lines
            .end_answer(!text.is_empty() && !text.ends_with('\n'));
        self.go();
    }

    /// Lets the time of one character pass. Returns whether a waiting answer may begin.
    fn pass(&mut self) -> bool {
        self.time += 1;
        self.model.character_time();
        if !self.model.interrupts() {
            return false;
        }
        let uart = Uart::new(&self.model);
        let transmitter = &mut self.lines.transmitter;
        transmitter.pump(&uart);
        transmitter.take_ready(&uart);
        transmitter.take_wanted(&uart, Lines::answer_needs())
    }

    /// Returns all output, after all of it was sent.
    fn heard(&mut self) -> String {
        while !self.lines.transmitter.is_empty() {
            self.pass();
        }
        for _ in 0..64 {
            self.pass();
        }
        let mut decoder = Decoder::new(None);
        let sent = self.model.sent();
        let decoded = sent.iter().filter_map(|&byte| decoder.push(byte));
        let own = decoded.filter(|decoded| decoded.channel == Some(Channel::HYPERVISOR));
        String::from_utf8(own.map(|decoded| decoded.byte).collect()).unwrap()
    }
}

/// A VM that starts, logs as much as it may, and restarts, as fast as the machine permits.
#[derive(Default)]
struct Restarting {
    lives: usize,
}

impl Restarting {
    fn go_on(&mut self, world: &mut World, also_logs: bool) {
        while world.lines.has_room_for_life(A) {
            let life = self.lives;
            world.event(
                Some(A),
                &format!(
                    r#"{{"event":"vm-started","vm":"a","life":{life},"channel":1,"vcpus":2,"memory_kib":262144,"tee":true}}"#
                ),
            );
            for _ in 0..if also_logs { 60 } else { 0 } {
                world.log(Some(A), "vm a: OP-TEE keeps an application in memory");
            }
            world.event(
                Some(A),
                &format!(r#"{{"event":"vm-off","vm":"a","life":{life},"reason":"reset"}}"#),
            );
            self.lives += 1;
        }
    }
}

/// Lines and answers have their own room: an answer waits for earlier answers only, not for guests.
#[test]
fn guest_that_restarts_endlessly_delays_neither_monitor_nor_others() {
    for also_logs in [false, true] {
        let mut world = World::new();
        let mut a = Restarting::default();
        let (mut b, mut turns, mut since) = (0, Vec::new(), None);
        let answer = "x".repeat(FOR_AN_ANSWER - 2) + "\r\n";
        while world.time < 60 * SECOND {
            a.go_on(&mut world, also_logs);
            if world.pass() || since.is_none() {
                if let Some(since) = since {
                    turns.push(world.time - since);
                }
                since = Some(world.time);
                if world.lines.has_room_for_answer() {
                    world.answer(&answer);
                }
                let uart = Uart::new(&world.model);
                assert!(!world.lines.has_room_for_answer());
                world.lines.transmitter.want_interrupt(&uart);
            }
            if world.time.is_multiple_of(SECOND / 4) {
                world.event(
                    Some(B),
                    &format!(r#"{{"event":"vm-paused","vm":"b","time":{b}}}"#),
                );
                b += 1;
            }
        }
        let bound = FOR_AN_ANSWER + 2 * LINE_SHARE + 1024;
        assert!(turns.len() >= 60 * SECOND / bound - 1, "{turns:?}");
        assert!(turns.iter().all(|turn| *turn <= bound), "{turns:?}");
        assert!(a.lives > 20, "{}", a.lives);

        // No event of b is lost, and no start or end event of a.
        let heard = world.heard();
        for time in 0..b {
            assert!(
                heard.contains(&format!("\"b\",\"time\":{time}}}")),
                "{time}"
            );
        }
        let lives = (0..a.lives).flat_map(|life| [("started", life), ("off", life)]);
        let told = heard.lines().filter_map(|line| {
            let json = serde_json::from_str::<serde_json::Value>(line.strip_prefix("@postern ")?);
            let event = json.unwrap_or_else(|error| panic!("{line}: {error}"));
            let name = event["event"].as_str().unwrap();
            let name = if name == "vm-off" { "off" } else { "started" };
            (event["vm"] == "a").then(|| (name, event["life"].as_u64().unwrap() as usize))
        });
        assert!(told.eq(lives));
        assert_eq!(heard.contains("lines are not here"), also_logs);
    }
}

/// A VM that causes more lines than there is room for loses its own, and a later line reports their
/// number.
#[test]
fn lost_lines_are_counted_per_cause() {
    let mut world = World::new();
    for index in 0..200 {
        world.log(Some(A), &format!("vm a: {index}"));
    }
    world.event(Some(A), "{}");
    world.log(Some(B), "vm b: one");
    world.log(None, "no vm");
    let early = world.heard();
    let lost = 200 - early.matches("vm a").count();
    assert!(
        early.contains(
            "@postern {}\r\n[    0.000000] warn: vm b: one\r\n[    0.000000] warn: no vm"
        )
    );
    // The event was the next line that had room.
    assert!(
        early.contains(&format!("warn: {lost} lines are not here")),
        "{early}"
    );
    assert!(lost > 50);
    world.log(Some(A), "vm a: again");
    let heard = world.heard();
    assert!(heard.ends_with("\r\n[    0.000000] warn: vm a: again\r\n"));
    assert_eq!(heard.matches("are not here").count(), 1);
}

/// The longest line has room while a user types and others were lost.
#[test]
fn longest_line_has_room() {
    for kind in [LineKind::Log, LineKind::Event] {
        let mut world = World::new();
        world.answer("postern> vm li");
        let line = "y".repeat(2046) + "\r\n";
        for _ in 0..3 {
            world.lines.line(Some(A), kind, line.as_bytes(), 0);
            world.go();
        }
        world.heard();
        world.lines.line(Some(A), kind, line.as_bytes(), 0);
        world.go();
        let heard = world.heard();
        assert!(heard.ends_with(&line));
        assert!(heard.starts_with("postern> vm li\r\n"));
        assert!(heard.contains("lines are not here"));
    }
}

#[test]
fn line_follows_answer_and_breaks_typed_line_once() {
    let mut world = World::new();
    world.answer("postern> ");
    world.answer("vm li");
    world.event(None, "1");
    world.event(None, "2");
    world.answer("st");
    world.answer("\r\n");
    world.lines.begin_answer();
    world.lines.answer(b"a\r\n");
    world.event(Some(A), "3");
    world.lines.answer(b"b\r\n");
    world.lines.end_answer(false);
    world.go();
    world.lines.begin_answer();
    world.lines.answer(b"postern> ");
    world.event(None, "4");
    world.lines.end_answer(true);
    world.go();
    world.event(None, "5");
    let expected = "postern> vm li\r\n\
                    @postern 1\r\n@postern 2\r\n\
                    st\r\n\
                    a\r\nb\r\n@postern 3\r\n\
                    postern> \r\n@postern 4\r\n\
                    @postern 5\r\n";
    assert_eq!(world.heard(), expected);
}

proptest! {
    /// For every sequence of lines and answers: an answer that has room is whole, and so is each
    /// line.
    #[test]
    fn lines_and_answers_are_whole(
        steps in prop::collection::vec((0_u8..6, 1_usize..1500), 0..100),
    ) {
        let mut world = World::new();
        let mut answers = 0;
        for (step, size) in steps {
            match step {
                0 => world.log(Some(A), &"a".repeat(size)),
                1 => world.event(Some(B), &"b".repeat(size)),
                2 => world.log(None, &"n".repeat(size)),
                3 if world.lines.has_room_for_answer() => {
                    world.lines.begin_answer();
                    world.lines.answer(b"<");
                    world.lines.answer("x".repeat(size).as_bytes());
                    world.event(Some(A), "a");
                    world.log(Some(B), "b");
                    world.lines.answer(b">\r\npostern> ");
                    world.lines.end_answer(true);
                    answers += 1;
                }
                _ => (0..size).for_each(|_| { world.pass(); }),
            }
            world.go();
        }
        let heard = world.heard();
        let mut whole = 0;
        for line in heard.split("\r\n") {
            let mut line = line;
            while let Some(rest) = line.strip_prefix("postern> ") {
                line = rest;
            }
            let text = line.strip_prefix("@postern ").or(line.strip_prefix("[    0.000000] warn: "));
            if let Some(text) = text {
                prop_assert!(!text.contains(['<', '>', '@', '[']), "{line}");
            } else if !line.is_empty() {
                prop_assert!(line.starts_with("<x") && line.ends_with("x>"), "{line}");
                whole += 1;
            }
        }
        prop_assert_eq!(whole, answers);
    }
}
