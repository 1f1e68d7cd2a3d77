// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ports of the monitor: bytes in and bytes out, from several CPUs at once.

use super::super::port::{CHUNK, INPUT};
use super::super::{MonitorPort, ReplyQueue};
use super::Fake;
use postern_base::lock::{Class, Lock};
use std::cell::{Cell, RefCell};

/// Returns all that a guest can read now.
fn read(answers: &ReplyQueue) -> String {
    let bytes = core::iter::from_fn(|| answers.next());
    String::from_utf8(bytes.collect()).unwrap()
}

fn write(port: &MonitorPort, bytes: &[u8]) {
    assert!(bytes.iter().all(|&byte| port.receive(byte)));
}

#[test]
fn port_answers_silently_and_with_echo() {
    let (port, answers, system) = (MonitorPort::new(), ReplyQueue::new(), Fake::new());
    write(&port, b"vm kill a\nx\n");
    // One command per call.
    assert!(port.work(&system, &answers));
    assert_eq!(read(&answers), "ok\n");
    assert!(!port.work(&system, &answers));
    assert_eq!(read(&answers), "monitor: unknown command `x`: try help\n");
    assert!(!port.work(&system, &answers));

    write(&port, b"\rvm stx\x7fa\rlog 1\r");
    while port.work(&system, &answers) {}
    let expected = "postern> vm stx\x08 \x08a\r\n\
                    monitor: unknown command `vm sta`: try help\r\n\
                    postern> log 1\r\nlast\r\npostern> ";
    assert_eq!(read(&answers), expected);

    write(&port, b"echo off\r\ncpu x\n");
    while port.work(&system, &answers) {}
    let expected = "echo off\r\necho=false\r\nmonitor: not `x`: write `cpu`\n";
    assert_eq!(read(&answers), expected);

    write(&port, b"\rhalf a line");
    while port.work(&system, &answers) {}
    port.reset();
    answers.reset();
    write(&port, b"vm stop a\n");
    assert!(!port.work(&system, &answers));
    assert_eq!(read(&answers), "ok\n");
}

/// A guest that only writes is made to wait by its own UART, before it has cost other VMs anything.
#[test]
fn flood_of_commands_waits() {
    let (port, answers, system) = (MonitorPort::new(), ReplyQueue::new(), Fake::new());
    let mut accepted = 0;
    let flood = b"tee stats --json\n".iter().cycle();
    for &byte in flood.take(1_000_000) {
        if !port.receive(byte) {
            break;
        }
        accepted += 1;
        port.work(&system, &answers);
    }
    assert!((INPUT..10_000).contains(&accepted), "{accepted}");
    assert!(!port.work(&system, &answers));
    // When the guest reads, all its commands are answered, each with a whole answer.
    let mut text = read(&answers);
    while port.work(&system, &answers) || port.has_input() {
        text += &read(&answers);
    }
    text += &read(&answers);
    assert_eq!(text.lines().count(), accepted / flood_line());
    for line in text.lines() {
        let json = line.strip_prefix("@postern ").expect(line);
        serde_json::from_str::<serde_json::Value>(json).expect(line);
    }
}

const fn flood_line() -> usize {
    b"tee stats --json\n".len()
}

/// A guest may request its own end. Its port is reset then, while the request is being carried out.
#[test]
fn command_can_reset_its_own_port() {
    let (port, answers) = (MonitorPort::new(), ReplyQueue::new());
    let system = Fake {
        on_order: Some(&|| {
            port.reset();
            answers.reset();
            assert!(port.receive(b'z'));
            assert!(!port.work(&Fake::new(), &answers), "a command at a time");
        }),
        ..Fake::new()
    };
    write(&port, b"\rvm kill a\r");
    assert!(port.work(&system, &answers));
    assert_eq!(*system.orders.lock().unwrap(), ["kill 0"]);
    // The session is new, and so silent.
    assert!(!port.work(&system, &answers));
    assert_eq!(read(&answers), "ok\r\n");
}

/// Each CPU that receives a byte processes it, or another CPU that is processing takes it as well.
#[test]
fn bytes_from_several_cpus_are_all_processed() {
    for _ in 0..20 {
        let (port, answers) = (MonitorPort::new(), ReplyQueue::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let system = Fake::new();
                    for byte in b"x\n".repeat(50) {
                        assert!(port.receive(byte));
                        while port.work(&system, &answers) {
                            while answers.next().is_some() {}
                        }
                    }
                });
            }
        });
        while answers.next().is_some() {}
        assert!(!port.has_input());
    }
}

/// Interrupts are taken after each piece of an answer of any length, with no lock held.
#[test]
fn answer_is_sent_in_pieces() {
    // The outermost class of locks, which is taken under no other.
    let interrupts = Lock::new(Class::Work, ());
    let long = "\"".repeat(2047);
    for command in [
        "log 9999 --json",
        "log 9999",
        "#t log 9",
        "vm list",
        "tee stats --json",
        "help",
    ] {
        for prefix in ["", "\r"] {
            let (port, answers) = (MonitorPort::new(), ReplyQueue::new());
            let (text, longest) = (RefCell::new(String::new()), Cell::new(0));
            let take = || {
                drop(interrupts.lock());
                let piece = read(&answers);
                longest.set(piece.len().max(longest.get()));
                text.borrow_mut().push_str(&piece);
            };
            let system = Fake {
                on_breath: Some(&take),
                log: vec![Box::leak(long.clone().into_boxed_str()); 8],
                ..Fake::new()
            };
            write(&port, prefix.as_bytes());
            port.work(&system, &answers);
            read(&answers);
            write(&port, command.as_bytes());
            port.work(&system, &answers);
            read(&answers);
            write(&port, b"\r");
            port.work(&system, &answers);
            assert!(
                // The first piece has the echo of the line's end in front.
                (1..=CHUNK + 2).contains(&longest.get()),
                "{command}: {}",
                longest.get()
            );
            let text = text.borrow();
            if command == "log 9999 --json" {
                let json = text.trim().strip_prefix("@postern ").unwrap();
                let answer = serde_json::from_str::<serde_json::Value>(json).unwrap();
                assert_eq!(answer["lines"].as_array().unwrap().len(), 8);
                assert_eq!(answer["lines"][7], long);
            }
            assert!(text.len() > CHUNK, "{command}");
        }
    }
}
