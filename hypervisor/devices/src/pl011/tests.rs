// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use proptest::prelude::*;

/// A guest's driver, with the device, its console, and 32-bit accesses.
struct Guest {
    uart: Pl011,
    console: Ring<100_000>,
}

impl Guest {
    fn new() -> Self {
        Self {
            uart: Pl011::new(),
            console: Ring::new(),
        }
    }

    fn read(&mut self, register: u64) -> u32 {
        let access = Access::read(register, AccessSize::Word);
        self.uart.access(access, &mut self.console) as u32
    }

    fn write(&mut self, register: u64, value: u32) {
        let access = Access::write(register, AccessSize::Word, u64::from(value));
        assert_eq!(self.uart.access(access, &mut self.console), 0);
    }

    fn said(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.console.pop()).collect()
    }

    /// Does the accesses of Linux's driver when the port is opened. Returns the number of bytes
    /// that it drains.
    fn open(&mut self) -> usize {
        self.write(ICR, 0x7ff);
        self.write(IFLS, 2 << 3 | 1);
        self.write(LCR_H, 0x70);
        self.write(CR, 0x301);
        self.write(ICR, INT_RX | INT_RX_TIMEOUT);
        let mut drained = 0;
        while drained < 2 * FIFO_DEPTH && self.read(FR) & FR_RXFE == 0 {
            self.read(DR);
            drained += 1;
        }
        self.write(IMSC, INT_RX | INT_RX_TIMEOUT);
        drained
    }

    /// Does the accesses of the driver's interrupt handler for input. Returns the input.
    fn interrupt(&mut self) -> Vec<u8> {
        let mut input = Vec::new();
        for _ in 0..256 {
            let status = self.read(RIS) & self.read(IMSC);
            if status == 0 {
                break;
            }
            self.write(ICR, status & !(INT_TX | INT_RX_TIMEOUT | INT_RX));
            for _ in 0..256 {
                if self.read(FR) & FR_RXFE != 0 {
                    break;
                }
                input.push(self.read(DR) as u8);
            }
        }
        input
    }
}

/// A sink with a limited room, which the test sets.
#[derive(Default)]
struct Slow {
    room: usize,
    sent: Vec<u8>,
}

impl TxSink for Slow {
    fn send(&mut self, byte: u8) -> bool {
        if self.room == 0 {
            return false;
        }
        self.room -= 1;
        self.sent.push(byte);
        true
    }
}

#[test]
fn ids_match_linuxs_amba_bus() {
    let mut guest = Guest::new();
    let mut word = |at: u64| {
        (0..4).fold(0, |id, byte| {
            id | (guest.read(at + 4 * byte) & 0xff) << (8 * byte)
        })
    };
    assert_eq!(word(0xff0), 0xb105_f00d, "PrimeCell");
    let id = word(0xfe0);
    assert_eq!(id, 0x0034_1011);
    assert_eq!(id & 0x000f_ffff, 0x0004_1011, "a PL011 of Arm");
    assert!(id >> 20 & 0xf >= 3, "of a revision with 32-byte FIFOs");
}

#[test]
fn output_works_without_setup() {
    // Without any setup, the guest waits for room, writes, and waits until the byte is sent.
    let mut guest = Guest::new();
    for &byte in b"hello\n" {
        assert_eq!(guest.read(FR) & FR_TXFF, 0);
        guest.write(DR, u32::from(byte));
        assert_eq!(guest.read(FR) & FR_BUSY, 0);
    }
    assert_eq!(guest.said(), b"hello\n");
    assert!(!guest.uart.irq_line());
}

#[test]
fn registers_have_reset_values_and_keep_implemented_bits() {
    let mut guest = Guest::new();
    for (register, reset, kept) in [
        (ILPR, 0, 0xff),
        (IBRD, 0, 0xffff),
        (FBRD, 0, 0x3f),
        (LCR_H, 0, 0xff),
        (CR, 0x300, 0xff87),
        (IFLS, 0x12, 0x3f),
        (IMSC, 0, 0x7ff),
        (DMACR, 0, 7),
        // Read-only, write-only and unimplemented registers.
        (RSR_ECR, 0, 0),
        (FR, 0x97, 0x97),
        (RIS, 0, 0),
        (MIS, 0, 0),
        (ICR, 0, 0),
        (0x00c, 0, 0),
        (0xfdc, 0, 0),
        (0x1000, 0, 0),
    ] {
        assert_eq!(guest.read(register), reset, "{register:#x}");
        guest.write(register, u32::MAX);
        assert_eq!(guest.read(register), kept, "{register:#x}");
        guest.write(register, reset);
    }
}

