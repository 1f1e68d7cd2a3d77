// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use proptest::prelude::*;

fn at(count: u64) -> Ticks {
    Ticks::new(count)
}

fn read(dog: &mut GenericWatchdog, register: u64, count: u64) -> u32 {
    let access = Access::read(register, AccessSize::Word);
    dog.access(Frame::Control, access, at(count)) as u32
}

fn write(dog: &mut GenericWatchdog, register: u64, value: u64, count: u64) {
    let access = Access::write(register, AccessSize::Word, value);
    dog.access(Frame::Control, access, at(count));
}

fn refresh(dog: &mut GenericWatchdog, count: u64) {
    let access = Access::write(WRR, AccessSize::Word, 0);
    dog.access(Frame::Refresh, access, at(count));
}

/// Returns a watchdog that was started at 1000 with an offset of 100 ticks, as Linux does it.
fn started() -> GenericWatchdog {
    let mut dog = GenericWatchdog::new();
    write(&mut dog, WOR, 100, 990);
    write(&mut dog, WOR_HIGH, 0, 990);
    write(&mut dog, WCS, 1, 1000);
    dog
}

#[test]
fn watchdog_is_disabled_after_power_on() {
    let mut dog = GenericWatchdog::new();
    for register in [WCS, WOR, WOR_HIGH, WCV, WCV_HIGH, 0x18, 0xfc8, 0xfd0] {
        assert_eq!(read(&mut dog, register, 5), 0, "{register:#x}");
    }
    dog.pass(at(u64::MAX));
    assert_eq!(dog, GenericWatchdog::new());
    assert_eq!(dog.deadline(), None);
}

#[test]
fn both_frames_have_the_id_that_linux_reads() {
    let mut dog = started();
    let before = dog.clone();
    for frame in [Frame::Refresh, Frame::Control] {
        let id = dog.access(frame, Access::read(W_IIDR, AccessSize::Word), at(1001));
        // Linux reads the revision, which tells the width of WOR, in bits 19 to 16.
        assert_eq!((id >> 16 & 0xf, id & 0xfff), (1, 0x43b));
        dog.access(frame, Access::write(W_IIDR, AccessSize::Word, !0), at(1001));
    }
    // The refresh register does not show when it was written.
    let wrr = dog.access(
        Frame::Refresh,
        Access::read(WRR, AccessSize::Word),
        at(1001),
    );
    assert_eq!((wrr, &dog), (0, &before));
}

#[test]
fn signals_follow_the_counter() {
    // The watchdog that is started at 1000 and looked at only then.
    for (count, status, line, expired, deadline) in [
        (1000, ENABLE, false, false, Some(1101)),
        (1100, ENABLE, false, false, Some(1101)),
        (1101, ENABLE | WS0, true, false, Some(1201)),
        (1200, ENABLE | WS0, true, false, Some(1201)),
        (1201, ENABLE | WS0 | WS1, true, true, None),
        (u64::MAX, ENABLE | WS0 | WS1, true, true, None),
    ] {
        let mut dog = started();
        assert_eq!(read(&mut dog, WCS, count), status, "{count}");
        assert_eq!(
            (dog.irq_line(), dog.has_expired()),
            (line, expired),
            "{count}"
        );
        assert_eq!(dog.deadline(), deadline.map(at), "{count}");
    }
}

#[test]
fn refresh_starts_over() {
    type Refresh = fn(&mut GenericWatchdog, u64);
    let ways: [(&str, Refresh); 4] = [
        ("WRR", refresh),
        ("WCS", |dog, count| write(dog, WCS, 1, count)),
        ("WOR", |dog, count| write(dog, WOR, 100, count)),
        ("WOR, high", |dog, count| write(dog, WOR_HIGH, 0, count)),
    ];
    for (name, way) in ways {
        for when in [1050, 1100, 1150, 1200] {
            let mut dog = started();
            way(&mut dog, when);
            assert_eq!(dog.deadline(), Some(at(when + 101)), "{name} {when}");
            assert!(!dog.irq_line() && !dog.has_expired(), "{name} {when}");
        }
    }
    // A guest that feeds it in time never sees a signal.
    let mut dog = started();
    for count in (1000..9000).step_by(100) {
        refresh(&mut dog, count);
        assert_eq!(read(&mut dog, WCS, count + 100), ENABLE);
    }
}

#[test]
fn disabled_watchdog_has_no_signal() {
    let mut dog = started();
    dog.pass(at(1150));
    assert!(dog.irq_line());
    write(&mut dog, WCS, 0, 1160);
    dog.pass(at(u64::MAX));
    assert_eq!(read(&mut dog, WCS, u64::MAX), 0);
    assert!(!dog.irq_line() && !dog.has_expired());
    // The offset stays.
    write(&mut dog, WCS, 0xffff_fff9, 2000);
    assert_eq!(dog.deadline(), Some(at(2101)));
}

#[test]
fn next_life_learns_of_the_expiry_until_the_first_refresh() {
    let mut dog = started();
    assert_eq!(dog.after_reset(), GenericWatchdog::new());
    dog.pass(at(5000));
    let mut next = dog.after_reset();
    assert_eq!(read(&mut next, WCS, 7), WS1);
    assert!(!next.has_expired() && !next.irq_line());
    assert_eq!(next.deadline(), None);
    next.pass(at(u64::MAX));
    assert_eq!(read(&mut next, WCS, 8), WS1);
    // A life that ends otherwise does not hand it on.
    assert_eq!(next.after_reset(), GenericWatchdog::new());
    // Linux sets the timeout first.
    write(&mut next, WOR, 100, 9);
    assert_eq!(read(&mut next, WCS, 9), 0);
}

