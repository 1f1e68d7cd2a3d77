// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measurements that guests take of their way into the TEE, where QEMU counts instructions instead of
//! looking at a clock: times are the machine's own then, and the same on every host.

use crate::WORK;
use anyhow::{Result, bail};
use guest_agent::event::{Event, Latency};
use postern_qemu::console::Channel;
use postern_qemu::session::Session;

/// What an instruction takes.
pub const INSTRUCTION_NS: u64 = 2;
/// QEMU's options for that; and who waits for a timer does not really wait.
pub const CLOCK: [&str; 2] = ["-icount", "shift=1,sleep=off"];
/// How long a vCPU runs when others wait (`SLICE_MS` in the hypervisor).
pub const SLICE_NS: u64 = 10_000_000;
/// Calls that are timed, enough for many turns of everybody.
pub const SAMPLES: u32 = 2000;
/// Measurements until a guest that has just booted is at rest.
const SETTLE: u32 = 50;

/// Has a guest measure, and waits for the result. `more` is which call, and how many come before those
/// that are timed; both may be left out.
///
/// # Errors
///
/// The guest says why not, or says nothing.
pub fn latency(
    session: &mut Session,
    guest: Channel,
    label: &str,
    samples: u32,
    more: &str,
) -> Result<Latency> {
    session.send(guest, &format!("latency {label} {samples} {more}"))?;
    session
        .expect(guest, WORK)
        .event("the measurement", |event| match event {
            Event::Latency(latency) if latency.label == label => Some(latency.clone()),
            _ => None,
        })
}

/// The first measurement in which Linux has nothing else to do: at first its kernel tests its own
/// cryptography.
///
/// # Errors
///
/// There is none.
pub fn quiet(session: &mut Session, guest: Channel) -> Result<Latency> {
    for _ in 0..SETTLE {
        let latency = latency(session, guest, "quiet", SAMPLES, "")?;
        if latency.max_ns < SLICE_NS / 10 {
            return Ok(latency);
        }
    }
    bail!("after {SETTLE} measurements the guest still has something else to do")
}