#[test]
fn narrow_access_reaches_only_its_bytes() {
    let mut guest = Guest::new();
    let half = Access::write(IMSC, AccessSize::Half, 0x50);
    guest.uart.access(half, &mut guest.console);
    assert_eq!(guest.read(IMSC), 0x50);
    let upper = Access::write(IMSC + 1, AccessSize::Byte, 0xff);
    guest.uart.access(upper, &mut guest.console);
    assert_eq!(guest.read(IMSC), 0x50);
    let upper = Access::read(CR + 1, AccessSize::Byte);
    assert_eq!(guest.uart.access(upper, &mut guest.console), 3);
}

#[test]
fn one_byte_raises_one_interrupt() {
    let mut guest = Guest::new();
    guest.open();
    assert!(!guest.uart.irq_line());
    assert!(guest.uart.receive(b'x'));
    // Below the trigger level, the receive timeout raises the interrupt.
    assert_eq!(guest.read(MIS), INT_RX_TIMEOUT);
    assert!(guest.uart.irq_line());
    assert_eq!(guest.interrupt(), b"x");
    assert!(!guest.uart.irq_line());
    assert_eq!(guest.read(DR), 0);
}

#[test]
fn receive_interrupt_follows_its_trigger_level() {
    for (select, trigger) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28), (7, 28)] {
        let mut guest = Guest::new();
        guest.write(LCR_H, LCR_H_FEN);
        guest.write(IFLS, select << 3);
        for count in 1..=FIFO_DEPTH {
            guest.uart.receive(0);
            assert_eq!(guest.read(RIS) & INT_RX != 0, count >= trigger);
        }
        for count in (0..FIFO_DEPTH).rev() {
            guest.read(DR);
            assert_eq!(guest.read(RIS) & INT_RX != 0, count >= trigger);
            assert_eq!(guest.read(RIS) & INT_RX_TIMEOUT != 0, count > 0);
        }
    }
}

#[test]
fn receive_interrupt_follows_each_byte_without_fifos() {
    let mut guest = Guest::new();
    guest.uart.receive(1);
    guest.uart.receive(2);
    assert_eq!(guest.read(RIS) & INT_RX, INT_RX);
    assert_eq!(guest.read(FR) & (FR_RXFF | FR_RXFE), FR_RXFF);
    assert_eq!(guest.read(DR), 1);
    assert_eq!(guest.read(RIS) & INT_RX, INT_RX, "the next has arrived");
    assert_eq!(guest.read(DR), 2);
    assert_eq!(guest.read(RIS) & INT_RX, 0);
    assert_eq!(guest.read(FR) & FR_RXFE, FR_RXFE);
}

#[test]
fn acknowledged_input_raises_no_second_interrupt() {
    let mut guest = Guest::new();
    guest.open();
    guest.uart.receive(b'x');
    guest.write(ICR, INT_RX_TIMEOUT);
    assert!(!guest.uart.irq_line());
    guest.uart.receive(b'y');
    assert!(guest.uart.irq_line());
    assert_eq!(guest.interrupt(), b"xy");
}

#[test]
fn masked_interrupt_is_raised_when_unmasked() {
    let mut guest = Guest::new();
    guest.open();
    guest.write(IMSC, 0);
    guest.uart.receive(b'x');
    assert!(!guest.uart.irq_line());
    guest.write(IMSC, INT_RX_TIMEOUT);
    assert!(guest.uart.irq_line());
}

#[test]
fn input_of_queue_size_arrives_completely() {
    let mut guest = Guest::new();
    guest.open();
    let paste: Vec<u8> = (0..INPUT_QUEUE).map(|i| i as u8).collect();
    for &byte in &paste {
        assert!(guest.uart.receive(byte));
    }
    assert_eq!(guest.uart.input_room(), 0);
    assert_eq!(guest.interrupt(), paste);
    assert!(!guest.uart.irq_line());
}

#[test]
fn input_before_open_arrives_except_what_the_driver_drains() {
    let mut guest = Guest::new();
    for byte in 0..200 {
        guest.uart.receive(byte);
    }
    let dropped = guest.open();
    assert_eq!(dropped, 64);
    assert!(guest.uart.irq_line(), "the rest raises an interrupt");
    assert_eq!(guest.interrupt(), (64..200).collect::<Vec<u8>>());
}

#[test]
fn input_beyond_the_queue_is_an_overrun() {
    let mut guest = Guest::new();
    guest.open();
    guest.write(IMSC, INT_OVERRUN);
    for _ in 0..INPUT_QUEUE {
        assert!(guest.uart.receive(b'a'));
    }
    assert!(!guest.uart.irq_line());
    assert!(!guest.uart.receive(b'b'));
    assert!(guest.uart.irq_line());
    assert_eq!(guest.read(RSR_ECR), RSR_OVERRUN);
    assert_eq!(guest.read(DR), DR_OVERRUN | u32::from(b'a'));
    assert_eq!(guest.read(DR), u32::from(b'a'));
    assert_eq!(guest.read(RSR_ECR), 0);
    guest.write(ICR, INT_OVERRUN);
    assert!(!guest.uart.irq_line());
}