#[test]
fn compare_value_can_be_written() {
    let mut dog = started();
    write(&mut dog, WCV_HIGH, 1, 1001);
    write(&mut dog, WCV, 5, 1001);
    assert_eq!(dog.deadline(), Some(at(0x1_0000_0006)));
    assert_eq!(
        (read(&mut dog, WCV, 1001), read(&mut dog, WCV_HIGH, 1001)),
        (5, 1)
    );
    // Such a write is no refresh.
    dog.pass(at(0x1_0000_0006));
    write(&mut dog, WCV, 0xffff_ffff, 0x1_0000_0006);
    assert!(dog.irq_line());
    // A value that the counter cannot pass.
    write(&mut dog, WCV_HIGH, 0xffff_ffff, 0x1_0000_0006);
    assert_eq!(dog.deadline(), None);
    dog.pass(at(u64::MAX));
    assert!(!dog.has_expired());
}

/// The second signal comes an offset after the first, however far in the past the written value is.
#[test]
fn compare_value_in_the_past_signals_at_once_and_again_an_offset_later() {
    let mut dog = started();
    write(&mut dog, WCV, 1, 1050);
    assert_eq!(read(&mut dog, WCS, 1050), 0b11);
    assert_eq!(read(&mut dog, WCV, 1050), 1150);
    assert_eq!(read(&mut dog, WCS, 1150), 0b11);
    assert!(!dog.has_expired());
    assert_eq!(read(&mut dog, WCS, 1151), 0b111);
}

#[test]
fn offset_has_48_bits() {
    let mut dog = started();
    write(&mut dog, WOR_HIGH, 0xffff_ffff, 1000);
    write(&mut dog, WOR, 0xffff_ffff, 1000);
    assert_eq!(
        (read(&mut dog, WOR, 1000), read(&mut dog, WOR_HIGH, 1000)),
        (0xffff_ffff, 0xffff)
    );
    assert_eq!(dog.deadline(), Some(at(1001 + OFFSET_BITS)));
}

#[test]
fn width_of_an_access_is_honoured() {
    let mut dog = started();
    let control = |dog: &mut GenericWatchdog, access| dog.access(Frame::Control, access, at(1010));
    control(
        &mut dog,
        Access::write(WOR, AccessSize::Double, 0xabcd_1234_0000_0200),
    );
    assert_eq!(dog.offset, 0x1234_0000_0200);
    let wor = control(&mut dog, Access::read(WOR, AccessSize::Double));
    assert_eq!(wor, 0x1234_0000_0200);
    let wcv = control(&mut dog, Access::read(WCV, AccessSize::Double));
    assert_eq!(wcv, 1010 + 0x1234_0000_0200);
    assert_eq!(
        control(&mut dog, Access::read(WOR + 1, AccessSize::Byte)),
        2
    );
    // The upper half of a write to WCS is no register.
    control(&mut dog, Access::write(WCS, AccessSize::Double, !0));
    assert_eq!(dog.offset, 0x1234_0000_0200);
    let before = dog.clone();
    for access in [
        Access::write(WCS, AccessSize::Byte, 0),
        Access::write(WCS, AccessSize::Half, 0),
        Access::write(WOR + 2, AccessSize::Half, 0),
    ] {
        control(&mut dog, access);
        assert_eq!(dog, before, "{access:?}");
    }
}

#[test]
fn offset_zero_expires_at_once() {
    let mut dog = GenericWatchdog::new();
    write(&mut dog, WCS, 1, 1000);
    assert!(!dog.irq_line());
    dog.pass(at(1001));
    assert!(dog.irq_line() && dog.has_expired());
}

proptest! {
    /// Whatever a guest writes: nothing panics, a disabled watchdog demands nothing, a deadline is
    /// in the future, and it does not matter how often the caller looks.
    #[test]
    fn random_accesses_do_no_harm(
        steps in proptest::collection::vec(
            (any::<bool>(), 0..8_u64, 0..4_u64, any::<u64>(), any::<bool>(), 0..1_u64 << 50),
            0..60,
        )
    ) {
        let (mut dog, mut lazy) = (GenericWatchdog::new(), GenericWatchdog::new());
        let mut count = 0;
        for (refresh, word, sas, value, small, later) in steps {
            let middle = count + later / 2;
            count += later;
            dog.pass(at(middle));
            let size = AccessSize::from_sas(sas);
            let value = if small { value & 0xffff } else { value };
            let frame = if refresh { Frame::Refresh } else { Frame::Control };
            let access = Access::write(4 * word / size.bytes() * size.bytes(), size, value);
            dog.access(frame, access, at(count));
            lazy.access(frame, access, at(count));
            dog.pass(at(count));
            lazy.pass(at(count));
            prop_assert_eq!(&dog, &lazy);
            prop_assert!(dog.deadline().is_none_or(|at| at > Ticks::new(count)));
            prop_assert!(dog.enabled || !(dog.has_expired() || dog.irq_line()));
        }
    }
}
