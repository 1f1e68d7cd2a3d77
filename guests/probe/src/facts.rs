// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The experiments, by name.

mod identity;
mod leaks;
mod memory;
mod notify;
mod sessions;
mod vms;

use crate::lab::Lab;
use alloc::string::String;

/// An experiment; returns a sentence about OP-TEE's behaviour.
pub type Experiment = fn(&Lab) -> String;

/// All experiments.
pub const ALL: &[(&str, Experiment)] = &[
    ("versions", identity::versions),
    ("ptas", identity::ptas),
    ("unknown-vm", identity::unknown_vm),
    ("client-zero", identity::client_zero),
    ("alias", identity::alias),
    ("shm-cache-disable-zero", identity::disable_cache_zero),
    ("shm-cache-enable-zero", identity::enable_cache_zero),
    ("notif-enable-zero", notify::enable_zero),
    ("notif-value-zero", notify::value_zero),
    ("notif-life", notify::life),
    ("notif-race", notify::race),
    ("unknown-ids", identity::unknown_ids),
    ("vm-zero", vms::zero),
    ("vm-twice", vms::twice),
    ("vm-third", vms::third),
    ("vm-unknown-destroyed", vms::unknown_destroyed),
    ("vm-busy-destroyed", vms::busy_destroyed),
    ("vm-first-calls", vms::first_calls),
    ("vm-threads", vms::threads),
    ("vm-resume", vms::resume),
    ("nexus-heap", vms::nexus_heap),
    ("asid-open", leaks::open),
    ("asid-closed", leaks::closed),
    ("asid-keep-alive", leaks::keep_alive),
    ("asid-panicked", leaks::panicked),
    ("asid-load", leaks::loading),
    ("asid-pta", leaks::pta),
    ("cookie-zero", memory::cookie_zero),
    ("cookie-rpc", memory::cookie_rpc),
    ("cookie-twice", memory::cookie_twice),
    ("alloc-other-command", memory::other_command),
    ("alloc-contiguous", memory::contiguous),
    ("alloc-contiguous-two", memory::contiguous_two),
    ("alloc-nothing", memory::nothing),
    ("tmem-list-leak", memory::list_leak),
    ("tmem-reserved", memory::reserved),
    ("register-anything", memory::anything),
    ("register-large", memory::large),
    ("map-pta", memory::map_pta),
    ("map-app", memory::map_app),
    ("map-load", memory::map_load),
    ("unregister-used", memory::unregister_used),
    ("session-invoked", sessions::invoked),
    ("session-closed", sessions::closed),
    ("session-invoked-closed", sessions::invoked_and_closed),
    ("session-renumbered", sessions::renumbered),
];
