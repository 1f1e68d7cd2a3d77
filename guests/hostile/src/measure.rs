// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures what is left of OP-TEE's resources, as far as a guest can see it.

use crate::ffa::{FfaKit, of_tee};
use crate::kit::{Kit, fresh_cookie, of_client};
use alloc::string::String;
use alloc::vec::Vec;
use guest_bare::PAGE_SIZE;
use guest_bare::event::Event;
use guest_bare::tee::apps::{self, POOL_APPS, POOL_HEAP, POOL_NEXUS, PoolStats};
use guest_bare::tee::message::value;
use optee_proto::msg::Attr;

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
    let open = || kit.client.open(&kit.supplicant, apps::SMALL).ok();
    measure_by(used, open, |session| kit.close(session), instances)
}

/// Does so over FF-A.
///
/// # Errors
/// As [`measure`].
pub fn measure_ffa(kit: &FfaKit, instances: usize) -> Result<Measured, String> {
    let open = || kit.tee.open(apps::SMALL).ok();
    let close = |session| of_tee("close", kit.tee.close(session));
    measure_by(|pool| used_ffa(kit, pool), open, close, instances)
}

/// Returns the bytes in use of a pool.
fn used_ffa(kit: &FfaKit, pool: u64) -> Result<u32, String> {
    let shared = kit.share(1)?;
    let session = of_tee("open stats.pta", kit.tee.open(apps::STATS))?;
    let params = [
        value(Attr::VALUE_INPUT, pool, 0),
        shared.part(Attr::RMEM_OUTPUT, 0, PAGE_SIZE),
    ];
    let asked = kit.tee.invoke(session, apps::STATS_ALLOC, &params);
    let size = kit.tee.message().param(1).b.get();
    of_tee("close", kit.tee.close(session))?;
    of_tee("ask stats.pta", asked)?;
    let stats = PoolStats::read(shared.pages.address(), size);
    kit.unshare(shared)?;
    Ok(stats.used)
}

fn measure_by(
    used: impl Fn(u64) -> Result<u32, String>,
    open: impl Fn() -> Option<u32>,
    close: impl Fn(u32) -> Result<(), String>,
    instances: usize,
) -> Result<Measured, String> {
    let (shared_heap, heap, applications) = (used(POOL_NEXUS)?, used(POOL_HEAP)?, used(POOL_APPS)?);
    let mut sessions = Vec::new();
    while sessions.len() < instances.min(MOST) {
        match open() {
            Some(session) => sessions.push(session),
            None => break,
        }
    }
    let opened = sessions.len();
    sessions.into_iter().try_for_each(close)?;
    Ok(Measured {
        shared_heap,
        heap,
        applications,
        instances: opened,
    })
}
