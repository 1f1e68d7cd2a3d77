// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's UART.

use crate::input::Input;
use postern_base::mmio::{Access, AccessSize};
use postern_devices::pl011::{INPUT_QUEUE, Pl011, TxSink};

const FR: u64 = 0x018;
const RIS: u64 = 0x03c;
const MIS: u64 = 0x040;
/// FR: the transmit FIFO is empty.
const TXFE: u64 = 1 << 7;

/// Takes the guest's bytes as far as there is room.
#[derive(Default)]
struct Sink {
    room: usize,
}

impl TxSink for Sink {
    fn send(&mut self, _: u8) -> bool {
        let fits = self.room > 0;
        self.room = self.room.saturating_sub(1);
        fits
    }
}

/// The device and its two ends.
pub(super) struct Uart {
    device: Pl011,
    sink: Sink,
}

impl Uart {
    pub(super) fn new() -> Self {
        Self {
            device: Pl011::new(),
            sink: Sink::default(),
        }
    }

    pub(super) fn step(&mut self, input: &mut Input<'_>) {
        match input.below(8) {
            0 => self.sink.room = input.byte().into(),
            1 => self.device.pump(&mut self.sink),
            2 => {
                let byte = input.byte();
                for _ in 0..=input.half() % 64 {
                    let room = self.device.input_room();
                    assert!(room <= INPUT_QUEUE);
                    assert_eq!(self.device.receive(byte), room > 0);
                }
            }
            _ => self.access(input),
        }
        let [raw, masked, flags] = [RIS, MIS, FR].map(|at| self.read(at));
        assert_eq!(self.device.irq_line(), masked != 0);
        assert_eq!(masked & !raw, 0);
        assert_eq!(flags & TXFE == 0, self.device.has_output());
    }

    fn read(&mut self, at: u64) -> u64 {
        let access = Access::read(at, AccessSize::Word);
        self.device.access(access, &mut self.sink)
    }

    fn access(&mut self, input: &mut Input<'_>) {
        let size = AccessSize::from_sas(input.byte().into());
        let at = match input.below(4) {
            0 => u64::from(input.half() % 4096),
            _ => input.below(0x50),
        };
        // The caller ensures alignment.
        let at = at & !(size.bytes() - 1);
        let access = if input.flag() {
            Access::write(at, size, input.double())
        } else {
            Access::read(at, size)
        };
        let value = self.device.access(access, &mut self.sink);
        assert_eq!(value, size.truncate(value));
        assert!(access.write.is_none() || value == 0);
    }
}
