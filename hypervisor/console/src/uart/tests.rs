// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::model::{Kind, Model};
use super::{IMSC, Registers, Uart};
use proptest::prelude::*;

const KINDS: [Kind; 4] = [Kind::Qemu, Kind::Part(1), Kind::Part(16), Kind::Part(32)];

/// What the interrupt's handler reads as long as the line asks for it; more often than 1000 times it
/// does not come to rest.
fn handle(model: &Model, read: &mut Vec<u8>) {
    for _ in 0..1000 {
        if !model.interrupts() {
            return;
        }
        Uart::new(model).drain(|byte| read.push(byte));
    }
    panic!("the line stays high");
}

#[test]
fn what_was_typed_before_we_listened_is_read_and_does_not_silence_the_rest() {
    for kind in KINDS {
        for early in 0..=3 {
            let model = Model::new(kind);
            for _ in 0..early {
                model.arrive(b'\r');
            }
            model.silence();
            let mut read = Vec::new();
            Uart::new(&model).listen(|byte| read.push(byte));
            assert!(!model.interrupts(), "{kind:?}");
            model.arrive(b'x');
            model.silence();
            handle(&model, &mut read);
            assert_eq!(read.last(), Some(&b'x'), "{kind:?}, {early} before");
            assert_eq!(read.len() + model.lost(), early + 1);
        }
    }
}

#[test]
fn a_transmit_interrupt_that_is_asked_for_stays_so() {
    let model = Model::new(Kind::Part(16));
    (&model).write(IMSC, super::TX);
    Uart::new(&model).listen(|_| ());
    assert_eq!((&model).read(IMSC), super::TX | super::RX_AND_TIMEOUT);
}

proptest! {
    /// However bytes arrive, and whenever the handler comes: nothing that was not lost in a full FIFO
    /// stays unread.
    #[test]
    fn every_byte_is_read(
        kind in prop::sample::select(&KINDS),
        steps in prop::collection::vec(0_u8..4, 1..200),
    ) {
        let model = Model::new(kind);
        let mut read = Vec::new();
        let mut arrived = 0;
        let mut listens = false;
        for step in steps.into_iter().chain([3, 2, 1]) {
            match step {
                0 => {
                    model.arrive(0);
                    arrived += 1;
                }
                1 if listens => handle(&model, &mut read),
                2 => model.silence(),
                3 if !listens => {
                    Uart::new(&model).listen(|byte| read.push(byte));
                    listens = true;
                }
                _ => {}
            }
        }
        prop_assert_eq!(read.len() + model.lost(), arrived);
    }
}
