// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures frames over a link to another VM, which answers.
//!
//! The other VM runs this program, too, on the same pCPU. A figure is what both VMs and the hypervisor execute from the
//! notification of the device to the interrupt of the answer, and the acknowledgement of that.

use crate::meter::{self, Meter};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use guest_bare::timer;
use guest_bare::virtio::{INTERRUPT_ACK, INTERRUPT_STATUS, Net, QUEUE_NOTIFY, RECEIVE, TRANSMIT};

/// The rounds of each measurement.
const ROUNDS: usize = 4;
/// The bytes of each frame.
const FRAME: u32 = 1514;
/// The frames of a burst.
const BURST: u32 = 32;
/// The most time that the other VM may take to start.
const START: Duration = Duration::from_secs(10);

/// The first byte of a frame that is not answered.
const SINK: u8 = 0x10;
/// The first byte of a frame that is answered with one like it.
const ECHO: u8 = 0x12;
/// The first byte of a frame after which the other VM answers no more.
const QUIT: u8 = 0x14;

/// Answers as the other VM, until it is told to end.
pub fn answer() {
    let Some(mut net) = Net::start() else {
        return;
    };
    loop {
        net.want_interrupt();
        if net.used(RECEIVE) == 0 {
            timer::wait_for_interrupt();
        }
        net.acknowledge();
        let mut answers = false;
        while let Some((first, _)) = net.receive() {
            match first {
                QUIT => return,
                ECHO => {
                    net.reclaim();
                    net.send(SINK, FRAME);
                    answers = true;
                }
                _ => {}
            }
        }
        if answers {
            net.notify(TRANSMIT);
        }
    }
}

/// Sends frames, of which the last is answered, and waits for the answer.
fn exchange(net: &mut Net, frames: u32) -> Result<(), String> {
    net.reclaim();
    for _ in 1..frames {
        net.send(SINK, FRAME);
    }
    net.send(ECHO, FRAME);
    net.want_interrupt();
    meter::store_and_wait(net.register(QUEUE_NOTIFY), TRANSMIT as u64);
    let pending = meter::load(net.register(INTERRUPT_STATUS));
    meter::store(net.register(INTERRUPT_ACK), pending.into());
    net.acknowledge();
    match net.receive() {
        Some((SINK, FRAME)) => Ok(()),
        other => Err(format!("the answer is {other:?}")),
    }
}

/// Measures all of them.
pub fn measure(meter: &Meter) {
    let Some(mut net) = Net::start() else {
        return;
    };
    // The other VM starts in its slices of this pCPU.
    if !timer::Deadline::after(START).wait(|| net.is_up()) {
        return meter::failed("link-round-trip", "the link does not come up");
    }
    net.acknowledge();
    meter.measure("link-round-trip", ROUNDS, || exchange(&mut net, 1));
    meter.measure("link-burst", ROUNDS, || exchange(&mut net, BURST));
    net.send(QUIT, FRAME);
    net.notify(TRANSMIT);
}
