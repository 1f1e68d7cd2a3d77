// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use proptest::prelude::*;

const LINE_3: u64 = 1 << (2 + 3);
const ALL_LINES: u64 = 0x3fc;

/// A guest's driver, with the 8-bit accesses that Linux makes.
#[derive(Default)]
struct Guest(Pl061);

impl Guest {
    fn read(&mut self, register: u64) -> u8 {
        self.0.access(Access::read(register, AccessSize::Byte)) as u8
    }

    fn write(&mut self, register: u64, value: u8) {
        let access = Access::write(register, AccessSize::Byte, u64::from(value));
        assert_eq!(self.0.access(access), 0);
    }

    /// What Linux's driver does when it finds the device, and when gpio-keys asks for both edges.
    fn open(&mut self) {
        self.write(IE, 0);
        self.write(DIR, self.0.outputs & !POWER);
        self.write(IEV, 0);
        self.write(IS, 0);
        self.write(IBE, POWER);
        self.write(IC, POWER);
        self.write(IE, POWER);
    }

    /// What its interrupt handler does: which lines had an edge.
    fn interrupt(&mut self) -> u8 {
        let lines = self.read(MIS);
        self.write(IC, lines);
        lines
    }
}

#[test]
fn a_press_is_an_edge_a_look_and_another_edge() {
    let mut guest = Guest::default();
    guest.open();
    assert!(!guest.0.irq_line());
    for _ in 0..3 {
        guest.0.press();
        assert!(guest.0.irq_line());
        assert_eq!(guest.interrupt(), POWER);
        assert!(!guest.0.irq_line(), "acknowledged");
        // The contacts settle; then the driver looks.
        assert_eq!(guest.read(LINE_3), POWER);
        assert!(guest.0.irq_line(), "the release");
        assert_eq!(guest.interrupt(), POWER);
        assert_eq!(guest.read(LINE_3), 0);
        assert!(!guest.0.irq_line());
    }
}

#[test]
fn presses_before_the_guest_looks_are_one() {
    let mut guest = Guest::default();
    guest.open();
    guest.0.press();
    guest.0.press();
    assert_eq!(guest.interrupt(), POWER);
    guest.0.press();
    assert_eq!(guest.interrupt(), POWER, "an edge all the same");
    assert_eq!(guest.read(ALL_LINES), POWER);
    assert_eq!(guest.read(ALL_LINES), 0);
}

#[test]
fn a_press_before_the_driver_is_there_is_found_later() {
    let mut guest = Guest::default();
    guest.0.press();
    assert!(!guest.0.irq_line());
    guest.open();
    assert!(!guest.0.irq_line());
    assert_eq!(guest.read(LINE_3), POWER);
    assert!(guest.0.irq_line());
}

#[test]
fn each_kind_of_interrupt() {
    // IS, IBE, IEV; then whether the interrupt is there at rest, after the press, after the
    // guest's look, and after it cleared what it could.
    for (sense, both, event, expected) in [
        (0, 0, 0, [false, false, true, false]),
        (0, 0, POWER, [false, true, true, false]),
        (0, POWER, 0, [false, true, true, false]),
        (POWER, 0, POWER, [false, true, false, false]),
        (POWER, 0, 0, [true, false, true, true]),
    ] {
        let mut guest = Guest::default();
        guest.write(IS, sense);
        guest.write(IBE, both);
        guest.write(IEV, event);
        // The lines without a wire are low, which says nothing here.
        guest.write(IE, POWER);
        let mut seen = vec![guest.0.irq_line()];
        guest.0.press();
        seen.push(guest.0.irq_line());
        assert_eq!(guest.read(LINE_3), POWER);
        seen.push(guest.0.irq_line());
        guest.write(IC, 0xff);
        seen.push(guest.0.irq_line());
        assert_eq!(seen, expected, "{sense} {both} {event}");
    }
}

#[test]
fn a_look_at_other_lines_is_none_at_the_button() {
    let mut guest = Guest::default();
    guest.0.press();
    assert_eq!(guest.read(ALL_LINES & !LINE_3), 0);
    assert_eq!(guest.read(0), 0);
    // Nor is one at the register's other bytes, or at what the guest drives itself.
    guest.write(DIR, POWER);
    guest.write(LINE_3, 0xff);
    assert_eq!(guest.read(LINE_3), POWER);
    guest.write(LINE_3, 0);
    assert_eq!(guest.read(LINE_3), 0);
    guest.write(DIR, 0);
    assert_eq!(guest.read(LINE_3), POWER, "still pressed");
    assert_eq!(guest.read(LINE_3), 0);
}

#[test]
fn a_guest_reads_what_it_wrote_and_the_ids() {
    let mut guest = Guest::default();
    for register in [DIR, IS, IBE, IEV, IE, AFSEL] {
        guest.write(register, 0xa5);
        assert_eq!(guest.read(register), 0xa5, "{register:#x}");
    }
    // Outputs under a mask.
    guest.write(DIR, 0xff);
    guest.write(0x0f << 2, 0xaa);
    guest.write(0xf0 << 2, 0x55);
    assert_eq!(guest.read(ALL_LINES), 0x5a);
    assert_eq!(guest.read(0x3c << 2), 0x18);
    let ids: Vec<u8> = (0..8).map(|id| guest.read(PERIPH_ID0 + 4 * id)).collect();
    assert_eq!(ids, [0x61, 0x10, 0x04, 0, 0x0d, 0xf0, 0x05, 0xb1]);
    assert_eq!(guest.read(0x424), 0);
    // Only the first byte of a word is there.
    let high = Access::write(DIR + 1, AccessSize::Byte, 0);
    assert_eq!(guest.0.access(high), 0);
    assert_eq!(guest.read(DIR), 0xff);
    assert_eq!(guest.0.access(Access::read(DIR + 1, AccessSize::Byte)), 0);
    assert_eq!(guest.0.access(Access::read(DIR, AccessSize::Double)), 0xff);
}

proptest! {
    /// Whatever a guest writes, a press reaches the one that then does as Linux does, with both
    /// edges, and the line comes back to rest.
    #[test]
    fn any_past_is_survived(past in proptest::collection::vec((0_u64..0x1000, any::<u8>(), any::<bool>()), 0..60)) {
        let mut guest = Guest::default();
        for (offset, value, press) in past {
            guest.write(offset, value);
            guest.read(offset);
            if press {
                guest.0.press();
            }
        }
        guest.open();
        guest.read(LINE_3);
        guest.interrupt();
        guest.0.press();
        prop_assert!(guest.0.irq_line());
        prop_assert_eq!(guest.interrupt(), POWER);
        prop_assert_eq!(guest.read(LINE_3), POWER);
        prop_assert_eq!(guest.interrupt(), POWER);
        prop_assert_eq!(guest.read(LINE_3), 0);
        prop_assert!(!guest.0.irq_line());
    }
}