#[test]
fn full_console_keeps_output_in_the_transmit_fifo() {
    let mut uart = Pl011::new();
    let mut slow = Slow::default();
    let write = |uart: &mut Pl011, slow: &mut Slow, register, value| {
        uart.access(Access::write(register, AccessSize::Word, value), slow);
    };
    let flags = |uart: &mut Pl011| {
        let access = Access::read(FR, AccessSize::Word);
        uart.access(access, &mut Slow::default()) as u32 & (FR_TXFF | FR_TXFE | FR_BUSY)
    };
    write(&mut uart, &mut slow, LCR_H, 0x70);
    write(&mut uart, &mut slow, IFLS, 2); // half
    write(&mut uart, &mut slow, IMSC, 0x20);
    assert_eq!(flags(&mut uart), FR_TXFE);
    for byte in 0..32 {
        assert_eq!(flags(&mut uart) & FR_TXFF, 0);
        write(&mut uart, &mut slow, DR, byte);
        assert!(uart.has_output());
    }
    assert_eq!(flags(&mut uart), FR_TXFF | FR_BUSY);
    assert!(!uart.irq_line());
    write(&mut uart, &mut slow, DR, 99); // lost: the guest did not check FR

    slow.room = 15;
    uart.pump(&mut slow);
    assert_eq!(flags(&mut uart), FR_BUSY);
    assert!(!uart.irq_line(), "17 left is above half");
    slow.room = 1;
    uart.pump(&mut slow);
    assert!(uart.irq_line(), "16 left is half");
    // A write that exceeds the trigger level lowers the interrupt, and so does a write to ICR.
    write(&mut uart, &mut slow, DR, 32);
    assert!(!uart.irq_line());
    slow.room = 100;
    uart.pump(&mut slow);
    assert!(uart.irq_line());
    assert_eq!(flags(&mut uart), FR_TXFE);
    assert!(!uart.has_output());
    write(&mut uart, &mut slow, ICR, 0x20);
    assert!(!uart.irq_line());
    uart.pump(&mut slow);
    assert!(!uart.irq_line(), "nothing was sent");
    assert_eq!(slow.sent, (0..=32).collect::<Vec<u8>>());
}

#[test]
fn interrupt_driven_output_is_complete() {
    // A driver that sends one byte per interrupt sends all bytes.
    let mut guest = Guest::new();
    guest.open();
    guest.write(IMSC, INT_TX);
    assert!(!guest.uart.irq_line());
    let mut bytes = b"interrupt-driven".iter();
    guest.write(DR, u32::from(*bytes.next().unwrap()));
    while guest.uart.irq_line() {
        match bytes.next() {
            Some(&byte) => {
                guest.write(ICR, INT_TX);
                guest.write(DR, u32::from(byte));
            }
            None => guest.write(IMSC, 0),
        }
    }
    assert_eq!(guest.said(), b"interrupt-driven");
}

#[test]
fn loopback_returns_the_sent_byte() {
    let mut guest = Guest::new();
    guest.open();
    guest.write(CR, 0x301 | CR_LBE);
    guest.write(DR, 0x5a);
    assert_eq!(guest.read(DR), 0x5a);
    assert_eq!(guest.said(), b"");
}

proptest! {
    /// After any accesses, the flags agree with the FIFOs and no byte is duplicated.
    #[test]
    fn flags_match_the_fifos_after_any_accesses(
        steps in proptest::collection::vec((0_u64..0x50, any::<u32>(), 0_u8..4), 1..300),
    ) {
        let mut guest = Guest::new();
        let mut arrived = 0_usize;
        let mut read = 0_usize;
        for (offset, value, what) in steps {
            let register = offset & !3;
            match what {
                0 => guest.write(register, value),
                1 => {
                    let empty = guest.read(FR) & FR_RXFE != 0;
                    guest.read(register);
                    if register == DR && !empty {
                        read += 1;
                    }
                }
                2 => arrived += usize::from(guest.uart.receive(value as u8)),
                _ => guest.uart.pump(&mut guest.console),
            }
            let flags = guest.read(FR);
            prop_assert!(flags & FR_TXFE != 0, "the console has room");
            prop_assert_eq!(flags & FR_RXFE != 0, guest.uart.received == 0);
            prop_assert!(guest.uart.received <= guest.uart.depth());
            prop_assert!(guest.uart.received == guest.uart.input.len().min(guest.uart.depth()));
            prop_assert_eq!(guest.uart.irq_line(), guest.read(MIS) != 0);
        }
        // Looped-back bytes arrive as well.
        prop_assert!(guest.uart.input.len() >= arrived - read.min(arrived));
    }
}
