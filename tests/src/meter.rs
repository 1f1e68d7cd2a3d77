// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measurements in guests of their round trip to the TEE, where QEMU counts instructions instead of
//! using a clock: times are the machine's own then, and the same on every host.

use crate::WORK;
use anyhow::{Result, bail};
use guest_agent::event::{Event, Latency};
use postern_qemu::console::Channel;
use postern_qemu::session::Session;

/// The duration of an instruction.
pub const INSTRUCTION_NS: u64 = 2;
/// QEMU's options for that; waiting for a timer takes no real time.
pub const CLOCK: [&str; 2] = ["-icount", "shift=1,sleep=off"];
/// A vCPU's time slice while others wait (`SLICE_MS` in the hypervisor).
pub const SLICE_NS: u64 = 10_000_000;
/// The number of timed calls, enough for many time slices of each vCPU.
pub const SAMPLES: u32 = 2000;
/// The most measurements until a guest that has just booted is idle.
const SETTLE: u32 = 50;

/// Makes a guest measure, and waits for the result. `more` is the kind of call and the number of
/// untimed calls before; both are optional.
///
/// # Errors
///
/// Fails when the guest reports an error or nothing.
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

/// Returns the first measurement in which Linux has no other work: after boot its kernel tests its
/// own cryptography.
///
/// # Errors
///
/// Fails when there is none.
pub fn quiet(session: &mut Session, guest: Channel) -> Result<Latency> {
    for _ in 0..SETTLE {
        let latency = latency(session, guest, "quiet", SAMPLES, "")?;
        if latency.max_ns < SLICE_NS / 10 {
            return Ok(latency);
        }
    }
    bail!("the guest is still busy after {SETTLE} measurements")
}
