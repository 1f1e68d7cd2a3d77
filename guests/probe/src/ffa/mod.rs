// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The experiments over FF-A, by name.

mod identity;
mod lab;
mod memory;
mod messages;
mod notify;
mod share;
mod stops;
mod vms;

use alloc::string::String;

/// An experiment; returns a sentence about OP-TEE's behaviour.
pub type Experiment = fn() -> String;

/// All experiments.
pub const ALL: &[(&str, Experiment)] = &[
    ("ffa-versions", identity::versions),
    ("ffa-features", identity::features),
    ("ffa-unknown-ids", identity::unknown_ids),
    ("ffa-partition", identity::partition),
    ("ffa-services", identity::services),
    ("ffa-framework", identity::framework),
    ("ffa-version-for-all", identity::version_for_all),
    ("ffa-rxtx", memory::rxtx),
    ("ffa-rxtx-again", memory::rxtx_again),
    ("ffa-handles", share::handles),
    ("ffa-limit", share::limit),
    ("ffa-descriptor", share::descriptor),
    ("ffa-ranges", share::ranges),
    ("ffa-fragments", share::fragments),
    ("ffa-large", share::large),
    ("ffa-foreign-handle", share::foreign),
    ("ffa-use", memory::in_use),
    ("ffa-destroyed", memory::destroyed),
    ("ffa-stale", memory::stale),
    ("ffa-offsets", messages::offsets),
    ("ffa-rpc-room", messages::rpc_room),
    ("ffa-internal-offset", messages::internal_offset),
    ("ffa-null", messages::null),
    ("ffa-memrefs", messages::memrefs),
    ("ffa-attributes", messages::attributes),
    ("ffa-alloc", messages::alloc),
    ("ffa-resume", messages::resume),
    ("ffa-vms", vms::rules),
    ("ffa-vm-twice", vms::twice),
    ("ffa-threads", vms::threads),
    ("ffa-notify", notify::life),
    ("ffa-notify-lives", notify::lives),
    ("ffa-unregister-ones", stops::unregister_ones),
    ("ffa-object-65", stops::object_65),
    ("ffa-size-zero", messages::size_zero),
    ("ffa-rxtx-secure", stops::rxtx_secure),
    ("ffa-rxtx-moved", stops::rxtx_moved),
    ("ffa-rxtx-late", stops::rxtx_late),
    ("ffa-bitmap-late", stops::bitmap_late),
    ("ffa-info-race", stops::info_race),
    ("ffa-few-lives", stops::few_lives),
    ("ffa-many-lives", stops::many_lives),
];
