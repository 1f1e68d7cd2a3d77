// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use postern_base::mmio::AccessSize;

/// 2026-11-28 20:00:00 UTC.
const NOW: u32 = 1_795_896_000;

fn read(rtc: &mut Pl031, register: u64, now: u32) -> u32 {
    rtc.access(Access::read(register, AccessSize::Word), now) as u32
}

fn write(rtc: &mut Pl031, register: u64, value: u32, now: u32) {
    rtc.access(Access::write(register, AccessSize::Word, value.into()), now);
}

#[test]
fn clock_after_reset_has_the_machines_time_and_no_alarm() {
    let mut rtc = Pl031::new(NOW);
    for (register, expected) in [
        (DR, NOW),
        (MR, 0),
        (LR, 0),
        (CR, 1),
        (IMSC, 0),
        (RIS, 0),
        (MIS, 0),
    ] {
        assert_eq!(read(&mut rtc, register, NOW), expected, "{register:#x}");
    }
    assert_eq!(read(&mut rtc, DR, NOW + 100), NOW + 100);
    assert!(!rtc.irq_line());
}

#[test]
fn ids_match_linuxs_driver() {
    let mut rtc = Pl031::new(NOW);
    let mut id = |first: u64| {
        (0..4).fold(0, |id, index| {
            id | read(&mut rtc, first + 4 * index, NOW) << (8 * index)
        })
    };
    // Linux's AMBA bus requires 0xb105f00d, and its driver 0x00041031 under the mask 0x000fffff.
    assert_eq!(id(0xff0), 0xb105_f00d);
    assert_eq!(id(0xfe0) & 0x000f_ffff, 0x0004_1031);
}

#[test]
fn guest_sets_only_its_own_time() {
    let mut rtc = Pl031::new(NOW);
    write(&mut rtc, LR, 1000, NOW + 5);
    assert_eq!(read(&mut rtc, LR, NOW + 5), 1000);
    assert_eq!(read(&mut rtc, DR, NOW + 5), 1000);
    assert_eq!(read(&mut rtc, DR, NOW + 65), 1060);
    // Time wraps in 2106.
    write(&mut rtc, LR, u32::MAX, NOW + 65);
    assert_eq!(read(&mut rtc, DR, NOW + 67), 1);
    // Read-only registers do not change.
    for register in [DR, CR, RIS, MIS, PERIPH_ID0, 0x20, 0xfdc] {
        let before = rtc.clone();
        write(&mut rtc, register, 0xffff_ffff, NOW + 67);
        assert_eq!(rtc, before, "{register:#x}");
    }
}

#[test]
fn alarm_is_raised_once_at_its_time() {
    let mut rtc = Pl031::new(NOW);
    write(&mut rtc, MR, NOW + 10, NOW);
    write(&mut rtc, IMSC, 1, NOW);
    rtc.pass(NOW + 9);
    assert!(!rtc.irq_line());
    // The alarm is raised even if the check is late.
    rtc.pass(NOW + 12);
    assert!(rtc.irq_line());
    assert_eq!(read(&mut rtc, RIS, NOW + 12), 1);
    write(&mut rtc, IMSC, 0, NOW + 12);
    assert!(!rtc.irq_line());
    assert_eq!(read(&mut rtc, RIS, NOW + 12), 1);
    assert_eq!(read(&mut rtc, MIS, NOW + 12), 0);
    write(&mut rtc, ICR, 0, NOW + 12);
    assert_eq!(read(&mut rtc, RIS, NOW + 12), 1);
    write(&mut rtc, ICR, 1, NOW + 12);
    write(&mut rtc, IMSC, 1, NOW + 12);
    rtc.pass(NOW + 1000);
    assert!(!rtc.irq_line(), "raised once");
}

#[test]
fn alarm_for_now_is_raised_and_for_the_past_is_not() {
    let mut rtc = Pl031::new(NOW);
    write(&mut rtc, IMSC, 1, NOW);
    write(&mut rtc, MR, NOW - 1, NOW);
    rtc.pass(NOW + 1);
    assert!(!rtc.irq_line(), "due in 136 years");
    write(&mut rtc, MR, NOW + 1, NOW + 1);
    assert!(rtc.irq_line());
    write(&mut rtc, ICR, 1, NOW + 1);
    // Setting the clock to the alarm's time raises the alarm. Setting it past that time does not.
    write(&mut rtc, MR, 5000, NOW + 1);
    write(&mut rtc, LR, 6000, NOW + 1);
    rtc.pass(NOW + 2);
    assert!(!rtc.irq_line());
    write(&mut rtc, LR, 5000, NOW + 2);
    assert!(rtc.irq_line());
}

#[test]
fn narrow_access_reaches_only_its_bytes() {
    let mut rtc = Pl031::new(0x1234_5678);
    let byte = rtc.access(Access::read(DR + 1, AccessSize::Byte), 0x1234_5678);
    assert_eq!(byte, 0x56);
    // Not the register's first byte.
    rtc.access(Access::write(MR + 2, AccessSize::Half, 0xffff), 0x1234_5678);
    assert_eq!(read(&mut rtc, MR, 0x1234_5678), 0);
}

/// Two pCPUs may pass the machine's time in the wrong order.
#[test]
fn earlier_machine_time_raises_no_alarm() {
    let mut rtc = Pl031::new(NOW);
    write(&mut rtc, IMSC, 1, NOW);
    write(&mut rtc, MR, NOW + 1000, NOW);
    rtc.pass(NOW + 5);
    rtc.pass(NOW + 4);
    assert!(!rtc.irq_line());
    assert_eq!(read(&mut rtc, DR, NOW + 4), NOW + 5);
    rtc.pass(NOW + 1000);
    assert!(rtc.irq_line());
}
