// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A neighbour at the other end of a link: it answers frames and watches its RAM, whatever becomes of the VM at this end.

use crate::witness::WatchedRam;
use core::time::Duration;
use guest_bare::event::Event;
use guest_bare::virtio::{ANSWER, Net, PAUSE, RECEIVE, TRANSMIT};
use guest_bare::{console, psci, timer};

/// How long it waits for a frame before it looks at the console.
const GLANCE: Duration = Duration::from_millis(20);
/// How long it takes no frames when it is asked to.
const PAUSED: Duration = Duration::from_millis(500);

/// What it has seen.
#[derive(Default)]
struct Seen {
    /// Frames that were answered.
    answered: u64,
    /// Frames that were not, because the answers before them had not gone out.
    dropped: u64,
    /// How many times the link went down.
    downs: u64,
}

/// Answers until the host ends it. The command `report` has it tell what it has seen.
pub fn run() {
    let Some(mut net) = Net::start() else {
        Event::new("error").text("text", "there is no link").send();
        return;
    };
    let mut ram = WatchedRam::fill();
    let mut seen = Seen::default();
    let mut was_up = false;
    loop {
        net.want_interrupt();
        if net.used(RECEIVE) == 0 {
            timer::arm(timer::now() + timer::ticks(GLANCE));
            timer::wait_for_interrupt();
            timer::disarm();
        }
        net.acknowledge();
        let is_up = net.is_up();
        seen.downs += u64::from(was_up && !is_up);
        was_up = is_up;
        answer(&mut net, &mut seen);
        if !console::has_input() {
            continue;
        }
        // The console sleeps until the line is complete, and an interrupt that stays would keep it from that.
        net.set_interrupt(false);
        let line = console::read_line();
        net.set_interrupt(true);
        match line.as_str() {
            "report" => {
                ram.look();
                ram.add_to(Event::new("seen"))
                    .number("answered", seen.answered)
                    .number("dropped", seen.dropped)
                    .number("downs", seen.downs)
                    .number("waiting", net.in_flight().into())
                    .flag("up", net.is_up())
                    .send();
            }
            "poweroff" => psci::system_off(),
            _ => Event::new("error").text("text", "unknown command").send(),
        }
    }
}

fn answer(net: &mut Net, seen: &mut Seen) {
    let mut is_any = false;
    while let Some((first, bytes)) = net.receive() {
        if first == PAUSE {
            net.notify(TRANSMIT);
            timer::spin(PAUSED);
        } else if net.has_room() {
            net.reclaim();
            net.send(first | ANSWER, bytes);
            seen.answered += 1;
            is_any = true;
        } else {
            seen.dropped += 1;
        }
    }
    if is_any {
        net.notify(TRANSMIT);
    }
}
