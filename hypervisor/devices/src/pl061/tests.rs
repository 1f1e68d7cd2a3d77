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

    /// Does the accesses of Linux's driver when it probes the device, and when gpio-keys requests
    /// both edges.
    fn open(&mut self) {
        self.write(IE, 0);
        self.write(DIR, self.0.outputs & !POWER);
        self.write(IEV, 0);
        self.write(IS, 0);
        self.write(IBE, POWER);
        self.write(IC, POWER);
        self.write(IE, POWER);
    }

    /// Does the accesses of the driver's interrupt handler. Returns the lines that had an edge.
    fn interrupt(&mut self) -> u8 {
        let lines = self.read(MIS);
        self.write(IC, lines);
        lines
    }
}

#[test]
fn press_is_one_edge_and_its_read_another() {
    let mut guest = Guest::default();
    guest.open();
    assert!(!guest.0.irq_line());
    for _ in 0..3 {
        guest.0.press();
        assert!(guest.0.irq_line());
        assert_eq!(guest.interrupt(), POWER);
        assert!(!guest.0.irq_line(), "acknowledged");
        // After the debounce time, the driver reads the line.
        assert_eq!(guest.read(LINE_3), POWER);
        assert!(guest.0.irq_line(), "the release");
        assert_eq!(guest.interrupt(), POWER);
        assert_eq!(guest.read(LINE_3), 0);
        assert!(!guest.0.irq_line());
    }
}

#[test]
fn presses_before_the_first_read_count_as_one() {
    let mut guest = Guest::default();
    guest.open();
    guest.0.press();
    guest.0.press();
    assert_eq!(guest.interrupt(), POWER);
    guest.0.press();
    assert_eq!(guest.interrupt(), POWER, "another edge");
    assert_eq!(guest.read(ALL_LINES), POWER);
    assert_eq!(guest.read(ALL_LINES), 0);
}

#[test]
fn press_before_the_driver_loads_is_read_later() {
    let mut guest = Guest::default();
    guest.0.press();
    assert!(!guest.0.irq_line());
    guest.open();
    assert!(!guest.0.irq_line());
    assert_eq!(guest.read(LINE_3), POWER);
    assert!(guest.0.irq_line());
}

#[test]
fn interrupt_follows_its_configured_trigger() {
    // IS, IBE, IEV; then whether the interrupt is raised at rest, after the press, after the
    // guest's read, and after a write to IC.
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
        // Only the button's line: the unconnected lines are low, which may be an interrupt too.
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
fn read_of_other_lines_does_not_release_the_button() {
    let mut guest = Guest::default();
    guest.0.press();
    assert_eq!(guest.read(ALL_LINES & !LINE_3), 0);
    assert_eq!(guest.read(0), 0);
    // Nor does a read of the line while the guest drives it.
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
fn registers_and_ids_are_read_back() {
    let mut guest = Guest::default();
    for register in [DIR, IS, IBE, IEV, IE, AFSEL] {
        guest.write(register, 0xa5);
        assert_eq!(guest.read(register), 0xa5, "{register:#x}");
    }
    // Writes to outputs under a mask.
    guest.write(DIR, 0xff);
    guest.write(0x0f << 2, 0xaa);
    guest.write(0xf0 << 2, 0x55);
    assert_eq!(guest.read(ALL_LINES), 0x5a);
    assert_eq!(guest.read(0x3c << 2), 0x18);
    let ids: Vec<u8> = (0..8).map(|id| guest.read(PERIPH_ID0 + 4 * id)).collect();
    assert_eq!(ids, [0x61, 0x10, 0x04, 0, 0x0d, 0xf0, 0x05, 0xb1]);
    assert_eq!(guest.read(0x424), 0);
    // Only the first byte of a register is implemented.
    let high = Access::write(DIR + 1, AccessSize::Byte, 0);
    assert_eq!(guest.0.access(high), 0);
    assert_eq!(guest.read(DIR), 0xff);
    assert_eq!(guest.0.access(Access::read(DIR + 1, AccessSize::Byte)), 0);
    assert_eq!(guest.0.access(Access::read(DIR, AccessSize::Double)), 0xff);
}

proptest! {
    /// After any accesses, a press reaches a guest that then initialises the device as Linux does,
    /// with both edges, and the line returns to rest.
    #[test]
    fn press_reaches_linux_after_any_accesses(
        past in proptest::collection::vec((0_u64..0x1000, any::<u8>(), any::<bool>()), 0..60),
    ) {
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
