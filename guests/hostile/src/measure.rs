// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures what is left of OP-TEE's resources, as far as a guest can see it.

use crate::kit::{Kit, fresh_cookie, of_client};
use alloc::string::String;
use alloc::vec::Vec;
use guest_bare::event::Event;
use guest_bare::tee::apps::{self, POOL_APPS, POOL_HEAP, POOL_NEXUS};

/// More instances than all VMs together can have.
const MOST: usize = 70;

/// The resources of OP-TEE.
pub struct Measured {
    /// Bytes in use of the heap that all VMs share.
    shared_heap: u32,
    /// Bytes in use of the VM's own heap.
    heap: u32,
    /// Bytes in use of the VM's memory for applications.
    applications: u32,
    /// How many instances of an application could run at once.
    instances: usize,
}

impl Measured {
    /// Adds the figures to an event.
    pub fn add_to(&self, event: Event) -> Event {
        event
            .number("shared_heap", self.shared_heap.into())
            .number("heap", self.heap.into())
            .number("applications", self.applications.into())
            .number("instances", self.instances as u64)
    }
}

/// Measures; opens up to `instances` instances of an application to count how many are possible.
///
/// # Errors
/// Fails when OP-TEE does not report its statistics, or does not close what it opened.
pub fn measure(kit: &Kit, instances: usize) -> Result<Measured, String> {
    let used = |pool| {
        let cookie = fresh_cookie();
        let stats = apps::pool_stats(&kit.client, &kit.supplicant, cookie, pool);
        of_client("ask stats.pta", stats).map(|stats| stats.used)
    };
    let (shared_heap, heap, applications) = (used(POOL_NEXUS)?, used(POOL_HEAP)?, used(POOL_APPS)?);
    let mut sessions = Vec::new();
    while sessions.len() < instances.min(MOST) {
        match kit.client.open(&kit.supplicant, apps::SMALL) {
            Ok(session) => sessions.push(session),
            Err(_) => break,
        }
    }
    let opened = sessions.len();
    sessions
        .into_iter()
        .try_for_each(|session| kit.close(session))?;
    Ok(Measured {
        shared_heap,
        heap,
        applications,
        instances: opened,
    })
}
